"""Secrets in texts: values in URLs of the settings or in environment variables that no message may show.

Secrets come from the environment or .env, and are in URLs (`user:password@`, `?token=...`) or in variables of their
own (`PGPASSWORD`). Libraries repeat them when they fail. So every text that leaves this process goes through
`scrubbed`: messages of errors are scrubbed as they are raised (see `errors.LineageError`), what is printed by `guard`.
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SHORTEST = 6
"""Characters of the shortest secret that is looked for in every text. A shorter one would be found in names and numbers
too: it is taken out of URLs, and of messages about its own URL."""

_HIDDEN = "***"
_TOKEN = 16
"""A URL's user without a password that has at least this many characters is taken for a token."""
_WEBHOOK = re.compile(r"https?://[^\s'\"]+", re.IGNORECASE)
_URL = re.compile(r"(?<![\w+.-])[A-Za-z][A-Za-z0-9+.-]*://\S")
_USER = re.compile(r"(?<=://)(?:[^/?#@:]*:.*|[^/?#]*)@", re.DOTALL)
_NAMED = r"[\w.-]*(?:pass(?:word|wd|phrase)?|pwd|secret|token|sig|signature|credential|key|auth|authorization)"
_SECRET_NAME = re.compile(r".*(?:PASSWORD|PASSWD|PASSPHRASE|TOKEN|API_?KEY|PRIVATE_KEY)|.*SECRET.*")
_HARMLESS = re.compile(
    r".*(?:mode|timeout|charset|encoding|driver|application_name|options|cache|uri|host|port|dbname|user|region|version\w*)",
    re.IGNORECASE,
)
"""Query parameters of a URL whose values are no secrets."""
_KEYWORD = re.compile(r"\b((?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s'\"&;,]+)", re.IGNORECASE)
"""A password among libpq's keywords."""
_SHAPES = (
    # a URL's user and password; those of an example are no secret
    (re.compile(r"(?<=://)(?!user:password@)[^\s/?#@'\"]*@"), f"{_HIDDEN}@"),
    (re.compile(rf"([?&;]{_NAMED})=[^&;\s'\"#]+", re.IGNORECASE), rf"\1={_HIDDEN}"),
    (_KEYWORD, rf"\1{_HIDDEN}"),
)
_learned: dict[str, str] = {}
"""Texts that are replaced wherever they occur, with their replacements."""


def learn(variables: Mapping[str, str]) -> None:
    """Remember the secrets that some variables hold; `scrubbed` takes them out of every text from then on.

    Args:
        variables: of the environment and of .env, with their values.
    """
    for name, value in variables.items():
        if _URL.match(value):
            _learned.update({value: shown(value)} if shown(value) != value else {})
            _hide(_secrets_of(value))
        elif _SECRET_NAME.fullmatch(name):
            _hide(_forms(value))
        else:
            _hide(form for _, found in _KEYWORD.findall(value) for form in _forms(found.strip("'")))
    _pattern.cache_clear()


def learn_webhooks(text: str) -> None:
    """Remember the URLs in a text as secrets, except for their hosts: whoever knows a webhook's path can call it."""
    for url in _WEBHOOK.findall(text):
        host, slash, path = url.partition("://")[2].partition("/")
        if path:
            _learned[url] = (
                f"{url.partition('://')[0]}://{_USER.sub('', f'://{host}').removeprefix('://')}{slash}{_HIDDEN}"
            )
            _hide(_forms(path))
    _pattern.cache_clear()


def shown(url: str) -> str:
    """Return a URL without user, password and query string; a password may hold `@`, `/` or `?` by mistake."""
    if "://" not in url or url.startswith("file://"):
        return url
    return re.sub(r"\?.*", f"?{_HIDDEN}", _USER.sub(f"{_HIDDEN}@", url), flags=re.DOTALL)


def scrubbed(text: str, *urls: str) -> str:
    """Return a text without secrets: those that were learned, and whatever looks like one in a URL or a keyword.

    Args:
        text: such as another library's message.
        urls: URLs that it is about; the text keeps only what `shown` shows of them, however short the rest is.
    """
    for url in urls:
        text = text.replace(url, shown(url))
        for secret in sorted({*_secrets_of(url)}, key=len, reverse=True):
            text = text.replace(secret, _HIDDEN)
    if _learned:
        text = _pattern().sub(lambda found: _learned[found[0]], text)
    for shape, instead in _SHAPES if "://" in text or "=" in text else ():
        text = shape.sub(instead, text)
    return text


def guard() -> None:
    """Scrub all that this process prints, tracebacks and libraries' logs included; no character makes printing fail."""
    for stream in (sys.stdout, sys.stderr):
        known: Any = stream
        if known is None or hasattr(known, "_guarded"):
            continue
        if hasattr(known, "reconfigure"):
            known.reconfigure(errors="replace")
        known._guarded, known.write = known.write, _scrubbing(known.write)


def _scrubbing(write: Any) -> Any:
    def scrubbed_write(text: Any) -> Any:
        return write(scrubbed(text) if isinstance(text, str) else text)

    return scrubbed_write


def _hide(secrets: Iterable[str]) -> None:
    _learned.update((secret, _HIDDEN) for secret in secrets if len(secret) >= SHORTEST)


def _secrets_of(url: str) -> Iterator[str]:
    """Yield what a URL must not show, in every form in which a message may have it."""
    for user_info in (found[:-1] for found in _USER.findall(url)):
        user, colon, password = user_info.partition(":")
        if colon or len(user) >= _TOKEN:
            yield from _forms(user_info)
        if password not in (user, "") and password not in _USER.sub("", url):  # otherwise it holds no secret
            yield from _forms(password)
    if shown(url) == url:
        return
    query = url.partition("?")[2]
    yield from (query,) if query else ()
    for name, value in re.findall(r"([^=&;]*)=([^&;]+)", query):
        if not _HARMLESS.fullmatch(name):
            yield from _forms(value)


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret as it is, decoded, percent-encoded, and as it is written in JSON and in Python's repr."""
    for plain in dict.fromkeys((secret, unquote(secret), unquote_plus(secret))):
        encoded = [quote(plain, safe=""), quote(plain), quote(plain, safe=" +"), quote_plus(plain)]
        lower = [re.sub("%..", lambda found: found[0].lower(), form) for form in encoded]
        inside = [json.dumps(plain)[1:-1], json.dumps(plain, ensure_ascii=False)[1:-1], repr(plain)[1:-1]]
        yield from dict.fromkeys((plain, *encoded, *lower, *inside))


@cache
def _pattern() -> re.Pattern[str]:
    return re.compile("|".join(re.escape(text) for text in sorted(_learned, key=len, reverse=True)))
