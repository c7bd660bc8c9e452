"""An export by itself: whatever is done to it is found, by `verify` or by openssl, and named; untouched, it is whole."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bikes_assets.core.errors import SettingsError
from bikes_assets.governance.audit import export
from bikes_assets.governance.audit.checking import AuditFinding
from bikes_assets.governance.audit.entries import AuditEntry, AuditHead
from bikes_assets.governance.audit.export import KeptHead, verify
from bikes_assets.governance.audit.log import AuditLog, complete_lines
from bikes_assets.governance.audit.signing import PrivateKey, new_key
from bikes_assets_tests.fire.processes import turns
from bikes_assets_tests.governance.audit.samples import KEY, exported, extend, fact


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("log"))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "export")


def findings(folder: Path, kept: Path | None = None) -> list[tuple[str, int | None]]:
    result = verify(folder, KEY.public, KeptHead.read(kept) if kept else None)
    return [(item.how, item.number) for item in result.findings]


def lines_of(folder: Path) -> list[bytes]:
    return [*complete_lines(folder / export.LOG)]


def write_lines(folder: Path, lines: list[bytes]) -> None:
    (folder / export.LOG).write_bytes(b"".join(line + b"\n" for line in lines))


def openssl(folder: Path) -> bool:
    """Return whether openssl verifies the head, as the documentation says."""
    names = {"inkey": export.PUBLIC_KEY, "in": export.HEAD, "sigfile": export.SIGNATURE}
    files = [word for name, file in names.items() for word in (f"-{name}", str(folder / file))]
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-rawin", *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode == 0) == ("Signature Verified Successfully" in done.stdout), done
    return done.returncode == 0


def test_an_untouched_export_is_whole_and_openssl_agrees(folder: Path) -> None:
    result = verify(folder, KEY.public, KeptHead.read(folder / export.HEAD))
    assert (result.findings, result.head.number, result.signed) == ((), 21, 21)
    assert result.key == KEY.public.fingerprint
    assert openssl(folder)
    assert len((folder / export.SIGNATURE).read_bytes()) == 64
    assert json.loads((folder / export.HEAD).read_bytes()) == {"number": 21, "digest": result.head.digest}


def forged(lines: list[bytes], place: int, number: int = 900) -> list[bytes]:
    """Return the lines with one more that names the entry before it, as a forger without the key can write it."""
    after = AuditEntry.parse(lines[place - 1])
    return [*lines[:place], AuditEntry.after(after.number, after.digest, fact(number)).line, *lines[place:]]


def rewritten(lines: list[bytes], place: int) -> list[bytes]:
    """Return the lines with another fact in one of them and all later ones computed again, as a forger can."""
    entries = [AuditEntry.parse(line) for line in lines]
    for at in range(place, len(entries)):
        before = entries[at - 1] if at else AuditEntry(0, fact(0), "", "")
        entries[at] = AuditEntry.after(before.number, before.digest, fact(900) if at == place else entries[at].fact)
    return [entry.line for entry in entries]


@pytest.mark.parametrize(
    ("alter", "expected"),
    [
        (lambda lines: [*lines[:4], lines[4].replace(b"somebody", b"nobody"), *lines[5:]], ("edited", 5)),
        (lambda lines: [*lines[:4], lines[4].replace(b'","', b'", "', 1), *lines[5:]], ("edited", 5)),
        (lambda lines: [*lines[:4], *lines[5:]], ("removed", 5)),
        (lambda lines: lines[2:], ("removed", 1)),
        (lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]], ("moved", 5)),
        (lambda lines: [*lines[:4], lines[3], *lines[4:]], ("inserted", 5)),
        (lambda lines: forged(lines, 4), ("inserted", 6)),
        (lambda lines: forged(lines, 21), ("inserted", 22)),
        (lambda lines: [*forged(lines, 4)[:5], *lines[5:]], ("inserted", 6)),
        (lambda lines: lines[:-3], ("cut", 19)),
        (lambda lines: lines[:0], ("cut", 1)),
        (lambda lines: rewritten(lines, 4), ("edited", 21)),
        (lambda lines: rewritten(lines, 20), ("edited", 21)),
    ],
)
def test_what_was_done_to_a_log_is_named_with_the_first_entry_that_is_wrong(
    folder: Path, alter: Callable[[list[bytes]], list[bytes]], expected: tuple[str, int]
) -> None:
    write_lines(folder, alter(lines_of(folder)))
    assert findings(folder) == [expected]


def test_a_log_without_its_last_end_or_with_more_after_it_is_not_whole(folder: Path) -> None:
    log = folder / export.LOG
    content = log.read_bytes()
    log.write_bytes(content[:-1])
    assert findings(folder) == [("cut", 21)]
    log.write_bytes(content + b"{")
    assert findings(folder) == [("edited", 22)]


ALTERATIONS = ("byte", "edit", "delete", "swap", "insert", "copy", "truncate", "rewrite", "head")


def altered(folder: Path, chance: random.Random) -> str:
    """Alter the log, or the log with its unsigned head, in a random way, and return in which; the content differs then."""
    log = folder / export.LOG
    content, lines = log.read_bytes(), lines_of(folder)
    way = chance.choice(ALTERATIONS)
    place, other = chance.sample(range(len(lines)), 2)
    if way == "byte":
        at = chance.randrange(len(content))
        log.write_bytes(content[:at] + bytes([chance.choice([*{*range(256)} - {content[at]}])]) + content[at + 1 :])
    elif way == "edit":
        values = json.loads(lines[place])
        name = chance.choice(["who", "reason", "kind", "time", "number", "before", "digest", "settings", "subjects"])
        values[name] = {"number": 7_000, "kind": "removal", "settings": {"a": "b"}, "subjects": ["x"]}.get(name, "x")
        lines[place] = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
        write_lines(folder, lines)
    elif way == "delete":
        write_lines(folder, [line for at, line in enumerate(lines) if at not in {place, chance.choice((place, other))}])
    elif way == "swap":
        lines[place], lines[other] = lines[other], lines[place]
        write_lines(folder, lines)
    elif way == "insert":
        write_lines(folder, forged(lines, place + 1, chance.randrange(10**6)))
    elif way == "copy":
        lines.insert(place, lines[other])
        write_lines(folder, lines)
    elif way == "truncate":
        log.write_bytes(content[: chance.randrange(len(content))])
    elif way == "rewrite":
        write_lines(folder, rewritten(lines, place))
    else:  # with a head that fits, but the signature of the one before
        lines = rewritten(lines, place)
        write_lines(folder, lines)
        last = AuditEntry.parse(lines[-1])
        (folder / export.HEAD).write_bytes(AuditHead(last.number, last.digest).content)
    return way


@pytest.mark.soak
def test_whatever_is_done_to_a_log_is_found(made: Path, tmp_path: Path) -> None:
    ways = set[str]()
    for turn in turns(1_000):
        chance = random.Random(turn)
        folder = shutil.copytree(made, tmp_path / str(turn))
        ways.add(way := altered(folder, chance))
        result = verify(folder, KEY.public, None)
        assert result.findings, (turn, way)
        # And it is found without the key too, unless head and log fit each other
        assert way == "head" or verify(folder, None, None).findings, (turn, way)
        shutil.rmtree(folder)
    assert ways == {*ALTERATIONS}
    assert verify(made, KEY.public, None).findings == ()


@pytest.mark.soak
def test_openssl_refuses_every_altered_head_and_signature(made: Path, folder: Path) -> None:
    for turn in turns(1_000):
        chance = random.Random(turn)
        name = chance.choice((export.HEAD, export.SIGNATURE))
        content = (made / name).read_bytes()
        at = chance.randrange(len(content))
        other = bytes([content[at] ^ chance.randrange(1, 256)])
        ways = (
            content[:at] + other + content[at + 1 :],
            content[:at] + content[at + 1 :],
            content[:at] + other + content[at:],
        )
        (folder / name).write_bytes(chance.choice(ways))
        assert not openssl(folder), turn
        (folder / name).write_bytes(content)
    assert openssl(folder)


def test_a_head_that_was_kept_shows_that_a_log_was_replaced_with_its_signature(tmp_path: Path) -> None:
    """Who holds the key can sign another log; a head that is kept elsewhere still shows it."""
    first = exported(tmp_path / "first", 10)
    kept = tmp_path / "kept.json"
    shutil.copy(first / export.HEAD, kept)
    shutil.copy(first / export.SIGNATURE, kept.with_suffix(".sig"))
    later = exported(tmp_path / "first", 15)
    assert findings(later, kept) == []
    # When the log is begun again with fewer entries, or others, by the same key
    shorter = exported(tmp_path / "second", 5)
    assert findings(shorter) == []
    assert findings(shorter, kept) == [("cut", 7)]
    other = tmp_path / "third"
    log = AuditLog(other / "audit")
    with log.extended(lambda _: [fact(number) for number in range(5, 20)], KEY):
        signed = log.signed()
    assert signed
    export.write(other / "export", log.file, log.file.stat().st_size, signed.head, signed)
    assert findings(other / "export", kept) == [("edited", 11)]


def test_a_kept_head_must_have_the_signature_that_is_beside_it(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_bytes((folder / export.HEAD).read_bytes())
    assert findings(folder, kept) == []
    kept.with_suffix(".sig").write_bytes(bytes(64))
    assert findings(folder, kept) == [("signature", None)]


def test_an_export_signed_by_another_key_or_without_signature_is_not_that_of_the_key(tmp_path: Path) -> None:
    other = PrivateKey(new_key())
    signed = exported(tmp_path / "other", 3, other)
    assert verify(signed, None, None).key == other.public.fingerprint
    assert findings(signed) == [("signature", None)]
    unsigned = exported(tmp_path / "unsigned", 3, None)
    assert sorted(path.name for path in unsigned.iterdir()) == ["head.json", "log.ndjson"]
    result = verify(unsigned, None, None)
    assert (result.findings, result.signed, result.key) == ((), None, "")
    assert findings(unsigned) == [("signature", None)]
    # And where the signature alone was taken away
    (signed / export.SIGNATURE).unlink()
    assert [item.how for item in verify(signed, None, None).findings] == ["signature"]


def test_what_is_no_export_is_wrong_use(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected the log of an export"):
        verify(tmp_path, None, None)
    for content in (b"", b"{}", b'{"digest": "", "number": 0}', b"[1]", b"\xff", b"[" * 100_000):
        (folder / export.HEAD).write_bytes(content)
        with pytest.raises(SettingsError, match="found no head of an audit log"):
            verify(folder, None, None)
    (folder / export.HEAD).unlink()
    with pytest.raises(SettingsError, match="found no head of an audit log"):
        verify(folder, None, None)
    (folder / export.PUBLIC_KEY).write_text("no key")
    with pytest.raises(SettingsError, match="found no public key"):
        export.public_key(folder / export.PUBLIC_KEY)


def test_an_export_over_an_earlier_one_leaves_nothing_of_it(tmp_path: Path) -> None:
    folder = exported(tmp_path, 3)
    log = AuditLog(tmp_path / "audit")
    extend(log, 5, None)
    export.write(folder, log.file, log.file.stat().st_size, log.remembered(), None)
    assert sorted(path.name for path in folder.iterdir()) == ["head.json", "log.ndjson"]
    assert verify(folder, None, None) == export.AuditResult(log.remembered(), None, "", ())


def test_lines_that_are_no_entries_are_named(folder: Path) -> None:
    lines = lines_of(folder)
    for text in (b"", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"number":true}', lines[0] + b" ", b"NaN"):
        write_lines(folder, [*lines[:2], text, *lines[2:]])
        (finding,) = verify(folder, KEY.public, None).findings
        assert isinstance(finding, AuditFinding)
        assert (finding.how, finding.number) == ("edited", 3)
