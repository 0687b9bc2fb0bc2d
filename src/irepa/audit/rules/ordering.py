"""Does one encoder give a lower distance than another? Named pairs, the mean log ratio of their distances."""

from __future__ import annotations

import pandas as pd

from irepa.audit.changes import paired_encoders
from irepa.audit.evidence import Evidence, NotTestable, records_of
from irepa.audit.rules import Finding, side
from irepa.audit.rules._ratios import Ratios, finding, rule_end


class Options(Ratios):
    """``pairs``: [first, second]; the ratio is first over second. Pairs that a source lacks are left out."""

    pairs: list[tuple[str, str]]
    method: str = "repa"
    every: bool = True


def rule(options: Options) -> str:
    each = " It must hold for each pair." if options.every else ""
    return (
        f"The mean of log(FD of the first / FD of the second) over the pairs, at the largest scale, is {side(options)}. "
        + rule_end(options, "pairs")
        + each
    )


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    scales = evidence.scales_of(experiment, options.method)
    runs = evidence.of(experiment)
    runs = runs[(runs["method"] == options.method) & (runs["scale"] == scales[-1])] if scales else runs.iloc[:0]
    found: list[pd.DataFrame] = []
    for first, second in options.pairs:
        found.append(paired_encoders(runs, first, second).assign(unit=f"{first} / {second}"))
    pairs = pd.concat(found)
    if pairs.empty:
        raise NotTestable("none of the encoders that the claim names has been run")
    records = records_of(pairs, pairs[["record_than"]].rename(columns={"record_than": "record"}))
    parameter = f"mean log ratio of {evidence.distance}, first / second ({scales[-1]})"
    made = finding(pairs, options, parameter, "pair", records, evidence.printed, options.every)
    missing = len(options.pairs) - pairs["unit"].nunique()
    if missing:
        made.notes.append(f"{missing} of the {len(options.pairs)} pairs that the claim names have not been run.")
    return made
