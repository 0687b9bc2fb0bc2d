"""Is one method better than another for the same encoder, scale, recipe and seed? The mean log ratio of their distances.

Or of another number of their samples, such as the Inception Score.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from irepa.audit.evidence import QUANTITIES, Evidence, NotTestable, records_of_pairs
from irepa.audit.pairs import pair_methods
from irepa.audit.rules import Finding, side
from irepa.audit.rules._ratios import Ratios, Unit, by_unit, ratio_finding, rule_end, unit_told


class Options(Ratios):
    """The claim is that one method gives a lower distance than another, or a higher or lower value of another quantity."""

    method: str = Field(description="The method that is claimed to be better.")
    than: str | list[str] = Field(
        description="The method that it is compared with; several: each unit is compared with each of them."
    )
    quantity: Literal["fd", "is", "sfid", "precision", "recall"] = Field(
        "fd", description="What is compared: the Frechet distance, or another number of the same samples."
    )
    unit: Unit = Field(
        "case",
        description="What the claim ranges over; pairs are averaged within it. A case is an encoder at one scale under "
        "one recipe.",
    )
    recipes: list[str] | None = Field(None, description="Training recipes that count; null: all.")
    encoders: list[str] | None = Field(None, description="Encoders that count; null: all.")
    every: bool = Field(False, description="Whether the claim is about each unit, and not about their mean.")


def rule(options: Options) -> str:
    name = QUANTITIES.get(options.quantity, "FD")
    return (
        f"The mean of log({name} of {options.method} / {name} of {_or(options)}), paired by {options.unit}, is "
        f"{side(options)}. " + rule_end(options, _word(options), options.every) + unit_told(options.unit)
    )


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    import pandas as pd

    if options.quantity != "fd":
        evidence = evidence.measuring(options.quantity)
    runs = evidence.of(experiment)
    if options.recipes is not None:
        runs = runs[runs["recipe"].isin(options.recipes)]
    others = _others(options)
    found = [pair_methods(runs, options.method, other).assign(than=other) for other in others]
    missing = [other for other, pairs in zip(others, found, strict=True) if pairs.empty]
    if missing:
        raise NotTestable(f"no pair of {options.method} and {' or '.join(missing)} in experiment {experiment}")
    pairs = pd.concat(found, ignore_index=True)
    if options.encoders is not None:
        pairs = pairs[pairs["encoder"].isin(options.encoders)]
    pairs = by_unit(evidence, pairs, options.unit)
    if pairs.empty:
        raise NotTestable(f"no pair of {options.method} and {_or(options)} in experiment {experiment}")
    if len(others) > 1:
        pairs = pairs.assign(unit=pairs["unit"] + " against " + pairs["than"])
    parameter = f"mean log ratio of {evidence.distance}, {options.method} / {_or(options)}"
    finding = ratio_finding(evidence, pairs, options, parameter, _word(options), records_of_pairs(pairs), options.every)
    finding.checks.append(
        ("runs in which it is lower", f"{int((pairs['ratio'] < 0).sum())} of {len(pairs)}", len(pairs))
    )
    return finding


def _others(options: Options) -> list[str]:
    return [options.than] if isinstance(options.than, str) else options.than


def _word(options: Options) -> str:
    """What is counted: units, or comparisons where each unit has several."""
    return options.unit if isinstance(options.than, str) else "comparison"


def _or(options: Options) -> str:
    return " or ".join(_others(options))
