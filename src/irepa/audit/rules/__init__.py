'''Decision rules: one module per kind of test that a claim can be put to.

A claim of ``workflow/claims.yaml`` names a rule and gives it its numbers, before any evidence is looked at. Every rule
tests one number, its parameter, against a threshold: the claim says on which side of the threshold the parameter lies.
A rule is a file in this folder, found by its name (``my-rule`` is ``my_rule.py``), with three things in it:

- ``Options``, a subclass of :class:`Rule`: the numbers that a claim fixes.
- ``rule(options)``: the rule in one or two sentences, as the report prints it.
- ``decide(evidence, experiment, options)``: a :class:`Finding` from one source of evidence
  (:class:`irepa.audit.evidence.Evidence`) about one of the paper's experiments (``E1`` to ``E7``). It raises
  :class:`irepa.audit.evidence.NotTestable`, saying what is missing, where the source has nothing to say.

The verdict itself, behind the gate and with Holm's correction, is made of the findings in
:mod:`irepa.audit.verdicts`. The side of the threshold on which the estimate lies says which verdict a small p gives, so
that p and the interval must come from one model. The check of a configuration reads the options of every rule. So
pandas and whatever else is slow to import is imported inside ``decide``; the modules of :mod:`irepa.audit` that rules
use may stand at the top.

A complete rule, "the best encoder comes closer than a given distance"::

    """How low does the best encoder get? The smallest distance over encoders, at the largest scale that was run."""

    from __future__ import annotations

    from irepa.audit.evidence import Evidence, records_of
    from irepa.audit.rules import Finding, Rule, shortage, side
    from irepa.audit.statistics import Estimate


    class Options(Rule):
        """The threshold is a distance."""


    def rule(options: Options) -> str:
        return f"The smallest distance over encoders is {side(options)}, over at least {options.minimum} encoders."


    def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
        points = evidence.points(experiment, evidence.scales_of(experiment)[-1])
        best = float(points["fd"].min())
        lacking = shortage(len(points), "encoder", options)
        return Finding(
            parameter=f"smallest {evidence.distance}",
            estimate=Estimate(best, best, best, len(points)),
            p=None,
            lacking=lacking,
            decided=options.holds(best),
            records=records_of(points),
        )
'''

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from irepa.audit import words
from irepa.audit.statistics import Estimate
from irepa.config.options import Positive, Strict

Relation = Literal["above", "below"]
Alpha = Annotated[float, Field(gt=0, lt=1)]


class Rule(Strict):
    """What every rule fixes."""

    relation: Relation = Field(description="The side of the threshold on which the claim says the parameter lies.")
    threshold: float = Field(0.0, description="What the parameter is compared with, in the parameter's own unit.")
    alpha: Alpha = Field(
        0.05, description="Level of the test, after Holm's correction over what the source can decide."
    )
    minimum: Positive = Field(4, description="Fewest units (encoders, pairs, points) that a verdict may rest on.")
    seeds: Positive = Field(3, description="Fewest seeds that a verdict may rest on where there are fewer units.")

    def holds(self, value: float) -> bool:
        """Whether a parameter of this value is on the side that the claim says."""
        return value > self.threshold if self.relation == "above" else value < self.threshold


@dataclass(frozen=True)
class Finding:
    """What a source says about a claim.

    Attributes:
        parameter: what was estimated, in words with its unit.
        estimate: its value and interval.
        p: two-sided p of the parameter being what it was tested against; None where no test was made.
        lacking: what is missing where there is less evidence than the rule asks for; empty: it is sufficient.
        decided: the verdict of a rule without a test, else None.
        premised: whether the claim is about encoders as targets, so that it presupposes that REPA helps at all
            (:mod:`irepa.audit.gate`).
        reliability: of the distances behind a correlation, NaN where it is not known; None for any other claim.
        predictor: the property of encoders that the claim is about; claims about one predictor are one test.
        power: what the test could have seen, in a sentence.
        notes: what a reader must know, in sentences.
        checks: further statistics, rows of (what, value, n); n is None where there is no count.
        records: result files that it rests on, relative to the results of the tier.
        log_ratio: whether the estimate is the logarithm of a ratio, which is shown as a change in percent.
    """

    parameter: str
    estimate: Estimate
    p: float | None
    lacking: str = ""
    decided: bool | None = None
    premised: bool = False
    reliability: Estimate | None = None
    predictor: str = ""
    power: str = ""
    notes: list[str] = field(default_factory=list)
    checks: list[tuple[str, str, int | None]] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    log_ratio: bool = False

    @property
    def sufficient(self) -> bool:
        """Whether there is as much evidence as the rule asks for."""
        return not self.lacking


def side(options: Rule) -> str:
    """The claimed side in words: ``below 0.05``."""
    return f"{options.relation} {options.threshold:g}"


def needed(options: Rule, unit: str) -> str:
    """The sentence that ends most rules: what a verdict takes."""
    return (
        f"The 95% interval must lie on that side, with Holm-adjusted p < {options.alpha:g}, over at least "
        f"{options.minimum} {unit}."
    )


def shortage(n: int, unit: str, options: Rule, of: str = "") -> str:
    """What is missing where ``n`` of a unit (one of them is called so) are fewer than the rule asks for; empty where enough."""
    return "" if n >= options.minimum else f"{n} {words.plural(unit, n)}{of}, the rule asks for {options.minimum}"
