"""Encoders as targets as the audit takes them: its units, its correlation and its intervals, in columns of a figure's CSV.

So a figure shows the number on which the verdict rests: networks, whose layers are averaged; the log distance behind the
noise; the seeds that were fixed in advance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from irepa.audit import words
from irepa.audit.changes import ALONE, REPA
from irepa.audit.evidence import Evidence, NotTestable, results
from irepa.audit.statistics import Estimate
from irepa.audit.targets import Targets, Unit, targets
from irepa.figures import cells_of
from irepa.pipeline.runner import Context

if TYPE_CHECKING:
    import pandas as pd

NO_R = Estimate(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Source:
    """Where a figure's units are.

    Attributes:
        evidence: the tier's, with the figure's experiment in it.
        experiment: by what name the evidence has it.
        scale: the largest at which it was run.
        method: REPA, or what else aligns where the experiment has no REPA.
    """

    evidence: Evidence
    experiment: str
    scale: str
    method: str

    @property
    def runs(self) -> pd.DataFrame:
        """The runs that the units rest on; none where all have failed."""
        try:
            runs = self.evidence.of(self.experiment)
        except NotTestable:
            return self.evidence.final.iloc[:0]
        return runs[(runs["scale"] == self.scale) & (runs["method"] == self.method)]

    def units(self, properties: Sequence[str], unit: Unit = "network") -> Targets:
        """The units that have these properties. Raises NotTestable where there is none."""
        return targets(self.evidence, self.experiment, self.scale, self.method, properties, unit)


def source_of(context: Context, experiment: str) -> Source:
    """The units of one of the tier's experiments. Raises CacheError where the table is missing or out of date."""
    aligned = [cell for cell in cells_of(context.settings, experiment) if cell.method != ALONE]
    methods, scales = {cell.method: None for cell in aligned}, {cell.scale for cell in aligned}
    return Source(
        results.read(context, experiment),
        results.serving(context.tier, experiment),
        [scale for scale in context.tier.scales if scale in scales][-1],
        REPA if REPA in methods else next(iter(methods)),
    )


def correlated(of: Targets, name: str) -> dict[str, float]:
    """The correlation of a property with the log distance of the units, and how reliable that is; NaN for too few units."""
    independent = of.effective([name])
    try:
        found = of.correlate([name])
    except NotTestable:
        r = reliability = NO_R
    else:
        r, reliability = found.estimate([1.0], len(of.units)), of.reliability(found)
    ends = {f"r{end}": value for end, value in _ends(r)} | {
        f"reliability{end}": value for end, value in _ends(reliability)
    }
    return {**ends, "units": len(of.units), "independent": independent}


def _ends(of: Estimate) -> list[tuple[str, float]]:
    return [("", of.value), ("_low", of.low), ("_high", of.high)]


def said(row: Any) -> str:
    """A correlation that :func:`correlated` gave, in words: ``r = 0.69 [-0.05, 1.00]``."""
    r = Estimate(row["r"], row["r_low"], row["r_high"], int(row["units"]))
    return words.correlation(r) if math.isfinite(r.value) else f"no r ({int(row['units'])} are too few)"


def reliability(row: Any) -> str:
    """How reliable the distances behind it are, in words."""
    ends = (row["reliability"], row["reliability_low"], row["reliability_high"])
    known = math.isfinite(ends[0])
    return f"reliability {words.estimate(Estimate(*ends, int(row['units'])), '.2f') if known else 'unknown'}"
