"""What rules about ratios of distances share: how log ratios of pairs of runs become a finding.

The parameter is the mean of log(FD of one / FD of the other): -0.1 is a tenth lower. On this scale a halving counts the
same at any distance, and so under any judge. How noisy it is comes from :mod:`irepa.audit.noise`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from irepa.audit import words
from irepa.audit.evidence import Evidence
from irepa.audit.noise import Amount, Effects, effects_of
from irepa.audit.rules import Finding, Rule
from irepa.audit.statistics import Estimate, effect_seen, mean_effect, signed_rank_p, standardised, weakest

if TYPE_CHECKING:
    import pandas as pd

# Published runs were made once each. Three figures for one configuration (D10: 19.06, 19.2, 19.34) differ by 0.7% (standard
# deviation), with 2 degrees of freedom: 5% is the 95% interval of a difference of two such runs.
MARGIN = 0.05


class Ratios(Rule):
    """What every rule about ratios fixes."""

    margin: float = Field(
        MARGIN,
        gt=0,
        description="For numbers printed for single runs, which have no spread: a difference counts where it is larger "
        "than this share.",
    )


def rule_end(options: Ratios, unit: str, every: bool = False) -> str:
    """The sentences that end every rule about ratios: what a verdict takes."""
    printed = f"Numbers printed for single runs decide where each differs by more than {options.margin:.0%}."
    level = f"Holm-adjusted p < {options.alpha:g}"
    if every:
        return (
            f"Each {unit} is tested over its seeds, and the claim is as strong as the weakest of at least {options.minimum}, "
            f"with {level}; it is contradicted where one is on the other side, its p times their number. {printed}"
        )
    units = words.plural(unit, options.minimum)
    return (
        f"The 95% interval must lie on that side, with {level}: over at least {options.minimum} {units} as a sample of "
        f"their kind, or over at least {options.seeds} seeds of fewer. {printed}"
    )


Unit = Literal["encoder", "network", "scale", "recipe", "case"]


def by_unit(evidence: Evidence, pairs: pd.DataFrame, unit: Unit) -> pd.DataFrame:
    """Pairs (rows with ``encoder``, ``scale`` and ``recipe``) with the ``unit`` that each is of, which is averaged over them.

    A case is an encoder at one scale under one recipe. Scales are compared with the encoders that were run at every one of
    them, so that nothing but the scale differs.
    """
    if unit == "scale":
        per_encoder = pairs.groupby(["recipe", "encoder"])["scale"].transform("nunique")
        pairs = pairs[per_encoder == pairs["scale"].nunique()]
    if unit == "case":
        return pairs.assign(unit=pairs["encoder"] + ", " + pairs["scale"] + ", " + pairs["recipe"])
    if unit == "network":
        return pairs.assign(unit=[evidence.network_of(name) for name in pairs["encoder"]])
    return pairs.assign(unit=pairs[unit])


def unit_told(unit: Unit) -> str:
    """What is to be said of units of a kind, after a rule."""
    told = {
        "case": " A case is an encoder at one scale under one recipe.",
        "scale": " Only encoders that were run at every scale count.",
    }
    return told.get(unit, "")


def ratio_finding(
    evidence: Evidence,
    pairs: pd.DataFrame,
    options: Ratios,
    parameter: str,
    unit: str,
    records: list[str],
    every: bool = False,
    margin: Amount | None = None,
) -> Finding:
    """Decide over pairs of runs.

    Args:
        evidence: where they come from.
        pairs: rows of ``unit``, ``seed`` and ``ratio``, the log ratio; of distances, also ``run`` and ``run_than``.
        options: what the claim fixes.
        parameter: what is estimated, in words.
        unit: what a unit is, in a word.
        records: the result files that the pairs come from.
        every: whether the claim is about each unit, and not about their mean.
        margin: what is taken off each log ratio before it is held against the threshold; None: nothing.
    """
    measured = effects_of(pairs, evidence.noise) if "run" in pairs else _by_own_spread(pairs)
    effects = measured if margin is None else measured.less(margin)
    limit = options.threshold
    k, seeds = len(effects.units), int(effects.seeds.min())
    counted = f"{k} {words.plural(unit, k)}"
    over_units = k >= options.minimum
    lacking, decided = "", None
    if every:
        estimate, p = weakest(effects.each(limit), options.holds)
        level = f"{counted}, of which the weakest is shown"
        if not over_units:
            lacking = f"{counted}, the rule asks for {options.minimum}"
    elif over_units:
        estimate, p = effects.mean_of_their_kind(limit)
        level = counted
    else:
        estimate, p = effects.mean_of_these(limit)
        level = f"{seeds} {words.plural('seed', seeds)} of {counted}"
    by_margin = evidence.printed and (every or not over_units)
    if not lacking and by_margin:
        decided, lacking = _by_margin(effects, options, every)
    elif not lacking and seeds < options.seeds and (every or not over_units):
        lacking = f"{counted}, the fewest seeds of one are {seeds}, the rule asks for {options.seeds}"
        lacking += "" if every else f", or for {options.minimum} {words.plural(unit, options.minimum)}"
    notes = [f"{words.percent_of_log(float(measured.values.mean()))} on average; over {level}."]
    if decided is not None:
        notes.append(f"Single printed runs: decided by the fixed margin of {options.margin:.0%}, without a test.")
    return Finding(
        parameter=parameter,
        estimate=estimate,
        p=None if decided is not None else p,
        lacking=lacking,
        decided=decided,
        power=_power(estimate, effects, options, over_units and not every, unit),
        notes=notes,
        checks=_checks(pairs, measured),
        records=records,
        log_ratio=True,
    )


def _by_margin(effects: Effects, options: Ratios, every: bool) -> tuple[bool | None, str]:
    """The verdict on single printed runs, and what is lacking where there is none."""
    margin = math.log1p(options.margin)
    beyond = [
        name
        for name, value in zip(effects.units, effects.values, strict=True)
        if abs(value - options.threshold) > margin
    ]
    right = [options.holds(float(value)) for value in effects.values]
    if len(beyond) == len(right) and all(right):
        return True, ""
    against = [name for name, holds in zip(effects.units, right, strict=True) if not holds and name in beyond]
    if against and (every or len(against) == len(right)):
        return False, ""
    within = [name for name in effects.units if name not in beyond]
    told = f"within {options.margin:.0%}: {', '.join(within)}" if within else "some are lower and some higher"
    return None, f"single printed runs; {told}"


def _by_own_spread(pairs: pd.DataFrame) -> Effects:
    """Effects of what is no distance, each with the spread of its own seeds."""
    groups = [(str(name), part.to_numpy(float)) for name, part in pairs.groupby("unit")["ratio"]]
    n = np.array([len(values) for _, values in groups])
    variance = [values.var(ddof=1) / len(values) if len(values) > 1 else math.nan for _, values in groups]
    means = np.array([values.mean() for _, values in groups])
    return Effects([name for name, _ in groups], means, _diagonal(variance), n - 1.0, n)


def _diagonal(variance: list[float]) -> np.ndarray:
    covariance = np.zeros((len(variance), len(variance)))
    np.fill_diagonal(covariance, variance)
    return covariance


def _power(estimate: Estimate, effects: Effects, options: Ratios, over_units: bool, unit: str) -> str:
    if over_units:
        n, spread = len(effects.units), float(effects.values.std(ddof=1))
        return (
            f"With {n} {words.plural(unit, n)} whose log ratios spread by {spread:.3f}, power 0.8 takes a mean change of "
            f"{words.percent_of_log(-effect_seen(n, options.alpha) * spread)} or more."
        )
    if not math.isfinite(estimate.low):
        return "Without several seeds there is no spread: nothing can be said about power."
    # A t test has power 0.8 at about 1.43 half intervals, (1.96 + 0.84) / 1.96.
    reach = 1.43 * (estimate.high - estimate.low) / 2
    return f"By the spread between seeds, power 0.8 takes a change of about {words.percent_of_log(-reach)} or more."


def _checks(pairs: pd.DataFrame, effects: Effects) -> list[tuple[str, str, int | None]]:
    k = len(effects.units)
    rows: list[tuple[str, str, int | None]] = [
        ("pairs in which it is lower", f"{int((effects.values < 0).sum())} of {k}", k)
    ]
    if k > 1:
        rows.append(("mean with its interval", _percent(effects.mean_of_their_kind()[0]), k))
        rows.append(("the same without regard to runs that several share", _percent(mean_effect(effects.values)[0]), k))
        rows.append(("effect size d_z (mean over s.d.)", f"{standardised(effects.values):.2f}", k))
        rows.append(("Wilcoxon signed-rank p", words.p_value(signed_rank_p(effects.values)), k))
    rows += [
        (f"change for {name}", _percent(estimate), int(n))
        for name, (estimate, _), n in zip(effects.units, effects.each(), effects.seeds, strict=True)
    ]
    by_seed = pairs.groupby("seed")["ratio"].mean()
    if len(by_seed) > 1:
        rows.append(("change per seed", ", ".join(map(words.percent_of_log, by_seed)), len(by_seed)))
    return rows


def _percent(ratio: Estimate) -> str:
    return words.percentages(ratio.map(lambda value: 100 * math.expm1(value)))
