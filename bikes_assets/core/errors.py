"""The project's errors: every message names what is wrong, what was expected and what to do."""

from __future__ import annotations

from bikes_assets.core.secrets import scrubbed
from bikes_assets.core.texts import MOST_OF_MESSAGE, plain, shortened

NOT_IN_CODE_VERSION = True  # errors and their messages make no rows


class LineageError(Exception):
    """Base of every error that this project raises on purpose.

    Its message holds no secrets and no control sequences of a terminal, and is never long.

    Args:
        lines: the lines of the message.
        details: parts of the message by name, such as `found` and `expected`, to be shown separately; those that are
            None or "" are left out.

    Attributes:
        details: the same, as text.
    """

    def __init__(self, *lines: str, **details: object) -> None:
        super().__init__(*map(_shown, lines))
        self.details = {name: _shown(str(value)) for name, value in details.items() if value not in (None, "")}

    def __str__(self) -> str:
        return "\n".join(self.args)


def _shown(text: str) -> str:
    return plain(shortened(scrubbed(text), MOST_OF_MESSAGE))


class DataError(LineageError):
    """Input data is not what its layout declares; nothing was published.

    Args:
        file: name of the file, URL or query that holds the value.
        row: line in a text file, or 1-based row elsewhere; None when the error concerns the whole file.
        column: name of the column; None when the error concerns the row or file.
        found: the value or state that was found.
        expected: what was expected instead.
    """

    def __init__(
        self, file: str, *, found: object, expected: str, row: int | None = None, column: str | None = None
    ) -> None:
        self.file, self.row, self.column = file, row, column
        self.found, self.expected = found, expected
        name, which, what = shortened(file), shortened(column or ""), shortened(str(found))
        place = "".join([f", row {row}" if row is not None else "", f", column {which}" if column else ""])
        told = f"{name}{place}: found {what}, expected {shortened(expected)}"
        super().__init__(told, file=name, row=row, column=which, found=what, expected=shortened(expected))


class EventError(LineageError):
    """What another tool sent is no OpenLineage event, or one that is not taken; others that came with it are."""


class SchemaError(LineageError):
    """A table does not conform to its declared schema; it is refused rather than cast."""


class FeatureError(LineageError):
    """A column function reads what it does not declare, or cannot be computed."""


class DigestError(LineageError):
    """Stored content does not have its recorded digest."""


class RecordError(LineageError):
    """A value that should be a record is none that this project has written."""


class RemovedError(LineageError):
    """Rows or a model's file were removed by retention; the record of what they were materialized from is kept."""


class NothingToDo(LineageError):  # noqa: N818 - a reason to skip a partition, not an error
    """A partition has no rows to work on: it is skipped, and the message says why."""


class ConflictError(LineageError):
    """Another writer has published this partition since this one started.

    Args:
        message: the message to show.
        run_id: the Dagster run that did, "" where it is not known.
    """

    def __init__(self, message: str, run_id: str = "") -> None:
        self.run_id = run_id
        super().__init__(message)


class FencedError(LineageError):
    """The run has ended meanwhile, or a later run has published the partition: this one publishes nothing."""


class StoreError(LineageError):
    """A store cannot be written or read: it is full, read-only or closed to this user; nothing partial is published."""


class AuditError(LineageError):
    """The audit log is not as it was written: nothing is appended to it, so that the damage stays visible."""


class ModelError(LineageError):
    """A model cannot be built, stored or trusted."""


class UntrustedError(ModelError):
    """A model's file holds a type or function that is not in the closed list."""


class SettingsError(LineageError):
    """A setting is missing or makes no sense."""


class TrackingError(LineageError):
    """MLflow cannot be reached, or does not hold what it should."""


class CheckFailed(LineageError):  # noqa: N818 - what Dagster calls it
    """A blocking check failed; nothing was published.

    Args:
        check: name of the check.
        address: address of the partition that was materialized.
        found: what was found.
        expected: what should hold.
    """

    def __init__(self, check: str, address: str, *, found: str, expected: str) -> None:
        self.check, self.address, self.found, self.expected = check, address, found, expected
        advice = "mend what it was materialized from or the code that materializes it, then materialize it again"
        told = f"{address}: check {check} failed, nothing was published: found {found}; expected {expected}; {advice}"
        super().__init__(told, check=check, partition=address, found=found, expected=expected, advice=advice)
