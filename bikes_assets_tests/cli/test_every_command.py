"""What holds for every command: how it is loaded, what `--json` prints, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from bikes_assets.app import answers, state
from bikes_assets.app.settings import settings
from bikes_assets.cli import main
from bikes_assets.cli.commands import FAMILIES

NAMES = [*main.commands]
WITH_JSON = [name for name in NAMES if any("--json" in param.opts for param in main.commands[name].params)]
ARGUMENTS = {
    "upstream": ("demand_model@champion",),
    "downstream": ("hourly_rentals.temp",),
    "path": ("hourly_rentals.cnt", "prediction_quality.error"),
    "trace": ("demand_predictions[2011-07]#2011-07-14T17:00",),
    "diff": ("demand_model[2011-06]", "demand_model[2011-07]"),
    "search": ("temperature",),
    "reproduce": ("hourly_rentals[2011-01]",),
    "report": ("demand_model@champion",),
    "evaluate": ("--since", "2011-07-01"),
    "pin": ("demand_model[2011-06]", "--month", "2011-07", "--reason", "a test"),
    "unpin": ("--month", "2011-07", "--reason", "a test"),
    "hold": ("demand_model@champion", "--reason", "a test"),
    "export": ("html", "demand_features", "--to", "/dev/null"),
    "openlineage": ("export", "-"),
    "audit": ("verify",),
    "release": ("demand_model@champion", "--reason", "a test"),
}
"""Arguments of the commands that need some."""


def bikes(*words: str) -> Result:
    return CliRunner().invoke(main, words, prog_name="bikes")


def loaded(*words: str, **variables: str) -> list[str]:
    """Return the families that a process of `bikes` has imported in the end."""
    program = (
        "import atexit, sys\n"
        f"families = {[*FAMILIES]}\n"
        "atexit.register(lambda: print([f for f in families if 'bikes_assets.cli.' + f in sys.modules], file=sys.stderr))\n"
        "from bikes_assets.cli import main; main(prog_name='bikes')"
    )
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | variables, check=True)
    return [done.stdout, done.stderr.splitlines()[-1]]


def test_help_and_completion_import_no_command_and_a_command_only_its_family() -> None:
    assert loaded("--help")[1] == "[]"
    completed = loaded(_BIKES_COMPLETE="bash_complete", COMP_WORDS="bikes s", COMP_CWORD="1")
    assert completed == ["plain,setup\nplain,status\nplain,sync\nplain,search\nplain,snapshot\n", "[]"]
    assert loaded("diff", "--help")[1] == "['versions']"


def test_the_help_lists_what_each_command_says_of_itself() -> None:
    for names in FAMILIES.values():
        for name, about in names.items():
            assert main.commands[name].name == name
            assert main.commands[name].get_short_help_str(100) == about


def test_a_misspelt_command_is_refused() -> None:
    done = bikes("statsu")
    assert (done.exit_code, "No such command 'statsu'" in done.stderr) == (2, True)


@pytest.fixture
def snapshot(history: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a snapshot of the history, which commands find without its name."""
    from bikes_assets.app import snapshot as snapshots

    monkeypatch.setattr(snapshots, "default_file", lambda: tmp_path / "lineage.lock.json")
    assert bikes("snapshot").exit_code == 0
    return tmp_path / "lineage.lock.json"


@pytest.mark.parametrize("name", WITH_JSON)
def test_json_is_one_document_of_the_same_form(snapshot: Path, name: str) -> None:
    done = bikes(name, *ARGUMENTS.get(name, ()), "--json")
    assert done.exit_code in (0, 1), done.output
    document = json.loads(done.stdout, parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
    assert [*document] == ["command", "version", "items"]
    assert (document["command"], document["version"]) == (name, 1)
    assert document["items"] != []
    assert {type(item) for item in document["items"]} == {dict}
    # And each item is on a line of its own
    first, *lines, last = done.stdout.splitlines()
    assert (first, last) == (f'{{"command": "{name}", "version": 1, "items": [', "]}")
    assert [json.loads(line.removesuffix(",")) for line in lines] == document["items"]


def test_json_of_nothing_is_a_document_too(history: Any) -> None:
    done = bikes("search", "nonesuch", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (1, {"command": "search", "version": 1, "items": []})


def test_the_option_json_is_described_once() -> None:
    params = [param for name in WITH_JSON for param in main.commands[name].params if "--json" in param.opts]
    assert len(params) > 10
    assert len({param.help for param in params if isinstance(param, click.Option)}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_wrong_use_is_2_whatever_the_command(name: str) -> None:
    done = bikes(name, "--nonesuch")
    assert (done.exit_code, "No such option" in done.stderr) == (2, True)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "columns"])  # it needs no setting
def test_an_error_is_2_whatever_the_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIKES_ENGINE", "abacus")
    settings.cache_clear()
    done = bikes(name, *ARGUMENTS.get(name, ()))
    settings.cache_clear()
    assert (done.exit_code, done.stdout) == (2, "")
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [done.stderr.rstrip("\n")]
    assert "found 'abacus'" in done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("search", "temperature"), 0),
        (("search", "nonesuch"), 1),
        (("path", "hourly_rentals.cnt", "prediction_quality.error"), 0),
        (("path", "prediction_quality.error", "hourly_rentals.cnt"), 1),
        (("diff", "demand_model[2011-07]", "demand_model[2011-07]"), 0),
        (("diff", "demand_model[2011-06]", "demand_model[2011-07]"), 1),
        (("diff", "demand_model[2011-06]", "demand_features[2011-06]"), 2),
        (("verify",), 0),
        (("upstream", "nonesuch"), 2),
        (("deployments", "--month", "2013-01"), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_1_is_an_answer_and_2_is_none(snapshot: Path, words: tuple[str, ...], code: int) -> None:
    done = bikes(*words)
    assert (done.exit_code, bool(done.stdout), done.stderr.startswith("error: ")) == (code, code < 2, code == 2)


def test_a_snapshot_that_differs_is_1(snapshot: Path) -> None:
    content = json.loads(snapshot.read_text())
    del content["partitions"]["hourly_rentals[2011-01]"]
    snapshot.write_text(json.dumps(content))
    assert bikes("verify").exit_code == 1


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (KeyboardInterrupt(), 130, "Interrupted: what was published stands"),
        (ZeroDivisionError("of the program"), 2, "ZeroDivisionError: of the program"),
    ],
    ids=["interrupted", "unexpected"],
)
def test_an_interruption_is_130_and_what_nobody_foresaw_is_an_error(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, told: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(answers, "search", fail)
    monkeypatch.setattr(state, "statuses", fail)
    for words in (("search", "x"), ("status",)):
        done = bikes(*words)
        assert (done.exit_code, told in done.stderr) == (code, True)
