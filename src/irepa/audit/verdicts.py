"""The audit: every claim of the paper, the evidence for it from each source, and a verdict by a rule fixed in advance.

A source that cannot tell anything about encoders as targets (:mod:`irepa.audit.gate`) decides no claim about them. Among
the others Holm's correction runs over what the source can decide, the paper's claims in one family and the project's own
questions in another, so that asking many questions does not by itself give answers. Claims about properties that are
one predictor there are one test.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from irepa.audit import gate, words
from irepa.audit.claims import ANY, Claim, options_of, rule_of
from irepa.audit.evidence import Evidence, NotTestable
from irepa.audit.pairs import to_percent
from irepa.audit.rules import Finding, Rule
from irepa.audit.statistics import Estimate, holm
from irepa.audit.targets import NAMES, ONE, one_predictor
from irepa.config import plugins

Verdict = Literal["supported", "contradicted", "inconclusive", "cannot tell", "not testable"]
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
    later = evidence.held_out()
    findings: dict[str, Finding] = {}
    judged: dict[str, Judged] = {}
    for name, claim in claims.items():
        found = _find(name, claim, evidence)
        if isinstance(found, str):
            judged[name] = Judged(name, evidence.name, "not testable", found)
            continue
        if not later.runs.empty:
            found = replace(found, checks=[*found.checks, *_beside(_find(name, claim, later))])
        findings[name] = found
        undecided = _undecidable(claim, evidence, found)
        if undecided is not None:
            judged[name] = Judged(name, evidence.name, *undecided, found)
        elif found.p is None:
            verdict: Verdict = "supported" if found.decided else "contradicted"
            judged[name] = Judged(name, evidence.name, verdict, "decided by the rule, without a test", found)
    tested = {name: claim for name, claim in claims.items() if name in findings and name not in judged}
    for name, (adjusted, told) in _corrected(tested, findings, evidence).items():
        options = options_of(tested[name], name)
        found = replace(findings[name], notes=[*findings[name].notes, *told])
        judged[name] = Judged(name, evidence.name, *_by_test(found, options, adjusted), found, adjusted)
    return [judged[name] for name in claims]


def _find(name: str, claim: Claim, evidence: Evidence) -> Finding | str:
    """What a source says of a claim, or why it says nothing."""
    module = plugins.load("audit.rules", claim.decision.name, name)
    try:
        found: Finding = module.decide(evidence, claim.experiment, options_of(claim, name))
    except NotTestable as silent:
        return str(silent)
    return found


def _undecidable(claim: Claim, evidence: Evidence, finding: Finding) -> tuple[Verdict, str] | None:
    """The verdict where the source may not, or cannot, decide the claim; None where it can."""
    if not (claim.decided_at == ANY or evidence.printed or evidence.name in claim.decided_at):
        return "inconclusive", f"the tier {evidence.name} is too small to decide it"
    closed = gate.closed(evidence, claim.experiment, finding.reliability) if finding.premised else ""
    if closed:
        return "cannot tell", closed
    return None if finding.sufficient else ("inconclusive", finding.lacking)


def _beside(found: Finding | str) -> list[tuple[str, str, int | None]]:
    """What seeds say that were added after a look at the others: a check, and no part of the test."""
    if isinstance(found, str):
        return []
    value = found.estimate.map(to_percent) if found.log_ratio else found.estimate
    told = words.percentages(value) if found.log_ratio else words.estimate(value)
    return [("hold-out: the same over the seeds that were added after a look", told, value.n)]


def _corrected(
    tested: dict[str, Claim], findings: dict[str, Finding], evidence: Evidence
) -> dict[str, tuple[float, list[str]]]:
    """Holm-adjusted p of each claim, and what is to be said of its test.

    Claims about properties that are one predictor enter as one test, with the largest p among them.
    """
    corrected = {}
    for asked in ("paper", "here"):
        names = [name for name, claim in tested.items() if claim.asked == asked]
        test = _tests({name: tested[name] for name in names}, findings, evidence)
        p: dict[str, float] = {}
        for name in names:
            p[test[name]] = max(p.get(test[name], 0.0), findings[name].p or 0.0)
        adjusted = holm(p)
        for name in names:
            alike = [NAMES.get(findings[other].predictor, "") for other in names if test[other] == test[name]]
            one = f"{' and '.join(alike)} are one predictor among these encoders, |r| above {ONE:g}: one test for all."
            corrected[name] = adjusted[test[name]], [one] if len(alike) > 1 else []
    return corrected


def _tests(claims: dict[str, Claim], findings: dict[str, Finding], evidence: Evidence) -> dict[str, str]:
    """The test that each claim is: itself, or that of a claim about the same predictor."""
    test = {name: name for name in claims}
    about = {name: findings[name].predictor for name in claims if findings[name].predictor}
    for experiment in {claims[name].experiment for name in about}:
        here = [name for name in about if claims[name].experiment == experiment]
        first = one_predictor(evidence, experiment, [about[name] for name in here])
        owner: dict[str, str] = {}
        for name in here:
            test[name] = owner.setdefault(first[about[name]], name)
    return test


def _by_test(finding: Finding, options: Rule, adjusted: float) -> tuple[Verdict, str]:
    estimate = finding.estimate
    significance = f"Holm-adjusted p = {adjusted:.2g}"
    if not adjusted < options.alpha:
        shown = estimate.map(to_percent) if finding.log_ratio else estimate
        unit = "%" if finding.log_ratio else ""
        return "inconclusive", f"{significance}; the interval is {shown.low:.3g}{unit} to {shown.high:.3g}{unit}"
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
                "reliability": finding.reliability and _number(finding.reliability.value),
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
