"""What `bikes tune` prints: recipes, each compared with the current default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from bikes_assets.cli.reports.terminal import terminal
from bikes_assets.core.texts import counted

if TYPE_CHECKING:
    from bikes_assets.app.tuning import Trial


def print_trials(trials: Sequence[Trial], before: str, of: int) -> None:
    """Print evaluated recipes, in the order given, compared with the current default: the first 15, and the default.

    R2 is the mean of walk-forward's and the fixed cuts' R2, `by month` is walk-forward's alone, `better in` counts the
    months with a lower error, and RMSE, in rentals/hour, is walk-forward's.
    """
    from bikes_assets.demand import tuning

    usual = next((trial.judgement for trial in trials if trial.name == "default"), None)
    shown = Table("recipe", title=f"{len(trials)} of {counted(of, 'recipe')}, judged on months before {before}")
    for name in ("R2", "gain", "better in", "by month", "RMSE"):
        shown.add_column(name, justify="right")
    judged = [(trial, trial.judgement) for trial in trials if trial.judgement]
    judged = [item for rank, item in enumerate(judged) if rank < 15 or item[1] is usual]
    for trial, found in judged:
        gain = better = ""
        if usual and found is not usual:
            gain, better = f"{found.r2 - usual.r2:+.4f}", f"{tuning.better_months(found, usual)} of {len(found.months)}"
        shown.add_row(
            Text("present default", style="bold") if found is usual else trial.name,
            f"{found.r2:.4f}",
            gain,
            better,
            f"{found.walk_forward['r2']:.4f}",
            f"{found.walk_forward['rmse']:.2f}",
        )
    console = terminal()
    console.print(shown)
    for trial, _ in judged:
        if trial.name.startswith("trial"):  # other names describe the recipe
            console.print(f"{trial.name}: {tuning.described(trial.recipe)}")
    for trial in trials:
        if trial.error:
            console.print(
                f"{trial.name} cannot be fitted: {trial.error} ({tuning.described(trial.recipe)})", style="yellow"
            )
