"""Runs that differ in one thing, side by side, and how a ratio of their distances is told."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

CASE = ["recipe", "scale", "encoder", "setting", "seed"]  # runs that differ in nothing but what is compared
SMALL = 0.5  # of REPA's own effect: a change whose interval lies inside it, either way, hardly matters
ALONE = "none"  # the method, and the encoder, of a run without alignment
REPA = "repa"


def pair_methods(runs: pd.DataFrame, method: str, than: str) -> pd.DataFrame:
    """Runs of one method, each beside the run of another with the same encoder, scale, recipe and seed.

    Adds ``fd_than``, ``record_than``, ``run_than`` and ``ratio``: log(FD of method / FD of than). Empty where there is no
    pair. runs: as :attr:`irepa.audit.evidence.Evidence.final` or a part of it.
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
    pairs = first.merge(second[[*on, "fd", "record", "run"]], on=on, suffixes=("", "_than"))
    return pairs.assign(ratio=np.log((pairs["fd"] / pairs["fd_than"]).to_numpy(float)))


def to_percent(log_ratio: float) -> float:
    """A log ratio as a change in percent: -0.105 -> -10.0; NaN stays."""
    return 100 * math.expm1(log_ratio)
