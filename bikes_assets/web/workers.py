"""The threads that answer questions: each is computed once for all who wait for it, and not for those who have left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from starlette.requests import ClientDisconnect


class Workers:
    """The threads that answer: one for quick questions, which share the index's caches, and two for slow ones.

    Its methods belong to one event loop.
    """

    def __init__(self) -> None:
        self._quick = ThreadPoolExecutor(1, "quick")
        self._slow = ThreadPoolExecutor(2, "slow")
        self._asked = dict[Hashable, _Question]()

    async def answer(
        self,
        question: Hashable,
        work: Callable[[], Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]] | None = None,
        *,
        is_slow: bool,
    ) -> Any:
        """Return the answer to a question; whoever asks it while it is being answered gets the same one.

        Args:
            question: equal for questions with equal answers.
            work: computes the answer.
            receive: of the request that asks, None where nobody can leave.
            is_slow: whether it must keep no quick question waiting.

        Raises:
            ClientDisconnect: whoever asked has left, or the server ends. What was not begun by then is never begun, unless
                others wait for it.
        """
        asked = self._asked.get(question)
        if asked is None or asked.work.cancelled():
            asked = self._asked[question] = _Question((self._slow if is_slow else self._quick).submit(work))
            asked.answer.add_done_callback(lambda _: self._forget(question, asked))
        left: asyncio.Future[None] = asyncio.ensure_future(_left(receive)) if receive else asyncio.Future()
        asked.waiting += 1
        try:
            await asyncio.wait((asked.answer, left), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # the server ends, and leaves before its client does
            raise ClientDisconnect from None
        finally:
            asked.waiting -= 1
            left.cancel()
            if not asked.waiting:
                asked.work.cancel()  # which changes nothing once it was begun
        if not asked.answer.done():
            raise ClientDisconnect
        return asked.answer.result()

    def _forget(self, question: Hashable, asked: _Question) -> None:
        if self._asked.get(question) is asked:
            del self._asked[question]
        if not asked.answer.cancelled():
            asked.answer.exception()  # else asyncio reports an error that nobody has waited for


class _Question:
    """A question that was asked: its work in a thread, the same for the event loop, and how many wait for it."""

    def __init__(self, work: Future[Any]) -> None:
        self.work, self.answer, self.waiting = work, asyncio.wrap_future(work), 0


async def _left(receive: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
    """Return when whoever sent a request, which is read already, has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
