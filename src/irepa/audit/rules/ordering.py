"""Does one encoder give a lower distance than another? Named pairs, the mean log ratio of their distances."""

from __future__ import annotations

from pydantic import Field

from irepa.audit.changes import pair_encoders
from irepa.audit.evidence import Evidence, NotTestable, records_of_pairs
from irepa.audit.rules import Finding, side
from irepa.audit.rules._ratios import Ratios, ratio_finding, rule_end


class Options(Ratios):
    """The claim is about the ratio of the first encoder's distance to the second's."""

    pairs: list[tuple[str, str]] = Field(
        description="Pairs [first, second] of encoders. Those that a source has not run are left out."
    )
    method: str = Field("repa", description="The method whose runs are compared.")
    every: bool = Field(True, description="Whether the claim is about each pair, or about their mean.")


def rule(options: Options) -> str:
    each = " It must hold for each pair." if options.every else ""
    return (
        f"The mean of log(FD of the first / FD of the second) over the pairs, at the largest scale, is {side(options)}. "
        + rule_end(options, "pairs")
        + each
    )


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    import pandas as pd

    scales = evidence.scales_of(experiment, options.method)
    runs = evidence.of(experiment)
    runs = runs[(runs["method"] == options.method) & (runs["scale"] == scales[-1])] if scales else runs.iloc[:0]
    pairs = pd.concat(
        [pair_encoders(runs, first, second).assign(unit=f"{first} / {second}") for first, second in options.pairs]
    )
    if pairs.empty:
        raise NotTestable("none of the encoders that the claim names has been run")
    parameter = f"mean log ratio of {evidence.distance}, first / second ({scales[-1]})"
    finding = ratio_finding(pairs, options, parameter, "pair", records_of_pairs(pairs), evidence.printed, options.every)
    missing = len(options.pairs) - pairs["unit"].nunique()
    if missing:
        finding.notes.append(f"{missing} of the {len(options.pairs)} pairs that the claim names have not been run.")
    return finding
