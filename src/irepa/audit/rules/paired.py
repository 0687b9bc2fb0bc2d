"""Is one method better than another for the same encoder, scale, recipe and seed? The mean log ratio of their distances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from irepa.audit.changes import pair_methods
from irepa.audit.evidence import Evidence, NotTestable, records_of_pairs
from irepa.audit.rules import Finding, side
from irepa.audit.rules._ratios import Ratios, ratio_finding, rule_end

if TYPE_CHECKING:
    import pandas as pd


class Options(Ratios):
    """The claim is that one method gives a lower distance than another."""

    method: str = Field(description="The method that is claimed to be better.")
    than: str = Field(description="The method that it is compared with.")
    unit: Literal["encoder", "scale", "recipe", "case"] = Field(
        "case",
        description="What the claim ranges over; pairs are averaged within it. A case is an encoder at one scale under "
        "one recipe.",
    )
    recipes: list[str] | None = Field(None, description="Training recipes that count; null: all.")
    encoders: list[str] | None = Field(None, description="Encoders that count; null: all.")
    every: bool = Field(False, description="Whether the claim is about each unit, and not about their mean.")


def rule(options: Options) -> str:
    each = " Only encoders that were run at every scale count." if options.unit == "scale" else ""
    case = " (a case is an encoder at one scale under one recipe)" if options.unit == "case" else ""
    return (
        f"The mean of log(FD of {options.method} / FD of {options.than}), paired by "
        f"{options.unit}{case}, is {side(options)}. " + rule_end(options, options.unit, options.every) + each
    )


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    runs = evidence.of(experiment)
    if options.recipes is not None:
        runs = runs[runs["recipe"].isin(options.recipes)]
    pairs = pair_methods(runs, options.method, options.than)
    if options.encoders is not None:
        pairs = pairs[pairs["encoder"].isin(options.encoders)]
    if options.unit == "scale":  # the same encoders at every scale, so that nothing but the scale differs
        per_encoder = pairs.groupby(["recipe", "encoder"])["scale"].transform("nunique")
        pairs = pairs[per_encoder == pairs["scale"].nunique()]
    if pairs.empty:
        raise NotTestable(f"no pair of {options.method} and {options.than} in experiment {experiment}")
    pairs = pairs.assign(unit=_unit(pairs, options.unit))
    parameter = f"mean log ratio of {evidence.distance}, {options.method} / {options.than}"
    return ratio_finding(evidence, pairs, options, parameter, options.unit, records_of_pairs(pairs), options.every)


def _unit(pairs: pd.DataFrame, unit: str) -> pd.Series:
    if unit == "case":
        return pairs["encoder"] + ", " + pairs["scale"] + ", " + pairs["recipe"]
    return pairs[unit]
