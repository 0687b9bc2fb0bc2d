"""What the differences between the paper's text and its released code amount to, where a number can say so."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from irepa.audit import words
from irepa.audit.changes import estimate_of
from irepa.audit.evidence import Evidence, NotTestable
from irepa.audit.pairs import CASE
from irepa.audit.statistics import pearson
from irepa.audit.targets import targets
from irepa.table import SPATIAL_NAMES

if TYPE_CHECKING:
    import pandas as pd

    from irepa.audit.claims import Discrepancy

SHARED = 0.02  # FID; points of the plot closer than this cannot be told apart


def effects(discrepancy: Discrepancy, sources: Sequence[Evidence], measured: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of (source, what, value, n) for one discrepancy, and ``verdict`` where distances were compared.

    ``measured``: the changes of all sources (:func:`irepa.audit.changes.measure_changes`).
    """
    rows: list[dict[str, Any]] = []
    for source in sources:
        pairs = [*discrepancy.compare, *discrepancy.encoders]
        effect = [row for variant, base in pairs for row in compared(source, measured, variant, base)]
        effect += [row for variant, base in discrepancy.encoders for row in metrics_of(source, variant, base)]
        if discrepancy.measure is not None:
            effect += MEASURES[discrepancy.measure](source)
        rows += [{"source": source.name, **row} for row in effect]
    return rows


def compared(source: Evidence, measured: pd.DataFrame, variant: str, base: str) -> list[dict[str, Any]]:
    """Change of the distance from a base to a variant, methods or encoders, in each case of the experiment on discrepancies."""
    try:
        cases = source.of("D")[CASE[:-1]].drop_duplicates()
    except NotTestable:
        return []
    named = measured[(measured["first"] == variant) & (measured["second"] == base)]
    rows = named[named["source"] == source.name].merge(cases).to_dict("records")
    return [
        {
            "what": f"{source.distance} of {variant} against {base}, {row['encoder']}, {row['scale']}",
            "value": words.percentages(estimate_of(row)),
            "n": row["n"],
            "verdict": row["verdict"],
        }
        for row in rows
    ]


def metrics_of(source: Evidence, variant: str, base: str) -> list[dict[str, Any]]:
    """The spatial metrics of an encoder and of the one that it is compared with, where the source has both."""
    if not {variant, base} <= set(source.encoders.index):
        return []
    known = [name for name in SPATIAL_NAMES if name in source.encoders]
    first, second = (source.encoders.loc[name, known] for name in (variant, base))
    return [
        {
            "what": f"{SPATIAL_NAMES[name]} of {variant} against {base}",
            "value": f"{first[name]:.3f}, {second[name]:.3f}",
            "n": 1,
        }
        for name in known
        if np.isfinite([first[name], second[name]]).all()
    ]


def lds_variants(source: Evidence) -> list[dict[str, Any]]:
    """r of LDS with the log distance behind the noise, as the claims have it, by the code's definition and by the text's."""
    rows = []
    for name, title in (("lds", "code"), ("lds_text", "text")):
        try:
            of = targets(source, "E1", source.scales_of("E1")[-1], "repa", [name])
            r = of.correlate([name]).estimate([1.0], len(of.units))
        except (NotTestable, IndexError):
            continue
        what = f"r of LDS by the {title}'s neighbourhood, over networks"
        rows.append({"what": what, "value": words.estimate(r, ".2f"), "n": r.n})
    return rows


def shared_fid(source: Evidence) -> list[dict[str, Any]]:
    """Pairs of points with one FID, which may be the FID of one encoder, and r of LDS without each of these points."""
    if source.name != "published":
        return []
    points = source.points("E1", "SiT-XL/2").dropna(subset=["lds"])
    fd = points["fd"]
    pairs = [(a, b) for a, b in itertools.combinations(points.index, 2) if abs(fd[a] - fd[b]) < SHARED]
    candidates = sorted({name for pair in pairs for name in pair})
    r = [float(pearson(*(points.drop(name)[c].to_numpy(float) for c in ("lds", "fd")))) for name in candidates]
    near = ", ".join(f"{fd[a]:.2f}" for a, _ in pairs)
    n = len(points)
    return [
        {"what": f"pairs of points within {SHARED} FID of each other", "value": f"{len(pairs)} (near {near})", "n": n},
        {"what": "r of LDS without one of those points, range", "value": words.span(r, ".3f"), "n": n - 1},
    ]


def repeated_fid(source: Evidence) -> list[dict[str, Any]]:
    """Spread of the published FIDs of one configuration."""
    if source.name != "published":
        return []
    runs = source.runs[(source.runs["encoder"] == "dinov2-b") & (source.runs["method"] == "repa")]
    values = sorted([*runs["fd"], float(source.of("E1")["fd"].min())])
    spread = float(np.std(values, ddof=1))
    fids = ", ".join(f"{value:.2f}" for value in values)
    return [
        {"what": "published FIDs", "value": fids, "n": len(values)},
        {"what": "standard deviation", "value": f"{spread:.2f} ({spread / np.mean(values):.1%})", "n": len(values)},
    ]


MEASURES: dict[str, Callable[[Evidence], list[dict[str, Any]]]] = {
    "lds-variants": lds_variants,
    "shared-fid": shared_fid,
    "repeated-fid": repeated_fid,
}
