"""Monthly partitions, from the months that the source holds."""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path

import dagster as dg

from bikes_assets.adapters.readers import Reader, reader_for
from bikes_assets.demand.tables import RENTAL_RECORDS
from bikes_assets.lineage.digest import file_digest
from bikes_assets.lineage.errors import DataError
from bikes_assets.settings import Settings, settings

FORMAT = "%Y-%m"


def source_reader() -> Reader:
    """Return a reader of the source that the settings name."""
    known = settings()
    return reader_for(
        known.source_location, columns=RENTAL_RECORDS.names, date_column="dteday", query=known.source_query
    )


def months_from(first: str, last: str, skip: int = 0) -> dg.MonthlyPartitionsDefinition:
    """Return the months from `first` to `last`, both included, without the first `skip` months."""
    return dg.MonthlyPartitionsDefinition(_later(first, skip), end_date=_later(last, 1), fmt=FORMAT)


def source_span(known: Settings, memory: Path) -> tuple[str, str]:
    """Return the first and last month to work on: as set, else as the source holds.

    What the source held is remembered with its fingerprint, so that loading definitions reads an unchanged source no
    second time, and a source that is away for a while does not take the definitions with it.
    """
    if known.first_month and known.last_month:
        return known.first_month, known.last_month
    reader = source_reader()
    source = file_digest(repr((known.source_location, known.source_query)).encode())  # it may hold a password
    remembered = json.loads(memory.read_text()) if memory.exists() else {}
    try:
        fingerprint = reader.fingerprint()
        if not fingerprint or (remembered.get("source"), remembered.get("fingerprint")) != (source, fingerprint):
            remembered = {"source": source, "fingerprint": fingerprint, "span": reader.span()}
            _replace(memory, json.dumps(remembered))
    except DataError:
        if remembered.get("source") != source:
            raise
    first, last = remembered["span"]
    return str(known.first_month or first), str(known.last_month or last)


def _replace(file: Path, text: str) -> None:
    """Write a file whole or not at all, whoever else does so at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}")
    part.write_text(text)
    part.replace(file)


def _later(month: str, months: int) -> str:
    day = date.fromisoformat(f"{month}-01")
    count = day.year * 12 + day.month - 1 + months
    return f"{count // 12}-{count % 12 + 1:02}"


FIRST_MONTH, LAST_MONTH = source_span(settings(), settings().data_folder / "months.json")
MONTHS = months_from(FIRST_MONTH, LAST_MONTH)
MODEL_MONTHS = months_from(FIRST_MONTH, LAST_MONTH, skip=2)
"""A model needs a month to be fitted on and one to be judged on before the month that it is for."""


def earlier(first: int, last: int) -> dg.TimeWindowPartitionMapping:
    """Return the mapping to the months from `first` to `last` before or at (0) a month, such as -1 to -1."""
    return dg.TimeWindowPartitionMapping(start_offset=first, end_offset=last)


def all_earlier() -> dg.TimeWindowPartitionMapping:
    """Return the mapping to every month before a month."""
    return earlier(-len(MONTHS.get_partition_keys()), -1)
