"""What one change does to the distance: every pair of runs that differ in nothing else, with its interval over seeds.

A change is a method against the one that it adds to, an encoder whose tokens were changed against the same encoder
unchanged, or an encoder fed in one way against the same fed in another. A few seeds say little about their own spread:
it is that of their recipe (:mod:`irepa.audit.noise`). There is no correction for the number of changes, because each is
read by its own interval; the claims have tests of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irepa.audit import gate
from irepa.audit.evidence import Evidence
from irepa.audit.noise import effects_of
from irepa.audit.pairs import ALONE, CASE, REPA, pair_encoders, pair_methods, to_percent
from irepa.audit.statistics import Estimate

if TYPE_CHECKING:
    import pandas as pd

ENOUGH = 3  # seeds for an interval to be read
READINGS = ("lower", "higher", "small")  # or inconclusive
COLUMNS = ["source", "kind", "first", "second", *CASE[:-1], "change", "low", "high", "n", "verdict"]


def reading(change: Estimate, margin: float = math.nan) -> str:
    """What the interval of a log ratio says: ``lower``, ``higher``, ``small`` or ``inconclusive``.

    Small is inside the margin either way, a log ratio; NaN: there is none. Fewer than three seeds say nothing.
    """
    if change.n < ENOUGH or not math.isfinite(change.low):
        return "inconclusive"
    if change.low > 0 or change.high < 0:
        return "lower" if change.value < 0 else "higher"
    return "small" if -margin < change.low and change.high < margin else "inconclusive"


def measure_changes(
    evidence: Evidence, variants: Iterable[tuple[str, str]] = (), encoders: Iterable[tuple[str, str]] = ()
) -> pd.DataFrame:
    """A row per change and case: ``change``, ``low`` and ``high`` in percent of the distance, ``n`` seeds, ``verdict``.

    Methods are compared with REPA, REPA with no alignment; ``variants`` and ``encoders`` are further pairs of methods and of
    encoders.
    """
    import pandas as pd

    runs = evidence.final
    # One configuration may be printed in several places, with several numbers (D10): compare what stands together.
    together = [part for _, part in runs.groupby("experiments", sort=False)] if evidence.printed else [runs]
    variants, encoders = list(variants), list(encoders)
    margins = {recipe: gate.half_of_repa(gate.premise_of_recipe(evidence, recipe)) for recipe in set(runs["recipe"])}
    rows = []
    seen: set[frozenset[tuple[float, ...]]] = set()
    for part in together:
        for kind, first, second, pairs in _pairs(evidence, part, variants, encoders):
            for case, seeds in pairs.groupby(CASE[:-1], sort=False, dropna=False):
                # Tokens normalised by a transform, or by the method, are one run under two names.
                same = frozenset(zip(seeds["seed"], seeds["fd"], seeds["fd_than"], strict=True))
                if kind == "tokens" and any(same <= other for other in seen):
                    continue
                seen.add(same)
                what = {"source": evidence.name, "kind": kind, "first": first, "second": second}
                ((mean, _),) = effects_of(seeds.assign(unit=""), evidence.noise).each()
                change = mean.map(to_percent)
                ends = {"change": change.value, "low": change.low, "high": change.high, "n": mean.n}
                where = dict(zip(CASE, case, strict=False))
                rows.append(what | where | ends | {"verdict": reading(mean, margins[where["recipe"]])})
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
