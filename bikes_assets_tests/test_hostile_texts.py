"""Texts from outside, in every place where a person or a terminal meets them: shown as they are written, they do nothing."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import click
import pytest
from markdown_it import MarkdownIt
from rich.table import Table

from bikes_assets.cli import models, runs, terminal, versions
from bikes_assets.core.errors import DataError, LineageError
from bikes_assets.core.record import Record, Version
from bikes_assets.core.staleness import Reason, Status
from bikes_assets.core.texts import MOST_OF_MESSAGE, markdown, markdown_table, markup, plain, shortened
from bikes_assets.demand.svg import Line, Plot
from bikes_assets.events import metadata
from bikes_assets.governance.deployments import Deployment
from bikes_assets.lineage.diff import FunctionChange

ESCAPES = {
    "title of the window": ("\x1b]0;PWNED\x07", r"\x1b]0;PWNED\x07"),
    "title, ended otherwise": ("\x1b]2;x\x1b\\", "\\x1b]2;x\\x1b\\"),
    "an empty screen": ("\x1b[2J\x1b[H", r"\x1b[2J\x1b[H"),
    "colour": ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
    "hidden": ("\x1b[8mhidden", r"\x1b[8mhidden"),
    "a link": ("\x1b]8;;http://evil.example\x07here\x1b]8;;\x07", r"\x1b]8;;http://evil.example\x07here\x1b]8;;\x07"),
    "the clipboard": ("\x1b]52;c;cm0gLXJm\x07", r"\x1b]52;c;cm0gLXJm\x07"),
    "an answer of the terminal": ("\x1b[6n\x1b[c", r"\x1b[6n\x1b[c"),
    "a key that is bound": ("\x1bP+q6b31\x1b\\", "\\x1bP+q6b31\\x1b\\"),
    "reset": ("\x1bc", r"\x1bc"),
    "eight bits": ("\x9b2J\x9d0;x\x9c", r"\x9b2J\x9d0;x\x9c"),
    "back": ("good\x08\x08\x08\x08evil", r"good\x08\x08\x08\x08evil"),
    "from the beginning": ("evil\rgood", r"evil\rgood"),
    "another line": ("x\nEverything is fresh.", r"x\nEverything is fresh."),
    "other ends of lines": ("a\x0bb\x0cc\x85d\u2028e\u2029f", r"a\x0bb\x0cc\x85d\u2028e\u2029f"),
    "NUL": ("a\0b", r"a\x00b"),
    "bell": ("\x07", r"\x07"),
    "DEL": ("a\x7fb", r"a\x7fb"),
    "other fonts": ("\x0e\x0f", r"\x0e\x0f"),
    "from right to left": ("user\u202etxt.exe", r"user\u202etxt.exe"),
    "kept apart": ("\u2066a\u2069", r"\u2066a\u2069"),
    "unseen": ("ad\u200bmin\u2060\ufeff", r"ad\u200bmin\u2060\ufeff"),
    "half a character": ("\ud800", r"\ud800"),
    "bytes that are no UTF-8": (b"\xff\xfe".decode(errors="surrogateescape"), r"\udcff\udcfe"),
    "tags": ("\U000e0041\U000e0042", r"\U000e0041\U000e0042"),
    "private": ("\ue000", r"\ue000"),
}
MARKS = (
    "[bold]2012[/bold]",
    "[/]",
    "[/data] and [/]",
    "[link=http://evil.example]see[/link]",
    "[@click=app.quit]x[/]",
    ":warning: :skull:",
    "\\[bold] \\",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "&lt;b&gt; &#x3c;",
    "</text></svg><script>",
    "<!-- x",
    "]]>",
    "[see](http://evil.example)",
    "[see][1] [1]: http://evil.example",
    "![x](http://evil.example/pixel.png)",
    "[a](javascript:alert(1))",
    "a | b | c",
    "\\| a",
    "**bold** __bold__ *it* _it_",
    "`code` ``",
    "~~gone~~",
    "<http://evil.example>",
    "trailing \\",
    "$x$ $$y$$",
    "demand_features.temp[2012-08]@17",
    "Straße 東京 🚲 naïve",
)
TEXTS = [*ESCAPES.values(), *((text, text) for text in MARKS)]
assert len(TEXTS) >= 40

each_text = pytest.mark.parametrize(("text", "shown"), TEXTS, ids=[*ESCAPES, *MARKS])


def on_terminal(render: Any) -> tuple[str, str]:
    """Return what rich writes to a terminal, and to a file."""
    written = []
    for is_terminal in (True, False):
        file = io.StringIO()
        render(terminal.terminal(file=file, force_terminal=is_terminal, width=400, soft_wrap=True))
        written.append(file.getvalue())
    return written[0], written[1]


@each_text
def test_rich_shows_it_as_it_is_written(text: str, shown: str) -> None:
    def render(console: Any) -> None:
        console.print(text)
        table = Table(text, "b", title=text)
        table.add_row(text, "", style=None)
        console.print(table)

    coloured, bare = on_terminal(render)
    assert bare.splitlines()[0] == shown.rstrip()
    assert bare.count(shown.strip()) == 4
    assert not {char for char in bare if not char.isprintable()} - {"\n"}
    assert "\x1b]" not in coloured


@each_text
def test_lines_on_a_terminal_show_it_as_it_is_written(text: str, shown: str, capsys: Any) -> None:
    terminal.say(text)
    terminal.say(text, colour="red", bold=True)
    terminal.complain(LineageError(f"found {text}"))
    with click.Context(click.Command("search"), info_name="search").scope():
        terminal.print_json([{"text": text}])
    told = capsys.readouterr()
    first, second, *as_json = told.out.split("\n")[:-1]
    assert (first, second) == (shown, shown)
    assert (json.loads("".join(as_json))["items"], "".join(as_json).isprintable()) == ([{"text": text}], True)
    assert told.err == f"found {shown}\n"


@each_text
def test_an_error_is_one_line_that_shows_it_as_it_is_written(text: str, shown: str) -> None:
    assert str(LineageError(text)) == shown
    error = DataError(text, row=3, column=text, found=text, expected=text)
    assert str(error) == f"{shown}, row 3, column {shown}: found {shown}, expected {shown}"


@each_text
def test_commands_show_it_as_it_is_written(text: str, shown: str, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "900")
    made = Deployment(datetime(2012, 8, 1, tzinfo=UTC), text, "pin", text, "", text, text, "", {text: 1.0}, who=text)
    models.print_deployments([made])
    assert capsys.readouterr().out.count(shown.strip()) == 3
    runs.print_status([Status("table", text, "failed", (Reason("failed", text),))])
    lines = capsys.readouterr().out.splitlines()
    assert f"failed: {shown}".rstrip() in lines[-1]
    lists = {name: [text] for name in ("done", "left", "refused", "foreign", "set_aside")}
    runs.print_reconciliation(SimpleNamespace(**lists))  # pyright: ignore[reportArgumentType]
    assert capsys.readouterr().out == f"{shown}\n" * 5
    with terminal.progress_bar() as show:
        show(text, 1, 2)
    assert shown.split("\n")[0].strip() in capsys.readouterr().err
    versions._section("Code", [*versions._text_of(FunctionChange("f", "changed", text))])
    assert "".join(capsys.readouterr().out.splitlines()[2:]).isprintable()


class Seen(HTMLParser):
    """Takes note of the text and the tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags = "", set[str]()
        self.feed(page)
        self.close()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, *_: Any) -> None:
        self.tags.add(tag)


PARSER = MarkdownIt("gfm-like", {"linkify": False, "html": True})


@each_text
def test_markdown_shows_it_as_it_is_written(text: str, shown: str) -> None:
    page = Seen(PARSER.render("\n".join(markdown_table(["a", text], [[text, 1], [2, text]]))))
    assert page.tags == {"table", "thead", "tbody", "tr", "th", "td"}
    assert "".join(page.text.split()) == "".join(f"a{shown}{shown}12{shown}".split())
    line = Seen(PARSER.render(f"**a** {markdown(text)}."))
    assert (line.tags, line.text.strip()) == ({"p", "strong"}, f"a {shown}.")


@each_text
def test_pages_of_dagster_and_mlflow_show_it_as_it_is_written(text: str, shown: str) -> None:
    edge = {"output": text, "input": text, "state": text, "observed": None, "trials": 3, "blocked": 0}
    page = Seen(PARSER.render(metadata.of_evidence({"edges": [edge]}).md_str or ""))
    assert page.tags == {"table", "thead", "tbody", "tr", "th", "td"}
    assert page.text.count(shown.strip()) == 3
    import pyarrow as pa

    stored = text.encode(errors="replace").decode()  # as a record can hold it
    rows, source = pa.table({"a": [stored], "b": [None]}), Version(stored, stored, stored, "0" * 32)
    about = {"environment": {"git_commit": stored}, "config": {stored: stored}, "metrics": {stored: 1.0}}
    record = Record(Version("a", None, 1, ""), {}, (source,), "", made_by={}, **about)
    values = metadata.of_materialization(rows, record, {metadata.CONFIG: {"seed": stored}}, before=record)
    assert Seen(PARSER.render(values["preview"].md_str)).tags == {"table", "thead", "tbody", "tr", "th", "td"}
    materialized_from = Seen(PARSER.render(values["Materialized from"].md_str))
    assert materialized_from.tags <= {"ul", "li", "a", "code"}
    assert plain(stored[:8]).strip() in materialized_from.text


@each_text
def test_html_and_svg_show_it_as_it_is_written(text: str, shown: str) -> None:
    page = Seen(f"<p title=\"{markup(text)}\">{markup(text)}</p><p title='{markup(text)}'></p>")
    assert (page.tags, page.text) == ({"p"}, shown)
    drawn = Plot([Line([0, 1], [0, 1], "#fff", text)], under=text, beside=text, rules=[(1, text)]).svg()
    texts = [item.text for item in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert (texts.count(shown), texts.count(f"■ {shown}")) == (3, 1)


def test_what_is_long_is_shortened_by_one_rule() -> None:
    assert shortened("x" * 1000) == "x" * 1000
    assert shortened("a" * 10**6 + "z") == f"{'a' * 500}... (1,000,001 characters) ...{'a' * 499}z"
    long = "x" * 20_000_000
    error = DataError(long, row=1, column=long, found=long, expected=long)
    assert len(str(error)) < 4_400
    assert len(str(LineageError(long, "second"))) < MOST_OF_MESSAGE + 100
    assert str(LineageError(long, "second")).splitlines()[1] == "second"


def test_plain_text_stays_as_it_is() -> None:
    assert plain("Straße 東京 🚲") == "Straße 東京 🚲"
    assert markdown("demand_features.temp[2012-08]@17") == "demand_features.temp[2012-08]@17"
