"""Checks of rentals, features, models and predictions: what must hold, and what is worth a warning."""

from __future__ import annotations

import calendar
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bikes_assets.core.checks import Check, Subject, Verdict, range_check, schema_check
from bikes_assets.core.code_version import code_version
from bikes_assets.core.columns import evidence_state
from bikes_assets.demand import drift
from bikes_assets.demand.evaluation import scores, skill
from bikes_assets.demand.features import DEMAND_FEATURES, HORIZON_HOURS
from bikes_assets.demand.model import MIN_TRAINING_MONTHS, TARGET, previous_month
from bikes_assets.demand.tables import DEMAND_PREDICTIONS, HOURLY_RENTALS, PREDICTION_QUALITY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd

    from bikes_assets.demand.model import Model

MOST_ABSENT = 0.1
"""Three days of a month: if more hours are absent, the feed is broken; if fewer, the service may have been closed.
Features are computed on an hourly grid, so an absent hour makes a lag missing, not wrong. Of the shipped 24 months half
lack 0.3 % of their hours or less; 2011-01, 2011-02 and 2012-10 (a hurricane closed the service) lack 3 to 8 %, for
which the source has no records."""

LEAST_SKILL = 0.1
"""Models of the shipped months avoid 16 to 77 % of the baseline's error; below a tenth a model is hardly useful."""

MOST_DEMAND = 2.0
"""Predictions of the shipped months reach at most 1.2 times the highest demand in their lags."""


_FEWEST_TO_TRY = 2
"""Fewest rows from which perturbation can tell anything."""


def _may_show_more(edge: Mapping[str, Any], rentals: pd.DataFrame) -> bool:
    """Return whether other rows may show a dependency that evidence does not: never without values to perturb."""
    return evidence_state(edge["state"]) in ("not observed", "unverified") and bool(
        rentals[edge["input"]].notna().any()
    )


def hour_sequence(subject: Subject) -> Verdict:
    """Return whether hours are whole, within the partition's month, ascending and unique."""
    hours = subject.value["ts"]
    wrong = {
        "not a whole hour": hours.dt.floor("h") != hours,
        f"not of {subject.partition}": hours.dt.strftime("%Y-%m") != subject.partition,
        "not after the hour before": hours.diff().dt.total_seconds() <= 0,
    }
    for problem, rows in wrong.items():
        if rows.any():
            return Verdict(False, f"{hours[rows].iloc[0]}, which is {problem}, and {rows.sum() - 1} more like it")
    return Verdict(True, f"{len(hours)} hours in order", {"hours": len(hours)})


def absent_hours(subject: Subject) -> Verdict:
    """Return whether the number of absent hours in the month is within what the source may lack."""
    import numpy as np

    year, month = map(int, subject.partition.split("-"))
    hours = 24 * calendar.monthrange(year, month)[1]
    absent = hours - len(subject.value)
    begin = np.datetime64(subject.partition, "h")
    known = np.sort(subject.value["ts"].to_numpy().astype("datetime64[h]"))
    gaps = np.diff(np.concatenate([[begin - 1], known, [begin + hours]])).astype(int) - 1
    longest = int(gaps.max())
    share = absent / hours
    told = (
        f"{absent} of {hours} hours absent ({share:.1%}), at most {longest} in a row"
        if absent
        else f"all {hours} hours"
    )
    metrics = {"absent hours": absent, "longest gap": longest, "absent share": share, "most": MOST_ABSENT}
    return Verdict(share <= MOST_ABSENT, told, metrics)


def every_hour(subject: Subject) -> Verdict:
    """Return whether features have a row for each hour in the month's rentals."""
    hours = _hours_of(subject.inputs["hourly_rentals"])
    expected = hours[hours.dt.strftime("%Y-%m") == subject.partition]
    lost = expected[~expected.isin(subject.value["ts"])]
    metrics = {"hours": len(subject.value), "hours of rentals": len(expected), "lost": len(lost)}
    if len(lost):
        return Verdict(
            False, f"{len(lost)} of {len(expected)} hours of rentals have no row, the first {lost.iloc[0]}", metrics
        )
    return Verdict(True, f"{len(expected)} hours, as many as rentals have", metrics)


def _hours_of(rentals: Any) -> Any:
    """Return the hours of rentals; on the lazy grid of another engine than pandas an absent hour is a row of nulls."""
    import narwhals as nw

    frame = nw.from_native(rentals)
    if not isinstance(frame, nw.LazyFrame):
        return rentals["ts"]
    return frame.filter(~nw.col("cnt").is_null()).select("ts").collect("pandas").to_native()["ts"]


def column_lineage_holds(subject: Subject) -> Verdict:
    """Return whether each feature moves with its declared columns, and with no others."""
    return _shown(subject, lambda check: check != "time", "every feature moved with its own columns alone")


def no_leak_in_time(subject: Subject) -> Verdict:
    """Return whether no feature moves with demand that is unknown at its hour, or with the weather of a later hour."""
    return _shown(
        subject, lambda check: check == "time", f"no feature knows demand of the {HORIZON_HOURS} hours before it"
    )


def model_skill(subject: Subject) -> Verdict:
    """Return whether a fitted model is better than its baseline on its validation month."""
    model: Model = subject.value
    baseline = model.baseline or model
    return _of_skill(model.metrics["rmse"], baseline.metrics["rmse"], model.validation_month, model)


def minimum_skill(subject: Subject) -> Verdict:
    """Return whether a champion is at least as good as the newest candidate's baseline on the month of the evaluation.

    A model that a person pinned serves in any case: its failure is waived.
    """
    model: Model = subject.value
    candidates, validation = subject.inputs["demand_model"], subject.inputs["demand_features"]
    newest: Model = candidates[max(candidates)]
    own = subject.metrics["rmse"]
    baseline = scores(validation[TARGET], (newest.baseline or newest).predict(validation))["rmse"]
    return Verdict(
        own <= baseline,
        f"RMSE {own:.2f}, that of the baseline is {baseline:.2f} rentals/hour",
        {"rmse": own, "baseline_rmse": baseline, "skill": skill(own, baseline)},
        waived=f"pinned: {model.decision}" if model.decision else "",
    )


def plausible(subject: Subject) -> Verdict:
    """Return whether predictions are finite and not far beyond the highest demand in the lags of the month's hours."""
    import numpy as np

    said = subject.value[["prediction", "baseline"]].to_numpy(dtype="float64")
    lags = subject.inputs["demand_features"][["demand_lag_24h", "demand_lag_168h"]]
    known = lags.to_numpy(dtype="float64", na_value=float("nan"))
    if not len(said):
        return Verdict(True, "no hour")
    if not np.isfinite(said).all():
        return Verdict(False, f"{int((~np.isfinite(said)).sum())} predictions that are no finite number")
    lowest, highest = float(said.min()), float(said.max())
    told, metrics = f"{lowest:.0f} to {highest:.0f} rentals/hour", {"lowest": lowest, "highest": highest}
    if np.isnan(known).all():
        return Verdict(True, f"{told}, and no lag to compare with", metrics)
    demand = float(np.nanmax(known))
    return Verdict(
        highest <= MOST_DEMAND * demand,
        f"{told}, where the highest known demand is {demand:.0f}",
        {**metrics, "highest known demand": demand, "most times": MOST_DEMAND},
    )


def quality_skill(subject: Subject) -> Verdict:
    """Return whether a month's predictions are better than their baseline's."""
    if "rmse" not in subject.metrics:
        return Verdict(True, "no hour to check")
    champion: Model = subject.inputs["champion_model"]
    return _of_skill(subject.metrics["rmse"], subject.metrics["baseline_rmse"], subject.partition, champion)


def no_drift(subject: Subject) -> Verdict:
    """Return whether neither a feature that the champion reads nor its error drifted enough for a warning.

    Until the season of the year before is known, nothing is checked: each month is a season unlike all before it.
    """
    champion: Model = subject.inputs["champion_model"]
    found = drift.of_metrics(subject.metrics, champion, subject.inputs["demand_features"], subject.partition)
    told = ", ".join(
        f"{name} (index {found.drifts[name].psi:.2f}, distance {found.drifts[name].ks:.2f})"
        for name in found.standing_out
    )
    against = f"{told or 'nothing stands out'}, features compared with {', '.join(found.reference)}"
    if not set(found.reference) - {previous_month(subject.partition)}:
        return Verdict(True, f"not evaluated before a year of history: {against}", found.metrics)
    return Verdict(not told, against, found.metrics)


def _shown(subject: Subject, is_asked: Callable[[str], bool], well: str) -> Verdict:
    """Return the evidence of experiments with the features' code; earlier evidence of the same code still holds."""
    rentals: pd.DataFrame = subject.inputs["hourly_rentals"]
    if len(subject.value) < _FEWEST_TO_TRY and len(rentals) < _FEWEST_TO_TRY:
        return Verdict(True, "too few hours to try anything on")
    evidence: Mapping[str, Any] = subject.evidence
    version = code_version("bikes_assets.demand.column_lineage", "features_evidence")
    # a month without much history does not show every dependency: a later one shows more
    if evidence.get("code_version") != version or any(_may_show_more(edge, rentals) for edge in evidence["edges"]):
        from bikes_assets.demand.column_lineage import features_evidence

        shown = features_evidence(rentals)
        evidence = {"time": time.time(), "code_version": version, **shown.to_dict()}
    found = [item["message"] for item in evidence["findings"] if is_asked(item["check"])]
    blocked = evidence.get("blocked_trials", 0)
    # records from before this was recorded lack these, or do not say for each whether the code failed
    untried = [item for item in evidence.get("unverified", ()) if is_asked(item["check"])]
    # with few rows, or a column without values, there is nothing to perturb: this is no error
    found += [item["message"] for item in untried if item.get("failed", bool(blocked))]
    when = datetime.fromtimestamp(evidence["time"], UTC)
    told = "; ".join(found) or well + (f"; nothing to perturb in these rows for {len(untried)} more" if untried else "")
    on = f", on {evidence['rows']:,} rows in {evidence['trials']:,} perturbed tables, {when:%Y-%m-%d %H:%M} UTC"
    metrics = {"rows": evidence["rows"], "trials": evidence["trials"], "blocked": blocked, "findings": len(found)}
    return Verdict(not found, told + on, metrics, evidence=evidence)


def _of_skill(rmse: float, baseline_rmse: float, month: str, model: Model) -> Verdict:
    """Return whether a model's skill on a month is enough; with too little history it is reported and always passes."""
    found, months = skill(rmse, baseline_rmse), len(model.training_months)
    told = f"skill {found:.2f} on {month}: RMSE {rmse:.2f}, that of the baseline is {baseline_rmse:.2f} rentals/hour"
    metrics = {
        "skill": found,
        "rmse": rmse,
        "baseline_rmse": baseline_rmse,
        "least": LEAST_SKILL,
        "training months": months,
    }
    if months < MIN_TRAINING_MONTHS:
        return Verdict(
            True, f"not evaluated with {months} of {MIN_TRAINING_MONTHS} months to learn from: {told}", metrics
        )
    return Verdict(found >= LEAST_SKILL, told, metrics)


_SKILL = (
    f"RMSE at least {LEAST_SKILL:.0%} below that of the baseline, from {MIN_TRAINING_MONTHS} months to learn from on"
)
_SEQUENCE = Check("hour_sequence", "whole hours of the partition's month, ascending, none twice", True, hour_sequence)

OF_RENTALS = (
    schema_check(HOURLY_RENTALS),
    range_check(HOURLY_RENTALS),
    _SEQUENCE,
    Check("absent_hours", f"at most {MOST_ABSENT:.0%} of the month's hours absent", False, absent_hours),
)
OF_FEATURES = (
    schema_check(DEMAND_FEATURES),
    range_check(DEMAND_FEATURES),
    _SEQUENCE,
    Check("absent_hours", "a row for each hour that rentals have", False, every_hour),
    Check("no_leak_in_time", "no feature moves with what is not known yet", True, no_leak_in_time),
    Check(
        "column_lineage_holds",
        "each feature moves with the columns that it declares and no others",
        True,
        column_lineage_holds,
    ),
)
OF_MODEL = (Check("skill", f"{_SKILL}, on the validation month", False, model_skill),)
OF_CHAMPION = (
    Check(
        "minimum_skill",
        "RMSE no higher than that of the newest candidate's baseline, on the same month",
        True,
        minimum_skill,
    ),
)
OF_PREDICTIONS = (
    schema_check(DEMAND_PREDICTIONS),
    range_check(DEMAND_PREDICTIONS),
    Check(
        "plausible",
        f"finite, and at most {MOST_DEMAND:g} times the highest demand in the month's lags",
        True,
        plausible,
    ),
)
OF_QUALITY = (
    schema_check(PREDICTION_QUALITY),
    range_check(PREDICTION_QUALITY),
    Check("skill", _SKILL, False, quality_skill),
    Check(
        "drift",
        "each feature that the champion reads as in its season (population stability index at most "
        f"{drift.LARGE_PSI}, or distance at most {drift.LARGE_KS}), and its errors as in the month before (index at most "
        f"{drift.LARGE_PSI}), from a year of history on",
        False,
        no_drift,
    ),
)
