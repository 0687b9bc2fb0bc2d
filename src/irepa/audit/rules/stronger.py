"""Does one property of the encoder go with the distance more closely than another? Two dependent correlations."""

from __future__ import annotations

import numpy as np

from irepa.audit.evidence import Evidence, NotTestable, records_of
from irepa.audit.rules import Finding, Rule, needed, side
from irepa.audit.rules.correlation import NAMES
from irepa.audit.statistics import leave_out, partial_correlation, pearson, strength_difference


class Options(Rule):
    """The claim is that ``metric`` goes with the distance more closely than ``other``."""

    metric: str
    other: str
    method: str = "repa"
    minimum: int = 12


def rule(options: Options) -> str:
    return (
        f"|r| of {NAMES[options.metric]} minus |r| of {NAMES[options.other]}, with the distance and over the same encoders, is "
        f"{side(options)} (paired bootstrap). " + needed(options, "encoders")
    )


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    scales = evidence.scales_of(experiment, options.method)
    if not scales or not {options.metric, options.other} <= set(evidence.encoders):
        raise NotTestable("no encoder with both properties and a distance")
    points = evidence.points(experiment, scales[-1], options.method)
    points = points.dropna(subset=[options.metric, options.other, "fd"])
    if len(points) < 4:
        raise NotTestable(f"{len(points)} encoders with both properties and a distance")
    first, second, y = (points[name].to_numpy(float) for name in (options.metric, options.other, "fd"))
    difference, p = strength_difference(first, second, y)
    enough = len(points) >= options.minimum
    name, other = NAMES[options.metric], NAMES[options.other]
    alone = leave_out(first, y, [str(i) for i in range(len(y))])
    beside = leave_out(second, y, [str(i) for i in range(len(y))])
    apart = [abs(alone[key]) - abs(beside[key]) for key in alone]
    return Finding(
        parameter=f"|r| of {name} minus |r| of {other} with {evidence.distance} ({scales[-1]})",
        estimate=difference,
        p=p,
        sufficient=enough,
        lacking="" if enough else f"{len(points)} encoders, the rule asks for {options.minimum}",
        power=(
            f"Half the interval is {(difference.high - difference.low) / 2:.2f}: smaller differences than that "
            f"cannot be told from "
            f"{options.threshold:g} with {len(points)} encoders."
        ),
        notes=list(evidence.notes),
        checks=[
            (f"r of {name} with {other}", f"{float(pearson(first, second)):.2f}", len(points)),
            (f"partial r of {name} with the distance, given {other}", _text(partial_correlation(first, y, second)), len(points)),
            (f"partial r of {other} with the distance, given {name}", _text(partial_correlation(second, y, first)), len(points)),
            ("difference without one encoder, range", f"{min(apart):.2f} to {max(apart):.2f}", len(points) - 1),
        ],
        records=records_of(points),
    )  # fmt: skip


def _text(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.2f}"
