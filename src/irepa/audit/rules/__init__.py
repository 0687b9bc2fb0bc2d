"""Decision rules: one module per kind of test that a claim can be put to.

Each has ``Options``, the rule's numbers, written down with the claim before any evidence is looked at;
``rule(options)``, the rule in a
sentence; and ``decide(evidence, experiment, options)``, a :class:`Finding`. Where a source has nothing to say about the claim,
``decide`` raises :class:`irepa.audit.evidence.NotTestable`.

Every test is of one number, the parameter, against a threshold: the claim says that it lies on one side of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from irepa.audit.statistics import Estimate
from irepa.config.options import Positive, Strict

Relation = Literal["above", "below"]
Alpha = Annotated[float, Field(gt=0, lt=1)]


class Rule(Strict):
    """What every rule fixes.

    Attributes:
        relation, threshold: the claim is that the parameter is above, or below, the threshold.
        alpha: level of the test after Holm's correction over the claims of a source.
        minimum: fewest units (encoders, pairs, points) that a verdict may rest on.
        seeds: fewest seeds that may stand in where there are fewer units.
    """

    relation: Relation
    threshold: float = 0.0
    alpha: Alpha = 0.05
    minimum: Positive = 4
    seeds: Positive = 3

    def holds(self, value: float) -> bool:
        return value > self.threshold if self.relation == "above" else value < self.threshold


@dataclass(frozen=True)
class Finding:
    """What a source says about a claim.

    Attributes:
        parameter: what was estimated, in words with its unit.
        estimate: its value and interval.
        p: two-sided p of the parameter being the threshold; None where no test was made.
        shown_as: where in this evidence a parameter at the threshold would be seen, if noise moves it; None: at the threshold.
        sufficient: whether there is as much evidence as the rule asks for; ``lacking`` says what is missing.
        decided: the verdict of a rule without a test, else None.
        power: what the test could have seen.
        notes: what a reader must know.
        checks: further statistics, rows of (what, value, n).
        records: result files that it rests on, relative to the results of the tier.
        log_ratio: whether the estimate is the logarithm of a ratio, which is told as a change in percent.
    """

    parameter: str
    estimate: Estimate
    p: float | None
    sufficient: bool
    lacking: str = ""
    shown_as: float | None = None
    decided: bool | None = None
    power: str = ""
    notes: list[str] = field(default_factory=list)
    checks: list[tuple[str, str, int | None]] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    log_ratio: bool = False


def side(options: Rule) -> str:
    return f"{options.relation} {options.threshold:g}"


def needed(options: Rule, unit: str) -> str:
    """The common end of a rule's sentence."""
    return (
        f"The 95% interval must lie on that side, with Holm-adjusted p < {options.alpha:g}, over at least "
        f"{options.minimum} {unit}."
    )
