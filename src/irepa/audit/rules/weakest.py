"""Do several correlations all reach a strength? The smallest |r| of them, over metrics, over scales or both."""

from __future__ import annotations

from pydantic import Field

from irepa.audit.evidence import Evidence, NotTestable, records_of
from irepa.audit.rules import Finding, Rule, needed, shortage, side
from irepa.audit.rules.correlation import NAMES, Property
from irepa.audit.statistics import bootstrap_p, pearson, weakest_strength
from irepa.config.options import Positive


class Options(Rule):
    """The claim is that every one of several correlations is as strong as the threshold; its sign does not count."""

    metrics: list[Property] = Field(description="The properties of encoders whose correlations count.")
    scales: Positive = Field(
        1, description="How many scales of the network the claim is about; 1: the largest that was run."
    )
    method: str = Field("repa", description="The method whose distances count.")
    minimum: Positive = Field(12, description="Fewest encoders that a verdict may rest on.")


def rule(options: Options) -> str:
    names = ", ".join(NAMES[metric] for metric in options.metrics)
    where = "at the largest scale" if options.scales == 1 else f"at each of at least {options.scales} scales"
    return f"The smallest |r| of {names} with the distance, {where}, is {side(options)}. " + needed(options, "encoders")


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    scales = evidence.scales_of(experiment, options.method)
    if len(scales) < options.scales:
        raise NotTestable(
            f"the experiment was run at {len(scales)} scale(s) of the network, the claim is about {options.scales}"
        )
    if not set(options.metrics) <= set(evidence.encoders):
        raise NotTestable("not every metric is known")
    counted = scales if options.scales > 1 else scales[-1:]
    frames = {scale: evidence.points(experiment, scale, options.method) for scale in counted}
    measured = [set(frame.dropna(subset=[*options.metrics, "fd"]).index) for frame in frames.values()]
    together = sorted(set.intersection(*measured))
    if len(together) < 4:
        raise NotTestable(f"{len(together)} encoders with every metric at every scale")
    pairs = [(metric, scale) for scale in counted for metric in options.metrics]
    x = [frames[scale].loc[together, metric].to_numpy(float) for metric, scale in pairs]
    y = [frames[scale].loc[together, "fd"].to_numpy(float) for _, scale in pairs]
    estimate, statistic = weakest_strength(x, y)
    return Finding(
        parameter=f"smallest |r| of {len(pairs)} correlations with {evidence.distance}",
        estimate=estimate,
        p=bootstrap_p([*x, *y], statistic, options.threshold),
        lacking=shortage(len(together), "encoders", options),
        power=f"Half the interval is {(estimate.high - estimate.low) / 2:.2f} with {len(together)} encoders.",
        notes=list(evidence.notes),
        checks=[
            (f"r of {NAMES[metric]} ({scale})", f"{float(pearson(a, b)):.3f}", len(together))
            for (metric, scale), a, b in zip(pairs, x, y, strict=True)
        ],
        records=records_of(*(frame.loc[together] for frame in frames.values())),
    )
