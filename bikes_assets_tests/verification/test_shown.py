"""What answers, and the things in them, look like in a notebook: iterated, as a frame, as text and as HTML."""

from __future__ import annotations

import subprocess
import sys

from bikes_assets.core.record import Version
from bikes_assets.lineage.elements import Answer, Result

ODD = 'odd\x1b[31m<script>alert("x")</script>&'
FEW = Answer(
    [
        Result("column", "features.temperature", 1, {"type": "float64"}),
        Result("column", "features.*", 1, {"kind": "of a fact"}),
        Result("alias", ODD, 2),
    ]
)
MANY = Answer([Result("dataset", f"table_{number}", number) for number in range(1, 31)])
TEXT = """\
3 things: 2 columns, 1 alias
depth  kind    address
    1  column  features.temperature
    1  column  features
    2  alias   odd\\x1b[31m<script>alert("x")</script>&"""


def test_an_answer_is_iterated_as_its_things_are() -> None:
    assert [item.name for item in FEW] == ["features.temperature", "features.*", ODD]
    assert len(FEW) == 3
    assert not Answer([])


def test_an_answer_is_a_table_in_plain_text() -> None:
    assert repr(FEW) == TEXT
    assert repr(Answer([])) == "0 things"
    lines = repr(MANY).splitlines()
    assert lines[0] == "30 things: 30 datasets"
    assert lines[-2:] == ["   20  dataset  table_20", "and 10 more: iterate, or to_pandas()"]
    assert len(lines) == 23


def test_an_answer_is_a_table_in_html_in_which_nothing_acts() -> None:
    page = FEW._repr_html_()
    assert "<td>odd\\x1b[31m&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;</td>" in page
    assert page.count("<tr>") == 4
    assert "\x1b" not in page
    assert "<script" not in page
    assert MANY._repr_html_().endswith("<p>and 10 more: iterate, or to_pandas()</p>")


def test_an_answer_is_a_frame_of_all_that_is_known() -> None:
    frame = FEW.to_pandas()
    assert list(frame.columns) == ["depth", "kind", "address", "type", "fact_kind"]
    assert frame["address"].tolist() == ["features.temperature", "features", ODD]
    assert frame["type"].tolist() == ["float64", None, None]
    assert len(MANY.to_pandas()) == 30
    assert list(Answer([]).to_pandas().columns) == ["depth", "kind", "address"]


def test_pandas_is_imported_for_the_frame_alone() -> None:
    code = (
        "import sys; from bikes_assets.lineage.elements import Answer, Result\n"
        "answer = Answer([Result('column', 'a.b', 1)]); repr(answer), answer._repr_html_()\n"
        "print('pandas' in sys.modules); answer.to_pandas(); print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_a_thing_and_a_version_are_short() -> None:
    assert repr(FEW.things[0]) == "<column features.temperature>"
    assert repr(FEW.things[2]) == '<alias odd\\x1b[31m<script>alert("x")</script>&>'
    assert repr(Version("features", "2012-08", 17, "0" * 32)) == "<Version features[2012-08]@17>"
