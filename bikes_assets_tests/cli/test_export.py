"""`bikes export html`: a view of the lineage as one file that opens anywhere."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bikes_assets.cli import main


def bikes(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, words)], prog_name="bikes")


class Elements(HTMLParser):
    """What a page is made of.

    Attributes:
        tags: its elements, each with its attributes.
        text: its text.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.text = list[tuple[str, dict[str, str | None]]](), ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += f"{data}\n"


def test_a_column_is_written_with_its_path_into_one_file_that_loads_nothing(copied: Path, tmp_path: Path) -> None:
    # Given
    link = "http://127.0.0.1:5050/?focus=demand_features&column=hourly_rentals.temp&only=1"
    found = json.loads(bikes("downstream", "hourly_rentals.temp", "--level", "dataset", "--json").stdout)["items"]
    # When
    done = bikes("export", "html", link, "--to", tmp_path / "view.html")
    # Then
    assert (done.exit_code, done.stdout) == (0, f"Wrote {tmp_path}/view.html\n")
    page = Elements((tmp_path / "view.html").read_text())
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert not [
        name for _, attributes in page.tags for name in attributes if name in ("src", "href") or name[:2] == "on"
    ]
    shown = {*page.text.splitlines()}
    assert {item["address"] for item in found} | {"hourly_rentals", "rental_records"} <= shown
    assert "Lineage of hourly_rentals.temp" in shown


def test_an_address_is_written_with_what_is_one_edge_around_it(copied: Path, tmp_path: Path) -> None:
    assert bikes("export", "html", "demand_model@champion", "--to", tmp_path / "view.html").exit_code == 0
    text = (tmp_path / "view.html").read_text()
    assert re.findall(r"<td>([a-z_]+)</td><td>([a-z]+)</td>", text) == [
        ("demand_model", "model"),
        ("demand_features", "table"),
        ("champion_model", "model"),
    ]


@pytest.mark.parametrize(
    ("view", "told"),
    [
        ("demand_featurs", "error: found nothing called 'demand_featurs'; expected one like demand_features"),
        ("http://127.0.0.1:5050/?view=waste", "error: found no focus, expected the address of what the view is about"),
        ("demand_features", "found no folder"),
    ],
)
def test_what_cannot_be_written_is_an_error_and_leaves_no_file(
    copied: Path, tmp_path: Path, view: str, told: str
) -> None:
    folder = tmp_path / "written"
    folder.mkdir()
    target = folder / ("missing/view.html" if view == "demand_features" else "view.html")
    done = bikes("export", "html", view, "--to", target)
    assert (done.exit_code, done.stdout) == (2, "")
    assert told in done.stderr
    assert [*folder.iterdir()] == []
