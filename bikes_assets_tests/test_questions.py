"""docs/questions.md: what it shows is what the commands print, on the first seven months.

BIKES_WRITE_QUESTIONS=1 writes the answers anew; what a machine measures and draws for itself (seconds, ids) may differ.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from bikes_assets_tests import forked

PAGE = Path(__file__).parents[1] / "docs" / "questions.md"
BLOCK = re.compile(r"```console\n\$ bikes (?P<question>[^\n]+)\n(?P<answer>.*?)```\n", re.DOTALL)
OWN = re.compile(
    r"file://\S+|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|\b[0-9a-f]{8,64}\b|\b\d+\.\d s\b|[─━┃│] +\d+\.\d |\d+%"
)


def answer_to(question: str) -> str:
    command = ("-m", "bikes_assets", *shlex.split(question))
    done = forked.run(command, environment=os.environ | {"COLUMNS": "160"}, folder=PAGE.parent)
    assert done.returncode in (0, 1), done.stderr
    assert done.stderr == "", question
    return done.stdout


def test_every_answer_on_the_page_is_the_true_one(history) -> None:
    page = PAGE.read_text()
    questions = [match["question"] for match in BLOCK.finditer(page)]
    assert len(questions) == 10
    answers = {question: answer_to(question) for question in questions}
    if os.environ.get("BIKES_WRITE_QUESTIONS") == "1":
        told = BLOCK.sub(
            lambda match: f"```console\n$ bikes {match['question']}\n{answers[match['question']]}```\n", page
        )
        PAGE.write_text(told)
    shown = {match["question"]: match["answer"] for match in BLOCK.finditer(PAGE.read_text())}
    for question in questions:
        assert lines(shown[question]) == lines(answers[question]), question


def lines(answer: str) -> list[str]:
    """Return an answer's lines without what is each machine's own; where seconds give the order, it is its own too."""
    return sorted(OWN.sub("...", line) for line in answer.splitlines())
