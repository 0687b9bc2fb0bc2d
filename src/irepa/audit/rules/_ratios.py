"""What rules about ratios of distances share: how a log ratio per unit becomes a finding.

The parameter is the mean of log(FD of one / FD of the other): -0.1 is a tenth lower. On this scale a halving counts the
same at any distance, and so under any judge.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from irepa.audit import words
from irepa.audit.rules import Finding, Rule
from irepa.audit.statistics import Array, Estimate, effect_seen, mean_effect, signed_rank_p, standardised

if TYPE_CHECKING:
    import pandas as pd

# Published runs were made once each. Three figures for one configuration (D10: 19.06, 19.2, 19.34) lie 1.5% apart.
MARGIN = 0.05


class Ratios(Rule):
    """What every rule about ratios fixes."""

    margin: float = Field(
        MARGIN,
        gt=0,
        description="For numbers printed for single runs, where there are fewer pairs than `minimum`: a change counts "
        "where every pair differs by more than this share.",
    )


def rule_end(options: Ratios, unit: str) -> str:
    """The sentences that end every rule about ratios: what a verdict takes."""
    return (
        f"The 95% t interval must lie on that side, with Holm-adjusted p < {options.alpha:g}, over at least "
        f"{options.minimum} {unit}, or over at least {options.seeds} seeds of fewer. Numbers printed for single runs decide "
        f"only where every pair differs by more than {options.margin:.0%}."
    )


def ratio_finding(
    pairs: pd.DataFrame,
    options: Ratios,
    parameter: str,
    unit: str,
    records: list[str],
    printed: bool,
    every: bool = False,
) -> Finding:
    """Decide over pairs of runs.

    Args:
        pairs: rows of ``unit``, ``seed`` and ``ratio``, the log ratio. They are averaged over seeds where there are
            enough units, over units where there are not but enough seeds.
        parameter: what is estimated, in words.
        unit: what a unit is, in a word.
        records: the result files that the pairs come from.
        printed: whether the numbers are single published runs.
        every: whether the claim is about each unit, so that one that goes the other way leaves it undecided.
    """
    by_unit = pairs.groupby("unit")["ratio"].mean()
    by_seed = pairs.groupby("seed")["ratio"].mean()
    over_units = len(by_unit) >= options.minimum
    over_seeds = not over_units and len(by_seed) >= options.seeds
    values = (by_seed if over_seeds else by_unit).to_numpy(float)
    estimate, p = _against(values, options.threshold)
    level = "seed" if over_seeds else unit
    against = [str(name) for name, value in by_unit.items() if not options.holds(value)]
    count = len(values)
    notes = [f"{words.percent_of_log(estimate.value)} on average; over {count} {words.plural(level, count)}."]
    decided: bool | None = None
    lacking = ""
    if not over_units and not over_seeds:
        lacking = (
            f"{len(by_unit)} {words.plural(unit, len(by_unit))} with {len(by_seed)} seed(s), the rule asks for "
            f"{options.minimum} or for {options.seeds} seeds"
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
        lacking=lacking,
        decided=decided,
        power=_power(values, options.alpha, level),
        notes=notes,
        checks=_checks(by_unit, by_seed, values),
        records=records,
        log_ratio=True,
    )


def _against(values: Array, threshold: float) -> tuple[Estimate, float]:
    """Mean of the values with its interval, and the p of a mean at the threshold."""
    excess, p = mean_effect(values - threshold)
    return excess.map(lambda value: value + threshold), p


def _power(values: Array, alpha: float, level: str) -> str:
    n = len(values)
    if n < 2:
        return "One difference has no spread: nothing can be said about power."
    spread = float(np.std(values, ddof=1))
    return (
        f"With {n} {words.plural(level, n)} whose log ratios spread by {spread:.3f}, power 0.8 takes a mean change of "
        f"{words.percent_of_log(-effect_seen(n, alpha) * spread)} or more."
    )


def _checks(by_unit: pd.Series, by_seed: pd.Series, values: Array) -> list[tuple[str, str, int | None]]:
    lower = int((by_unit < 0).sum())
    rows: list[tuple[str, str, int | None]] = [
        ("pairs in which it is lower", f"{lower} of {len(by_unit)}", len(by_unit))
    ]
    if len(values) > 1:
        rows.append(("effect size d_z (mean over s.d.)", f"{standardised(values):.2f}", len(values)))
        rows.append(("Wilcoxon signed-rank p", words.p_value(signed_rank_p(values)), len(values)))
    rows += [(f"change for {name}", words.percent_of_log(value), None) for name, value in by_unit.items()]
    if len(by_seed) > 1:
        rows.append(("change per seed", ", ".join(map(words.percent_of_log, by_seed)), len(by_seed)))
    return rows
