"""Does a property of the encoder go with the distance? Pearson's r over encoders, at the largest scale that was run."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import Field

from irepa.audit import words
from irepa.audit.evidence import Evidence, NotTestable, records_of
from irepa.audit.rules import Finding, Rule, needed, shortage, side
from irepa.audit.statistics import (
    Array,
    correlation,
    correlation_p,
    correlation_power,
    leave_out,
    pearson,
    permutation_p,
    reliability,
    units_for_correlation,
)
from irepa.config.options import Positive

NAMES = {"accuracy": "linear-probe accuracy", "lds": "LDS", "cds": "CDS", "srss": "SRSS", "rmsc": "RMSC"}
Property = Literal["accuracy", "lds", "cds", "srss", "rmsc"]


class Options(Rule):
    """The claim is about r; its expected value serves the statement on power alone."""

    metric: Property = Field(description="The property of encoders that is correlated with the distance.")
    method: str = Field("repa", description="The method whose distances count.")
    expected: float = Field(description="The paper's r.")
    minimum: Positive = Field(12, description="Fewest encoders that a verdict may rest on.")


def rule(options: Options) -> str:
    return (
        f"Pearson r of {NAMES[options.metric]} with the distance, at the largest scale of the network, is {side(options)}. "
        + needed(options, "encoders")
        + " An r weaker than the threshold is held against the threshold times the largest |r| that the noise between seeds "
        "leaves visible."
    )


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    scales = evidence.scales_of(experiment, options.method)
    if not scales or options.metric not in evidence.encoders:
        raise NotTestable(f"no encoder with {NAMES[options.metric]} and a distance")
    points = evidence.points(experiment, scales[-1], options.method).dropna(subset=[options.metric, "fd"])
    x, y = points[options.metric].to_numpy(float), points["fd"].to_numpy(float)
    r = correlation(x, y)
    repeats = evidence.repeats(experiment, scales[-1], options.method).to_numpy(float)
    share = reliability(repeats)
    against = attenuated(options.threshold, r.value, share)
    printed = [("r that the paper prints", f"{options.expected:g}", 27)] if evidence.printed else []
    return Finding(
        parameter=f"Pearson r of {NAMES[options.metric]} with {evidence.distance} ({scales[-1]})",
        estimate=r,
        p=correlation_p(r.value, against, r.n),
        tested_against=against,
        lacking=shortage(len(points), "encoders", options),
        power=power(options, r.n, share),
        checks=[
            *printed,
            *ceiling(share, repeats, against),
            *checks(x, y, points["family"].fillna("").tolist()),
        ],
        records=records_of(points),
    )


def power(options: Options, n: int, share: float) -> str:
    """What the test among n encoders could have seen of the paper's r.

    share: reliability of the distances, NaN if unknown.
    """
    seen = options.expected * (math.sqrt(share) if math.isfinite(share) else 1)
    against = attenuated(options.threshold, seen, share)
    enough = units_for_correlation(seen, against, options.alpha)
    noise = f", seen as {seen:.2f} through the noise between seeds" if math.isfinite(share) else ""
    return (
        f"If the true r were {options.expected:g}{noise}, {n} encoders would tell it from {against:.3g} with power "
        f"{correlation_power(seen, n, options.alpha, against):.2f}; "
        + (f"power 0.8 takes {enough}." if enough else "power 0.8 takes a thousand or more.")
    )


def attenuated(threshold: float, r: float, share: float) -> float:
    """The value that a measured correlation r is tested against, given the noise in the distances.

    Noise weakens a correlation: of a true one, at most sqrt(share) times its strength is seen (attenuation; Spearman
    1904). So a true r at the threshold would be seen somewhere from threshold * sqrt(share) to the threshold. A
    measured r outside this range is tested against the end that is nearer; one inside is tested against itself, which
    decides nothing.

    threshold, r: -1 to 1. share: reliability of the distances, 0 to 1 (:func:`irepa.audit.statistics.reliability`);
    where it is unknown (NaN) the threshold is returned.
    """
    if not math.isfinite(share) or not math.isfinite(r):
        return threshold
    low, high = sorted([threshold, threshold * math.sqrt(share)])
    return min(max(r, low), high)


def ceiling(share: float, repeats: Array, against: float) -> list[tuple[str, str, int | None]]:
    """How large a correlation the noise between seeds leaves visible.

    share: reliability of the distances. repeats: the distances (encoders, seeds), NaN where not run. against: what r is
    tested against.
    """
    if not math.isfinite(share):
        return []
    complete = int(np.isfinite(repeats).all(axis=1).sum())
    what = f"share of the distances' variance that {repeats.shape[1]} seeds agree on"
    value = f"{share:.2f}; a true |r| of 1 would show as {math.sqrt(share):.2f}, r is held against {against:.2f}"
    return [(what, value, complete)]


def without_each(x: Array, y: Array) -> dict[str, float]:
    """Pearson's r of x and y (n,) without each unit in turn, by its place."""
    return leave_out(x, y, [str(place) for place in range(len(x))])


def checks(x: Array, y: Array, families: list[str]) -> list[tuple[str, str, int | None]]:
    """How far the correlation of x and y (encoders,) rests on a few encoders, on one family or on the worst ones."""
    if len(x) < 4:
        return []
    rho = correlation(x, y, rank=True)
    rows: list[tuple[str, str, int | None]] = [
        ("Spearman rho", words.estimate(rho), rho.n),
        ("permutation p, Pearson", words.p_value(permutation_p(x, y)), len(x)),
        ("permutation p, Spearman", words.p_value(permutation_p(x, y, rank=True)), len(x)),
        ("r without one encoder, range", words.span(without_each(x, y).values()), len(x) - 1),
    ]
    if len(set(families)) > 2 and all(families):
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
