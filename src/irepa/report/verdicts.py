"""Verdicts and readings: what they mean, which colour they have, the tables of them, and the evidence behind each claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal

from irepa.audit.changes import ENOUGH
from irepa.audit.pairs import SMALL
from irepa.audit.verdicts import VERDICTS, Verdict, shown
from irepa.pipeline.files import Json
from irepa.pipeline.graph import Job
from irepa.report.markdown import bullets, folded, grid, paragraphs, titled
from irepa.report.tier import FinishedTier

AUDIT = Job("audit")
NOT_TESTABLE: Verdict = "not testable"
MEANINGS: dict[Verdict, str] = {
    "supported": "the evidence is on the claim's side of the threshold, by the rule that was fixed for it beforehand",
    "contradicted": "it is on the other side, by the same rule",
    "inconclusive": "there is evidence, and it does not decide",
    "cannot tell": "REPA does not beat no alignment here, or the distances hardly repeat, so that nothing about encoders as "
    "targets can be decided",
    "not testable": "the source has nothing to say",
}
READINGS: dict[str, str] = {
    "lower": "the whole interval is below zero",
    "higher": "the whole interval is above zero",
    "small": f"neither, and the whole interval is inside {SMALL:.0%} of REPA's own effect under that recipe either way, where "
    "REPA helps at all",
    "inconclusive": f"anything else, and whatever rests on fewer than {ENOUGH} seeds",
}
# Classes of reports/style.css.
COLOURS = {
    "supported": "green",
    "lower": "green",
    "contradicted": "red",
    "higher": "red",
    "inconclusive": "amber",
    "small": "grey",
    "cannot tell": "grey",
    "not testable": "grey",
}


def tally(finished: FinishedTier) -> str:
    """How many of the paper's claims have which verdict by this tier's results."""
    verdicts = Counter(claim["sources"][finished.name]["verdict"] for claim in claims_of(finished, "paper"))
    counted = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in VERDICTS)
    return f"Of the paper's {verdicts.total()} claims, this tier's results leave {counted}."


def claims_of(finished: FinishedTier, asked: Literal["paper", "here"]) -> list[Json]:
    """The paper's claims, or those that this project asks besides."""
    return [claim for claim in finished.claims if claim["asked"] == asked]


def verdict_table(finished: FinishedTier, asked: Literal["paper", "here"]) -> str:
    """A row per claim, which leads to its evidence, with the verdict by each source."""
    return grid(
        [
            {"claim": f"[{claim['statement']}](#{claim['id']})"}
            | {source: claim["sources"][source]["verdict"] for source in finished.sources}
            | {"reported": claim["reported"]}
            for claim in claims_of(finished, asked)
        ]
    )


def sources(finished: FinishedTier) -> str:
    return bullets(
        f"*{row['name']}*: {row['title']}; its distance is {row['distance']}." for row in finished.audit["sources"]
    )


def meanings(words: dict[str, str] | dict[Verdict, str]) -> str:
    """What verdicts, or readings, mean."""
    return bullets(f"*{word}*: {meaning}." for word, meaning in words.items())


def machine_readable(finished: FinishedTier) -> str:
    """Links to the verdicts as data."""
    return ", ".join(finished.link_to(AUDIT, f"verdicts.{kind}") for kind in ("json", "csv"))


def all_changes(finished: FinishedTier) -> str:
    """A link to the changes as data."""
    return finished.link_to(AUDIT, "changes.csv")


def evidence(finished: FinishedTier, claim: Json) -> str:
    """A claim, the rule that it is judged by, and what each source says; figures and files behind it."""
    own = claim["sources"][finished.name]
    return paragraphs(
        titled(claim["statement"], claim["id"]),
        f"{claim['where']}. Reported: {claim['reported']}.",
        f"*Rule.* {claim['rule']}",
        _estimates(finished, claim),
        *_notes(finished, claim),
        _checks(finished, claim),
        _figures(finished, claim) if own["verdict"] != NOT_TESTABLE else "",
        _files(finished, own.get("records", [])),
    )


def _estimates(finished: FinishedTier, claim: Json) -> str:
    return grid(
        [
            {
                "source": source,
                "verdict": said["verdict"],
                "parameter": said.get("parameter", ""),
                "estimate, 95% interval": shown(said),
                "n": _count(said.get("n")),
                "why": said["reason"],
            }
            for source, said in _by_source(finished, claim)
        ]
    )


def _notes(finished: FinishedTier, claim: Json) -> list[str]:
    """What a reader of the estimates must know, and how much a test of their size can see; a paragraph per source."""
    texts = {
        source: " ".join(filter(None, [*said.get("notes", []), said.get("power")]))
        for source, said in _by_source(finished, claim)
    }
    return [f"*{source}*: {text}" for source, text in texts.items() if text]


def _checks(finished: FinishedTier, claim: Json) -> str:
    rows = [
        {"source": source, "check": check["what"], "value": check["value"], "n": _count(check["n"])}
        for source, said in _by_source(finished, claim)
        for check in said.get("checks", [])
    ]
    return folded("What else the evidence says", grid(rows)) if rows else ""


def _figures(finished: FinishedTier, claim: Json) -> str:
    """The figures that draw an experiment which the claim is about."""
    tier = finished.tier
    links = [
        f"[{name}](#figure-{name}) ({finished.link_to(Job('figure', name), '.csv', 'CSV')})"
        for name, figure in tier.figures.items()
        if set(claim["experiment"].split()) & set(tier.experiments[figure.experiment].paper)
    ]
    return f"Figures: {', '.join(links)}." if links else ""


def _files(finished: FinishedTier, names: list[str]) -> str:
    """The files that a verdict rests on, folded away: records of this tier with where they come from, or others' files."""
    known = finished.audit["records"]
    rows = [
        {
            "record": finished.link(name),
            "configuration": f"`{known[name]['fingerprint'][:12]}`",
            "git revision": f"`{(known[name]['git_revision'] or 'none')[:12]}`"
            + (" (changed)" if known[name]["git_dirty"] else ""),
            "made": known[name]["started"][:16].replace("T", " "),
        }
        for name in names
        if name in known
    ]
    others = ", ".join(f"`{name}`" for name in names if name not in known)
    text = grid(rows) or f"From {others}."
    return folded(f"{len(names)} file(s) behind it", text) if names else ""


def _by_source(finished: FinishedTier, claim: Json) -> Iterator[tuple[str, Json]]:
    return ((source, claim["sources"][source]) for source in finished.sources)


def _count(number: int | None) -> str:
    return "" if number is None else str(number)
