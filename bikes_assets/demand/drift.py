"""Whether a month is unlike the months that its predictions are based on.

Two metrics measure how far two samples are apart, and both are needed: the population stability index says how much of
the distribution has moved, the Kolmogorov-Smirnov statistic how far.

- A feature of a month is compared with its season: the month before, and from the year before the same month and the
  next. Compared with all months before, temperature drifts every month: a month is one season and a year has four.
- The champion's errors in a month are compared with its errors in the month before, on which it was not fitted either.

Calendar features are left out: they follow from the date, so they cannot drift.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bikes_assets.demand.model import TARGET, previous_month

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

    import numpy as np
    import pandas as pd

    from bikes_assets.demand.model import Model

CALENDAR = ("hour_of_day", "hour_of_week", "working_day", "public_holiday")
ERROR = "error"
"""Name of the champion's error among the drifts."""

BINS = 10
FEWEST_ROWS = 168
"""With less than a week of rows on either side, a sample says more about its days than about its month."""

SMALL_PSI, LARGE_PSI = 0.1, 0.25
"""Below the first, a population is usually considered stable; above the second, a different one (Siddiqi, 2006)."""

LARGE_KS = 0.35
"""Hours of a day are correlated, so a sample counts as many observations as days: then 0.35 is the critical value of a
month against three at a level of 1 %, 1.63 * sqrt(1/31 + 1/92). Of the 13 shipped months whose season is known, 2 stand
out by a feature (2012-04 and 2012-11: demand of the last week against that of the last four); of all 22, 5 by the
error."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a sample is from its reference.

    Attributes:
        psi: population stability index, 0 for equal shares; see `population_stability`.
        ks: largest distance between the two cumulative distributions, 0 to 1 (two-sample Kolmogorov-Smirnov statistic).
    """

    psi: float
    ks: float


@dataclass(frozen=True, slots=True)
class MonthDrift:
    """What drifted in a month.

    Attributes:
        drifts: drift of each feature, and of the champion's error as `error`.
        reference: the months that features were compared with.
        compared: the names whose drift can mislead the champion, which are worth a warning.
    """

    drifts: Mapping[str, Drift]
    reference: Sequence[str]
    compared: Set[str]

    @property
    def standing_out(self) -> list[str]:
        """The names to warn about.

        A feature must have moved much and far. Errors vary more from hour to hour than weather does: much is enough for
        them.
        """
        return [
            name
            for name, item in self.drifts.items()
            if name in self.compared and item.psi > LARGE_PSI and (name == ERROR or item.ks > LARGE_KS)
        ]

    @property
    def metrics(self) -> dict[str, float]:
        """The drifts as metrics: `psi_<name>` and `ks_<name>`."""
        return {f"{kind}_{name}": value for name, item in self.drifts.items() for kind, value in asdict(item).items()}


def month_drift(champion: Model, features: pd.DataFrame, errors: pd.Series, month: str) -> MonthDrift:
    """Return how far a month's features, and its champion's errors, are from their references.

    A sample with less than a week of rows is not measured, nor is the error if the champion was fitted on the
    month before.

    Args:
        champion: the model that serves the month.
        features: DEMAND_FEATURES of the month and of up to 12 months before it.
        errors: the champion's errors in the month, float64, rentals/hour.
        month: such as 2012-08.
    """
    before = previous_month(month)
    parts = {str(period): rows for period, rows in features.groupby(features["ts"].dt.to_period("M"))}
    current, last = (parts.get(key, features.iloc[:0]) for key in (month, before))
    reference = [parts[key] for key in season(sorted(parts), month)]
    names = [name for name in features.columns if name not in ("ts", TARGET, *CALENDAR)] if reference else []
    pairs = {name: (_numbers(*(rows[name] for rows in reference)), _numbers(current[name])) for name in names}
    if len(last) and max(champion.training_months) < before:
        pairs[ERROR] = (champion.predict(last) - _numbers(last[TARGET]), _numbers(errors))
    drifts = {name: item for name, pair in pairs.items() if (item := drift(*pair))}
    return MonthDrift(drifts, *_affecting(champion, sorted(parts), month))


def of_metrics(metrics: Mapping[str, float], champion: Model, features: pd.DataFrame, month: str) -> MonthDrift:
    """Return what `month_drift` returned, from the metrics computed from it; other metrics among them are ignored."""
    names = [key.removeprefix("psi_") for key in metrics if key.startswith("psi_")]
    drifts = {name: Drift(metrics[f"psi_{name}"], metrics[f"ks_{name}"]) for name in names}
    months = sorted(map(str, features["ts"].dt.to_period("M").unique()))
    return MonthDrift(drifts, *_affecting(champion, months, month))


def _affecting(champion: Model, months: Sequence[str], month: str) -> tuple[list[str], set[str]]:
    """Return the months that features are compared with, and the names whose drift can mislead the champion.

    These are the features that it reads, except the level: the level moves with the seasons and the service's growth,
    and estimates are relative to it. Until the season of the year before is known, no feature is included.
    """
    reference = season(months, month)
    read = (
        set(champion.features) - {champion.config.get("level")}
        if set(reference) - {previous_month(month)}
        else set[str]()
    )
    return reference, {*read, ERROR}


def season(months: Sequence[str], month: str) -> list[str]:
    """Return the reference months among `months`: the one before, the same one a year before, and the one after it."""
    year, number = map(int, month.split("-"))
    after = f"{year}-01" if number == 12 else f"{year - 1}-{number + 1:02}"
    return sorted({previous_month(month), f"{year - 1}-{number:02}", after} & set(months))


def drift(reference: np.ndarray, sample: np.ndarray) -> Drift | None:
    """Return how far `sample` is from `reference`, float64, NaN if missing; None if either has less than a week.

    In the distance, a missing value counts as below all others: a feed that has ended is as far away as possible.
    """
    import numpy as np
    from scipy.stats import ks_2samp

    if min(len(reference), len(sample)) < FEWEST_ROWS:
        return None
    before, now = (np.where(np.isnan(values), -np.inf, values) for values in (reference, sample))
    # the statistic alone: its p-value assumes independent hours and would call every month a different population
    distance: Any = ks_2samp(before, now, method="asymp")
    return Drift(population_stability(reference, sample), float(distance.statistic))


def population_stability(reference: np.ndarray, sample: np.ndarray) -> float:
    """Return the population stability index of two samples, float64, NaN where a value is missing.

    It is sum (q - p) ln (q / p) over bins, where p and q are the shares of `reference` and `sample` in a bin (Siddiqi,
    "Credit Risk Scorecards", 2006): the symmetric divergence of Kullback and Leibler (1951). Bins are tenths of the
    reference; where it has no more than ten values, such as codes, flags and constants, each value of either is one.
    Missing values are a bin of their own. Each bin counts half a row more than it holds, so that an empty one is
    finite.
    """
    import numpy as np

    shares: list[np.ndarray] = []
    edges = _edges(reference, sample)
    for values in (reference, sample):
        known = values[~np.isnan(values)]
        places = np.searchsorted(edges, known, side="right")
        counts = np.append(np.bincount(places, minlength=len(edges) + 1), len(values) - len(known)) + 0.5
        shares.append(counts / counts.sum())
    p, q = shares
    return float(((q - p) * np.log(q / p)).sum())


def _edges(reference: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Return the values at which the second and later bins begin."""
    import numpy as np

    known = reference[~np.isnan(reference)]
    values = np.unique(known)
    if len(values) <= BINS:
        return np.unique(np.concatenate([values, sample[~np.isnan(sample)]]))[1:]
    return np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]))


def _numbers(*columns: pd.Series) -> np.ndarray:
    """Return concatenated columns as float64, missing values as NaN."""
    import numpy as np

    return np.concatenate([column.to_numpy(dtype="float64", na_value=np.nan) for column in columns])
