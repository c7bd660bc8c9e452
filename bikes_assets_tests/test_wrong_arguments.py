"""Arguments that are wrong or nearly right, at random: each command ends with a documented code, and without a traceback."""

from __future__ import annotations

import random
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bikes_assets.cli import main
from bikes_assets.settings import settings

COMMANDS = 300
WORKING = ("index", "run", "setup", "sync", "tune", "ui")
"""Commands that would work for long, or on other things than the store: they are asked with an option that there is not."""
RIGHT = (
    "demand_features", "demand_features.temperature", "demand_features[2011-02]", "demand_features[2011-02]@2", "demand_model@1",
    "demand_model@champion", "demand_predictions[2011-03]#2011-03-14T17:00", "licence: CC BY 4.0", "hourly_rentals.cnt[2011-02]",
    "2011-02", "2011-02-01T05:00", "1", "month",
)  # fmt: skip
ODD = (
    "", "-", "--", " ", "\0", "\x1b[2J", "é", "x" * 20_000, "[", "]", "@", "#", "[[]]", '"a"."b"["c"]', "-1", "0", "9" * 40,
    "nan", "2011-13", "9999-99", "9999-12-31T23:59:59", "0001-01-01", "../../etc/passwd", "%s%n", "{}", "null", "demand_model@-1",
    "demand_model@" + "9" * 40, "demand_features[2011-02]@-1", "demand_features[]", "'; drop table nodes; --", "file:", "run:",
)  # fmt: skip


def mutated(rng: random.Random, text: str) -> str:
    """Return a text with a character less, one more, or its end turned round."""
    place = rng.randrange(len(text) + 1)
    one = rng.choice('[]@.#:"\\\0é -_xX9\n')
    return rng.choice(
        (text[:place] + text[place + 1 :], text[:place] + one + text[place:], text[:place] + text[place:][::-1])
    )


def value(rng: random.Random, parameter: click.Parameter, folder: Path) -> str:
    if isinstance(parameter.type, click.Path):
        return str(folder / rng.choice(("none/x.json", "x.json", "")))
    if isinstance(parameter.type, click.Choice) and rng.random() < 0.5:
        return rng.choice(list(parameter.type.choices))
    return rng.choice((rng.choice(RIGHT), mutated(rng, rng.choice(RIGHT)), rng.choice(ODD)))


def words(rng: random.Random, folder: Path) -> list[str]:
    """Return a command with arguments and options of its own, few of which are right."""
    name = rng.choice(sorted(main.commands))
    asked: list[str] = []
    for parameter in main.commands[name].params:
        if isinstance(parameter, click.Option):
            if rng.random() < (0.85 if parameter.required else 0.35):
                asked += [rng.choice(parameter.opts), *([] if parameter.is_flag else [value(rng, parameter, folder)])]
        elif rng.random() < 0.9:
            asked += [value(rng, parameter, folder) for _ in range(1 if parameter.nargs == 1 else rng.randint(0, 3))]
    if rng.random() < 0.15:
        rng.shuffle(asked)
    if name in WORKING or rng.random() < 0.1:
        asked.insert(rng.randint(0, len(asked)), "--nope")
    return [mutated(rng, name) if rng.random() < 0.05 else name, *asked]


def test_wrong_arguments_end_with_a_documented_code_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIKES_DATA", str(tmp_path / "data"))
    for name in ("DAGSTER_HOME", "BIKES_MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name)
    settings.cache_clear()
    rng, codes = random.Random(7), set[int]()
    try:
        for _ in range(COMMANDS):
            asked = words(rng, tmp_path)
            done = CliRunner().invoke(main, asked)
            assert done.exception is None or isinstance(done.exception, SystemExit), (asked, done.exception)
            assert done.exit_code in (0, 1, 2), asked
            assert "Traceback" not in done.output, asked
            assert len(done.stderr) < 25_000, asked
            codes.add(done.exit_code)
    finally:
        settings.cache_clear()
    assert codes == {0, 1, 2}
