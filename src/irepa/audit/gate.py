"""Can a source tell anything about encoders as targets? The premise, and how reliable its distances are.

Claims about encoders as targets presuppose that aligning to an encoder helps at all. So nothing about them is decided
by a source where REPA does not beat no alignment over the encoders of the experiment, nor a correlation where the
distances hardly repeat from seed to seed: there every correlation is weak, whatever is true.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from irepa.audit import words
from irepa.audit.evidence import Evidence, NotTestable
from irepa.audit.noise import Amount, effects_of
from irepa.audit.pairs import ALONE, REPA, SMALL, pair_methods, to_percent
from irepa.audit.statistics import Estimate

if TYPE_CHECKING:
    import pandas as pd

RELIABLE = 0.5  # what the lower end of the reliability's interval must exceed


def premise(evidence: Evidence, experiment: str) -> Estimate | None:
    """REPA's own effect on the distance (:func:`repas_own`) with its interval; None without such runs."""
    effect = repas_own(evidence, experiment)
    return None if effect is None else effect.test()[0]


def repas_own(evidence: Evidence, experiment: str) -> Amount | None:
    """Mean log ratio of the distance, REPA over no alignment, over the networks of an experiment; None without such runs.

    Encoders whose tokens are changed do not count where the experiment has others: whether they help is the question.
    """
    try:
        runs = evidence.of(experiment)
    except NotTestable:
        return None
    aligned = runs[runs["method"] == REPA]
    unchanged = aligned[[not evidence.base_of(name) for name in aligned["encoder"]]]
    return _mean(evidence, unchanged if len(unchanged) else aligned)


def premise_of_recipe(evidence: Evidence, recipe: str) -> Estimate | None:
    """The same over every network that the source aligned to under one recipe."""
    runs = evidence.final[evidence.final["recipe"] == recipe]
    aligned = runs[runs["method"] == REPA]
    effect = _mean(evidence, aligned[[not evidence.base_of(name) for name in aligned["encoder"]]])
    return None if effect is None else effect.test()[0]


def _mean(evidence: Evidence, aligned: pd.DataFrame) -> Amount | None:
    import pandas as pd

    alone = evidence.final[evidence.final["method"] == ALONE]
    pairs = pair_methods(pd.concat([aligned, alone]), REPA, ALONE)
    if pairs.empty:
        return None
    pairs = pairs.assign(unit=[evidence.network_of(name) for name in pairs["encoder"]])
    return effects_of(pairs, evidence.noise).kind()


def holds(effect: Estimate | None) -> bool:
    """Whether REPA beats no alignment: the whole interval of the log ratio is below 0."""
    return effect is not None and math.isfinite(effect.high) and effect.high < 0


def half_of_repa(effect: Estimate | None) -> float:
    """The margin inside which a log ratio is small, half of REPA's own effect; NaN where REPA does not help."""
    return -SMALL * effect.value if effect is not None and holds(effect) else math.nan


def closed(evidence: Evidence, experiment: str, reliability: Estimate | None) -> str:
    """Why a source cannot tell, with both numbers; empty where it can.

    reliability: of the distances that a correlation rests on, NaN if unknown; None for a claim that names its encoders, whose
    own interval says how noisy they are. Printed numbers have no seeds, so that only their premise counts, where they
    have runs without alignment.
    """
    effect = premise(evidence, experiment)
    if evidence.printed:
        reliability = None
        if effect is None or not math.isfinite(effect.high):
            return ""
    unreliable = reliability is not None and not reliability.low > RELIABLE
    if holds(effect) and not unreliable:
        return ""
    said = "not measured" if effect is None else words.percentages(effect.map(to_percent))
    told = [f"REPA against no alignment: {said}"]
    if reliability is not None:
        known = math.isfinite(reliability.low)
        value = words.estimate(reliability, ".2f") if known else "unknown, for want of seeds"
        told.append(f"reliability of the distances: {value}, of which the lower end must exceed {RELIABLE:g}")
    return "; ".join(told)
