"""The graph: one row per stage. It says what the stage is for, what it needs, what it writes, and what its result depends on.

Everything else follows from it: the rules of Snakemake, the phases of DVC, the commands of ``irepa``, and what an archive keeps.
A stage is its row here and its module in :mod:`irepa.stages`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from irepa.config import plugins
from irepa.config.cells import (
    NO_ENCODER,
    Cell,
    cells,
    early_steps,
    inspected,
    mirrored_latents,
    split_encoder,
    targets,
    trained_cell,
)
from irepa.config.released import statistics_folder
from irepa.config.tier import AutoencoderSettings, Settings


@dataclass(frozen=True, order=True)
class Job:
    """One unit of work: a stage and, where it fans out, the encoder, cell or figure that it works on."""

    stage: str
    key: str = ""

    def __str__(self) -> str:
        return f"{self.stage} {self.key}".strip()


Slice = dict[str, Any]
Plugin = tuple[str, str]  # kind and name, as :func:`irepa.config.plugins.load` takes them


def nothing_outside(settings: Settings, key: str) -> list[Path]:
    """What a stage reads outside the repository that reads the results of others alone."""
    return []


@dataclass(frozen=True)
class Stage:
    """One kind of job.

    Attributes:
        help: what it does, in a sentence.
        phase: the group of stages that DVC versions together.
        outputs: paths below ``results/<tier>``, ``{key}`` standing for the job's key; the first is the record.
        needs: the jobs whose outputs it reads.
        settings: the part of the settings that its result depends on.
        outside: files and folders outside the repository that its result depends on, by their content.
        key: what a job's key names; empty for a stage of one job.
        kept: what an archive keeps of it: the record, which has every number, or everything that it writes.
        plugins: the implementations, chosen in the settings, that compute it besides the stage's own module.
        scratch: outputs that may be deleted once they have been read.
        reads_scratch: whether it reads the scratch outputs of the jobs that it needs.
        reads_record_of: stages of which it reads the record alone.
        sources: files of the repository, outside the package's modules, that its result depends on.
        metrics: of its outputs, those that `dvc metrics` and `dvc exp show` compare.
        shown: of its outputs, those that Snakemake's own report shows, each with its category there.
        may_fail: whether a number that stops being finite is a result: the job's record says so, and the rest goes on.
        tolerates_failure: whether it works with what is left where a job that it needs has failed.
    """

    help: str
    phase: str
    outputs: tuple[str, ...]
    needs: Callable[[Settings, str], list[Job]]
    settings: Callable[[Settings, str], Slice]
    key: str = ""
    kept: Literal["nothing", "record", "everything"] = "nothing"
    outside: Callable[[Settings, str], list[Path]] = nothing_outside
    plugins: Callable[[Settings, str], list[Plugin]] = lambda settings, key: []
    scratch: tuple[str, ...] = ()
    reads_scratch: bool = False
    reads_record_of: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    shown: Mapping[str, str] = field(default_factory=dict)
    may_fail: bool = False
    tolerates_failure: bool = False


def _dump(value: Any) -> Any:
    return value.model_dump(mode="json")


def _encoder_plugins(settings: Settings, name: str) -> list[Plugin]:
    base, _ = split_encoder(name)
    return [("encoders", settings.catalogue[base].library), *_transform_plugins(settings, name)]


def _transform_plugins(settings: Settings, name: str) -> list[Plugin]:
    return [("transforms", transform) for transform, _ in split_encoder(name)[1]]


def _dataset_paths(settings: Settings, key: str) -> list[Path]:
    return plugins.paths("data", settings.tier.dataset, "dataset")


def _encoder_paths(settings: Settings, key: str) -> list[Path]:
    base, _ = split_encoder(key)
    return plugins.encoder_paths(settings.catalogue[base], f"encoders.yaml: {base}")


def _autoencoder_paths(autoencoder: AutoencoderSettings) -> list[Path]:
    statistics = [] if autoencoder.statistics is None else [autoencoder.statistics]
    return plugins.paths("autoencoders", autoencoder, "autoencoder") + statistics


def _reference_paths(settings: Settings, key: str) -> list[Path]:
    statistics = settings.tier.evaluation.references.get(key)
    return [*_encoder_paths(settings, key), *([] if statistics is None else [statistics])]


def _train_paths(settings: Settings, key: str) -> list[Path]:
    checkpoint = settings.tier.checkpoints.get(key)
    own = [] if checkpoint is None else [checkpoint]
    return [*own, *_autoencoder_paths(settings.autoencoder(Cell.parse(key).recipe))]


def _features_needs(settings: Settings, key: str) -> list[Job]:
    entry = settings.catalogue[key]
    base = [] if entry.base is None else [Job("features", entry.base)]
    return [Job("data"), *base, *_weights_of(settings, key)]


def _weights_of(settings: Settings, name: str) -> list[Job]:
    """The job that trains an encoder or a judge, if the pipeline does."""
    trained_by = settings.catalogue[name].trained_by
    return [] if trained_by is None else [Job("pretrain", trained_by)]


def trained_judges(settings: Settings) -> list[Job]:
    """The jobs that train judges: distances by one compare with no other's, be it the same trained again elsewhere."""
    return [job for name in settings.tier.evaluation.extractors for job in _weights_of(settings, name)]


def _evaluate_needs(settings: Settings, key: str) -> list[Job]:
    references = (Job("reference", name) for name in settings.tier.evaluation.extractors)
    return [Job("sample", key), *references, *trained_judges(settings)]


def _pretrain_settings(settings: Settings, key: str) -> Slice:
    chosen = settings.tier.pretraining[key]
    how = _dump(chosen) | {"training": chosen.training.that_matter()}
    return {
        "pretraining": how,
        "encoder": _dump(settings.catalogue[chosen.encoder]),
        "grid": list(settings.tier.grid),
        "seed": settings.params.seed,
    }


def _pretrain_plugins(settings: Settings, key: str) -> list[Plugin]:
    chosen = settings.tier.pretraining[key]
    return [("objectives", chosen.name), *_encoder_plugins(settings, chosen.encoder)]


def _of_encoder(settings: Settings, name: str) -> list[Job]:
    return [Job("data"), Job("features", split_encoder(name)[0])]


def _of_cell(settings: Settings, key: str) -> list[Job]:
    encoder = Cell.parse(key).encoder
    return [Job("data")] if encoder == NO_ENCODER else _of_encoder(settings, encoder)


def inspected_encoder(settings: Settings, key: str) -> str | None:
    """The encoder with whose tokens a cell's hidden tokens are compared: its own, or the tier's for a cell without, or none."""
    encoder = Cell.parse(key).encoder
    return settings.tier.inspection.compare if encoder == NO_ENCODER else encoder


def _inspect_needs(settings: Settings, key: str) -> list[Job]:
    encoder = inspected_encoder(settings, key)
    tokens = [Job("data")] if encoder is None else _of_encoder(settings, encoder)
    return [
        Job("train", trained_cell(settings, key)),
        *tokens,
        *_autoencoder_of(settings, key),
        *_measured(settings, key),
    ]


def _inspect_settings(settings: Settings, key: str) -> Slice:
    tier = settings.tier
    probe = {} if tier.inspection.probe_images is None else {"c": tier.probe.c, "max_iter": tier.probe.max_iter}
    return {"inspection": _dump(tier.inspection), "spatial": _dump(tier.spatial), "probe": probe}


def _inspect_plugins(settings: Settings, key: str) -> list[Plugin]:
    encoder = inspected_encoder(settings, key)
    return _train_plugins(settings, key) + ([] if encoder is None else _encoder_plugins(settings, encoder))


def _autoencoder_of(settings: Settings, key: str) -> list[Job]:
    """The job that trains the cell's autoencoder, if one does."""
    name = settings.trains_autoencoder(Cell.parse(key).recipe)
    return [] if name is None else [Job("autoencoder", name)]


def _measured(settings: Settings, key: str) -> list[Job]:
    """The job that measures by what the cell's latents are normalised, if one does."""
    recipe = Cell.parse(key).recipe
    latents = settings.latents_of(recipe)
    measured = settings.autoencoder(recipe).normalisation == "per-channel"
    return [Job("latents", latents)] if measured and latents is not None else []


def _latents_settings(settings: Settings, key: str) -> Slice:
    """Moments are of latents as they are: how they will be normalised does not matter."""
    autoencoder = _dump(settings.precomputed(key))
    kept = {name: value for name, value in autoencoder.items() if name not in ("normalisation", "statistics")}
    size, flips = settings.tier.dataset.image_size, key in mirrored_latents(settings)
    return {"autoencoder": kept, "image_size": size, "flips": flips}


def _train_needs(settings: Settings, key: str) -> list[Job]:
    if settings.tier.adopts(key):
        return []
    recipe = Cell.parse(key).recipe
    latents = settings.latents_of(recipe)
    moments = [] if latents is None else [Job("latents", latents)]
    return [*_of_cell(settings, key), *moments, *_autoencoder_of(settings, key)]


def _scale_of(settings: Settings, cell: Cell) -> Slice:
    """The sizes of a cell's network, with the options of its own architecture alone."""
    scale, architecture = settings.tier.scales[cell.scale], settings.tier.recipes[cell.recipe].architecture
    sizes: Slice = _dump(scale)
    return sizes | {"options": scale.options.get(architecture, {})}


def _shared(settings: Settings, cell: Cell, *parts: str) -> Slice:
    """The seed of parts that do not follow the cell's; nothing where they all do."""
    shared = [part for part in parts if part in settings.tier.recipes[cell.recipe].shared]
    return {"shared": dict.fromkeys(shared, settings.params.seed)} if shared else {}


def _train_settings(settings: Settings, key: str) -> Slice:
    cell, tier = Cell.parse(key), settings.tier
    network = {
        "recipe": {
            k: v
            for k, v in _dump(tier.recipes[cell.recipe]).items()
            if k not in ("sampler", "guidance", "labels", "trained_as", "at", "training", "shared")
        },
        **_shared(settings, cell, "initialisation", "order"),
        "scale": _scale_of(settings, cell),
        "autoencoder": _dump(settings.autoencoder(cell.recipe)),
        "grid": list(tier.grid),
    }
    if tier.adopts(key):
        kind = settings.methods[cell.method].projector
        return network | {
            "checkpoint": str(tier.checkpoints.get(key)),
            **({"projector": kind} if tier.released else {}),
        }
    kept = early_steps(settings, key)
    how = {"method": _dump(settings.methods[cell.method]), "training": tier.training_of(cell.recipe).that_matter()}
    return network | how | ({"snapshots": kept} if kept else {})


def _train_plugins(settings: Settings, key: str) -> list[Plugin]:
    cell, tier = Cell.parse(key), settings.tier
    recipe = tier.recipes[cell.recipe]
    chosen: list[Plugin] = [
        ("recipes", recipe.name),
        ("architectures", recipe.architecture),
        ("autoencoders", settings.autoencoder(cell.recipe).name),
    ]
    return chosen + ([] if cell.encoder == NO_ENCODER else _encoder_plugins(settings, cell.encoder))


def _sample_plugins(settings: Settings, key: str) -> list[Plugin]:
    recipe = settings.tier.recipes[Cell.parse(key).recipe]
    return [*_train_plugins(settings, key), ("samplers", recipe.sampler.name)]


def _reference_needs(settings: Settings, key: str) -> list[Job]:
    data = [] if key in settings.tier.evaluation.references else [Job("data")]
    return data + _weights_of(settings, key)


def _reference_settings(settings: Settings, key: str) -> Slice:
    evaluation = settings.tier.evaluation
    statistics = evaluation.references.get(key)
    return {
        "extractor": _dump(settings.catalogue[key]),
        "input_size": evaluation.input_size,
        "features": evaluation.reference_features,
        "statistics": None if statistics is None else str(statistics),
    }


def _figure_needs(settings: Settings, key: str) -> list[Job]:
    figure = settings.tier.figures[key]
    module = plugins.load("figures", figure.kind, f"figures.{key}")
    needed: list[Job] = module.needs(settings, figure.experiment)
    return needed


PUBLISHED = ("paper/correlations", "paper/figure-correlation-sit-xl-2", "paper/tables", "evidence/released")
RESULTS = ("floor", "spatial", "probe", "train", "inspect", "evaluate")


def floors(settings: Settings) -> list[Job]:
    """The jobs that measure the data itself, where the tier asks for it."""
    evaluation = settings.tier.evaluation
    return [Job("floor", judge) for judge in evaluation.extractors if evaluation.floor]


def _results(settings: Settings) -> list[Job]:
    encoders = [Job(stage, name) for name in targets(settings) for stage in ("spatial", "probe")]
    runs = dict.fromkeys(Job("train", trained_cell(settings, str(cell))) for cell in cells(settings))
    inside = [Job("inspect", str(cell)) for cell in inspected(settings)]
    return encoders + floors(settings) + list(runs) + inside + [Job("evaluate", str(cell)) for cell in cells(settings)]


STAGES: dict[str, Stage] = {
    "data": Stage(
        help="Decode the dataset into arrays, with foreground masks.",
        phase="data",
        kept="record",
        outputs=(
            "data/data.json",
            *(
                f"data/{split}.{what}.npy"
                for split in ("train", "judge", "test")
                for what in ("images", "index", "labels")
            ),
            "data/test.masks.npy",
        ),
        needs=lambda s, key: [],
        settings=lambda s, key: {"dataset": _dump(s.tier.dataset), "masks": s.tier.spatial.images},
        outside=_dataset_paths,
        plugins=lambda s, key: [("data", s.tier.dataset.name)],
    ),
    "latents": Stage(
        help="Compute an autoencoder's moments of the training images.",
        phase="data",
        key="its name; `default` is the tier's own",
        outputs=("data/latents/{key}/latents.json", "data/latents/{key}/train.moments.npy"),
        needs=lambda s, key: [Job("data")],
        settings=_latents_settings,
        outside=lambda s, key: plugins.paths("autoencoders", s.precomputed(key), "autoencoder"),
        plugins=lambda s, key: [("autoencoders", s.precomputed(key).name)],
    ),
    "autoencoder": Stage(
        help="Train one of the tier's autoencoders.",
        phase="data",
        key="its name",
        may_fail=True,
        outputs=(
            "data/autoencoder/{key}/autoencoder.json",
            "data/autoencoder/{key}/config.json",
            "data/autoencoder/{key}/diffusion_pytorch_model.safetensors",
        ),
        needs=lambda s, key: [Job("data")],
        settings=lambda s, key: {"autoencoder": _dump(s.tier.autoencoders[key]), "seed": s.params.seed},
        plugins=lambda s, key: [("autoencoders", s.tier.autoencoders[key].name)],
    ),
    "pretrain": Stage(
        help="Train one of the tier's own encoders.",
        phase="features",
        key="its name",
        kept="record",
        outputs=(
            "features/pretrained/{key}/pretrain.json",
            "features/pretrained/{key}/model.safetensors",
            "features/pretrained/{key}/loss.jsonl",
        ),
        needs=lambda s, key: [Job("data")],
        settings=_pretrain_settings,
        plugins=_pretrain_plugins,
    ),
    "features": Stage(
        help="Compute one encoder's tokens.",
        phase="features",
        key="the encoder's name",
        kept="record",
        outputs=(
            "features/{key}/features.json",
            *(f"features/{{key}}/{split}.{what}.npy" for split in ("train", "test") for what in ("tokens", "global")),
        ),
        needs=_features_needs,
        settings=lambda s, key: {
            "encoder": _dump(s.catalogue[key]),
            "grid": list(s.tier.grid),
            "features": _dump(s.tier.features),
            "test_images": s.tier.spatial.images,
            "image_size": s.tier.dataset.image_size,
        },
        outside=_encoder_paths,
        plugins=_encoder_plugins,
    ),
    "reference": Stage(
        help="Compute the reference statistics of one judge.",
        phase="features",
        key="the judge's name",
        outputs=(
            "reference/{key}/reference.json",
            "reference/{key}/features.npy",
            *(f"reference/{{key}}/{kind}{name}.npy" for kind in ("", "spatial.") for name in ("mu", "sigma")),
        ),
        needs=_reference_needs,
        settings=_reference_settings,
        outside=_reference_paths,
        plugins=_encoder_plugins,
    ),
    "spatial": Stage(
        help="Compute LDS, CDS, SRSS and RMSC of one encoder.",
        phase="metrics",
        key="the encoder's name, with its transforms",
        kept="record",
        outputs=("spatial/{key}.json", "spatial/{key}.images.csv", "spatial/{key}.correlogram.csv"),
        needs=_of_encoder,
        settings=lambda s, key: {"spatial": _dump(s.tier.spatial), "grid": list(s.tier.grid)},
        plugins=_transform_plugins,
    ),
    "probe": Stage(
        help="Fit a linear probe to one encoder.",
        phase="metrics",
        key="the encoder's name, with its transforms",
        kept="record",
        outputs=("probe/{key}.json",),
        needs=_of_encoder,
        settings=lambda s, key: {"probe": _dump(s.tier.probe), "grid": list(s.tier.grid)},
        plugins=_encoder_plugins,
    ),
    "train": Stage(
        help="Train one cell.",
        phase="train",
        key="the cell, recipe/scale/encoder/method/seed<k>",
        kept="record",
        may_fail=True,
        outputs=(
            "runs/{key}/train.json",
            "runs/{key}/model.safetensors",
            "runs/{key}/snapshots.safetensors",
            "runs/{key}/loss.jsonl",
        ),
        needs=_train_needs,
        settings=_train_settings,
        outside=_train_paths,
        plugins=_train_plugins,
    ),
    "inspect": Stage(
        help="Look inside one cell: self-similarity maps, and measurements of hidden tokens.",
        phase="train",
        key="the cell",
        kept="record",
        may_fail=True,
        outputs=("inspect/{key}.json", "inspect/{key}.csv", "inspect/{key}.images.csv"),
        needs=_inspect_needs,
        settings=_inspect_settings,
        reads_record_of=("latents",),
        plugins=_inspect_plugins,
    ),
    "sample": Stage(
        help="Draw samples from a trained cell.",
        phase="evaluate",
        key="the cell",
        kept="record",
        may_fail=True,
        outputs=("samples/{key}/sample.json", "samples/{key}/preview.npy", "samples/{key}/samples.npz"),
        needs=lambda s, key: [Job("train", trained_cell(s, key)), *_autoencoder_of(s, key), *_measured(s, key)],
        reads_record_of=("latents",),
        settings=lambda s, key: {
            "sampler": _dump(s.tier.recipes[Cell.parse(key).recipe].sampler),
            "guidance": _dump(s.tier.recipes[Cell.parse(key).recipe])["guidance"],
            "labels": s.tier.recipes[Cell.parse(key).recipe].labels,
            "at": s.tier.recipes[Cell.parse(key).recipe].at,
            **_shared(s, Cell.parse(key), "sampling"),
            "samples": s.tier.sampling.samples,
            "precision": s.tier.sampling.precision,
            "compile": s.tier.sampling.compile,
            "preview": s.tier.sampling.preview,
        },
        plugins=_sample_plugins,
        scratch=("samples/{key}/samples.npz",),
    ),
    "evaluate": Stage(
        help="Measure one cell's samples under every judge.",
        phase="evaluate",
        key="the cell",
        kept="record",
        may_fail=True,
        outputs=("evaluation/{key}.json",),
        needs=_evaluate_needs,
        settings=lambda s, key: {"evaluation": _dump(s.tier.evaluation)},
        reads_scratch=True,
        plugins=lambda s, key: [m for name in s.tier.evaluation.extractors for m in _encoder_plugins(s, name)],
    ),
    "floor": Stage(
        help="Measure held-out images under one judge, as samples are measured.",
        phase="features",
        key="the judge's name",
        kept="record",
        # Beside what it is measured against: that folder is there whether or not a tier asks for floors.
        outputs=("reference/{key}/floor.json",),
        needs=lambda s, key: [Job("data"), Job("reference", key), *_weights_of(s, key)],
        settings=lambda s, key: {"evaluation": _dump(s.tier.evaluation), "images": s.tier.sampling.samples},
        plugins=_encoder_plugins,
    ),
    "table": Stage(
        help="Collect every number of the tier into one table.",
        phase="table",
        kept="everything",
        tolerates_failure=True,
        reads_record_of=RESULTS,
        outputs=("table.json", "table.csv", "means.csv", "metrics.json"),
        metrics=("metrics.json",),
        shown={"table.csv": "Numbers"},
        needs=lambda s, key: _results(s),
        settings=lambda s, key: {"cells": {str(cell): serves for cell, serves in cells(s).items()}},
    ),
    "figure": Stage(
        help="Draw one figure, with the CSV of what it plots.",
        phase="figures",
        key="its name in the tier file",
        kept="everything",
        may_fail=True,
        tolerates_failure=True,
        outputs=tuple(f"figures/{{key}}.{suffix}" for suffix in ("json", "csv", "png", "svg")),
        shown={"figures/{key}.png": "Figures", "figures/{key}.csv": "What the figures plot"},
        needs=_figure_needs,
        settings=lambda s, key: {
            "figure": _dump(s.tier.figures[key]),
            "question": s.tier.experiments[s.tier.figures[key].experiment].question,
        },
        plugins=lambda s, key: [("figures", s.tier.figures[key].kind)],
    ),
    "audit": Stage(
        help="Judge every claim of the paper.",
        phase="audit",
        kept="everything",
        tolerates_failure=True,
        reads_record_of=RESULTS,
        outputs=("audit/audit.json", "audit/verdicts.json", "audit/verdicts.csv", "audit/changes.csv"),
        shown={"audit/verdicts.csv": "Verdicts", "audit/changes.csv": "Verdicts"},
        needs=lambda s, key: [Job("table"), *_results(s)],
        settings=lambda s, key: {
            "title": s.tier.title,
            "paper": {name: experiment.paper for name, experiment in s.tier.experiments.items()},
            "released": None if s.params.released is None else str(s.params.released),
            **({} if s.taken is None else {"taken": _dump(s.taken)}),
        },
        outside=lambda s, key: [] if (folder := statistics_folder(s)) is None else [folder],
        plugins=lambda s, key: [("audit.rules", name) for name in plugins.names("audit.rules")],
        sources=(
            "workflow/claims.yaml",
            "workflow/discrepancies.yaml",
            *(f"src/irepa/audit/{name}.csv" for name in PUBLISHED),
        ),
    ),
    "report": Stage(
        help="Write the page, and its plain twin.",
        phase="report",
        kept="everything",
        tolerates_failure=True,
        outputs=("report.json", "report.html", "report.md"),
        shown={"report.html": "The page"},
        needs=lambda s, key: [Job("table"), Job("audit"), *(Job("figure", name) for name in s.tier.figures)],
        settings=lambda s, key: {
            "title": s.tier.title,
            "shows": s.tier.shows,
            "cannot_show": s.tier.cannot_show,
            "changed": s.params.changes(),
        },
        sources=("reports/report.py", "reports/style.css"),
    ),
}

PHASES: dict[str, tuple[str, ...]] = {
    phase: tuple(name for name, stage in STAGES.items() if stage.phase == phase)
    for phase in dict.fromkeys(stage.phase for stage in STAGES.values())
}


def kept(*what: str) -> list[str]:
    """The stages of which an archive keeps ``record`` or ``everything``."""
    return [name for name, stage in STAGES.items() if stage.kept in what]


def written(stages: Iterable[str]) -> list[str]:
    """Top-level files and folders that stages write below the results of their tier."""
    return list(dict.fromkeys(pattern.split("/")[0] for stage in stages for pattern in STAGES[stage].outputs))
