"""What one change does to the distance: every pair of runs that differ in nothing else, with its interval over seeds.

A change is a method against the one that it adds to, or an encoder's tokens changed against the same tokens as they are.
Few seeds say little of their own spread, and it is much the same for all changes: it is pooled over all that a source measured.
Nothing is corrected for the number of changes; each is read by its interval. The claims have their own tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from irepa.audit.evidence import Evidence
from irepa.audit.statistics import Estimate, mean_by_pooled, pooled_spread

CASE = ["recipe", "scale", "encoder", "setting", "seed"]  # runs that differ in nothing but what is compared
ENOUGH = 3  # seeds for an interval to be read
SMALL = 0.05  # an interval inside this share, either way, is a change that hardly matters
READINGS = ("lower", "higher", "small")  # or inconclusive
ALONE = "none"  # the method, and the encoder, of a run without alignment
REPA = "repa"
COLUMNS = ["source", "kind", "first", "second", *CASE[:-1], "change", "low", "high", "n", "verdict"]


def paired(runs: pd.DataFrame, method: str, than: str) -> pd.DataFrame:
    """Runs of one method, each beside the run of another with the same encoder, scale, recipe and seed.

    Adds ``fd_than``, ``record_than`` and ``ratio``: log(FD of method / FD of than). Empty where there is no pair.
    """
    first, second = (runs[runs["method"] == name] for name in (method, than))
    # A method without alignment has one run per scale, whatever the encoder.
    on = [name for name in CASE if name != "encoder"] if ALONE in set(second["encoder"]) else CASE
    return _with_ratio(first.merge(second[[*on, "fd", "record"]], on=on, suffixes=("", "_than")))


def paired_encoders(runs: pd.DataFrame, encoder: str, than: str) -> pd.DataFrame:
    """The same for two encoders under the same method."""
    on = ["method", *(name for name in CASE if name != "encoder")]
    first, second = (runs[runs["encoder"] == name] for name in (encoder, than))
    return _with_ratio(first.merge(second[[*on, "fd", "record"]], on=on, suffixes=("", "_than")))


def _with_ratio(pairs: pd.DataFrame) -> pd.DataFrame:
    return pairs.assign(ratio=np.log((pairs["fd"] / pairs["fd_than"]).to_numpy(float)))


def percent(log_ratio: float) -> float:
    """-0.105 -> -10.0; NaN stays."""
    return 100 * math.expm1(log_ratio)


def reading(change: Estimate) -> str:
    """What an interval of a log ratio says: ``lower``, ``higher``, ``small`` (inside 5% either way) or ``inconclusive``.

    Fewer than three seeds say nothing.
    """
    if change.n < ENOUGH or not math.isfinite(change.low):
        return "inconclusive"
    if change.low > 0 or change.high < 0:
        return "lower" if change.value < 0 else "higher"
    limit = math.log1p(SMALL)
    return "small" if -limit < change.low and change.high < limit else "inconclusive"


def changes(evidence: Evidence, variants: Iterable[tuple[str, str]] = ()) -> pd.DataFrame:
    """A row per change and case: ``change``, ``low`` and ``high`` in percent of the distance, ``n`` seeds, ``verdict``.

    Methods are compared with REPA, REPA with no alignment; ``variants`` are further pairs of methods.
    """
    runs = evidence.runs[evidence.runs["final"].astype(bool)]
    # One configuration may be printed in several places, with several numbers (D10): compare what stands together.
    together = [part for _, part in runs.groupby("experiments", sort=False)] if evidence.printed else [runs]
    variants = list(variants)
    found = [
        ({"source": evidence.name, "kind": kind, "first": first, "second": second, **dict(zip(CASE, case, strict=False))},
         seeds["ratio"].to_numpy(float))
        for part in together
        for kind, first, second, pairs in _pairs(evidence, part, variants)
        for case, seeds in pairs.groupby(CASE[:-1], sort=False, dropna=False)
    ]  # fmt: skip
    spread, freedom = pooled_spread([ratios for _, ratios in found])
    rows = []
    for what, ratios in found:
        mean = mean_by_pooled(ratios, spread, freedom)
        ends = {"change": percent(mean.value), "low": percent(mean.low), "high": percent(mean.high)}
        rows.append(what | ends | {"n": mean.n, "verdict": reading(mean)})
    return pd.DataFrame(rows, columns=COLUMNS)


def _pairs(
    evidence: Evidence, runs: pd.DataFrame, variants: Iterable[tuple[str, str]]
) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    methods = list(dict.fromkeys(runs["method"]))
    against = [(method, ALONE if method == REPA else REPA) for method in methods if method != ALONE]
    for method, than in dict.fromkeys([*against, *variants]):
        yield "method", method, than, paired(runs, method, than)
    for encoder in dict.fromkeys(runs["encoder"]):
        base = evidence.base_of(encoder)
        if base:
            yield "tokens", encoder, base, paired_encoders(runs, encoder, base)


def read_changes(path: Path) -> pd.DataFrame:
    """What :func:`changes` found, from its CSV."""
    return pd.read_csv(path, keep_default_na=False, na_values={"low": [""], "high": [""]})


def as_percent(found: Estimate) -> str:
    """A log ratio and its interval: ``-10.0% [-12.1%, -8.0%]``."""
    return told(percent(found.value), percent(found.low), percent(found.high))


def told(change: float, low: float, high: float) -> str:
    """Percentages in words; NaN ends are left out."""
    return f"{change:+.1f}%" if math.isnan(low) else f"{change:+.1f}% [{low:+.1f}%, {high:+.1f}%]"
