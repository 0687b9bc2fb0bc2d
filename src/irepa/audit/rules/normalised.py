"""Does spatial normalisation raise a spatial metric of every encoder's tokens? The smallest change over encoders.

Nothing is trained and nothing is drawn: the change is measured over the metric images, thousands of them. So the rule
compares numbers as they are.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from irepa.audit.evidence import Evidence, NotTestable, records_of
from irepa.audit.rules import Finding, Rule, shortage, side
from irepa.audit.statistics import Estimate
from irepa.audit.targets import NAMES


class Options(Rule):
    """The claim is about the change of each metric of each encoder."""

    metrics: list[Literal["lds", "cds", "srss", "rmsc"]] = Field(
        min_length=1, description="The spatial metrics that are claimed to change."
    )


def rule(options: Options) -> str:
    names = " and ".join(NAMES[metric] for metric in options.metrics)
    return (
        f"For each encoder, {names} after spatial normalisation less the same before it is {side(options)}. Numbers over the "
        f"metric images are compared without a test, over at least {options.minimum} encoders, whose tokens are not changed "
        "otherwise."
    )


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    needed = [name + ending for name in options.metrics for ending in ("", "_normalised")]
    if not set(needed) <= set(evidence.encoders):
        raise NotTestable("no encoder's tokens were measured after spatial normalisation")
    unchanged = evidence.encoders[[not evidence.base_of(str(name)) for name in evidence.encoders.index]]
    encoders = unchanged.dropna(subset=needed)
    if encoders.empty:
        raise NotTestable("no encoder's tokens were measured after spatial normalisation")
    changes = {
        (NAMES[metric], str(name)): float(value)
        for metric in options.metrics
        for name, value in (encoders[f"{metric}_normalised"] - encoders[metric]).items()
    }
    metric, name = (min if options.relation == "above" else max)(changes, key=lambda key: changes[key])
    least, n = changes[metric, name], len(encoders)
    within = [key for key, value in changes.items() if options.holds(value)]
    return Finding(
        parameter=f"weakest change of {' or '.join(NAMES[metric] for metric in options.metrics)}",
        estimate=Estimate(least, least, least, n),
        p=None,
        lacking=shortage(n, "encoder", options),
        decided=options.holds(least),
        notes=[f"{len(within)} of {len(changes)} changes are on the claimed side; the weakest is {metric} of {name}."],
        checks=[(f"change of {metric} of {name}", f"{value:+.3f}", None) for (metric, name), value in changes.items()],
        records=records_of(encoders),
    )
