"""The audit: every claim of the paper, the evidence for it from each source, and a verdict by a rule fixed in advance.

Within a source, Holm's correction runs over all claims that were put to a test there, so that asking many questions
does not by itself give answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from irepa.audit import words
from irepa.audit.changes import to_percent
from irepa.audit.claims import ANY, Claim, options_of, rule_of
from irepa.audit.evidence import Evidence, NotTestable
from irepa.audit.rules import Finding, Rule
from irepa.audit.statistics import Estimate, holm
from irepa.config import plugins

Verdict = Literal["supported", "contradicted", "inconclusive", "not testable"]
VERDICTS: tuple[str, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Judged:
    """A claim's verdict from one source, and what it rests on.

    Attributes:
        claim, source: their names.
        reason: why this verdict, in a clause.
        finding: None where the source is silent.
        adjusted: Holm-adjusted p; None where no test was made.
    """

    claim: str
    source: str
    verdict: Verdict
    reason: str
    finding: Finding | None = None
    adjusted: float | None = None


def judge(claims: dict[str, Claim], evidence: Evidence) -> list[Judged]:
    """The verdict on each claim, by name, from one source."""
    findings: dict[str, Finding | str] = {}
    for name, claim in claims.items():
        module = plugins.load("audit.rules", claim.decision.name, name)
        try:
            findings[name] = module.decide(evidence, claim.experiment, options_of(claim, name))
        except NotTestable as silent:
            findings[name] = str(silent)
    tested = {
        name: finding.p
        for name, finding in findings.items()
        if isinstance(finding, Finding) and finding.sufficient and finding.p is not None
    }
    adjusted = holm(tested)
    return [
        Judged(name, evidence.name, "not testable", finding)
        if isinstance(finding, str)
        else _verdict(name, claims[name], evidence, finding, adjusted.get(name))
        for name, finding in findings.items()
    ]


def _verdict(name: str, claim: Claim, evidence: Evidence, finding: Finding, adjusted: float | None) -> Judged:
    options = options_of(claim, name)
    may_decide = claim.decided_at == ANY or evidence.printed or evidence.name in claim.decided_at
    if not finding.sufficient:
        verdict, reason = "inconclusive", finding.lacking
    elif not may_decide:
        verdict, reason = "inconclusive", f"the tier {evidence.name} is too small to decide it"
    elif finding.decided is not None:
        verdict, reason = ("supported" if finding.decided else "contradicted"), "decided by the rule, without a test"
    else:
        assert adjusted is not None
        verdict, reason = _by_test(finding, options, adjusted)
    return Judged(name, evidence.name, verdict, reason, finding, adjusted)  # type: ignore[arg-type]


def _by_test(finding: Finding, options: Rule, adjusted: float) -> tuple[str, str]:
    estimate = finding.estimate
    significance = f"Holm-adjusted p = {adjusted:.2g}"
    against = options.threshold if finding.tested_against is None else finding.tested_against
    beyond = min(estimate.low, estimate.high) > against or max(estimate.low, estimate.high) < against
    if adjusted >= options.alpha or not beyond or math.isnan(estimate.low):
        return "inconclusive", f"{significance}; the interval is {estimate.low:.3g} to {estimate.high:.3g}"
    return ("supported" if options.holds(estimate.value) else "contradicted"), significance


def as_json(claims: dict[str, Claim], judged: Iterable[Judged]) -> list[dict[str, Any]]:
    """Claims with their verdicts by source, as plain data; NaN as null."""
    by_claim: dict[str, dict[str, Any]] = {
        name: {
            "id": name,
            "statement": claim.statement,
            "where": claim.where,
            "reported": claim.reported,
            "experiment": claim.experiment,
            "asked": claim.asked,
            "rule": rule_of(claim),
            "sources": {},
        }
        for name, claim in claims.items()
    }
    for item in judged:
        finding = item.finding
        said: dict[str, Any] = {"verdict": item.verdict, "reason": item.reason}
        if finding is not None:
            said |= {
                "parameter": finding.parameter,
                "estimate": _number(finding.estimate.value),
                "low": _number(finding.estimate.low),
                "high": _number(finding.estimate.high),
                "n": finding.estimate.n,
                "log_ratio": finding.log_ratio,
                "p": finding.p,
                "p_adjusted": item.adjusted,
                "power": finding.power,
                "notes": finding.notes,
                "checks": [{"what": what, "value": value, "n": n} for what, value, n in finding.checks],
                "records": finding.records,
            }
        by_claim[item.claim]["sources"][item.source] = said
    return list(by_claim.values())


def shown(said: dict[str, Any], digits: int = 3) -> str:
    """The estimate of one source in words; a log ratio as a change in percent. Empty where there is none.

    said: an entry of ``sources`` in :func:`as_json`. digits: significant digits of anything but a percentage.
    """
    if said.get("estimate") is None:
        return ""
    low, high = (math.nan if said[end] is None else said[end] for end in ("low", "high"))
    estimate = Estimate(said["estimate"], low, high, said["n"])
    return words.percentages(estimate.map(to_percent)) if said["log_ratio"] else words.estimate(estimate, f".{digits}g")


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
