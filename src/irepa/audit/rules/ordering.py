"""Does one encoder give a lower distance than another? Named pairs, the mean log ratio of their distances."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from irepa.audit import gate, words
from irepa.audit.evidence import Evidence, NotTestable, records_of_pairs
from irepa.audit.pairs import pair_encoders, to_percent
from irepa.audit.rules import Finding, shortage, side
from irepa.audit.rules._ratios import Ratios, ratio_finding, rule_end
from irepa.config.options import Positive


class Options(Ratios):
    """The claim is about the ratio of the first encoder's distance to the second's."""

    pairs: list[tuple[str, str]] = Field(
        description="Pairs [first, second] of encoders. Those that a source has not run are left out."
    )
    method: str = Field("repa", description="The method whose runs are compared.")
    unit: Literal["pair", "family"] = Field(
        "pair", description="What the claim ranges over; pairs of networks of one family are averaged."
    )
    every: bool = Field(True, description="Whether the claim is about each unit, and not about their mean.")
    minimum: Positive = Field(1, description="Fewest units that a verdict may rest on.")
    share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="This share of REPA's own log ratio to no alignment is taken off first; 0: nothing is.",
    )


def rule(options: Options) -> str:
    less = f", less {options.share:g} of REPA's own, which must be below 0" if options.share else ""
    error = " The interval has the error of REPA's own in it." if options.share else ""
    return (
        f"The log ratio of FD of the first / FD of the second, at the largest scale{less}, is {side(options)}. "
        + rule_end(options, options.unit, options.every)
        + error
    )


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    import pandas as pd

    scales = evidence.scales_of(experiment, options.method)
    runs = evidence.of(experiment)
    runs = runs[(runs["method"] == options.method) & (runs["scale"] == scales[-1])] if scales else runs.iloc[:0]
    pairs = pd.concat(
        [pair_encoders(runs, first, second).assign(pair=f"{first} / {second}") for first, second in options.pairs]
    )
    if pairs.empty:
        raise NotTestable("none of the encoders that the claim names has been run")
    family = [evidence.family_of(name) for name in pairs["encoder"]]
    pairs = pairs.assign(unit=pairs["pair"] if options.unit == "pair" else family)
    margin = None
    if options.share:
        effect = gate.repas_own(evidence, experiment)
        if effect is None:
            raise NotTestable("REPA's own effect, of which the margin is a share, has not been measured")
        # Where REPA does not help there is no margin: the gate says so. Both runs of a pair are among those of the margin, with
        # opposite signs, so that a pair and the margin have nothing in common.
        margin = effect.times(options.share)
    less = f" less {options.share:g} of REPA's own" if options.share else ""
    parameter = f"log ratio of {evidence.distance}, first / second{less} ({scales[-1]})"
    records = records_of_pairs(pairs)
    finding = ratio_finding(evidence, pairs, options, parameter, options.unit, records, options.every, margin)
    if margin is not None:
        told = words.percentages(margin.test()[0].map(to_percent))
        finding.notes.append(f"{options.share:g} of REPA's own effect, which is taken off, is {told}.")
    missing = len(options.pairs) - pairs["pair"].nunique()
    if missing:
        finding.notes.append(f"{missing} of the {len(options.pairs)} pairs that the claim names have not been run.")
    families = pairs["unit"].nunique()
    few = shortage(families, "family", options, " of at least two networks") if options.unit == "family" else ""
    return replace(finding, premised=True, lacking=few or finding.lacking)
