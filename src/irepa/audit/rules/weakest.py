"""Do several correlations all reach a strength? The smallest |r| of them, over metrics, over scales or both."""

from __future__ import annotations

from irepa.audit.evidence import Evidence, NotTestable, records_of
from irepa.audit.rules import Finding, Rule, needed, side
from irepa.audit.rules.correlation import NAMES
from irepa.audit.statistics import bootstrap_p, pearson, weakest_strength


class Options(Rule):
    """``scales``: how many scales the claim is about; 1 is the largest that was run."""

    metrics: list[str]
    scales: int = 1
    method: str = "repa"
    minimum: int = 12


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
    chosen = scales if options.scales > 1 else scales[-1:]
    frames = {scale: evidence.points(experiment, scale, options.method) for scale in chosen}
    together = sorted(
        set.intersection(*(set(f.dropna(subset=[*options.metrics, "fd"]).index) for f in frames.values()))
    )
    if len(together) < 4:
        raise NotTestable(f"{len(together)} encoders with every metric at every scale")
    pairs = [(m, s) for s in chosen for m in options.metrics]
    x = [frames[s].loc[together, m].to_numpy(float) for m, s in pairs]
    y = [frames[s].loc[together, "fd"].to_numpy(float) for _, s in pairs]
    estimate, statistic = weakest_strength(x, y)
    enough = len(together) >= options.minimum
    return Finding(
        parameter=f"smallest |r| of {len(pairs)} correlations with {evidence.distance}",
        estimate=estimate,
        p=bootstrap_p([*x, *y], statistic, options.threshold),
        sufficient=enough,
        lacking="" if enough else f"{len(together)} encoders, the rule asks for {options.minimum}",
        power=f"Half the interval is {(estimate.high - estimate.low) / 2:.2f} with {len(together)} encoders.",
        notes=list(evidence.notes),
        checks=[
            (f"r of {NAMES[m]} ({s})", f"{float(pearson(a, b)):.3f}", len(together))
            for (m, s), a, b in zip(pairs, x, y, strict=True)
        ],
        records=records_of(*(frame.loc[together] for frame in frames.values())),
    )
