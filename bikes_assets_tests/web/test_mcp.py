"""`bikes mcp`, asked by the client of the Model Context Protocol's own package over standard input and output."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from click.testing import CliRunner
from mcp import Client, StdioServerParameters

import bikes_assets
from bikes_assets.app import answers
from bikes_assets.app.json_answers.items import LEVELS
from bikes_assets.app.json_answers.pages import MOST_BYTES
from bikes_assets.app.store import lake
from bikes_assets.cli import main
from bikes_assets.web.tools import TOOLS
from bikes_assets_tests.app.test_pages_of_answers import at, document
from bikes_assets_tests.conftest import ROOT
from bikes_assets_tests.lineage.openlineage.foreign import event

ROW = "demand_predictions.prediction[2011-07]#2011-07-14T17:00"
QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("upstream", {"address": "demand_model@champion"}),
    ("upstream", {"address": "demand_model@champion", "depth": 2}),
    ("upstream", {"address": "demand_model@1"}),
    ("upstream", {"address": "demand_features"}),
    ("upstream", {"address": "demand_features.temperature"}),
    ("upstream", {"address": "demand_features[2011-07]"}),
    ("upstream", {"address": "demand_features[2011-07]@7"}),
    ("upstream", {"address": "demand_features.temperature[2011-07]"}),
    ("upstream", {"address": "prediction_quality.error"}),
    ("upstream", {"address": "prediction_quality", "level": "file"}),
    ("upstream", {"address": "prediction_quality", "level": "code"}),
    ("upstream", {"address": "prediction_quality[2011-07]", "level": "run"}),
    ("upstream", {"address": "prediction_quality[2011-07]", "level": "column-version"}),
    ("upstream", {"address": "demand_predictions", "level": "column", "depth": 1}),
    ("upstream", {"address": "demand_predictions", "as_of": "2001-01-01"}),
    ("upstream", {"address": "rental_records"}),
    ("downstream", {"address": "rental_records"}),
    ("downstream", {"address": "rental_records.weathersit"}),
    ("downstream", {"address": "rental_records[2011-03]"}),
    ("downstream", {"address": "rental_records", "level": "version"}),
    ("downstream", {"address": "rental_records", "level": "column-version"}),
    ("downstream", {"address": "rental_records.cnt", "level": "partition"}),
    ("downstream", {"address": "hourly_rentals.temp", "level": "model-version"}),
    ("downstream", {"address": "hourly_rentals.temp", "level": "alias"}),
    ("downstream", {"address": "licence: CC BY 4.0"}),
    ("downstream", {"address": "licence: CC BY 4.0", "level": "version"}),
    ("downstream", {"address": "demand_model@2"}),
    ("downstream", {"address": "demand_features[2011-02]", "depth": 1}),
    ("downstream", {"address": "prediction_quality"}),
    ("path", {"start": "rental_records.cnt", "end": "demand_predictions.prediction"}),
    ("path", {"start": "rental_records", "end": "prediction_quality"}),
    ("path", {"start": "hourly_rentals.temp", "end": "demand_model@champion"}),
    ("path", {"start": "prediction_quality.error", "end": "hourly_rentals.cnt"}),
    ("path", {"start": "licence: CC BY 4.0", "end": "demand_model"}),
    ("path", {"start": "rental_records[2011-03]", "end": "demand_predictions[2011-05]"}),
    ("trace", {"address": ROW}),
    ("trace", {"address": "hourly_rentals[2011-03]#2011-03-14T17:00"}),
    ("trace", {"address": "demand_features.temperature[2011-07]@7#2011-07-14T17:00"}),
    ("trace", {"address": "prediction_quality.error[2011-06]#2011-06-14T17:00"}),
    ("diff", {"a": "demand_model[2011-06]", "b": "demand_model[2011-07]"}),
    ("diff", {"a": "demand_model@1", "b": "demand_model@champion"}),
    ("diff", {"a": "demand_features[2011-06]", "b": "demand_features[2011-07]"}),
    ("diff", {"a": "demand_model[2011-07]", "b": "demand_model[2011-07]"}),
    ("status", {}),
    ("status", {"addresses": ["demand_model", "hourly_rentals"]}),
    ("status", {"addresses": ["demand_features[2011-05]"]}),
    ("search", {"words": "temperature"}),
    ("search", {"words": "air temp"}),
    ("search", {"words": "demand"}),
    ("search", {"words": "nonesuch"}),
]


def command_of(tool: str, arguments: dict[str, Any]) -> list[str]:
    """Return the command that answers the same question."""
    names = {"level": "--level", "depth": "--depth", "as_of": "--as-of"}
    options = [f"{option}={arguments[name]}" for name, option in names.items() if name in arguments]
    listed = ["--most", "10000"] if tool == "path" else []
    words = [arguments[name] for name in ("address", "start", "end", "a", "b", "words") if name in arguments]
    return [tool, *words, *arguments.get("addresses", ()), *options, *listed]


class Asking:
    """A session of a client with a server."""

    def __init__(self, portal: Any, client: Client) -> None:
        self.portal, self.client = portal, client

    def __call__(self, tool: str, **arguments: Any) -> tuple[bool, str]:
        """Return whether the answer is an error, and its text."""
        result = self.portal.call(self.client.call_tool, tool, arguments)
        (content,) = result.content
        assert len(content.text.encode()) <= MOST_BYTES
        return bool(result.is_error), content.text

    def page(self, tool: str, **arguments: Any) -> dict[str, Any]:
        is_error, text = self(tool, **arguments)
        assert not is_error, text
        found = document(text)
        assert [*found][:5] == ["total", "shown", "truncated", "next", "as_of"]
        return found


def importing(folder: Path) -> str:
    """Return PYTHONPATH for code in a folder, before what it names already."""
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))


@contextmanager
def server(folder: Path, **variables: str) -> Iterator[Asking]:
    """Have a server answer, which is started in a folder; it must end by itself, and print nothing but answers."""
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "bikes_assets", "mcp"],
        env={**os.environ, "PYTHONPATH": importing(ROOT), **variables},
        cwd=folder,
    )
    with start_blocking_portal() as portal:
        session = portal.wrap_async_context_manager(Client(command))
        client = session.__enter__()
        try:
            yield Asking(portal, client)
        finally:
            session.__exit__(None, None, None)  # which would wrap an error


def contents(folder: Path) -> dict[str, str]:
    """Return a digest of each file in a folder."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.mark.slow
def test_fifty_questions_have_the_answers_of_the_commands_in_one_call_each_and_nothing_is_written(
    copied: Path, tmp_path: Path
) -> None:
    # Given what the commands answer
    assert len(QUESTIONS) == 50
    expected = list[Any]()
    for tool, arguments in QUESTIONS:
        done = CliRunner().invoke(main, [*command_of(tool, arguments), "--json"], prog_name="bikes")
        expected.append((done.exit_code, json.loads(done.stdout)["items"] if done.exit_code < 2 else done.stderr))
    # And a command in a process of its own, which remembers the plan where this process has loaded another store's
    subprocess.run([sys.executable, "-m", "bikes_assets", "status"], check=True, capture_output=True, cwd=ROOT)
    before = contents(copied)
    # When an agent asks the same
    with server(tmp_path) as ask:
        for (tool, arguments), (code, answer) in zip(QUESTIONS, expected, strict=True):
            if code == 2:
                assert ask(tool, **arguments) == (True, answer.removeprefix("error: ").rstrip("\n"))
                continue
            # Then one call has the answer, as far as there is space for it, and says how much there is
            found = ask.page(tool, **arguments)
            assert found["total"] == len(answer), (tool, arguments)
            shown = found["items"]
            while found["next"] is not None:
                assert (found["truncated"], found["next"]) == (True, len(shown))
                found = ask.page(tool, **arguments, next=found["next"])
                shown += found["items"]
            if "shortened" not in found:
                assert shown == answer, (tool, arguments)
                continue
            # Or, of a single item that is too large, its lists with their first elements
            assert found["truncated"]
            for place, count in found["shortened"].items():
                whole, kept = at({"items": answer}, place), at(found, place)
                assert (len(whole), whole[: len(kept)]) == (count, kept), place
                whole[len(kept) :] = []
            assert shown == answer
    assert contents(copied) == before


def test_an_answer_says_as_of_when_it_is_and_can_be_asked_for_again(copied: Path, tmp_path: Path) -> None:
    question = {"address": "rental_records", "level": "column-version"}
    with server(tmp_path) as ask:
        first = ask.page("downstream", **question)
        assert first["as_of"] == ask.page("status")["as_of"]
        assert first | {"as_of": ""} == ask.page("downstream", **question, as_of=first["as_of"]) | {"as_of": ""}
        assert ask.page("downstream", **question, most=3)["items"] == first["items"][:3]
        then = datetime.fromtimestamp(answers.history("hourly_rentals[2011-02]")[0].time + 1, UTC).isoformat()
        earlier = ask.page("downstream", **question, as_of=then)
        assert (earlier["as_of"], 0 < earlier["total"] < first["total"]) == (then, True)
        # And where other tools tell of more, it is the time of their last event
        (tmp_path / "events.ndjson").write_text(
            json.dumps(event("r1", [f"{lake().location}/demand_predictions"], ["d"]))
        )
        assert CliRunner().invoke(main, ["openlineage", "ingest", str(tmp_path / "events.ndjson")]).exit_code == 0
        late = json.dumps(event("r2", ["d"], ["e"], seconds=1e9))
        (tmp_path / "events.ndjson").write_text(late)
        assert CliRunner().invoke(main, ["openlineage", "ingest", str(tmp_path / "events.ndjson")]).exit_code == 0
        joined = ask.page("downstream", address="demand_predictions")
        assert joined["as_of"] == json.loads(late)["eventTime"]
        assert "s3://elsewhere/e" in [item["address"] for item in joined["items"]]
        assert joined == ask.page("downstream", address="demand_predictions", as_of=joined["as_of"])


def test_the_tools_say_what_they_do_and_that_they_only_read(tmp_path: Path) -> None:
    with server(tmp_path, BIKES_DATA=str(tmp_path / "data")) as ask:
        tools = {tool.name: tool for tool in ask.portal.call(ask.client.list_tools).tools}
        assert "as_of" in ask.client.instructions
    assert [*tools] == [*TOOLS] == ["upstream", "downstream", "path", "trace", "diff", "status", "search"]
    for tool in tools.values():
        assert tool.annotations.read_only_hint
        assert not tool.annotations.destructive_hint
        assert len(tool.description) > 100
        assert tool.input_schema["additionalProperties"] is False
        assert all(about["description"] for about in tool.input_schema["properties"].values())
    assert next(iter(tools["upstream"].input_schema["properties"])) == "address"
    assert tools["upstream"].input_schema["required"] == ["address"]
    # And the exact levels of the commands
    (levels, _) = tools["upstream"].input_schema["properties"]["level"]["anyOf"]
    assert levels["enum"] == [*LEVELS]


ERRORS: list[tuple[str, dict[str, Any], str]] = [
    ("upstram", {}, r"found no tool 'upstram', expected one of upstream, downstream, path, "),
    ("upstream", {}, r"found no argument 'address', expected one; the arguments are address, next, most, "),
    ("upstream", {"adress": "x", "address": "x"}, r"found argument 'adress', expected one of address, next, "),
    ("upstream", {"address": 7}, r"address: found 7, expected a valid string"),
    ("upstream", {"address": "x" * 5_000}, r"address: found 'xxx.*expected at most 4000 characters"),
    (
        "upstream",
        {"address": "demand_feature"},
        r"found nothing called 'demand_feature'; expected one like demand_features",
    ),
    ("upstream", {"address": "demand_features", "depth": 0}, r"depth: found 0, expected greater than or equal to 1"),
    ("upstream", {"address": "demand_features", "level": "row"}, r"level: found 'row', expected 'dataset', 'column', "),
    ("upstream", {"address": "demand_features", "as_of": "soon"}, r"found time 'soon', expected one like \d{4}-"),
    (
        "upstream",
        {"address": "demand_features", "next": 99},
        r"next: found 99, expected 2 at most, after which there is no",
    ),
    ("upstream", {"address": "demand_features", "next": -1}, r"next: found -1, expected greater than or equal to 0"),
    ("upstream", {"address": "demand_features", "next": True}, r"next: found True, expected a valid integer"),
    ("upstream", {"address": "demand_features", "most": "5"}, r"most: found '5', expected a valid integer"),
    ("path", {"start": "demand_features", "end": "nonesuch"}, r"found nothing called 'nonesuch'"),
    ("trace", {"address": "demand_features"}, r"found address 'demand_features', expected that of a row, such as "),
    (
        "trace",
        {"address": "hourly_rentals[2011-07]#noon"},
        r"hourly_rentals\[2011-07\]@7: found row 'noon', expected one like ",
    ),
    (
        "diff",
        {"a": "demand_model@1", "b": "demand_features[2011-07]"},
        r"found .* and .*, expected two versions of one asset",
    ),
    ("diff", {"a": "demand_model@99", "b": "demand_model@1"}, r"found nothing called 'demand_model@99'"),
    (
        "status",
        {"addresses": ["demand_model@1"]},
        r"found 'demand_model@1', expected an asset or a partition, such as ",
    ),
    ("status", {"addresses": "demand_model"}, r"addresses: found 'demand_model', expected a valid list"),
    ("search", {"words": ""}, r"words: found '', expected at least 1 character"),
]
HOSTILE = (
    "",
    " ",
    "\0",
    "\x1b[31m\x1b]0;title\x07",
    "../../../etc/passwd",
    "'; drop table thing; --",
    '"*" OR (AND NEAR ^',
    "{0.__class__}%s$(id)`id`",
    "<script>alert(1)</script>",
    "[bold]x[/bold]",
    "demand_model@" + "9" * 400,
    "demand_features[2011-07]@-1",
    "demand_features[]",
    "[" * 2_000,
    "東京 🚲‮",
    "x" * 100_000,
    "hourly_rentals[2011-07]#" + "," * 500,
    -1,
    10**30,
    0.5,
    True,
    None,
    [],
    {"a": {"b": []}},
    ["demand_model"] * 5_000,
)


def test_an_error_is_the_tools_and_says_what_was_found_and_expected(copied: Path, tmp_path: Path) -> None:
    with server(tmp_path) as ask:
        for tool, arguments, told in ERRORS:
            is_error, text = ask(tool, **arguments)
            assert is_error, (tool, arguments, text)
            assert re.match(told, text), text
        # And whatever is passed, there is an answer, or an error that can be shown
        draw = random.Random(1)
        for _ in range(150):
            tool = draw.choice([*TOOLS])
            names = [*TOOLS[tool].model_fields, "nonesuch"]
            arguments = {name: draw.choice(HOSTILE) for name in names if draw.random() < 0.5}
            is_error, text = ask(tool, **arguments)
            assert "nobody foresaw" not in text, (tool, arguments, text)
            if is_error:
                assert text.replace("\n", "").isprintable()
            else:
                document(text)
        assert ask.page("search", words="temperature")["total"] > 3


def test_what_is_no_message_ends_no_session_and_nothing_else_is_printed(copied: Path) -> None:
    lines = [
        b"no JSON",
        b"[]",
        b"{}",
        b"",
        b"\xff\xfe",
        b'{"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "search", "arguments": {"words": "\\ud800"}}}',
        b'{"jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": {"name": "search", "arguments": [1]}}',
        b'{"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "search", "arguments": {"words": "temp"}}}',
    ]
    first = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    begin = [
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": first}).encode(),
        b'{"jsonrpc": "2.0", "method": "notifications/initialized"}',
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "bikes_assets", "mcp"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b"\n".join([*begin, *lines, b""]))
        process.stdin.flush()
        messages = list[Any]()
        while not messages or messages[-1].get("id") != 9:
            messages.append(json.loads(process.stdout.readline()))
        process.stdin.close()
        assert (process.stdout.read(), process.wait(60)) == (b"", 0)
        assert b"Traceback" not in process.stderr.read()
    assert {message["jsonrpc"] for message in messages} == {"2.0"}
    assert document(messages[-1]["result"]["content"][0]["text"])["total"] > 3


@pytest.mark.slow
def test_edited_code_is_known_to_the_next_answer_and_what_it_prints_is_no_answer(copied: Path, tmp_path: Path) -> None:
    # Given a server of a copy of the code
    package, code = Path(bikes_assets.__file__).parent, tmp_path / "code"
    shutil.copytree(package, code / "bikes_assets", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(package.with_name("dg.toml"), code)
    source = str(package.parent / "data" / "raw" / "hour.csv")
    with server(code, PYTHONPATH=importing(code), BIKES_SOURCE=source) as ask:
        question = {"addresses": ["demand_features[2011-07]"]}
        assert ask.page("status", **question)["items"][0]["state"] == "fresh"
        # When a feature is edited, and its module prints
        file = code / "bikes_assets" / "demand" / "features.py"
        text = file.read_text()
        assert text.count("return temp\n") == 1
        file.write_text(text.replace("return temp\n", "return temp * 2\n") + '\nprint("a library that prints")\n')
        # Then
        (item,) = ask.page("status", **question)["items"]
        assert item["state"] == "stale"
        assert "demand.features.temperature changed" in item["reasons"][0]["text"]


def test_it_ends_with_a_signal_and_so_does_the_process_that_answers(copied: Path, tmp_path: Path) -> None:
    import psutil

    first = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    messages = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": first},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "status", "arguments": {}}},
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "bikes_assets", "mcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.writelines(f"{json.dumps(message)}\n" for message in messages)
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1
        assert json.loads(process.stdout.readline())["id"] == 2
        answering = psutil.Process(process.pid).children()
        assert len(answering) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130
    _, alive = psutil.wait_procs(answering, 30)
    assert alive == []


def test_without_the_extra_the_command_says_which_one_to_install(tmp_path: Path) -> None:
    program = "import sys; sys.modules['mcp'] = None; from bikes_assets.cli import main; main(['mcp'])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"BIKES_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    told = "error: bikes mcp needs a package that is missing: pip install 'bikes-assets[mcp]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", told)
