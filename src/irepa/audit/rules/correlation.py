"""Does a property of the encoder go with the distance? Pearson's r over networks, at the largest scale that was run.

The correlation is that with the log distance behind the noise between seeds. One threshold serves every property, with
its sign: a property predicts where r is below -0.5, a quarter of the variance, and does not where it is above -0.35, half
of that. In between nothing is said.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from irepa.audit import words
from irepa.audit.evidence import Evidence, NotTestable, records_of
from irepa.audit.rules import Finding, Rule, needed, shortage, side
from irepa.audit.statistics import (
    Array,
    Correlations,
    correlation,
    correlation_power,
    leave_out,
    pearson,
    permutation_p,
    units_for_correlation,
)
from irepa.audit.targets import NAMES, Property, Targets, Unit, targets
from irepa.config.options import Positive


class Options(Rule):
    """The claim is about r; its expected value serves the statement on power alone."""

    metric: Property = Field(description="The property of encoders that is correlated with the distance.")
    method: str = Field("repa", description="The method whose distances count.")
    unit: Unit = Field(
        "network",
        description="What is independent of one another: networks, whose layers are averaged; or encoders, where one "
        "network's tokens are changed on purpose.",
    )
    otherwise: float = Field(
        description="What r must lie beyond, on the other side of the threshold, to contradict the claim."
    )
    expected: float = Field(description="The paper's r.")
    minimum: Positive = Field(12, description="Fewest units that a verdict may rest on.")


def rule(options: Options) -> str:
    opposite = "above" if options.relation == "below" else "below"
    return (
        f"Pearson r of {NAMES[options.metric]} with the log distance behind the noise between seeds, at the largest scale of "
        f"the network, is {side(options)}; it is contradicted by r {opposite} {options.otherwise:g}. "
        + needed(options, words.plural(options.unit, 2))
    )


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    scales = evidence.scales_of(experiment, options.method)
    if not scales:
        raise NotTestable(f"no encoder with {NAMES[options.metric]} and a distance")
    of = targets(evidence, experiment, scales[-1], options.method, [options.metric], options.unit)
    found = of.correlate([options.metric])
    n = len(of.units)
    r = found.estimate([1.0], n)
    x, y = of.column(options.metric), of.column("level")
    return Finding(
        parameter=f"Pearson r of {NAMES[options.metric]} with log {evidence.distance} ({scales[-1]})",
        estimate=r,
        p=against(found, [1.0], r.value, options),
        premised=True,
        reliability=of.reliability(found),
        predictor=options.metric if options.unit == "network" else "",
        lacking=shortage(n, options.unit, options),
        power=power(options, of.effective([options.metric]), found.reliability.value if of.noise.freedom else 1.0),
        notes=[of.told([options.metric])],
        checks=[
            *stated(evidence, of, options.metric),
            *noise_told(of, found, x, y),
            *checks(x, y, of.units["family"].tolist()),
        ],
        records=records_of(of.points),
    )


def against(found: Correlations, weights: list[float], value: float, options: Options) -> float:
    """p against the end of the zone between both verdicts that the estimate lies beyond; 1 inside of it."""
    if options.holds(value):
        return found.p(weights, options.threshold)
    beyond = value > options.otherwise if options.relation == "below" else value < options.otherwise
    return found.p(weights, options.otherwise) if beyond else 1.0


def stated(evidence: Evidence, of: Targets, metric: str) -> list[tuple[str, str, int | None]]:
    """The correlation that the source states itself, and the same over the points at hand, with the distance as it is."""
    if metric not in evidence.stated:
        return []
    x, y = (of.points[name].to_numpy(float) for name in (metric, "fd"))
    return [
        ("r that the source states", f"{evidence.stated[metric][0]:g}", evidence.stated[metric][1]),
        ("r with the distance, not its logarithm", f"{float(pearson(x, y)):.3f}", len(x)),
    ]


def noise_told(of: Targets, found: Correlations, x: Array, y: Array) -> list[tuple[str, str, int | None]]:
    """What the noise between seeds hides: the reliability, and r as it is seen."""
    if not of.noise.freedom > 0:
        return []
    seen = float(pearson(x, y))
    return [
        ("reliability of the distances", words.estimate(found.reliability, ".2f"), len(x)),
        ("r as it is seen through the noise", f"{seen:.2f}", len(x)),
    ]


def power(options: Options, units: float, share: float) -> str:
    """What the test could have seen of the paper's r; share: reliability of the distances."""
    weaker = math.sqrt(max(share, 0.0))
    seen, limit = options.expected * weaker, options.threshold * weaker
    n = math.floor(units)
    enough = units_for_correlation(seen, limit, options.alpha)
    noise = f", seen as {seen:.2f} through the noise between seeds" if share < 1 else ""
    return (
        f"If the true r were {options.expected:g}{noise}, {n} independent units would tell it from {options.threshold:g} with "
        f"power {correlation_power(seen, n, options.alpha, limit):.2f}; "
        + (f"power 0.8 takes {enough}." if enough else "power 0.8 takes a thousand or more.")
    )


def without_each(x: Array, y: Array) -> dict[str, float]:
    """Pearson's r of x and y (n,) without each unit in turn, by its place."""
    return leave_out(x, y, [str(place) for place in range(len(x))])


def checks(x: Array, y: Array, families: list[str]) -> list[tuple[str, str, int | None]]:
    """How far the correlation of x and y (units,) rests on a few units, on one family or on the worst ones."""
    if len(x) < 4:
        return []
    rho = correlation(x, y, rank=True)
    rows: list[tuple[str, str, int | None]] = [
        ("Spearman rho", words.estimate(rho), rho.n),
        ("permutation p, Pearson", words.p_value(permutation_p(x, y)), len(x)),
        ("permutation p, Spearman", words.p_value(permutation_p(x, y, rank=True)), len(x)),
        ("r without one unit, range", words.span(without_each(x, y).values()), len(x) - 1),
    ]
    if 2 < len(set(families)) < len(families):
        by_family = leave_out(x, y, families)
        least = min(by_family, key=lambda name: abs(by_family[name]))
        what = f"r without one family, range (weakest without {least})"
        rows.append((what, words.span(by_family.values()), None))
    order = np.argsort(y)
    for worst in (1, 2, 4):
        kept = order[: len(y) - worst]
        if len(kept) >= 4:
            rows.append((f"r without the {worst} worst", f"{float(pearson(x[kept], y[kept])):.2f}", len(kept)))
    best = order[: math.floor(len(y) * 2 / 3)]
    if len(best) >= 4:
        rows.append(("r among the best two thirds", words.estimate(correlation(x[best], y[best])), len(best)))
    return rows
