"""Do several correlations all reach a strength? Each is tested, over metrics, scales or both; the weakest decides."""

from __future__ import annotations

from pydantic import Field

from irepa.audit import words
from irepa.audit.evidence import Evidence, NotTestable, records_of
from irepa.audit.rules import Finding, Rule, needed, shortage, side
from irepa.audit.statistics import Estimate, weakest
from irepa.audit.targets import NAMES, Property, targets
from irepa.config.options import Positive


class Options(Rule):
    """The claim is that each of several correlations is as strong as the threshold, which has their sign."""

    metrics: list[Property] = Field(description="The properties of encoders whose correlations count.")
    scales: Positive = Field(
        1, description="How many scales of the network the claim is about; 1: the largest that was run."
    )
    both_signs: bool = Field(
        False, description="Whether the claim is that |r| is small: r and -r are each held against the threshold."
    )
    method: str = Field("repa", description="The method whose distances count.")
    minimum: Positive = Field(12, description="Fewest networks that a verdict may rest on.")


def rule(options: Options) -> str:
    names = ", ".join(NAMES[metric] for metric in options.metrics)
    where = "at the largest scale" if options.scales == 1 else f"at each of at least {options.scales} scales"
    r = "Pearson r, and -r," if options.both_signs else "Pearson r"
    return (
        f"{r} of each of {names} with the log distance behind the noise between seeds, {where}, is {side(options)}: the "
        "claim is as strong as the weakest of them. "
        + needed(options, "networks")
        + " Correlations that a source states itself are "
        "taken as it states them."
    )


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    scales = evidence.scales_of(experiment, options.method)
    if len(scales) < options.scales:
        raise NotTestable(
            f"the experiment was run at {len(scales)} {words.plural('scale', len(scales))} of the network, "
            f"the claim is about {options.scales}"
        )
    counted = scales if options.scales > 1 else scales[-1:]
    if options.scales == 1 and set(options.metrics) <= set(evidence.stated):
        return _stated(evidence, options)
    tested, frames = [], []
    checks: list[tuple[str, str, int | None]] = []
    for scale in counted:
        of = targets(evidence, experiment, scale, options.method, options.metrics)
        found = of.correlate(options.metrics)
        frames.append(of)
        for place, metric in enumerate(options.metrics):
            for sign in (1.0, -1.0) if options.both_signs else (1.0,):
                weights = [sign * (place == k) for k in range(len(options.metrics))]
                r = found.estimate(weights, len(of.units))
                tested.append((r, found.p(weights, options.threshold), of.reliability(found)))
            told = float(found.values[place])
            checks.append((f"r of {NAMES[metric]} ({scale})", f"{told:.3f}", len(of.units)))
    least, p = weakest([(r, p) for r, p, _ in tested], options.holds)
    signs = ", r and -r," if options.both_signs else ""
    return Finding(
        parameter=f"weakest of {len(tested)} correlations{signs} with log {evidence.distance}",
        estimate=least,
        p=p,
        premised=True,
        reliability=min((share for _, _, share in tested), key=lambda share: share.low),
        lacking=shortage(min(len(of.units) for of in frames), "network", options),
        power=f"Half the interval is {(least.high - least.low) / 2:.2f} with {least.n} networks.",
        notes=[frames[-1].told(options.metrics), *evidence.notes],
        checks=checks,
        records=records_of(*(of.points for of in frames)),
    )


def _stated(evidence: Evidence, options: Options) -> Finding:
    """What is printed is compared as it is printed."""
    said = {metric: evidence.stated[metric][0] for metric in options.metrics}
    least = (max if options.relation == "below" else min)(said.values())
    n = min(evidence.stated[metric][1] for metric in options.metrics)
    return Finding(
        parameter=f"weakest of {len(said)} correlations that the source states",
        estimate=Estimate(least, least, least, n),
        p=None,
        decided=options.holds(least),
        notes=[", ".join(f"{NAMES[metric]} {r:g}" for metric, r in said.items()) + ", as printed."],
    )
