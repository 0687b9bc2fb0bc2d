"""Is one method better than another for the same encoder, scale, recipe and seed? The mean log ratio of their distances."""

from __future__ import annotations

from typing import Literal

import pandas as pd

from irepa.audit.changes import paired
from irepa.audit.evidence import Evidence, NotTestable, records_of
from irepa.audit.rules import Finding, side
from irepa.audit.rules._ratios import Ratios, finding, rule_end


class Options(Ratios):
    """``method`` is claimed to be lower than ``than``.

    ``unit``: what the claim ranges over: pairs are averaged within it. ``recipes`` and ``encoders``: those that count, null: all.
    ``every``: the claim is about each unit.
    """

    method: str
    than: str
    unit: Literal["encoder", "scale", "recipe", "case"] = "case"
    recipes: list[str] | None = None
    encoders: list[str] | None = None
    every: bool = False


def rule(options: Options) -> str:
    each = f" It must hold for each {options.unit}." if options.every else ""
    case = " (a case is an encoder at one scale under one recipe)" if options.unit == "case" else ""
    return (
        f"The mean of log(FD of {options.method} / FD of {options.than}), paired by "
        f"{options.unit}{case}, is {side(options)}. " + rule_end(options, f"{options.unit}s") + each
    )


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    runs = evidence.of(experiment)
    if options.recipes is not None:
        runs = runs[runs["recipe"].isin(options.recipes)]
    pairs = paired(runs, options.method, options.than)
    if options.encoders is not None:
        pairs = pairs[pairs["encoder"].isin(options.encoders)]
    if pairs.empty:
        raise NotTestable(f"no pair of {options.method} and {options.than} in experiment {experiment}")
    pairs = pairs.assign(unit=_unit(pairs, options.unit))
    records = records_of(pairs, pairs[["record_than"]].rename(columns={"record_than": "record"}))
    return finding(
        pairs,
        options,
        f"mean log ratio of {evidence.distance}, {options.method} / {options.than}",
        options.unit,
        records,
        evidence.printed,
        options.every,
    )


def _unit(pairs: pd.DataFrame, unit: str) -> pd.Series:
    if unit == "case":
        return pairs["encoder"] + ", " + pairs["scale"] + ", " + pairs["recipe"]
    return pairs[unit]
