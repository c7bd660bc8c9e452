"""The pictures of a report: the lineage around the model, and plots of what stands in its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bikes_assets.app.answers import moment
from bikes_assets.app.explore.export import picture_of
from bikes_assets.app.store import columns
from bikes_assets.core.texts import plain
from bikes_assets.demand.svg import Bars, Line, Plot
from bikes_assets.lineage.drawing.view import View, drawn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bikes_assets.governance.report.structure import ReportTable, Value

_OWN, _OTHER, _LARGE = "#2f6fab", "#7d8894", "#b3261e"
_PREFERRED = "rmse"
_BASELINE = "baseline_"
_FEWEST = 2
"""Number of rows below which a table says more than a plot of it."""
_LETTER, _SPACE = 6, 580
"""Width of a letter, and the width of an axis, in pixels."""
_LONGEST = 28
"""Letters of the longest name beside an axis."""
_FEW = 6
"""Number of rows up to which bars are drawn, not lines."""
_LARGE_PSI = 0.25


def lineage(asset: str) -> str:
    """Return the picture of an asset, with all that is upstream and downstream of it, as SVG."""
    index, event = moment(None)
    declared = {name: schema.names for name, schema in columns().items()}
    found = drawn(index, View(asset, [f"+{asset}+"]), declared, as_of=event)
    return picture_of(found, f"Lineage of {asset}") if len(found.boxes) > 1 else ""


def of_metrics(table: ReportTable) -> tuple[str, str, str] | None:
    """Return title, SVG and table of a plot of one metric of each row, beside the baseline's; None where that says little."""
    names = [item.name for item in table.fields if item.kind == "number" and item.name != "rows"]
    first = table.fields[0].name
    if len(table.rows) < _FEWEST or not names:
        return None
    metric = _PREFERRED if _PREFERRED in names else names[0]
    shown = [(metric, _OWN)] + [(name, _OTHER) for name in (f"{_BASELINE}{metric}",) if name in names]
    at = list(range(len(table.rows)))
    labels = [_label(row[first]) for row in table.rows]
    every = -(-len(labels) * (_LETTER * max(map(len, labels)) + 8) // _SPACE)
    ticks = [(place, label) for place, label in enumerate(labels) if place % every == 0]
    lines, bars = list[Line](), list[Bars]()
    for number, (name, color) in enumerate(shown):
        values = [_number(row.get(name)) for row in table.rows]
        label = name.replace("_", " ")
        if len(labels) > _FEW:
            lines.append(Line(at, values, color, label, 1.5, dots=True))
        else:
            shift = (number - (len(shown) - 1) / 2) * 0.32
            bars.append(Bars([place + shift for place in at], values, [color] * len(at), label, 0.3))
    title = " and ".join(name.replace("_", " ") for name, _ in shown)
    return title, Plot(lines, bars, ticks, beside=metric).svg(), table.name


def of_drift(rows: Sequence[Mapping[str, Value]]) -> tuple[str, str, str] | None:
    """Return title, SVG and table of a plot of the drift of the latest partition; None without any."""
    if not rows:
        return None
    latest = max(str(row["partition"]) for row in rows)
    shown = [row for row in rows if str(row["partition"]) == latest][:20][::-1]
    values = [_number(row["psi"]) for row in shown]
    colors = [_LARGE if value > _LARGE_PSI else _OWN for value in values]
    at = list(range(len(shown)))
    plot = Plot(
        bars=[Bars(at, values, colors)],
        ticks=[(place, _label(row["what"])) for place, row in zip(at, shown, strict=True)],
        under=f"population stability index, {latest}; red: above {_LARGE_PSI:g}",
        flat=True,
        height=90 + 14 * len(shown),
        left=170,
    )
    return f"Drift in {latest}", plot.svg(), "drift"


def _label(value: Value) -> str:
    """Return a name as it fits beside an axis: of a longer one its beginning and its end."""
    text = plain(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 10]}…{text[-9:]}"


def _number(value: Value) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
