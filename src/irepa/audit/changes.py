"""What one change does to the distance: every pair of runs that differ in nothing else, with its interval over seeds.

A change is a method against the one that it adds to, an encoder whose tokens were changed against the same encoder
unchanged, or an encoder fed in one way against the same fed in another. A few seeds say little about their own spread,
and the spread is much the same for all changes: so it is pooled over all changes that a source measured. There is no
correction for the number of changes, because each is read by its own interval; the claims have tests of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from irepa.audit.evidence import Evidence
from irepa.audit.statistics import Estimate, mean_by_pooled, pooled_spread

if TYPE_CHECKING:
    import pandas as pd

CASE = ["recipe", "scale", "encoder", "setting", "seed"]  # runs that differ in nothing but what is compared
ENOUGH = 3  # seeds for an interval to be read
SMALL = 0.05  # an interval inside this share, either way, is a change that hardly matters
READINGS = ("lower", "higher", "small")  # or inconclusive
ALONE = "none"  # the method, and the encoder, of a run without alignment
REPA = "repa"
COLUMNS = ["source", "kind", "first", "second", *CASE[:-1], "change", "low", "high", "n", "verdict"]


def pair_methods(runs: pd.DataFrame, method: str, than: str) -> pd.DataFrame:
    """Runs of one method, each beside the run of another with the same encoder, scale, recipe and seed.

    Adds ``fd_than``, ``record_than`` and ``ratio``: log(FD of method / FD of than). Empty where there is no pair.
    """
    first, second = (runs[runs["method"] == name] for name in (method, than))
    # A method without alignment has one run per scale, whatever the encoder.
    on = [name for name in CASE if name != "encoder"] if ALONE in set(second["encoder"]) else CASE
    return _beside(first, second, on)


def pair_encoders(runs: pd.DataFrame, encoder: str, than: str) -> pd.DataFrame:
    """The same for two encoders under the same method."""
    first, second = (runs[runs["encoder"] == name] for name in (encoder, than))
    return _beside(first, second, ["method", *(name for name in CASE if name != "encoder")])


def _beside(first: pd.DataFrame, second: pd.DataFrame, on: list[str]) -> pd.DataFrame:
    pairs = first.merge(second[[*on, "fd", "record"]], on=on, suffixes=("", "_than"))
    return pairs.assign(ratio=np.log((pairs["fd"] / pairs["fd_than"]).to_numpy(float)))


def to_percent(log_ratio: float) -> float:
    """A log ratio as a change in percent: -0.105 -> -10.0; NaN stays."""
    return 100 * math.expm1(log_ratio)


def reading(change: Estimate) -> str:
    """What the interval of a log ratio says: ``lower``, ``higher``, ``small`` or ``inconclusive``.

    Small is inside 5% either way. Fewer than three seeds say nothing.
    """
    if change.n < ENOUGH or not math.isfinite(change.low):
        return "inconclusive"
    if change.low > 0 or change.high < 0:
        return "lower" if change.value < 0 else "higher"
    limit = math.log1p(SMALL)
    return "small" if -limit < change.low and change.high < limit else "inconclusive"


def measure_changes(
    evidence: Evidence, variants: Iterable[tuple[str, str]] = (), encoders: Iterable[tuple[str, str]] = ()
) -> pd.DataFrame:
    """A row per change and case: ``change``, ``low`` and ``high`` in percent of the distance, ``n`` seeds, ``verdict``.

    Methods are compared with REPA, REPA with no alignment; ``variants`` and ``encoders`` are further pairs of methods and of
    encoders.
    """
    import pandas as pd

    runs = evidence.runs[evidence.runs["final"].astype(bool)]
    # One configuration may be printed in several places, with several numbers (D10): compare what stands together.
    together = [part for _, part in runs.groupby("experiments", sort=False)] if evidence.printed else [runs]
    variants, encoders = list(variants), list(encoders)
    measured = [
        ({"source": evidence.name, "kind": kind, "first": first, "second": second, **dict(zip(CASE, case, strict=False))},
         seeds["ratio"].to_numpy(float))
        for part in together
        for kind, first, second, pairs in _pairs(evidence, part, variants, encoders)
        for case, seeds in pairs.groupby(CASE[:-1], sort=False, dropna=False)
    ]  # fmt: skip
    spread, freedom = pooled_spread([ratios for _, ratios in measured])
    rows = []
    for what, ratios in measured:
        mean = mean_by_pooled(ratios, spread, freedom)
        change = mean.map(to_percent)
        ends = {"change": change.value, "low": change.low, "high": change.high}
        rows.append(what | ends | {"n": mean.n, "verdict": reading(mean)})
    return pd.DataFrame(rows, columns=COLUMNS)


def _pairs(
    evidence: Evidence, runs: pd.DataFrame, variants: Iterable[tuple[str, str]], encoders: Iterable[tuple[str, str]]
) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    methods = list(dict.fromkeys(runs["method"]))
    against = [(method, ALONE if method == REPA else REPA) for method in methods if method != ALONE]
    for method, than in dict.fromkeys([*against, *variants]):
        yield "method", method, than, pair_methods(runs, method, than)
    for encoder in dict.fromkeys(runs["encoder"]):
        base = evidence.base_of(encoder)
        if base:
            yield "tokens", encoder, base, pair_encoders(runs, encoder, base)
    for encoder, than in dict.fromkeys(encoders):
        yield "encoder", encoder, than, pair_encoders(runs, encoder, than)


def read_changes(path: Path) -> pd.DataFrame:
    """What :func:`measure_changes` gave, from its CSV."""
    import pandas as pd

    return pd.read_csv(path, keep_default_na=False, na_values={"low": [""], "high": [""]})


def estimate_of(row: Mapping[Any, Any]) -> Estimate:
    """One row of :func:`measure_changes` as an estimate, in percent."""
    return Estimate(row["change"], row["low"], row["high"], row["n"])
