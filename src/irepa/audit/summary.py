"""A finished tier in tables, as Markdown: its claims beside those in print, and every change that it measured.

README and docs show those of the archived CIFAR-10 tier, each table between two comments::

    <!-- irepa summary reports/cifar10 claims -->
    <!-- end -->

``irepa summary reports/cifar10 --write`` fills them in; a test compares.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irepa.audit import words
from irepa.audit.changes import estimate_of, read_changes
from irepa.audit.pairs import ALONE, REPA
from irepa.audit.statistics import Estimate
from irepa.audit.verdicts import VERDICTS, shown
from irepa.errors import ConfigError
from irepa.pipeline.files import read_json, write_text

if TYPE_CHECKING:
    import pandas as pd

# The claims of the short table: each in a few words, and how its number is read.
SHORT = {
    "repa-helps": ("REPA beats no alignment, over encoders", "{}"),
    "accuracy-does-not-predict": ("Linear-probe accuracy does not predict generation", "r = {}"),
    "lds-predicts": ("LDS predicts generation", "r = {}"),
    "cds-predicts": ("CDS predicts generation", "r = {}"),
    "srss-predicts": ("SRSS predicts generation", "r = {}"),
    "rmsc-predicts": ("RMSC predicts generation", "r = {}"),
    "lds-beats-accuracy": ("LDS predicts better than accuracy does", "difference of r {}"),
    "trend-larger-is-no-better": ("Larger encoders of a family are no better", "{}"),
    "irepa-per-scale": ("iREPA beats REPA at every scale", "{}"),
    "irepa-overall": ("iREPA beats REPA over all cases together", "{}"),
    "convolution-alone-helps": ("iREPA's convolution alone beats REPA", "{}"),
    "normalisation-alone-helps": ("iREPA's normalisation alone beats REPA", "{}"),
}
# What a finished run is told by first.
HEADLINES = ("irepa-overall", "lds-predicts", "accuracy-does-not-predict")
MARKED = re.compile(r"<!-- irepa summary (?P<archive>\S+) (?P<table>\S+) -->\n(?P<text>.*?)<!-- end -->", re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Container[int] = ()) -> str:
    """A Markdown table; ``right``: the numbers of the columns that are set to the right."""
    rule = ["--:" if column in right else ":--" for column in range(len(head))]
    escaped = ([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *escaped))


def short_claims_table(audit: dict[str, Any], own: str) -> str:
    """A row per claim of ``SHORT``: the verdict on it and the number behind it, in print and here."""
    return table(["claim", "published", "here"], [_short(audit, name, "published", own) for name in SHORT])


def headlines(audit: dict[str, Any], own: str) -> list[str]:
    """The most telling claims of a finished tier, a line each: the verdict and the number behind it, here and in print."""
    rows = (_short(audit, name, own, "published") for name in HEADLINES)
    return [f"{title}: {here} (published: {printed})" for title, here, printed in rows]


def _short(audit: dict[str, Any], name: str, *sources: str) -> list[str]:
    """A claim of ``SHORT`` in few words, then what each source says of it."""
    title, reading = SHORT[name]
    judged = next(claim["sources"] for claim in audit["claims"] if claim["id"] == name)
    values = [shown(judged[source], 2) for source in sources]
    told = [
        f"{judged[source]['verdict']}, {reading.format(value)}" if value else str(judged[source]["verdict"])
        for source, value in zip(sources, values, strict=True)
    ]
    return [title, *told]


def claims_table(audit: dict[str, Any], own: str) -> str:
    """A row per claim on which the tier has something to say; n: encoders, pairs, seeds or points."""
    rows = []
    for claim in audit["claims"]:
        here, printed = (claim["sources"][name] for name in (own, "published"))
        if here["verdict"] != "not testable":
            rows.append([claim["statement"], _estimate(here), here["verdict"], _estimate(printed), printed["verdict"]])
    return table(["claim", "here", "verdict", "published", "verdict"], rows)


def _estimate(judged: dict[str, Any]) -> str:
    value = shown(judged, 2)
    return f"{value}, n = {judged['n']}" if value else ""


def counts(audit: dict[str, Any], own: str) -> str:
    """How many of the paper's claims have which verdict, in print and here, in a sentence for each."""
    claims = [claim["sources"] for claim in audit["claims"] if claim["asked"] == "paper"]
    told = []
    for source, name in (("published", "The published numbers"), (own, "This run")):
        found = Counter(sources[source]["verdict"] for sources in claims)
        each = ", ".join(f"{found[verdict]} {verdict}" for verdict in VERDICTS if found[verdict])
        told.append(f"{name}: {each}.")
    return "\n".join([f"The paper makes {len(claims)} claims that are judged.", *told])


def changes_table(changes: pd.DataFrame, own: str) -> str:
    """A row per change that the tier measured; REPA against no alignment where the encoder, or none, has other methods."""
    ours = changes[changes["source"] == own].to_dict("records")
    studied = {row["encoder"] for row in ours if row["kind"] == "method" and row["first"] != REPA}
    rows = []
    for row in ours:
        if studied and row["second"] == ALONE and row["encoder"] not in studied:
            continue
        where = f"{row['scale']}, {row['setting'] or row['recipe']}" + (
            f", {row['encoder']}" if row["kind"] == "method" else ""
        )
        moved = words.percentages(estimate_of(row))
        rows.append([f"{row['first']} against {row['second']}", where, moved, str(row["n"]), row["verdict"]])
    return table(["change", "where", "FD, 95% interval", "seeds", "reads as"], rows, right={3})


def spread_table(frame: pd.DataFrame) -> str:
    """What seeds differ by, a row per recipe, judge and difference, as :mod:`irepa.figures.spread` has it."""
    rows = []
    for row in frame.dropna(subset="change").to_dict("records"):
        change, deviation = (
            words.estimate(Estimate(row[of], row[f"{of}_low"], row[f"{of}_high"], int(row["n"])), form, "%")
            for of, form in (("change", "+.1f"), ("sd", ".1f"))
        )
        rows.append([row["recipe"], row["distance"], row["what"], change, deviation, str(int(row["n"]))])
    return table(["recipe", "measured by", "difference", "mean", "standard deviation", "seeds"], rows, right={5})


def of_figures(folder: Path) -> dict[str, str]:
    """What an archive's figures say: ``caption-NAME``, and ``table-NAME`` of those of the kind ``spread``."""
    import pandas as pd

    told = {}
    for path in sorted((folder / "figures").glob("*.json")):
        caption = read_json(path)["metrics"].get("caption")
        if caption is not None:
            told[f"caption-{path.stem}"] = str(caption)
            frame = pd.read_csv(path.with_suffix(".csv"))
            if {"recipe", "what", "sd", "change"} <= set(frame):
                told[f"table-{path.stem}"] = spread_table(frame)
    return told


def summary(folder: Path, own: str) -> dict[str, str]:
    """Every table, by name, of the results in a folder; ``own``: their tier."""
    audit = read_json(folder / "audit" / "verdicts.json")
    changes = read_changes(folder / "audit" / "changes.csv")
    return of_figures(folder) | {
        "claims-short": short_claims_table(audit, own),
        "claims": claims_table(audit, own),
        "counts": counts(audit, own),
        "changes": changes_table(changes, own),
    }


def documents(root: Path) -> list[Path]:
    """The repository's Markdown files for readers: those at its root and in ``docs``."""
    return sorted(root.glob("*.md")) + sorted((root / "docs").glob("*.md"))


def filled(text: str, archive: str, tables: dict[str, str]) -> str:
    """The text with every marked table of one archive as it is now. Raises ConfigError for a table that does not exist."""

    def now(mark: re.Match[str]) -> str:
        if mark["archive"] != archive:
            return mark[0]
        if mark["table"] not in tables:
            raise ConfigError.unknown("irepa summary: table", mark["table"], list(tables))
        return f"<!-- irepa summary {archive} {mark['table']} -->\n{tables[mark['table']]}\n<!-- end -->"

    return MARKED.sub(now, text)


def fill(root: Path, archive: str, tables: dict[str, str]) -> list[Path]:
    """Write an archive's tables into the documents; returns those that changed."""
    written = []
    for path in documents(root):
        before = path.read_text(encoding="utf-8")
        after = filled(before, archive, tables)
        if after != before:
            write_text(path, after)
            written.append(path)
    return written
