"""Is one number from inside a network higher than another? Differences at the same seed, of one run or of two methods.

The numbers are those of stage ``inspect`` (:data:`irepa.audit.evidence.INSIDE`). Two methods are compared where hidden
tokens are compared with the same encoder, so that runs without alignment have their place. The variance of a difference
between seeds is pooled over the units of one contrast and recipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from irepa.audit import words
from irepa.audit.evidence import INSIDE, Evidence, Inside, NotTestable, records_of
from irepa.audit.noise import Amount, pooled
from irepa.audit.rules import Finding, Rule, side
from irepa.audit.statistics import Estimate, weakest
from irepa.config.options import Positive, Strict

if TYPE_CHECKING:
    import pandas as pd

PLACE = ["recipe", "scale", "compared", "setting", "seed"]  # what two runs share that are compared


class Reading(Strict):
    """One number of a run."""

    method: str = Field(description="The method of the run.")
    quantity: Inside = Field(description="The number, by its name in the tier's table.")
    less: Inside | None = Field(None, description="Another number of the same run that is taken off; null: none.")

    def __str__(self) -> str:
        return f"{self.quantity}{f' - {self.less}' if self.less else ''} of {self.method}"


class Contrast(Strict):
    """The claim that one reading is higher than another."""

    higher: Reading = Field(description="What is claimed to be the higher one.")
    lower: Reading = Field(description="What is claimed to be the lower one.")

    def __str__(self) -> str:
        return f"{self.higher} minus {self.lower}"


class Options(Rule):
    """The claim is that several differences all lie above the threshold."""

    contrasts: dict[str, Contrast] = Field(
        min_length=1, description="The differences, each of which must hold, by name."
    )
    relation: Literal["above"] = Field(
        "above", description="The side of the threshold: each contrast says itself which number is the higher one."
    )
    minimum: Positive = Field(1, description="Fewest units that a verdict may rest on.")


def rule(options: Options) -> str:
    told = "; ".join(f"{name}, {contrast}" for name, contrast in options.contrasts.items())
    return (
        f"Each of these is {side(options)} at the same seed: {told}. Each is tested for each encoder, scale and recipe "
        f"over at least {options.seeds} seeds, and the claim is as strong as the weakest, with Holm-adjusted p < "
        f"{options.alpha:g}; it is contradicted where one is on the other side, its p times their number."
    )


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    runs = evidence.of(experiment)
    tests: dict[str, tuple[Estimate, float]] = {}
    used, missing = [], []
    for name, contrast in options.contrasts.items():
        pairs = _pairs(runs, contrast)
        if pairs.empty:
            missing.append(f"{name}, {contrast}")
            continue
        used.append(pairs)
        tests |= {f"{name}, {unit}": test for unit, test in _tests(pairs, options.threshold).items()}
    if not tests:
        raise NotTestable(f"no run has {missing[0]}")
    estimate, p = weakest(list(tests.values()), options.holds)
    seeds = min(test.n for test, _ in tests.values())
    lacking = ""
    if missing:
        lacking = f"no run has {'; '.join(missing)}"
    elif len(tests) < options.minimum:
        lacking = f"{len(tests)} units, the rule asks for {options.minimum}"
    elif seeds < options.seeds:
        lacking = f"the fewest seeds of one unit are {seeds}, the rule asks for {options.seeds}"
    return Finding(
        parameter=f"weakest of {len(tests)} differences",
        estimate=estimate,
        p=p,
        lacking=lacking,
        notes=[
            f"{sum(options.holds(test.value) for test, _ in tests.values())} of {len(tests)} are on the claimed side."
        ],
        checks=[(unit, words.estimate(test), test.n) for unit, (test, _) in tests.items()],
        records=records_of(*used),
    )


def _pairs(runs: pd.DataFrame, contrast: Contrast) -> pd.DataFrame:
    """Rows of ``PLACE``, ``difference`` and the records behind it."""
    higher, lower = (_values(runs, reading) for reading in (contrast.higher, contrast.lower))
    both = higher.merge(lower, on=PLACE, suffixes=("", "_than"))
    records = both["record_inside"].astype(str) + " " + both["record_inside_than"].astype(str)
    return both.assign(difference=both["value"] - both["value_than"], record_inside=records)


def _values(runs: pd.DataFrame, reading: Reading) -> pd.DataFrame:
    """Rows of ``PLACE``, ``value`` and ``record_inside``, of the runs that have the number."""
    some = runs[runs["method"] == reading.method]
    some = some.reindex(columns=list(dict.fromkeys([*some, *INSIDE, "compared", "record_inside"])))
    value = some[reading.quantity] - (some[reading.less] if reading.less else 0.0)
    return some.assign(value=value).dropna(subset=["value", "compared"])[[*PLACE, "value", "record_inside"]]


def _tests(pairs: pd.DataFrame, threshold: float) -> dict[str, tuple[Estimate, float]]:
    """Every unit's difference with its t interval, and the two-sided p of its being the threshold; n: seeds."""
    found = {}
    for recipe, part in pairs.groupby("recipe"):
        units = part.groupby(["compared", "scale", "setting"])["difference"]
        spread = pooled(part["difference"].to_numpy(float), units.ngroup().to_numpy())
        for (encoder, scale, setting), values in units:
            name = ", ".join(filter(None, (str(encoder), str(scale), str(recipe), str(setting))))
            of = Amount(float(values.mean()), spread.variance / len(values), spread.freedom, len(values))
            found[name] = of.test(threshold)
    return found
