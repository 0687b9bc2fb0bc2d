"""How many steps does one method need for the distance at which the other ends? Log ratio of the steps.

Where a method never gets there, the question is turned round: how many does the other need for the distance at which this
one ends? So both are held against the distance at which the worse of them ends, and which of two equal ones ends lower, by
chance, moves the log ratio as far up as down.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from irepa.audit import words
from irepa.audit.evidence import Evidence, NotTestable, records_of
from irepa.audit.pairs import CASE
from irepa.audit.rules import Finding, side
from irepa.audit.rules._ratios import Ratios, Unit, by_unit, ratio_finding, rule_end, unit_told
from irepa.audit.statistics import Array

if TYPE_CHECKING:
    import pandas as pd


class Options(Ratios):
    """The claim is that one method reaches in fewer steps the distance at which another ends."""

    method: str = Field(description="The method that is claimed to be faster.")
    than: str = Field(description="The method whose last distance is to be reached.")
    unit: Unit = Field("case", description="What the claim ranges over; runs are averaged within it.")
    every: bool = Field(False, description="Whether the claim is about each unit, and not about their mean.")


def rule(options: Options) -> str:
    return (
        f"The mean of log(steps of {options.method} / steps of {options.than}) to the last distance of {options.than}, or of "
        f"{options.method} where that ends higher, by linear interpolation between measured steps, is {side(options)}. "
        + rule_end(options, options.unit, options.every)
        + unit_told(options.unit)
    )


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    import pandas as pd

    runs = evidence.over_steps(experiment)
    curves = {key: part.sort_values("steps") for key, part in runs.groupby([*CASE, "method"], dropna=False)}
    rows: list[dict[str, object]] = []
    used: list[pd.DataFrame] = []
    never = 0
    for (*case, method), curve in curves.items():
        other = curves.get((*case, options.than))
        if method != options.method or other is None or min(len(curve), len(other)) < 2:
            continue
        ends = [float(part["fd"].iloc[-1]) for part in (curve, other)]
        steps, steps_than = (_steps_of(part, max(ends)) for part in (curve, other))
        used += [curve, other]
        never += ends[0] > ends[1]
        recipe, scale, encoder, _, seed = case
        ratio = math.log(steps / steps_than)
        rows.append({"recipe": recipe, "scale": scale, "encoder": encoder, "seed": seed, "ratio": ratio})
    if not rows:
        raise NotTestable("distances were measured at one number of steps only")
    pairs = by_unit(evidence, pd.DataFrame(rows), options.unit)
    parameter = f"mean log ratio of steps, {options.method} / {options.than}"
    finding = ratio_finding(evidence, pairs, options, parameter, options.unit, records_of(*used), options.every)
    if never:
        finding.notes.append(
            f"{never} {words.plural('run', never)} of {options.method} ended higher: there its own last distance counts."
        )
    return finding


def _steps_of(curve: pd.DataFrame, target: float) -> float:
    """Steps to a distance that the curve reaches."""
    steps, distance = (curve[name].to_numpy(float) for name in ("steps", "fd"))
    return steps_to_reach(steps, distance, target) or float(steps[-1])


def steps_to_reach(steps: Array, distance: Array, target: float) -> float | None:
    """The first step, linearly interpolated, at which the distance is at most the target; None if it never is.

    steps, distance: (n,), in order of the steps.
    """
    for k, value in enumerate(distance):
        if value <= target:
            if k == 0:
                return float(steps[0])
            share = (distance[k - 1] - target) / (distance[k - 1] - value)
            return float(steps[k - 1] + share * (steps[k] - steps[k - 1]))
    return None
