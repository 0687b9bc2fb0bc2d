"""A finished tier in two tables, as Markdown: every claim here and in print, and every change that was measured.

The README shows that of the archived CIFAR-10 tier; a test compares.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from irepa.audit import words
from irepa.audit.changes import ALONE, REPA, estimate_of, read_changes
from irepa.audit.verdicts import shown
from irepa.pipeline.files import read_json


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Container[int] = ()) -> str:
    """A Markdown table; ``right``: the numbers of the columns that are set to the right."""
    rule = ["--:" if column in right else ":--" for column in range(len(head))]
    escaped = ([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *escaped))


def claims_table(audit: dict[str, Any], own: str) -> str:
    """A row per claim on which the tier or the published numbers have something to say; n: encoders, pairs, seeds or points."""
    rows = []
    for claim in audit["claims"]:
        here, printed = (claim["sources"][name] for name in (own, "published"))
        if here["verdict"] != "not testable":
            rows.append([claim["statement"], _cell(here), here["verdict"], _cell(printed), printed["verdict"]])
    return table(["claim", "here", "verdict", "published", "verdict"], rows)


def changes_table(changes: pd.DataFrame, own: str) -> str:
    """A row per change that the tier measured; REPA against no alignment where the encoder was used with other methods too."""
    ours = changes[changes["source"] == own].to_dict("records")
    studied = {row["encoder"] for row in ours if row["kind"] == "method" and row["first"] != REPA}
    rows = []
    for row in ours:
        if row["second"] == ALONE and row["encoder"] not in studied:
            continue
        where = f"{row['scale']}, {row['recipe']}" + (f", {row['encoder']}" if row["kind"] == "method" else "")
        moved = words.percentages(estimate_of(row))
        rows.append([f"{row['first']} against {row['second']}", where, moved, str(row["n"]), row["verdict"]])
    return table(["change", "where", "FD, 95% interval", "seeds", "reads as"], rows, right={3})


def summary(folder: Path, own: str) -> str:
    """Both tables of the results in a folder, the second folded away."""
    audit = read_json(folder / "audit" / "verdicts.json")
    changes = read_changes(folder / "audit" / "changes.csv")
    fold = "<details>\n<summary>Every change that was measured, with its interval over seeds</summary>"
    return f"{claims_table(audit, own)}\n\n{fold}\n\n{changes_table(changes, own)}\n\n</details>\n"


def _cell(found: dict[str, Any]) -> str:
    value = shown(found, 2)
    return f"{value}, n = {found['n']}" if value else ""
