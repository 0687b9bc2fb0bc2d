"""The tier's numbers as one tidy table: what a row of ``table.csv`` is, how the table is written, and how it is read.

Figures, the audit and the report start from this table and from nothing else, but for the few figures that show images,
maps or correlograms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from irepa.config.cells import Cell, cells, experiment_cells, inspected, targets, trained_cell
from irepa.config.tier import Tier
from irepa.pipeline.files import Record
from irepa.pipeline.graph import Job, floors
from irepa.pipeline.runner import Context

if TYPE_CHECKING:
    import pandas as pd

# A row is one number of one record: the metric and its value, the record's path below the tier's results, and what the
# record is about, an encoder or a cell and the experiments that the cell serves. A record without a result has a row of
# metric `failed`.
CELL = [field.name for field in fields(Cell)]
COLUMNS = ["tier", "stage", "experiments", *CELL, "metric", "value", "record", "failed"]
FAILED = "failed"
SPATIAL_NAMES = {"lds": "LDS", "cds": "CDS", "srss": "SRSS", "rmsc": "RMSC"}
PROPERTIES = ("accuracy", *SPATIAL_NAMES, "lds_text")

Row = dict[str, object]


def collect(context: Context) -> pd.DataFrame:
    """Every number of every encoder and every cell, in ``COLUMNS``. Raises CacheError where a record is missing."""
    import pandas as pd

    rows = [row for job, about in described(context) for row in rows_of(context, job, about)]
    return pd.DataFrame(rows, columns=COLUMNS)


def described(context: Context) -> Iterator[tuple[Job, Row]]:
    """The jobs whose numbers are in the table, each with what it is about."""
    for encoder in targets(context.settings):
        for stage in ("spatial", "probe"):
            yield Job(stage, encoder), {"encoder": encoder}
    for job in floors(context.settings):
        yield job, {}  # of no encoder and no cell: the data's own distance
    inside = set(inspected(context.settings))
    for cell, serves in cells(context.settings).items():
        about: Row = {"experiments": " ".join(serves)} | asdict(cell)
        # A recipe that draws from another's networks has no training of its own.
        if trained_cell(context.settings, str(cell)) == str(cell):
            yield Job("train", str(cell)), about
        if cell in inside:
            yield Job("inspect", str(cell)), about
        yield Job("evaluate", str(cell)), about


def rows_of(context: Context, job: Job, about: Row) -> list[Row]:
    """The rows of one job, its metrics in order of name; what is no number has no row."""
    record = context.plan.record(job)
    same = {"tier": context.settings.params.tier, "stage": job.stage, "record": context.plan.record_name(job), **about}
    numbers = {
        name: value
        for name, value in sorted(record.metrics.items())
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    rows = [same | {"metric": name, "value": value} for name, value in numbers.items()]
    if record.failed is not None:
        rows.append(same | {"metric": FAILED, "value": 1, "failed": record.failed})
    return rows


def mean_distances(context: Context, table: pd.DataFrame) -> pd.DataFrame:
    """The tier in a few rows: mean distance over encoders and seeds, by recipe, scale and method.

    Columns ``case``, recipe/scale/method, and ``distance``. The seed is in neither, so that two runs with different seeds
    have the same rows.
    """
    rows = table[(table["stage"] == "evaluate") & (table["metric"] == distance_name(context))]
    case = rows["recipe"] + "/" + rows["scale"] + "/" + rows["method"]
    return rows["value"].groupby(case.rename("case"), sort=False).mean().reset_index(name="distance")


def read_csv(record: Record, ending: str = ".csv", **how: Any) -> pd.DataFrame:
    """One of a record's CSV files, verified.

    ending: how its name goes on after the record's own. how: as pandas takes it.
    """
    import pandas as pd

    frame: pd.DataFrame = pd.read_csv(record.file(f"{record.path.stem}{ending}"), **how)
    return frame


def read_table(context: Context) -> pd.DataFrame:
    """The tier's table, ``COLUMNS``. Raises CacheError where it is missing, out of date or damaged."""
    return read_csv(context.input("table"), keep_default_na=False, na_values={"value": [""], "seed": [""]})


def distance_name(context: Context) -> str:
    """The name of the Frechet distance that the tier's first judge gives."""
    return judged_names(context)[0]


def judged_names(context: Context) -> list[str]:
    """The names of the Frechet distances that the tier's judges give, the first judge's first."""
    return [context.settings.catalogue[name].metric_name("FID") for name in context.tier.evaluation.extractors]


def steps_of(tier: Tier, recipe: str) -> int:
    """Training steps behind a recipe's samples."""
    return tier.recipes[recipe].at or tier.training_of(recipe).steps


def images_seen(tier: Tier, recipe: str) -> int:
    """Training images, counted each time they are shown, behind a recipe's samples."""
    return steps_of(tier, recipe) * tier.training_of(recipe).batch


def distances(context: Context, experiment: str, name: str | None = None) -> pd.DataFrame:
    """Every cell of an experiment with its distance: ``CELL``, ``fd``, ``record``, and ``distance``, its name.

    name: of another judge's distance (:func:`judged_names`). A cell that has failed has no distance, and is left out.
    """
    name = name or distance_name(context)
    table = read_table(context)
    rows = table[(table["stage"] == "evaluate") & (table["metric"] == name)].set_index("record")
    jobs = [
        Job("evaluate", str(cell)) for cell in experiment_cells(context.settings, context.tier.experiments[experiment])
    ]
    records = [record for record in map(context.plan.record_name, jobs) if record in rows.index]
    runs = rows.loc[records].reset_index()[[*CELL, "value", "record"]].rename(columns={"value": "fd"})
    return runs.assign(distance=name, seed=runs["seed"].astype(int))


def encoder_metrics(context: Context) -> pd.DataFrame:
    """``PROPERTIES`` of every encoder, one row each, indexed by its name; accuracy (of the probe) in percent."""
    table = read_table(context)
    rows = table[table["stage"].isin(["spatial", "probe"]) & table["metric"].isin(PROPERTIES)]
    metrics = rows.pivot(index="encoder", columns="metric", values="value")
    return metrics.assign(accuracy=100 * metrics["accuracy"])


def with_metrics(context: Context, runs: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Runs, a row each, with some of ``PROPERTIES`` of their encoders in further columns."""
    import pandas as pd

    return pd.concat([runs, encoder_metrics(context).loc[runs["encoder"], [*names]].reset_index(drop=True)], axis=1)
