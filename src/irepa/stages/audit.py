"""The verdicts: every claim against the published numbers, the authors' statistics if they are there, and this tier's results.

Beside them, every change that a source measured, with its interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from irepa.audit.changes import measure_changes
from irepa.audit.claims import read_claims, read_discrepancies
from irepa.audit.discrepancies import effects
from irepa.audit.evidence import Evidence, checkpoints, published, released, results
from irepa.audit.verdicts import as_json, judge
from irepa.config.released import statistics_folder
from irepa.pipeline.files import Json, Record, whole, write_json
from irepa.pipeline.runner import Context

DIGITS = 9  # of a number in JSON: another processor gives the same


def run(context: Context) -> Json:
    own = results if context.tier.released is None else checkpoints
    sources = [*others(statistics_folder(context.settings)), own.read(context)]
    workflow = context.plan.root / "workflow"
    measured = changes_of(workflow, sources)
    audit = document(workflow, sources, measured)
    behind = [
        name for claim in audit["claims"] for said in claim["sources"].values() for name in said.get("records", [])
    ]
    audit["records"] = trace(context.plan.results, behind)
    write_json(context.output("verdicts.json"), audit, DIGITS)
    verdicts = flat(audit)
    for table, name in ((verdicts, "verdicts.csv"), (measured, "changes.csv")):
        with whole(context.output(name)) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
    counts = verdicts[verdicts["source"] == context.settings.params.tier]["verdict"].value_counts()
    return {"claims": len(audit["claims"]), "verdicts": {str(name): int(count) for name, count in counts.items()}}


def others(folder: Path | None) -> list[Evidence]:
    """The sources that are not ours. folder: the authors' released statistics, where they have been downloaded."""
    return [published.read(), *([released.read(folder)] if folder is not None else [])]


def document(workflow: Path, sources: Sequence[Evidence], measured: pd.DataFrame) -> Json:
    """The whole audit as plain data: ``sources``, ``claims`` with their verdicts, ``discrepancies`` with their effects.

    measured: the changes of the sources (:func:`changes_of`).
    """
    claims = read_claims(workflow)
    judged = [item for source in sources for item in judge(claims, source)]
    return {
        "sources": [{"name": s.name, "title": s.title, "distance": s.distance, "notes": s.notes} for s in sources],
        "claims": as_json(claims, judged),
        "discrepancies": [
            {
                "id": name,
                **row.model_dump(exclude={"compare", "encoders", "measure"}),
                "effects": effects(row, sources, measured),
            }
            for name, row in read_discrepancies(workflow).items()
        ],
    }


def changes_of(workflow: Path, sources: Sequence[Evidence]) -> pd.DataFrame:
    """Every change that the sources measured, and the pairs that the discrepancies compare, one below another."""
    rows = read_discrepancies(workflow).values()
    methods = [pair for row in rows for pair in row.compare]
    encoders = [pair for row in rows for pair in row.encoders]
    return pd.concat([measure_changes(source, methods, encoders) for source in sources], ignore_index=True)


def trace(folder: Path, names: Iterable[str]) -> dict[str, Json]:
    """Fingerprint, git revision and time of those files that are records below ``folder``, by name."""
    paths = {name: folder / name for name in sorted(set(names))}
    records = {name: Record(path) for name, path in paths.items() if path.suffix == ".json" and path.is_file()}
    told = ("git_revision", "git_dirty", "started")
    return {
        name: {"fingerprint": record.fingerprint, **{key: record.content["provenance"][key] for key in told}}
        for name, record in records.items()
    }


def flat(audit: Json) -> pd.DataFrame:
    """A row per claim and source."""
    columns = ("verdict", "reason", "parameter", "estimate", "low", "high", "n", "p", "p_adjusted")
    rows = [
        {"claim": claim["id"], "source": source, **{name: said.get(name) for name in columns}}
        for claim in audit["claims"]
        for source, said in claim["sources"].items()
    ]
    return pd.DataFrame(rows)
