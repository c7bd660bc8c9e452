"""Receivers get every event at least once, and no second run, whatever they, the sender and the log go through."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from openlineage.client.transport import Config, Transport

from bikes_assets.core.errors import SettingsError, StoreError
from bikes_assets.core.record import Record, Version
from bikes_assets.events import metadata
from bikes_assets.lineage.openlineage.catalog import Catalog
from bikes_assets.lineage.openlineage.sending import outbox, sent_file
from bikes_assets.lineage.openlineage.sending.outbox import Delivery, behind, deliver
from bikes_assets.lineage.openlineage.sending.receivers import receivers
from bikes_assets.lineage.openlineage.sending.sent_file import Contact, opened
from bikes_assets_tests.elsewhere.servers import create_database
from bikes_assets_tests.fire.processes import turns
from bikes_assets_tests.lineage.openlineage.receiver import BAD, GOOD, Receiver, key_of, receiver
from bikes_assets_tests.lineage.openlineage.test_history import (
    JOB,
    _entry,
    execute,
    exported,
)

CATALOG = Catalog("project", "/lake", "/code")
MONTHS = ("2016-01", "2016-02", "2016-03")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiver() as made:
        configure(monkeypatch, type="http", url=made.url, timeout="0.3")
        yield made


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no configuration of this machine count."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("OPENLINEAGE")]:
        monkeypatch.delenv(name)


def configure(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"OPENLINEAGE__TRANSPORT__{name.upper()}", value)


def send(home: Path | str, seconds: float = 60, file: Path | None = None) -> list[Delivery]:
    """Send once to each receiver, for some seconds at most."""
    with opened(file or Path(home) / "sent.db", create=True) as sent:
        found = []
        for item in receivers():
            found.append(deliver(str(home), item, sent, lambda: CATALOG, time.monotonic() + seconds))
            item.close()
        return found


def bare(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event without what the client adds."""
    copy = json.loads(json.dumps(event))
    facets = copy["run"].get("facets", {})
    tags = [tag for tag in facets.get("tags", {}).get("tags", ()) if tag["source"] != "OPENLINEAGE_CLIENT"]
    if tags:
        facets["tags"]["tags"] = tags
    else:
        facets.pop("tags", None)
    copy["run"].pop("facets") if not facets and "facets" in copy["run"] else None
    return copy


def is_as_exported(home: Path, received: list[dict[str, Any]]) -> bool:
    """Return whether the last event of each run and type is that of the export, and there is no other."""
    last = {key_of(event): bare(event) for event in received}
    return last == {key_of(event): bare(event) for event in exported(home)}


def test_a_receiver_has_had_what_the_export_says_and_each_event_once(
    instance: Any, home: Path, server: Receiver
) -> None:
    for order, month in (("make", "2016-01"), ("retry", "2016-02"), ("raise", "2016-03")):
        execute(instance, order, month)
    assert [(item.sent, item.is_complete, item.error) for item in send(home)] == [(len(exported(home)), True, "")]
    assert [bare(event) for event in server.events] == [bare(event) for event in exported(home)]
    # And nothing new is nothing sent
    assert [(item.sent, item.is_complete) for item in send(home)] == [(0, True)]
    # And then what is new alone
    before = len(server.events)
    execute(instance, "make")
    assert [item.sent for item in send(home)] == [6] == [len(server.events) - before]
    assert set(server.counts.values()) == {1}
    assert is_as_exported(home, server.events)


def test_a_run_that_is_going_on_gets_its_end_later(instance: Any, home: Path, server: Receiver) -> None:
    run = instance.create_run_for_job(JOB.resolve_job_def("both"), asset_selection=None)
    # Given that Dagster stores the event before it says of the run that it has started
    kind = dg.DagsterEventType.PIPELINE_START
    instance.event_log_storage.store_event(_entry(run, kind))
    assert [item.sent for item in send(home)] == [0]
    instance.run_storage.handle_run_event(run.run_id, _entry(run, kind).dagster_event, None)
    assert ([item.sent for item in send(home)], server.keys) == ([1], {(run.run_id, "START")})
    assert [item.sent for item in send(home)] == [0]
    # And the same at its end
    canceled = _entry(run, dg.DagsterEventType.PIPELINE_CANCELED)
    instance.event_log_storage.store_event(canceled)
    assert [item.sent for item in send(home)] == [0]
    instance.run_storage.handle_run_event(run.run_id, canceled.dagster_event, None)
    assert [item.sent for item in send(home)] == [1]
    assert server.counts == {(run.run_id, "START"): 1, (run.run_id, "ABORT"): 1}
    # And a run that never begins is forgotten
    other = instance.create_run_for_job(JOB.resolve_job_def("both"), asset_selection=None)
    instance.report_run_canceled(other)
    for _ in range(3):
        assert [item.sent for item in send(home)] == [0]
    with opened(home / "sent.db", create=False) as file:
        assert file.position(receivers()[0].name).runs == {}


def test_what_no_run_published_is_sent_once(instance: Any, home: Path, server: Receiver) -> None:
    record = Record(Version("pins", None, 1, "0" * 32), {}, (), "", {}, {}, {}).to_dict()
    metadata.report(instance, dg.AssetMaterialization("pins", metadata={"lineage": dg.MetadataValue.json(record)}))
    assert [[item.sent for item in send(home)] for _ in range(2)] == [[1], [0]]
    assert is_as_exported(home, server.events)


BAD_DAYS = {
    "500": "answered 500 On fire",
    "503": "answered 503 On fire",
    "silent": "no answer within 0.3 s",
    "trickling": "no complete answer within 1.6 s",
    "killed": "the connection failed: Connection refused",
    "cut off": "the connection was cut",
    "cut short": "the connection was cut",
    "moved": "redirected to http://127.0.0.1:",
}


@pytest.mark.parametrize("mode", BAD_DAYS)
def test_a_receiver_on_a_bad_day_loses_nothing(instance: Any, home: Path, server: Receiver, mode: str) -> None:
    execute(instance, "make")
    server.set(mode)
    start = time.monotonic()
    ((sent, is_complete, error),) = [(item.sent, item.is_complete, item.error) for item in send(home)]
    # Then it is asked once, says why, and takes little time
    assert (sent, is_complete, server.requests) == (0, False, 0 if mode == "killed" else 1)
    assert error.startswith(BAD_DAYS[mode])
    assert time.monotonic() - start < 5
    with opened(home / "sent.db", create=False) as file:
        contact = file.contact(receivers()[0].name)
        assert (contact.error, contact.failures, contact.succeeded) == (error, 1, None)
        assert behind(str(home), file.position(receivers()[0].name), lambda: CATALOG)[0] == 6
    # And later it gets everything
    server.set("fine")
    assert [(item.sent, item.is_complete) for item in send(home)] == [(6, True)]
    assert is_as_exported(home, server.events)
    with opened(home / "sent.db", create=False) as file:
        assert file.contact(receivers()[0].name).failures == 0


def test_time_that_is_over_leaves_the_rest_for_the_next_time(instance: Any, home: Path, server: Receiver) -> None:
    execute(instance, "make")
    server.set("slow")
    counts = [send(home, 0.15)[0].sent for _ in range(6)]
    assert sum(counts) == 6
    assert max(counts) < 6
    assert set(server.counts.values()) == {1}
    assert is_as_exported(home, server.events)


def test_receivers_are_asked_later_each_time_they_fail() -> None:
    waits = [Contact(None, 1000.0, "no", failures).again - 1000 for failures in (1, 2, 3, 50)]
    assert waits == [15, 30, 60, 900]
    failed = Contact(None, 1000.0, "no", 1)
    assert [failed.is_due(now) for now in (1001, 1014, 1015, 500)] == [False, False, True, True]
    assert Contact(1000.0).is_due(1000)


def test_a_composite_transport_is_receivers_of_their_own(
    instance: Any, home: Path, server: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as other:
        place = other.url.replace("://", "://user:secretpassword@")
        config = {
            "down": {
                "type": "http",
                "url": server.url,
                "timeout": 0.3,
                "auth": {"type": "api_key", "apiKey": "k3yk3yk3y"},
            },
            "up": {"type": "http", "url": place, "endpoint": "x?token=abcdefgh"},
            "file": {"type": "file", "log_file_path": str(home / "told.ndjson"), "append": True},
        }
        (home / "openlineage.yml").write_text(json.dumps({"transport": {"type": "composite", "transports": config}}))
        for name in [name for name in os.environ if name.startswith("OPENLINEAGE")]:
            monkeypatch.delenv(name)
        execute(instance, "make")
        server.set("500")
        found = send(home)
        assert [item.receiver for item in found] == [
            f"http {server.url}/api/v1/lineage",
            f"http {other.url}/x",
            f"file {home}/told.ndjson",
        ]
        assert [(item.sent, bool(item.error)) for item in found] == [(0, True), (6, False), (6, False)]
        server.set("fine")
        assert [item.sent for item in send(home)] == [6, 0, 0]
        told = [json.loads(line) for line in (home / "told.ndjson").read_text().splitlines()]
        assert is_as_exported(home, server.events)
        assert is_as_exported(home, other.events)
        assert is_as_exported(home, told)
        assert server.headers[0]["Authorization"] == "Bearer k3yk3yk3y"
        stored = (home / "sent.db").read_bytes()
        assert not [word for word in (b"secretpassword", b"k3yk3yk3y", b"abcdefgh", b"user") if word in stored]


def test_filters_and_tags_of_the_configuration_apply(instance: Any, home: Path, server: Receiver) -> None:
    (home / "openlineage.yml").write_text(
        json.dumps({"filters": [{"type": "exact", "match": "sums"}], "tags": {"run": {"team": "demand"}}})
    )
    execute(instance, "make")
    assert [item.is_complete for item in send(home)] == [True]
    assert {event["job"]["name"] for event in server.events} == {"both", "numbers"}
    assert all("team" in {tag["key"] for tag in event["run"]["facets"]["tags"]["tags"]} for event in server.events)
    # And no code location of the working directory is told of
    assert not [event for event in server.events if "sourceCodeLocation" in event["job"].get("facets", {})]


def test_no_configuration_is_no_receiver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert receivers() == []
    (tmp_path / "openlineage.yml").write_text("tags: {run: {team: demand}}")
    assert receivers() == []
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9")
    assert [item.name for item in receivers()] == ["http http://127.0.0.1:9/api/v1/lineage"]
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    assert receivers() == []


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"type": "nonesuch.Transport"}, "nonesuch"),
        ({"type": "http"}, "`url` key not passed"),
        ({"type": "http", "url": "no url"}, "valid url"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], told: str
) -> None:
    configure(monkeypatch, **values)
    with pytest.raises(SettingsError, match=f"OpenLineage's configuration.*{told}.*set OPENLINEAGE_URL"):
        receivers()


def test_a_configuration_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_CONFIG", "/nonexistent.yml")
    with pytest.raises(SettingsError, match=r"OPENLINEAGE_CONFIG: found '/nonexistent.yml', expected a file"):
        receivers()


def test_without_the_file_everything_is_sent_again_and_is_no_second_run(
    instance: Any, home: Path, server: Receiver
) -> None:
    execute(instance, "make")
    send(home)
    keys = server.keys
    (home / "sent.db").unlink()
    assert [item.sent for item in send(home)] == [6]
    assert (server.keys, set(server.counts.values())) == (keys, {2})
    # And so it is where the file is of another layout
    with sqlite3.connect(home / "sent.db") as store:
        store.execute("pragma user_version = 99")
    store.close()
    with opened(home / "sent.db", create=False) as file:
        assert file.position(receivers()[0].name).cursor == 0
    assert [item.sent for item in send(home)] == [6]
    # And a damaged one is named
    (home / "sent.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(StoreError, match=r"sent.db: found no SQLite database.*remove it: everything is sent again"):
        send(home)


def test_a_restored_backup_skips_nothing(
    instance: Any, home: Path, server: Receiver, tmp_path_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(instance, "make")
    backup = tmp_path_factory.mktemp("backup")
    shutil.copytree(home, backup / "home")
    execute(instance, "make", "2016-02")
    send(home)
    # When the log is restored to where it was, and goes on from there past the number that was sent last
    restored = backup / "home"
    monkeypatch.setenv("DAGSTER_HOME", str(restored))
    with dg.DagsterInstance.from_config(str(restored)) as other:
        found = send(restored, file=home / "sent.db")
        assert [(item.is_restarted, item.sent) for item in found] == [(True, 6)]
        for month in MONTHS:
            execute(other, "make", month)
    send(restored, file=home / "sent.db")
    assert {key_of(event) for event in exported(restored)} <= server.keys
    # And so it is where it went on before anything was sent
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    before = len(server.events)
    assert [item.is_restarted for item in send(home, file=home / "sent.db")] == [True]
    assert {key_of(event) for event in exported(home)} == {key_of(event) for event in server.events[before:]}
    assert [item.sent for item in send(home, file=home / "sent.db")] == [0]


def test_the_work_is_as_large_as_what_is_new(
    instance: Any, home: Path, server: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for month in MONTHS:
        execute(instance, "make", month)
    send(home)
    asked, parts = [], []
    asking, history = outbox.asking, outbox.history

    def counted(storage: str) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def counting() -> Iterator[Any]:
            with asking(storage) as ask:
                yield lambda query, **values: asked.append(query) or ask(query, **values)

        return counting()

    monkeypatch.setattr(outbox, "asking", counted)
    monkeypatch.setattr("bikes_assets.lineage.event_log.asking", counted)
    monkeypatch.setattr(outbox, "history", lambda storage, part: parts.append(part) or history(storage, part))
    # Then nothing new is two queries
    send(home)
    assert (len(asked), parts) == (2, [])
    # And a run is read alone
    run = execute(instance, "make")
    send(home)
    assert [part.runs for part in parts] == [{run}]


def test_small_windows_of_the_log_send_the_same(
    instance: Any, home: Path, server: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for order in ("make", "retry", "raise"):
        execute(instance, order)
    monkeypatch.setattr(outbox, "_MOST", 2)
    assert [item.is_complete for item in send(home)] == [True]
    assert set(server.counts.values()) == {1}
    assert is_as_exported(home, server.events)
    with opened(home / "sent.db", create=False) as file:
        position = file.position(receivers()[0].name)
        assert (position.runs, position.events) == ({}, {})


def test_a_run_sends_nothing_itself(instance: Any, home: Path, server: Receiver) -> None:
    server.set("silent")
    execute(instance, "make")
    assert server.requests == 0


@pytest.mark.slow
def test_a_log_on_postgresql_is_sent_too(
    postgres_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Receiver
) -> None:
    import bikes_assets

    url = create_database(postgres_server, "openlineage_outbox")
    monkeypatch.setenv("BIKES_DAGSTER_STORAGE", url)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    shutil.copy(Path(bikes_assets.__file__).with_name("dagster-postgres.yaml"), tmp_path / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        for order in ("make", "retry", "raise"):
            execute(made, order)
            assert [item.is_complete for item in send(url, file=tmp_path / "sent.db")] == [True]
    assert is_as_exported(url, server.events)  # pyright: ignore[reportArgumentType] - a URL reads as well
    assert set(server.counts.values()) == {1}


class Campaign:
    """Random things that happen to a log, its receiver and its sender; in the end the receiver has had everything."""

    def __init__(self, seed: int, home: Path, instance: Any, server: Receiver) -> None:
        self.rng, self.home, self.instance, self.server = random.Random(seed), home, instance, server

    def run(self) -> None:
        acts = [self.materialize, self.materialize, self.change, self.change, self.send, self.kill, self.forget]
        for _ in range(self.rng.randint(6, 10)):
            self.rng.choice(acts)()
        self.server.set("fine")
        send(self.home)
        exact = {key_of(event) for event in exported(self.home)}
        assert self.server.keys == exact, (exact - self.server.keys, self.server.keys - exact)
        assert is_as_exported(self.home, self.server.events)
        assert [item.sent for item in send(self.home)] == [0]

    def materialize(self) -> None:
        """Materialize while somebody sends, as the daemon does."""
        is_over, errors = threading.Event(), list[Exception]()

        def sending() -> None:
            try:
                while not is_over.wait(0.01):
                    send(self.home, 0.2)
            except Exception as error:  # noqa: BLE001 - it is compared below
                errors.append(error)

        thread = threading.Thread(target=sending)
        thread.start()
        execute(self.instance, self.rng.choice(["make", "make", "raise", "retry"]), self.rng.choice(MONTHS))
        is_over.set()
        thread.join()
        assert errors == []

    def change(self) -> None:
        self.server.set(self.rng.choice([*BAD, *GOOD]))

    def send(self) -> None:
        send(self.home, self.rng.uniform(0, 0.5))

    def kill(self) -> None:
        """Kill -9 the sender, at any moment."""
        child = os.fork()
        if not child:
            try:
                send(self.home)
            finally:
                os._exit(0)
        time.sleep(self.rng.uniform(0, 0.3))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    def forget(self) -> None:
        """Lose what was remembered of receivers."""
        if self.rng.random() < 0.3:
            for file in self.home.glob("sent.db*"):
                file.unlink()


@pytest.mark.soak
@pytest.mark.parametrize("seed", turns(50))
def test_no_event_is_lost_and_no_run_is_a_second_one(seed: int, instance: Any, home: Path, server: Receiver) -> None:
    Campaign(seed, home, instance, server).run()


class Mute(Transport):
    """A transport that only logs what goes wrong, as that of Kafka does."""

    kind = "mute"

    def __init__(self, _: Config) -> None:
        pass

    def emit(self, _: Any) -> None:
        logging.getLogger("openlineage.client.transport.kafka").error("it has not arrived: password=%s", "abcdefgh")


@pytest.mark.parametrize("level", ["WARNING", "CRITICAL"])
def test_a_failure_that_is_only_logged_is_one(
    instance: Any, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, level: str
) -> None:
    monkeypatch.setenv("OPENLINEAGE_CLIENT_LOGGING", level)
    configure(monkeypatch, type=f"{__name__}.Mute")
    execute(instance, "make")
    assert [(item.sent, item.error) for item in send(home)] == [(0, "it has not arrived: password=***")]
    assert "it has not arrived" not in caplog.text
    logging.getLogger("openlineage.client").setLevel(logging.NOTSET)


def test_an_attempt_that_has_published_ends_with_its_step(
    instance: Any, home: Path, server: Receiver, tmp_path_factory: Any
) -> None:
    run = execute(instance, "make")
    # Given the log as it was when a step had published and was still going on, with a check to come
    earlier = tmp_path_factory.mktemp("earlier") / "home"
    shutil.copytree(home, earlier)
    with sqlite3.connect(earlier / "event_log.db") as log:
        log.execute(
            "delete from event_logs where id > (select min(id) from event_logs where dagster_event_type = ?)",
            ["ASSET_MATERIALIZATION"],
        )
    log.close()
    with sqlite3.connect(earlier / "history" / "runs.db") as runs:
        runs.execute("update runs set status = 'STARTED', end_time = null")
    runs.close()
    send(earlier, file=home / "sent.db")
    assert [event["eventType"] for event in server.events] == ["START", "START"]
    # Then its end is sent once, with the check
    send(home)
    assert set(server.counts.values()) == {1}
    assert (run, "COMPLETE") in server.keys
    assert is_as_exported(home, server.events)


def test_a_receiver_that_has_the_same_place_as_another_has_a_name_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(
        monkeypatch,
        type="composite",
        transports=json.dumps([{"type": "http", "url": f"http://{user}:x@127.0.0.1:9"} for user in ("one", "two")]),
    )
    names = [item.name for item in receivers()]
    assert names == ["http http://127.0.0.1:9/api/v1/lineage", "http http://127.0.0.1:9/api/v1/lineage (2)"]


def test_the_file_is_opened_by_readers_without_being_created(tmp_path: Path) -> None:
    with opened(tmp_path / "none.db", create=False) as file:
        assert (file.position("x"), file.contact("x")) == (sent_file.Position(), Contact())
    assert not (tmp_path / "none.db").exists()
