"""With which source a version is rebuilt: the recorded one wherever it is at hand, or one that holds the very rows."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bikes_assets.app.sandbox import Recipes
from bikes_assets.app.settings import Settings
from bikes_assets.app.state import digests_of
from bikes_assets.core.errors import LineageError
from bikes_assets.core.record import Record, Use, Version
from bikes_assets.demand.tables import RENTAL_RECORDS
from bikes_assets.storage.sources.readers import reader_for
from bikes_assets_tests.sources import shipped

MONTHS = ("2011-01", "2011-02")


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what makes the recipes for a source that is set; code is always that of the working tree."""

    def make(source: object, query: str | None = None, **options: Any) -> Recipes:
        known = Settings.model_validate(
            {"BIKES_SOURCE": str(source), "BIKES_SOURCE_QUERY": query, "BIKES_DATA": str(tmp_path)}
        )
        for module in (
            "bikes_assets.app.sandbox",
            "bikes_assets.app.state",
            "bikes_assets.app.store",
            "bikes_assets.project",
        ):
            monkeypatch.setattr(f"{module}.settings", lambda: known)
        (tmp_path / "lake").mkdir(exist_ok=True)
        rebuilt = Recipes(tmp_path / f"recipes{len(list(tmp_path.iterdir()))}", None, stored=False, trusted=False)
        monkeypatch.setattr(rebuilt, "_code_of", lambda _: ("", ""))
        return rebuilt

    return make


def months(folder: Path, **changed: int) -> Path:
    """Write a file for each month; `changed` is added to the first row's casual rentals of a month."""
    folder.mkdir(exist_ok=True)
    rows = shipped()
    for month in MONTHS:
        part = rows[rows["dteday"].str[:7] == month].copy()
        more = changed.get(f"m{month[-2:]}", 0)
        for name in ("casual", "cnt"):
            part.loc[part.index[0], name] = str(int(part[name].iloc[0]) + more)
        part.to_csv(folder / f"{month}.csv", index=False)
    return folder


def together(folder: Path, file: Path) -> Path:
    """Write the rows of a folder's files to one."""
    pd.concat([pd.read_csv(part, dtype=str, keep_default_na=False) for part in sorted(folder.glob("*.csv"))]).to_csv(
        file, index=False
    )
    return file


def recorded(source: object, month: str, query: str | None = None) -> Record:
    """Return a record of rentals as if they had been materialized from a source as it is now."""
    columns = RENTAL_RECORDS.names
    origin = reader_for(str(source), columns=columns, query=query, altered="mark").read().origin
    read = Version("rental_records", month, origin.version, digests_of("rental_records", str(source), query)[month])
    use = Use("raw", read.asset, (month,), read.digest, 9, origin.to_dict())
    output = Version("hourly_rentals", month, 1, "0" * 32)
    return Record(output, {}, (read,), "code", {}, {}, {}, datasets=(use,))


def sources(recipes: Recipes, *records: Record) -> list[Path]:
    return [Path(place.source) for place in map(recipes.place_of, records) if place]


def test_two_versions_are_made_of_two_files_at_two_paths(recipes: Any, tmp_path: Path) -> None:
    """The source setting was changed in between."""
    first = together(months(tmp_path / "a"), tmp_path / "first.csv")
    second = together(months(tmp_path / "b", m02=5), tmp_path / "second.csv")
    wanted = [recorded(first, "2011-01"), recorded(second, "2011-02")]
    rebuilt = recipes(second)
    one, other = sources(rebuilt, *wanted)
    assert other == second
    assert one.read_bytes() == first.read_bytes()
    assert one.name == "first.csv"
    assert one != first  # a copy, which nobody changes meanwhile


def test_of_a_folder_whose_files_were_replaced_what_is_left_is_enough_for_its_own_months(
    recipes: Any, tmp_path: Path
) -> None:
    folder = months(tmp_path / "in")
    wanted = [recorded(folder, month) for month in MONTHS]
    months(folder, m02=5)
    # When the month that was not replaced is rebuilt, then of the file that is left, whatever source is set
    elsewhere = together(months(tmp_path / "b", m01=7), tmp_path / "elsewhere.csv")
    for source in (folder, elsewhere):
        (place,) = sources(recipes(source), wanted[0])
        assert [file.name for file in place.iterdir()] == ["2011-01.csv"]
        assert (place / "2011-01.csv").read_bytes() == (folder / "2011-01.csv").read_bytes()
    # And the other month is had nowhere, which is told at once, with where it was looked for
    with pytest.raises(LineageError) as caught:
        recipes(folder).place_of(wanted[1])
    said = str(caught.value)
    assert "hourly_rentals[2011-02]" in said
    assert "of which 2011-02.csv is missing, is not at hand (looked at " in said
    assert f"{folder}/2011-02.csv: SHA-256 " in said
    assert "nothing at hand holds the rows of 2011-02 that were read" in said


def test_a_file_that_has_grown_since_holds_the_rows_still(recipes: Any, tmp_path: Path) -> None:
    folder, file = months(tmp_path / "in"), tmp_path / "hour.csv"
    shutil.copy(folder / "2011-01.csv", file)
    wanted = recorded(file, "2011-01")
    together(folder, file)
    assert sources(recipes(file), wanted) == [file]


def test_a_database_is_read_again_where_it_lies(recipes: Any, tmp_path: Path) -> None:
    rows = pd.read_csv(together(months(tmp_path / "in"), tmp_path / "hour.csv"))
    with closing(sqlite3.connect(tmp_path / "hour.db")) as database:
        rows.to_sql("hour", database, index=False)
    url, query = f"sqlite:///{tmp_path / 'hour.db'}", "select *\nfrom hour"
    wanted = recorded(url, "2011-01", query)
    place = recipes(url, query).place_of(wanted)
    assert (place.source, place.query) == (url, query)
    # And where a file is set now, it is read where it was; the query is recorded without its line ends
    elsewhere = together(months(tmp_path / "b", m01=7), tmp_path / "elsewhere.csv")
    place = recipes(elsewhere).place_of(wanted)
    assert (place.source, place.query) == (url, "select * from hour")


def test_a_record_that_names_paths_copies_nothing(recipes: Any, tmp_path: Path) -> None:
    file = together(months(tmp_path / "in"), tmp_path / "hour.csv")
    wanted = recorded(file, "2011-01")
    (use,) = wanted.datasets
    forged = {**use.source, "files": [["../../escaped.csv", use.source["version"], 9]], "uri": f"file://{tmp_path}/in"}
    other = together(months(tmp_path / "b", m01=7), tmp_path / "elsewhere.csv")
    with pytest.raises(LineageError, match="which are no names of files"):
        recipes(other).place_of(replace(wanted, datasets=(replace(use, source=forged),)))
    assert list(tmp_path.rglob("escaped*")) == []
