"""Checkpoints that the authors have released, as this project samples and measures them: the results of a tier of such.

The numbers are the pipeline's own, as those of any other tier. What others have trained, for how long, and what is missing of it,
every reader of a verdict is told.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from irepa.audit.evidence import Evidence, results
from irepa.pipeline.runner import Context
from irepa.table import FAILED, read_table

STEPS = 100_000  # at which the paper compares runs


def read(context: Context) -> Evidence:
    """Raises CacheError where the tier's table is missing or out of date."""
    evidence, steps = results.read(context), context.tier.training.steps
    notes = [
        f"The checkpoints are the authors' own, after {steps:,} steps; sampled, measured and compared here. The paper compares "
        f"runs at {STEPS:,} steps: a printed distance or difference is of another moment of training.",
        *([] if context.settings.taken is None else context.settings.taken.notes()),
        *_failed(read_table(context)),
    ]
    return replace(evidence, notes=[*evidence.notes, *notes])


def _failed(table: pd.DataFrame) -> list[str]:
    """The checkpoints that could not be used, with the reason."""
    rows = table[(table["stage"] == "train") & (table["metric"] == FAILED)]
    return [f"Left out: {reason}." for reason in rows["failed"]]
