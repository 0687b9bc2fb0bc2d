"""The verdicts: every claim against the published numbers, the authors' statistics if they are there, and this tier's results.

Beside them, every change that a source measured, with its interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from irepa.audit.changes import changes
from irepa.audit.claims import read_claims, read_discrepancies
from irepa.audit.discrepancies import effects
from irepa.audit.evidence import Evidence, published, released, results
from irepa.audit.verdicts import as_json, judge
from irepa.pipeline.files import Json, Record, whole, write_json
from irepa.pipeline.runner import Context


def run(context: Context) -> Json:
    sources = [*others(context.settings.params.released), results.read(context)]
    workflow = context.plan.root / "workflow"
    measured = changes_of(workflow, sources)
    found = document(workflow, sources, measured)
    found["records"] = trace(context.plan.results, found["claims"])
    write_json(context.output("verdicts.json"), found)
    table = flat(found)
    with whole(context.output("verdicts.csv")) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    with whole(context.output("changes.csv")) as temporary:
        measured.to_csv(temporary, index=False, float_format="%.6g")
    own = table[table["source"] == context.settings.params.tier]["verdict"].value_counts()
    return {"claims": len(found["claims"]), "verdicts": {str(name): int(count) for name, count in own.items()}}


def others(folder: Path | None) -> list[Evidence]:
    """The sources that are not ours."""
    return [published.read(), *([released.read(folder)] if folder is not None else [])]


def document(workflow: Path, sources: Sequence[Evidence], measured: pd.DataFrame) -> Json:
    """The whole audit as plain data; ``measured``: the changes of the sources."""
    claims = read_claims(workflow)
    judged = [item for source in sources for item in judge(claims, source)]
    return {
        "sources": [{"name": s.name, "title": s.title, "distance": s.distance, "notes": s.notes} for s in sources],
        "claims": as_json(claims, judged),
        "discrepancies": [
            {"id": name, **row.model_dump(exclude={"compare", "measure"}), "effects": effects(row, sources, measured)}
            for name, row in read_discrepancies(workflow).items()
        ],
    }


def changes_of(workflow: Path, sources: Sequence[Evidence]) -> pd.DataFrame:
    """Every change that the sources measured, one below another."""
    variants = [pair for row in read_discrepancies(workflow).values() for pair in row.compare]
    return pd.concat([changes(source, variants) for source in sources], ignore_index=True)


def trace(folder: Path, claims: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Fingerprint of the configuration, git revision and time of every record that a verdict rests on, by path below
    ``folder``."""
    paths = sorted(
        {name for claim in claims for found in claim["sources"].values() for name in found.get("records", [])}
    )
    known: dict[str, dict[str, Any]] = {}
    for name in paths:
        if (folder / name).suffix == ".json" and (folder / name).is_file():
            record = Record(folder / name)
            made = record.content["provenance"]
            known[name] = {
                "fingerprint": record.fingerprint,
                **{key: made[key] for key in ("git_revision", "git_dirty", "started")},
            }
    return known


def flat(found: Json) -> pd.DataFrame:
    """A row per claim and source."""
    columns = ("verdict", "reason", "parameter", "estimate", "low", "high", "n", "p", "p_adjusted")
    rows = [
        {"claim": claim["id"], "source": source, **{name: item.get(name) for name in columns}}
        for claim in found["claims"]
        for source, item in claim["sources"].items()
    ]
    return pd.DataFrame(rows)
