"""The pipeline as data: every stage, what it needs, what it writes, and what its result depends on.

This is the one place where the graph is written. Snakemake asks it for inputs and outputs, the command line asks it
for paths, and both ask it for fingerprints.

A job's fingerprint is a hash of its settings, of the source code that computes it and of the fingerprints of the jobs it
needs. It stands in the record that the job writes. A result is up to date if the fingerprint in its record is
the expected one: modification times say nothing, so that results may be copied, pulled or touched at will.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irepa import plugins
from irepa.errors import CacheError
from irepa.files import Record, read_json, sha256
from irepa.grid import NO_ENCODER, Cell, cells, snapshots, split_encoder, targets, trained_cell
from irepa.settings import Settings

# Modules that carry settings and files about but compute no number; what they hand over is in the fingerprint anyway.
PLUMBING = {
    f"irepa.{name}"
    for name in ("cli", "config", "errors", "files", "grid", "plan", "plugins", "progress", "runner", "settings")
}


@dataclass(frozen=True, order=True)
class Job:
    """One unit of work: a stage and, where it fans out, the encoder, cell or figure that it works on."""

    stage: str
    key: str = ""

    def __str__(self) -> str:
        return f"{self.stage} {self.key}".strip()


Slice = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """One kind of job.

    Attributes:
        outputs: paths below ``results/<tier>``, ``{key}`` standing for the job's key; the first is the record.
        needs: the jobs whose outputs it reads.
        settings: the part of the settings that its result depends on.
        plugins: modules, chosen by name in the settings, that compute it besides the stage's own module.
        scratch: outputs that may be deleted once they have been read.
        reads_scratch: whether it reads the scratch outputs of the jobs that it needs.
        reads_record_of: stages of which it reads the record alone.
        sources: files of the repository, outside the package, that its result depends on.
        may_fail: whether a number that stops being finite is a finding: the job's record says so, and the rest goes on.
        tolerates_failure: whether it works with what is left where a job that it needs has failed.
    """

    outputs: tuple[str, ...]
    needs: Callable[[Settings, str], list[Job]]
    settings: Callable[[Settings, str], Slice]
    plugins: Callable[[Settings, str], list[str]] = lambda settings, key: []
    scratch: tuple[str, ...] = ()
    reads_scratch: bool = False
    reads_record_of: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    may_fail: bool = False
    tolerates_failure: bool = False


def _dump(value: Any) -> Any:
    return value.model_dump(mode="json")


def _encoder_plugins(settings: Settings, name: str) -> list[str]:
    base, transforms = split_encoder(name)
    library = plugins.module_name("encoders", settings.catalogue[base].library)
    return [library, *(plugins.module_name("transforms", transform) for transform, _ in transforms)]


def _transform_plugins(settings: Settings, name: str) -> list[str]:
    return _encoder_plugins(settings, name)[1:]


def _outside(path: Path) -> Slice:
    """A file or folder of the user's in a fingerprint: by path and size, because hashing gigabytes at every start
    takes too long."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    sizes = {str(file): file.stat().st_size for file in files if file.is_file()}
    return {"path": str(path), "bytes": sum(sizes.values()) if sizes else None, "files": len(sizes)}


def _features_needs(settings: Settings, key: str) -> list[Job]:
    entry = settings.catalogue[key]
    base = [] if entry.base is None else [Job("features", entry.base)]
    return [Job("data"), *base, *([] if entry.trained_by is None else [Job("pretrain", entry.trained_by)])]


def _pretrain_settings(settings: Settings, key: str) -> Slice:
    chosen = settings.tier.pretraining[key]
    how = _dump(chosen) | {"training": chosen.training.that_matter()}
    return {
        "pretraining": how,
        "encoder": _dump(settings.catalogue[chosen.encoder]),
        "grid": list(settings.tier.grid),
        "seed": settings.params.seed,
    }


def _pretrain_plugins(settings: Settings, key: str) -> list[str]:
    chosen = settings.tier.pretraining[key]
    return [plugins.module_name("objectives", chosen.name), *_encoder_plugins(settings, chosen.encoder)]


def _of_encoder(settings: Settings, name: str) -> list[Job]:
    return [Job("data"), Job("features", split_encoder(name)[0])]


def _of_cell(settings: Settings, key: str) -> list[Job]:
    encoder = Cell.parse(key).encoder
    return [Job("data")] if encoder == NO_ENCODER else _of_encoder(settings, encoder)


def _autoencoder_of(settings: Settings, key: str) -> list[Job]:
    """The job that trains the cell's autoencoder, if one does."""
    name = settings.trains_autoencoder(Cell.parse(key).recipe)
    return [] if name is None else [Job("autoencoder", name)]


def _train_needs(settings: Settings, key: str) -> list[Job]:
    if key in settings.tier.checkpoints:
        return []
    recipe = Cell.parse(key).recipe
    latents = [Job("latents")] if settings.reads_latents(recipe) else []
    return [*_of_cell(settings, key), *latents, *_autoencoder_of(settings, key)]


def _train_settings(settings: Settings, key: str) -> Slice:
    cell, tier = Cell.parse(key), settings.tier
    network = {
        "recipe": {
            k: v
            for k, v in _dump(tier.recipes[cell.recipe]).items()
            if k not in ("sampler", "guidance", "trained_as", "at")
        },
        "scale": _dump(tier.scales[cell.scale]),
        "autoencoder": _dump(settings.autoencoder(cell.recipe)),
        "grid": list(tier.grid),
    }
    if key in tier.checkpoints:
        return network | {"checkpoint": _outside(tier.checkpoints[key])}
    kept = snapshots(settings, key)
    how = {"method": _dump(settings.methods[cell.method]), "training": tier.training.that_matter()}
    return network | how | ({"snapshots": kept} if kept else {})


def _train_plugins(settings: Settings, key: str) -> list[str]:
    cell, tier = Cell.parse(key), settings.tier
    recipe = tier.recipes[cell.recipe]
    chosen = [
        plugins.module_name("recipes", recipe.name),
        plugins.module_name("models", recipe.architecture),
        plugins.module_name("autoencoders", settings.autoencoder(cell.recipe).name),
    ]
    return chosen + ([] if cell.encoder == NO_ENCODER else _encoder_plugins(settings, cell.encoder))


def _sample_plugins(settings: Settings, key: str) -> list[str]:
    recipe = settings.tier.recipes[Cell.parse(key).recipe]
    return [*_train_plugins(settings, key), plugins.module_name("samplers", recipe.sampler.name)]


def _reference_needs(settings: Settings, key: str) -> list[Job]:
    return [] if key in settings.tier.evaluation.references else [Job("data")]


def _reference_settings(settings: Settings, key: str) -> Slice:
    evaluation = settings.tier.evaluation
    statistics = evaluation.references.get(key)
    return {
        "extractor": _dump(settings.catalogue[key]),
        "input_size": evaluation.input_size,
        "features": evaluation.reference_features,
        "statistics": None if statistics is None else _outside(statistics),
    }


def _figure_needs(settings: Settings, key: str) -> list[Job]:
    figure = settings.tier.figures[key]
    module = plugins.load("figures", figure.kind, f"figures.{key}")
    needed: list[Job] = module.needs(settings, figure.experiment)
    return needed


RESULTS = ("spatial", "probe", "train", "evaluate")


def _results(settings: Settings) -> list[Job]:
    encoders = [Job(stage, name) for name in targets(settings) for stage in ("spatial", "probe")]
    runs = dict.fromkeys(Job("train", trained_cell(settings, str(cell))) for cell in cells(settings))
    return encoders + list(runs) + [Job("evaluate", str(cell)) for cell in cells(settings)]


STAGES: dict[str, Stage] = {
    "data": Stage(
        outputs=(
            "data/data.json",
            *(f"data/{split}.{what}.npy" for split in ("train", "test") for what in ("images", "labels")),
            "data/test.masks.npy",
        ),
        needs=lambda s, key: [],
        settings=lambda s, key: {"dataset": _dump(s.tier.dataset), "masks": s.tier.spatial.images},
        plugins=lambda s, key: [plugins.module_name("data", s.tier.dataset.name)],
    ),
    "latents": Stage(
        outputs=("data/latents.json", "data/train.moments.npy"),
        needs=lambda s, key: [Job("data")],
        settings=lambda s, key: {"autoencoder": _dump(s.tier.autoencoder), "image_size": s.tier.dataset.image_size},
        plugins=lambda s, key: [plugins.module_name("autoencoders", s.tier.autoencoder.name)],
    ),
    "autoencoder": Stage(
        may_fail=True,
        outputs=(
            "data/autoencoder/{key}/autoencoder.json",
            "data/autoencoder/{key}/config.json",
            "data/autoencoder/{key}/diffusion_pytorch_model.safetensors",
        ),
        needs=lambda s, key: [Job("data")],
        settings=lambda s, key: {"autoencoder": _dump(s.tier.autoencoders[key]), "seed": s.params.seed},
        plugins=lambda s, key: [plugins.module_name("autoencoders", s.tier.autoencoders[key].name)],
    ),
    "pretrain": Stage(
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
        plugins=_encoder_plugins,
    ),
    "spatial": Stage(
        outputs=("spatial/{key}.json", "spatial/{key}.images.csv", "spatial/{key}.correlogram.csv"),
        needs=_of_encoder,
        settings=lambda s, key: {"spatial": _dump(s.tier.spatial), "grid": list(s.tier.grid)},
        plugins=_transform_plugins,
    ),
    "probe": Stage(
        outputs=("probe/{key}.json",),
        needs=_of_encoder,
        settings=lambda s, key: {"probe": _dump(s.tier.probe), "grid": list(s.tier.grid)},
        plugins=_encoder_plugins,
    ),
    "reference": Stage(
        outputs=(
            "reference/{key}/reference.json",
            "reference/{key}/features.npy",
            "reference/{key}/mu.npy",
            "reference/{key}/sigma.npy",
        ),
        needs=_reference_needs,
        settings=_reference_settings,
        plugins=_encoder_plugins,
    ),
    "train": Stage(
        may_fail=True,
        outputs=(
            "runs/{key}/train.json",
            "runs/{key}/model.safetensors",
            "runs/{key}/snapshots.safetensors",
            "runs/{key}/loss.jsonl",
        ),
        needs=_train_needs,
        settings=_train_settings,
        plugins=_train_plugins,
    ),
    "sample": Stage(
        may_fail=True,
        outputs=("samples/{key}/sample.json", "samples/{key}/preview.npy", "samples/{key}/samples.npy"),
        needs=lambda s, key: [Job("train", trained_cell(s, key)), *_autoencoder_of(s, key)],
        settings=lambda s, key: {
            "sampler": _dump(s.tier.recipes[Cell.parse(key).recipe].sampler),
            "guidance": _dump(s.tier.recipes[Cell.parse(key).recipe])["guidance"],
            "at": s.tier.recipes[Cell.parse(key).recipe].at,
            "samples": s.tier.sampling.samples,
            "precision": s.tier.sampling.precision,
            "compile": s.tier.sampling.compile,
            "preview": s.tier.sampling.preview,
        },
        plugins=_sample_plugins,
        scratch=("samples/{key}/samples.npy",),
    ),
    "evaluate": Stage(
        may_fail=True,
        outputs=("evaluation/{key}.json",),
        needs=lambda s, key: [Job("sample", key), *(Job("reference", name) for name in s.tier.evaluation.extractors)],
        settings=lambda s, key: {"evaluation": _dump(s.tier.evaluation)},
        reads_scratch=True,
        plugins=lambda s, key: [m for name in s.tier.evaluation.extractors for m in _encoder_plugins(s, name)],
    ),
    "inspect": Stage(
        may_fail=True,
        outputs=("inspect/{key}.json", "inspect/{key}.csv"),
        needs=lambda s, key: [Job("train", trained_cell(s, key)), *_of_cell(s, key), *_autoencoder_of(s, key)],
        settings=lambda s, key: {"inspection": _dump(s.tier.inspection)},
        plugins=_train_plugins,
    ),
    "table": Stage(
        tolerates_failure=True,
        reads_record_of=RESULTS,
        outputs=("table.json", "table.csv"),
        needs=lambda s, key: _results(s),
        settings=lambda s, key: {"cells": {str(cell): serves for cell, serves in cells(s).items()}},
    ),
    "figure": Stage(
        may_fail=True,
        tolerates_failure=True,
        outputs=tuple(f"figures/{{key}}.{suffix}" for suffix in ("json", "csv", "png", "svg")),
        needs=_figure_needs,
        settings=lambda s, key: {
            "figure": _dump(s.tier.figures[key]),
            "question": s.tier.experiments[s.tier.figures[key].experiment].question,
        },
        plugins=lambda s, key: [plugins.module_name("figures", s.tier.figures[key].kind)],
    ),
    "audit": Stage(
        tolerates_failure=True,
        reads_record_of=RESULTS,
        outputs=("audit/audit.json", "audit/verdicts.json", "audit/verdicts.csv", "audit/changes.csv"),
        needs=lambda s, key: [Job("table"), *_results(s)],
        settings=lambda s, key: {
            "title": s.tier.title,
            "paper": {name: experiment.paper for name, experiment in s.tier.experiments.items()},
            "released": None if s.params.released is None else _outside(s.params.released),
        },
        plugins=lambda s, key: [plugins.module_name("decisions", name) for name in plugins.names("decisions")],
        sources=("workflow/claims.yaml", "workflow/discrepancies.yaml"),
    ),
    "report": Stage(
        tolerates_failure=True,
        outputs=("report.json", "report.html", "report.md"),
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


class Plan:
    """The jobs of one tier, their files below ``root`` and their fingerprints."""

    def __init__(self, settings: Settings, root: Path) -> None:
        self.settings = settings
        self.root = root
        self.results = root / settings.params.results / settings.params.tier
        self._fingerprints: dict[Job, str] = {}

    def needs(self, job: Job) -> list[Job]:
        return STAGES[job.stage].needs(self.settings, job.key)

    def jobs(self, goal: Iterable[Job] = (Job("report"),)) -> list[Job]:
        """Every job that the goal needs, needed ones first."""
        order: dict[Job, None] = {}

        def visit(job: Job) -> None:
            if job not in order:
                for needed in self.needs(job):
                    visit(needed)
                order[job] = None

        for job in goal:
            visit(job)
        return list(order)

    def keys(self, stage: str) -> list[str]:
        """The keys of a stage's jobs in this tier."""
        return [job.key for job in self.jobs() if job.stage == stage]

    def knows(self, job: Job) -> bool:
        """Whether the job is one of this tier's. Figures are asked last: their modules take seconds to import."""
        return job in self.jobs([Job("table")]) or job in self.jobs()

    def outputs(self, job: Job) -> list[Path]:
        return [self.results / pattern.format(key=job.key) for pattern in STAGES[job.stage].outputs]

    def scratch(self, job: Job) -> list[Path]:
        """The outputs that are deleted once they have been read; none where the tier keeps its samples."""
        patterns = () if self.settings.tier.sampling.keep else STAGES[job.stage].scratch
        return [self.results / pattern.format(key=job.key) for pattern in patterns]

    def inputs(self, job: Job) -> list[Path]:
        """Every file that the job reads."""
        return [path for needed in self.needs(job) for path in self._read(job, needed)]

    def _read(self, job: Job, needed: Job) -> list[Path]:
        """The files of a job that another one reads."""
        stage = STAGES[job.stage]
        if needed.stage in stage.reads_record_of:
            return [self.record_path(needed)]
        return [path for path in self.outputs(needed) if stage.reads_scratch or path not in self.scratch(needed)]

    def record_path(self, job: Job) -> Path:
        return self.outputs(job)[0]

    def slice(self, job: Job) -> Slice:
        """The settings that the job's result depends on."""
        return STAGES[job.stage].settings(self.settings, job.key)

    def fingerprint(self, job: Job) -> str:
        if job not in self._fingerprints:
            stage = STAGES[job.stage]
            modules = [*own_modules(job.stage, self.root), *stage.plugins(self.settings, job.key)]
            parts = {
                "job": str(job),
                "settings": self.slice(job),
                "code": source_hash(frozenset(modules)),
                "sources": {name: sha256(self.root / name) for name in stage.sources},
                "inputs": {str(needed): self.fingerprint(needed) for needed in self.needs(job)},
            }
            text = json.dumps(parts, sort_keys=True).encode()
            self._fingerprints[job] = hashlib.sha256(text).hexdigest()
        return self._fingerprints[job]

    def is_current(self, job: Job) -> bool:
        """Whether the job's record is there and was made from the present settings, code and inputs."""
        try:
            return Record(self.record_path(job)).fingerprint == self.fingerprint(job)
        except CacheError:
            return False

    @property
    def restored_path(self) -> Path:
        """Which records were taken over from an archive: their checksums by path below the tier's results."""
        return self.results / "restored.json"

    def spared(self) -> set[Job]:
        """Jobs whose records were taken over from an archive, and of which nothing else is read by a job that has to run.

        What they need does not have to be made again.
        """
        if not self.restored_path.exists():
            return set()
        restored = read_json(self.restored_path)
        run: set[Job] = set()

        def visit(job: Job, wanted: list[Path]) -> None:
            if job in run or (self.is_current(job) and all(path.exists() for path in wanted)):
                return
            run.add(job)
            for needed in self.needs(job):
                visit(needed, self._read(job, needed))

        visit(Job("report"), self.outputs(Job("report")))
        return {job for job in self.jobs() if job not in run and self._is_restored(job, restored)}

    def _is_restored(self, job: Job, restored: dict[str, str]) -> bool:
        path = self.record_path(job)
        known = restored.get(path.relative_to(self.results).as_posix())
        return known is not None and path.exists() and sha256(path) == known

    def record(self, job: Job) -> Record:
        """The record of a finished job. Raises CacheError where it is missing or was made from something else."""
        path = self.record_path(job)
        if not path.exists():
            raise CacheError(f"{path} is missing: run `irepa {job}` first, or let snakemake do it")
        record = Record(path)
        if record.fingerprint != self.fingerprint(job):
            raise CacheError(f"{path} was made from other settings or code: run `irepa {job}` again, or snakemake")
        return record


def own_modules(stage: str, root: Path) -> list[str]:
    """The module of a stage, and what those of its sources that are Python, such as the report's notebook, import."""
    scripts = [root / name for name in STAGES[stage].sources if name.endswith(".py")]
    return [f"irepa.stages.{stage}", *sorted(set().union(*map(imported, scripts)))]


def _module_file(name: str) -> Path | None:
    """The file of a module of this package, or None. By path: importlib would import the packages around it."""
    place = Path(__file__).parent.parent.joinpath(*name.split("."))
    found = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in found if path.is_file()), None)


@functools.cache
def _imports(name: str) -> tuple[str, frozenset[str]]:
    """A module's hash and the modules of this package that it imports."""
    path = _module_file(name)
    assert path is not None, name
    return sha256(path), imported(path)


@functools.cache
def imported(path: Path) -> frozenset[str]:
    """The modules of this package that a Python file imports itself."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    inside = {module for module in found if module.startswith("irepa.") and _module_file(module)}
    return frozenset(inside - PLUMBING)


def sources(modules: Iterable[str]) -> dict[str, Path]:
    """The modules and every module of this package that they import, directly or not, with their files."""
    found: dict[str, Path] = {}
    waiting = sorted(set(modules) - PLUMBING)
    while waiting:
        name = waiting.pop()
        path = _module_file(name)
        if name not in found and path is not None:
            found[name] = path
            waiting += sorted(_imports(name)[1])
    return found


@functools.cache
def source_hash(modules: frozenset[str]) -> str:
    """Hash of the source of the modules and of every module of this package that they import, directly or not."""
    hashes = [(name, _imports(name)[0]) for name in sorted(sources(modules))]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
