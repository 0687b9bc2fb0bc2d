"""Does a property of the encoder go with the distance? Pearson's r over encoders, at the largest scale that was run."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from irepa.audit.evidence import Evidence, NotTestable, records_of
from irepa.audit.rules import Finding, Rule, needed, side
from irepa.audit.statistics import (
    correlation,
    correlation_p,
    correlation_power,
    leave_out,
    pearson,
    permutation_p,
    reliability,
    units_for_correlation,
)

NAMES = {"accuracy": "linear-probe accuracy", "lds": "LDS", "cds": "CDS", "srss": "SRSS", "rmsc": "RMSC"}


class Options(Rule):
    """``expected``: the paper's r, for the power statement."""

    metric: Literal["accuracy", "lds", "cds", "srss", "rmsc"]
    method: str = "repa"
    expected: float
    minimum: int = 12


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
    shown_as = as_seen(options.threshold, r.value, share)
    enough = len(points) >= options.minimum
    printed = [("r that the paper prints", f"{options.expected:g}", 27)] if evidence.printed else []
    return Finding(
        parameter=f"Pearson r of {NAMES[options.metric]} with {evidence.distance} ({scales[-1]})",
        estimate=r,
        p=correlation_p(r.value, shown_as, r.n),
        shown_as=shown_as,
        sufficient=enough,
        lacking="" if enough else f"{len(points)} encoders, the rule asks for {options.minimum}",
        power=power(options, r.n, share),
        checks=[
            *printed,
            *ceiling(share, repeats, shown_as),
            *checks(x, y, points["family"].fillna("").tolist()),
        ],
        records=records_of(points),
    )


def power(options: Options, n: int, share: float) -> str:
    """What the test could have seen of the paper's r. ``share``: reliability of the distances, NaN if unknown."""
    seen = options.expected * (math.sqrt(share) if math.isfinite(share) else 1)
    against = as_seen(options.threshold, seen, share)
    found = correlation_power(seen, n, options.alpha, against)
    enough = units_for_correlation(seen, against, options.alpha)
    noise = f", seen as {seen:.2f} through the noise between seeds" if math.isfinite(share) else ""
    return (
        f"If the true r were {options.expected:g}{noise}, {n} encoders would tell it from {against:.3g} with power {found:.2f}; "
        + (f"power 0.8 takes {enough}." if enough else "power 0.8 takes a thousand or more.")
    )


def as_seen(threshold: float, r: float, share: float) -> float:
    """Where a true correlation at the threshold would be seen through the noise between seeds, as far as that matters to r.

    Noise weakens correlations: a strong r is strong all the same, a weak one may be a strong one that is hidden. Between what
    is seen of the threshold and the threshold itself nothing is decided: there it is r. ``share``: reliability, NaN if unknown.
    """
    if not math.isfinite(share) or not math.isfinite(r):
        return threshold
    ends = sorted([threshold, threshold * math.sqrt(share)])
    return min(max(r, ends[0]), ends[1])


def ceiling(share: float, repeats: np.ndarray, shown_as: float) -> list[tuple[str, str, int | None]]:
    """How large a correlation the seeds' noise leaves visible. ``repeats``: distances, (encoders, seeds)."""
    if not math.isfinite(share):
        return []
    complete = int(np.isfinite(repeats).all(axis=1).sum())
    what = f"share of the distances' variance that {repeats.shape[1]} seeds agree on"
    told = f"{share:.2f}; a true |r| of 1 would show as {math.sqrt(share):.2f}, r is held against {shown_as:.2f}"
    return [(what, told, complete)]


def checks(x: np.ndarray, y: np.ndarray, families: list[str]) -> list[tuple[str, str, int | None]]:
    """How far the correlation rests on a few encoders, on one family or on the worst ones."""
    if len(x) < 4:
        return []
    rho = correlation(x, y, rank=True)
    rows: list[tuple[str, str, int | None]] = [
        ("Spearman rho", str(rho), rho.n),
        ("permutation p, Pearson", f"{permutation_p(x, y):.4f}", len(x)),
        ("permutation p, Spearman", f"{permutation_p(x, y, rank=True):.4f}", len(x)),
    ]
    single = leave_out(x, y, [str(i) for i in range(len(x))])
    rows.append(("r without one encoder, range", _range(single), len(x) - 1))
    if len(set(families)) > 2 and all(families):
        by_family = leave_out(x, y, families)
        least = min(by_family, key=lambda name: abs(by_family[name]))
        rows.append((f"r without one family, range (weakest without {least})", _range(by_family), None))
    order = np.argsort(y)
    for worst in (1, 2, 4):
        kept = order[: len(y) - worst]
        if len(kept) >= 4:
            rows.append((f"r without the {worst} worst", f"{float(pearson(x[kept], y[kept])):.2f}", len(kept)))
    best = order[: math.floor(len(y) * 2 / 3)]
    if len(best) >= 4:
        rows.append(("r among the best two thirds", str(correlation(x[best], y[best])), len(best)))
    return rows


def _range(values: dict[str, float]) -> str:
    return f"{min(values.values()):.2f} to {max(values.values()):.2f}"
