"""Nothing that a store holds or a command prints tells a secret of the settings, when everything that can fail does."""

from __future__ import annotations

import os
import random
import string
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from bikes_assets_tests import forked
from bikes_assets_tests.conftest import ROOT
from bikes_assets_tests.fire.processes import turns

COMMAND = "from bikes_assets.cli import main; main()"
STEP = """
import dagster as dg
from bikes_assets.cli import runner as runs
from bikes_assets.definitions import defs

job = defs().resolve_implicit_global_asset_job_def()
with runs.opened() as instance:
    result = job.execute_in_process(
        instance=instance, partition_key="2011-01", asset_selection=[dg.AssetKey("hourly_rentals")], raise_on_error=False
    )
    assert not result.success
    failed = [event.step_failure_data.error.to_string() for event in result.all_events if event.is_step_failure]
    print(*failed)
    warned = [entry.user_message for entry in instance.all_logs(result.run_id) if entry.level == 30]
    print(*warned)
raise ValueError("a traceback of " + __import__("os").environ["BIKES_MLFLOW_TRACKING_URI"])
"""


def secret(rng: random.Random) -> str:
    """Return a password of characters that URLs, JSON and shells have to quote, and of letters."""
    special = "".join(rng.sample("@:/?#%&=+ '\"\\$;,!é", 5))
    return "".join(rng.sample(string.ascii_letters, 6)) + special + "".join(rng.sample(string.digits, 4))


def forms(text: str) -> set[bytes]:
    """Return a secret as it is and percent-encoded, whole and its first part, which any cut through it leaves."""
    return {form.encode() for form in (text, quote(text), quote(text, safe=""), text[:6], text[:6].lower())}


def written(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()


@pytest.mark.soak
@pytest.mark.parametrize("turn", turns(10))
def test_no_secret_is_stored_or_printed(tmp_path: Path, turn: int) -> None:
    # Given secrets in every setting that takes a URL, and in the environment; and nothing that answers
    rng = random.Random(turn)
    names = ("source", "token", "tracking", "keyword", "aws", "pg", "mlflow", "page")
    known = {name: secret(rng) for name in names}
    at = {name: quote(value, safe="") for name, value in known.items()}
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("BIKES_", "DAGSTER_"))} | {
        "BIKES_DATA": str(tmp_path / "data"),
        "BIKES_FIRST_MONTH": "2011-01",
        "BIKES_LAST_MONTH": "2011-01",
        "BIKES_SOURCE": f"http://alice:{at['source']}@127.0.0.1:9/hour.csv?access={at['token']}",
        "BIKES_MLFLOW_TRACKING_URI": f"http://alice:{at['tracking']}@127.0.0.1:9",
        "BIKES_MLFLOW_URL": f"http://alice:{at['page']}@mlflow.example",
        "AWS_SECRET_ACCESS_KEY": known["aws"],
        "PGPASSWORD": known["pg"],
        "MLFLOW_TRACKING_PASSWORD": known["mlflow"],
    }
    database = f"postgresql+psycopg2://alice:{at['source']}@127.0.0.1:9/db?password={at['keyword']}"
    told = ""
    for program, arguments, more in (
        (STEP, (), {}),
        (COMMAND, ("run",), {}),
        (COMMAND, ("status",), {"BIKES_DATA": str(tmp_path / "other"), "BIKES_DAGSTER_STORAGE": database}),
        (COMMAND, ("status",), {"BIKES_SOURCE": database, "BIKES_SOURCE_QUERY": "select 1"}),
        (COMMAND, ("status",), {"BIKES_SOURCE": f"nowhere+{database}", "BIKES_SOURCE_QUERY": "select 1"}),
        (COMMAND, ("status",), {"BIKES_MLFLOW_TRACKING_URI": f"gopher://alice:{at['tracking']}@host"}),
    ):
        # When it is used
        done = forked.run(("-c", program, *arguments), environment=environment | more, folder=ROOT)
        assert done.returncode == (1 if program == STEP else 2), (
            arguments,
            done.stdout,
            done.stderr,
        )
        told += done.stdout + done.stderr
    # Then it says what is wrong, and no secret
    assert "found connection refused" in told
    assert "127.0.0.1" in told
    assert "a traceback of http://***@127.0.0.1:9" in told
    texts = [("what was printed", told.encode()), *written(tmp_path)]
    assert len(texts) > 10
    leaks = [
        (name, what) for name, text in texts for what, value in known.items() if any(f in text for f in forms(value))
    ]
    assert leaks == []
