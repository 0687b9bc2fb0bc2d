"""What decisions about ratios of distances share: how a log ratio per unit becomes a finding.

The parameter is the mean of log(FD of one / FD of the other): -0.1 is a tenth lower. The log makes a halving count
the same at any distance,
and so at any judge.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from pydantic import Field

from irepa.audit.rules import Finding, Rule
from irepa.audit.statistics import Estimate, effect_seen, mean_effect, signed_rank_p, standardised

# Published runs were made once each. Three figures for one configuration (D10: 19.06, 19.2, 19.34) lie 1.5% apart.
MARGIN = 0.05


class Ratios(Rule):
    """``margin``: with one run of each and fewer pairs than ``minimum``, a change counts where all are larger than this share."""

    margin: float = Field(MARGIN, gt=0)


def rule_end(options: Ratios, unit: str) -> str:
    return (
        f"The 95% t interval must lie on that side, with Holm-adjusted p < {options.alpha:g}, over at least "
        f"{options.minimum} {unit}, or over "
        f"at least {options.seeds} seeds of fewer. Numbers printed for single runs decide only where every pair "
        f"differs by more than "
        f"{options.margin:.0%}."
    )


def finding(
    pairs: pd.DataFrame,
    options: Ratios,
    parameter: str,
    unit: str,
    records: list[str],
    printed: bool,
    every: bool = False,
) -> Finding:
    """Decide over pairs (rows ``unit``, ``seed``, ``ratio``: the log ratio).

    Units are averaged over seeds if there are enough of them, seeds over units if not. ``printed``: the numbers are
    single published runs;
    ``every``: the claim is about each unit, so one that goes the other way leaves it undecided.
    """  # fmt: skip
    by_unit = pairs.groupby("unit")["ratio"].mean()
    by_seed = pairs.groupby("seed")["ratio"].mean()
    over_units = len(by_unit) >= options.minimum
    over_seeds = not over_units and len(by_seed) >= options.seeds
    values = (by_seed if over_seeds else by_unit).to_numpy(float)
    estimate, p = _against(values, options.threshold)
    level = "seed" if over_seeds else unit
    against = [str(name) for name, value in by_unit.items() if not options.holds(value)]
    notes = [f"{math.expm1(estimate.value):+.1%} on average; over {len(values)} {_plural(level, len(values))}."]
    decided: bool | None = None
    lacking = ""
    if not over_units and not over_seeds:
        lacking = (
            f"{len(by_unit)} {_plural(unit, len(by_unit))} with {len(by_seed)} seed(s), the rule asks for "
            f"{options.minimum} or for "
            f"{options.seeds} seeds"
        )
        large = np.abs(by_unit.to_numpy(float) - options.threshold) > math.log1p(options.margin)
        if printed and len(by_unit) > 1 and bool(large.all()) and len(against) in (0, len(by_unit)):
            decided, lacking = not against, ""
            notes.append(f"Single printed runs: decided by the fixed margin of {options.margin:.0%}, without a test.")
    if every and against and len(against) < len(by_unit):
        lacking = lacking or f"it goes the other way for {', '.join(against)}"
    return Finding(
        parameter=parameter,
        estimate=estimate,
        p=None if decided is not None else p,
        sufficient=not lacking,
        lacking=lacking,
        decided=decided,
        power=_power(values, options.alpha, level),
        notes=notes,
        checks=_checks(by_unit, by_seed, values),
        records=records,
        log_ratio=True,
    )


def _against(values: np.ndarray, threshold: float) -> tuple[Estimate, float]:
    moved, p = mean_effect(values - threshold)
    return Estimate(moved.value + threshold, moved.low + threshold, moved.high + threshold, moved.n), p


def _power(values: np.ndarray, alpha: float, level: str) -> str:
    n = len(values)
    if n < 2:
        return "One difference has no spread: nothing can be said about power."
    spread = float(np.std(values, ddof=1))
    seen = effect_seen(n, alpha)
    return (
        f"With {n} {_plural(level, n)} whose log ratios spread by {spread:.3f}, power 0.8 takes a mean change of "
        f"{math.expm1(-seen * spread):+.1%} or more."
    )


def _checks(by_unit: pd.Series, by_seed: pd.Series, values: np.ndarray) -> list[tuple[str, str, int | None]]:
    lower = int((by_unit < 0).sum())
    rows: list[tuple[str, str, int | None]] = [
        ("pairs in which it is lower", f"{lower} of {len(by_unit)}", len(by_unit))
    ]
    if len(values) > 1:
        rows.append(("effect size d_z (mean over s.d.)", f"{standardised(values):.2f}", len(values)))
        rows.append(("Wilcoxon signed-rank p", f"{signed_rank_p(values):.4f}", len(values)))
    change: Callable[[float], str] = lambda value: f"{math.expm1(value):+.1%}"  # noqa: E731
    rows += [(f"change for {name}", change(value), None) for name, value in by_unit.items()]
    if len(by_seed) > 1:
        rows.append(("change per seed", ", ".join(change(value) for value in by_seed), len(by_seed)))
    return rows


def _plural(word: str, n: int) -> str:
    return word if n == 1 else f"{word}s"
