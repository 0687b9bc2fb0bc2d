"""What a run needs beyond valid settings, asked for before it starts: data, weights, checkpoints, a compiler, room on the disk.

Everything that is missing is told in one message, and only what jobs need that have to run. Nothing is loaded and nothing is
downloaded. Weights that a library fetches by itself are refused where it is certain that it cannot: they are not in its cache,
and the hub is switched off (HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE) or no connection to its host can be made. Where a proxy is set
that cannot be told, and nothing is refused.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import shutil
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from irepa.audit.claims import read_claims, read_discrepancies
from irepa.config import plugins
from irepa.config.cells import Cell, cells, mirrored_latents, split_encoder, targets
from irepa.config.consistency import most_images
from irepa.config.plugins import offered, plugin_options
from irepa.config.released import no_folder, statistics_folder
from irepa.config.tier import AutoencoderSettings, Settings, Training
from irepa.encoders import Declared, Use
from irepa.errors import ConfigError, IrepaError, WeightsError, gather, refuse
from irepa.pipeline.files import existing, free_bytes, size_of
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.recipes import build_recipe
from irepa.references import check_reference
from irepa.weights import HUB_HOST, Download

Checks = Iterator[Callable[[], object]]
Runs = Callable[[Job], bool]  # whether a job has to run
SWITCHED_ON = ("1", "ON", "YES", "TRUE")  # how the hub's libraries read a variable of the environment
PATIENCE = 3  # seconds for a connection
HTTPS = 443


def check_start(plan: Plan, weights: bool = True) -> None:
    """Refuse, in one message, everything that a run of the plan lacks. Arguments as of :func:`check_machine`."""
    workflow, runs = plan.root / "workflow", jobs_of(plan).__contains__
    refuse(
        gather(
            [
                functools.partial(check_machine, plan.settings, weights, runs),
                functools.partial(check_claims, workflow),
                functools.partial(check_disk, plan),
                functools.partial(check_results, plan),
            ]
        )
    )


def every_job(job: Job) -> bool:
    """That all jobs of a tier have to run."""
    return True


def jobs_of(plan: Plan) -> set[Job]:
    """The jobs of a plan that have to run: neither up to date, nor spared because `irepa restore` took over what follows."""
    return {job for job in plan.jobs() if not plan.is_current(job)} - plan.spared()


def check_claims(workflow: Path) -> None:
    """Refuse claims and discrepancies that cannot be read, before a run that ends with them."""
    refuse(gather([functools.partial(read_claims, workflow), functools.partial(read_discrepancies, workflow)]))


def check_machine(settings: Settings, weights: bool = True, runs: Runs = every_job) -> None:
    """Refuse everything that is missing on this machine. Not asked for a dry run.

    Args:
        weights: False where jobs run in another environment than this one, and look there for packages, weights and a compiler.
        runs: which jobs have to run.
    """
    checks = [*_files(settings, runs), *_arithmetic(settings, runs)]
    if weights:
        fetched = functools.partial(check_downloads, settings, runs)
        checks += [*_weights(settings, runs), *_compilers(settings, runs), fetched]
    refuse(gather(checks))


def _files(settings: Settings, runs: Runs) -> Checks:
    """The dataset and the files that settings name."""
    tier = settings.tier
    if runs(Job("data")):
        options = plugin_options("data", tier.dataset, "dataset")
        yield functools.partial(plugins.load("data", tier.dataset.name, "dataset").check, options)
    for key, path in tier.checkpoints.items():
        if runs(Job("train", key)):
            cure = "give the path of the checkpoint, or take the key out"
            yield functools.partial(_is_file, f"checkpoints: {key}", path, cure)
    for key, row in _autoencoders(settings, runs).items():
        if row.statistics is not None:
            cure = "give the path of the statistics file that was published beside the checkpoint or the autoencoder"
            yield functools.partial(_is_file, f"{key}.statistics", row.statistics, cure)
    for judge, path in tier.evaluation.references.items():
        if runs(Job("reference", judge)):
            cure = "give the path of the .npz, or take the key out to compare with the training images"
            yield functools.partial(_is_reference, f"evaluation.references: {judge}", path, cure, settings, judge)
    statistics = statistics_folder(settings)
    if statistics is not None and runs(Job("audit")):
        yield functools.partial(_has_statistics, statistics)
    if tier.released is not None and settings.params.released is None:
        yield functools.partial(refuse, [ConfigError(no_folder(tier))])


def _is_file(key: str, path: Path, cure: str) -> None:
    if not path.is_file():
        raise ConfigError(f"{key} = {path}: there is no such file; {cure}")


def _is_reference(key: str, path: Path, cure: str, settings: Settings, judge: str) -> None:
    _is_file(key, path, cure)
    entry = settings.catalogue[judge]
    library = Declared.of(judge, entry, settings.tier.evaluation.input_size).library
    dim = library.judge_dim
    if dim is None and importlib.util.find_spec("torch") is not None:  # jobs of another environment look for themselves
        from irepa.engine.judges import width

        dim = width(judge, entry, settings.tier.evaluation)
    check_reference(path, dim, library.judge_spatial_dim)


def _has_statistics(folder: Path) -> None:
    if not (folder / "stats" / "fid").is_dir():
        raise ConfigError(
            f"released = {folder}: there is no folder stats/fid in it; `pydoc irepa.audit.evidence.released` says how to fetch "
            "it, and null goes without"
        )


def _arithmetic(settings: Settings, runs: Runs) -> Checks:
    """fp16 needs a CUDA device: torch is asked for one, which takes seconds, only where that is set."""
    keys = [f"{key}.precision" for key, training in _trainings(settings, runs) if training.precision == "fp16"]

    def has_device() -> None:
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(f"{', '.join(keys)} = fp16 needs a CUDA device; allowed here are fp32, bf16")

    if keys:
        yield has_device


def _trainings(settings: Settings, runs: Runs) -> Iterator[tuple[str, Training]]:
    """How the trainings that have to run are set, by key."""
    tier = settings.tier
    trained = {key for key in map(str, cells(settings)) if not tier.adopts(key)}
    recipes = sorted({Cell.parse(key).recipe for key in trained if runs(Job("train", key))})
    if any(not tier.recipes[recipe].training for recipe in recipes):
        yield "training", tier.training
    for recipe in recipes:
        if tier.recipes[recipe].training:
            yield f"recipes.{recipe}.training", tier.training_of(recipe)
    for name, pretraining in settings.tier.pretraining.items():
        if runs(Job("pretrain", name)):
            yield f"pretraining.{name}.training", pretraining.training


def _compilers(settings: Settings, runs: Runs) -> Checks:
    """torch.compile looks for the compiler of $CXX, or for g++ (clang++ on macOS), and for no other."""
    keys = [f"{key}.compile" for key, training in _trainings(settings, runs) if training.compile]
    sampled = any(runs(Job("sample", str(cell))) for cell in cells(settings))
    keys += ["sampling.compile"] if settings.tier.sampling.compile and sampled else []
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")

    def has_compiler() -> None:
        if shutil.which(compiler) is None:
            asked = (
                "CXX in the environment names it" if "CXX" in os.environ else "CXX in the environment may name another"
            )
            raise ConfigError(
                f"{', '.join(keys)} = true needs a C++ compiler, and {compiler} is not on this machine ({asked}); install one, "
                "or set this to false"
            )

    if keys:
        yield has_compiler


def encoders_of(settings: Settings, runs: Runs) -> list[Declared]:
    """Of those that a job will build: alignment targets and what they are fitted to, then judges. Raises ConfigError."""
    tier = settings.tier
    names = {split_encoder(target)[0] for target in targets(settings)}
    while bases := {base for name in names if (base := settings.catalogue[name].base) is not None} - names:
        names |= bases
    aligned = [
        Declared.of(name, settings.catalogue[name], tier.features.input_size)
        for name in sorted(names)
        if runs(Job("features", name))
    ]
    judged = any(runs(Job("evaluate", str(cell))) for cell in cells(settings))
    judges = [
        Declared.of(name, settings.catalogue[name], tier.evaluation.input_size)
        for name in tier.evaluation.extractors
        if judged or runs(Job("reference", name))
    ]
    return aligned + judges


def check_encoders(settings: Settings, runs: Runs = every_job) -> None:
    """Refuse every encoder or judge that its library does not give, or whose package or file of weights is not here."""
    checks: list[Callable[[], object]] = []
    judges = settings.tier.evaluation.extractors
    for declared in encoders_of(settings, runs):
        fitted = settings.catalogue[declared.name].base is not None
        use: Use = "judge" if declared.name in judges else "fit" if fitted else "encoder"
        checks.append(functools.partial(declared.check, use))
    refuse(gather(checks))


def _weights(settings: Settings, runs: Runs) -> Checks:
    """What encoders, judges and autoencoders need of packages and files."""
    yield functools.partial(check_encoders, settings, runs)
    for key, row in _autoencoders(settings, runs).items():
        check = offered("autoencoders", row.name, "check", lambda name, options: None)
        yield functools.partial(check, key, plugin_options("autoencoders", row, key))


def _autoencoders(settings: Settings, runs: Runs) -> dict[str, AutoencoderSettings]:
    """Those that a job will build, by the key that names them."""
    tier, stages = settings.tier, ("train", "inspect", "sample")
    used = dict.fromkeys(
        tier.recipes[cell.recipe].autoencoder
        for cell in cells(settings)
        if any(runs(Job(stage, str(cell))) for stage in stages)
    )
    rows = {
        "autoencoder" if name is None else f"autoencoders.{name}": tier.autoencoder
        if name is None
        else tier.autoencoders[name]
        for name in used
    }
    return {key: row for key, row in rows.items() if not row.trained_here}


@dataclass(frozen=True)
class Needed:
    """A download, and what needs it: ``encoder dino-b``."""

    what: str
    download: Download


def downloads(settings: Settings, runs: Runs = every_job) -> list[Needed]:
    """Weights that libraries fetch by themselves when the jobs that run ask for them, and that this machine has not."""
    judges = settings.tier.evaluation.extractors
    wanted: dict[str, Download | None] = {}
    for declared in encoders_of(settings, runs):
        kind = "judge" if declared.name in judges else "encoder"
        wanted[f"{kind} {declared.name}"] = declared.library.download(declared.options)
    for key, row in _autoencoders(settings, runs).items():
        fetched = offered("autoencoders", row.name, "download", lambda options: None)
        wanted[key] = fetched(plugin_options("autoencoders", row, key))
    trained = (cell for cell in cells(settings) if runs(Job("train", str(cell))))
    for name in dict.fromkeys(cell.recipe for cell in trained):
        for download in build_recipe(settings.tier, name).downloads():
            wanted[f"recipes.{name} ({download.address.rsplit('/', 1)[-1]})"] = download
    return [Needed(what, one) for what, one in wanted.items() if one is not None and not one.is_here]


def check_downloads(settings: Settings, runs: Runs = every_job) -> None:
    """Raises WeightsError, one for each host, where it is certain that weights cannot be had."""
    by_host: dict[str, list[Needed]] = {}
    for needed in downloads(settings, runs):
        if needed.download.cached is not None:
            by_host.setdefault(needed.download.host, []).append(needed)
    refuse([_unreachable(host, needed) for host, needed in by_host.items() if barrier(host) is not None])


def _unreachable(host: str, needed: list[Needed]) -> WeightsError:
    lines = [
        f"weights are not on this machine, and {barrier(host)}; fetch them where {host} can be reached and copy the cache, or "
        "name files of your own (`weights` of a row of workflow/encoders.yaml, or of the autoencoder):"
    ]
    return WeightsError("\n".join([*lines, *(f"  {one.what}: `{one.download.fetch}`" for one in needed)]))


@functools.cache
def barrier(host: str) -> str | None:
    """Why nothing can be fetched from a host; None where it can, or where that cannot be told."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if host == HUB_HOST and os.environ.get(variable, "").upper() in SWITCHED_ON:
            return f"{variable} = {os.environ[variable]} switches {host} off"
    if urllib.request.getproxies():
        return None
    try:
        socket.create_connection((host, HTTPS), timeout=PATIENCE).close()
    except OSError as error:
        return f"{host} cannot be reached ({error.strerror or error})"
    return None


def check_results(plan: Plan, only_existing: bool = False) -> None:
    """Refuse results that jobs which have to run cannot write; ``only_existing``: or, of files that are there, replace."""
    stale = sorted(jobs_of(plan))
    places = {path: job for job in stale for path in plan.outputs(job) if path.exists() or not only_existing}
    closed: dict[Path, Job] = {}
    for path, job in places.items():
        place = existing(path)
        if not os.access(place, os.W_OK) or (place != path and not place.is_dir()):
            closed.setdefault(place, job)
    if closed:
        place, job = next(iter(closed.items()))
        more = f", and {len(closed) - 1} more" if len(closed) > 1 else ""
        raise IrepaError(
            f"results = {plan.settings.params.results}: {place}{more} cannot be written to, and {job} has to run "
            f"({len(stale)} jobs in all); see that it is a folder that you may write to, or set `results` in params.yaml to one"
        )


def check_disk(plan: Plan) -> None:
    """Refuse a disk that has no room for what is sure to be written: images, latents and samples, as the tier's sizes have it."""
    needed = {name: count for name, count in written(plan).items() if count}
    folder = existing(plan.results)
    free, total = free_bytes(folder), sum(needed.values())
    if total > free:
        parts = ", ".join(f"{name} {size_of(count)}" for name, count in needed.items())
        raise IrepaError(
            f"results = {plan.settings.params.results}: at least {size_of(total)} will be written ({parts}; tokens and weights "
            f"come on top), {size_of(free)} are free on the file system of {folder.resolve()}; make room there, or set "
            "`results` to a folder on another disk; `irepa plan` says what each stage takes"
        )


def written(plan: Plan) -> dict[str, int]:
    """Bytes that jobs which have to run will write, at least, by what they are; no images of a dataset of unknown size."""
    settings, tier = plan.settings, plan.settings.tier
    pixels = 3 * tier.dataset.image_size**2
    (train, test), jobs = images_of(settings), plan.jobs()
    sizes: dict[str, int] = {"images": 0, "latents": 0, "samples": 0}
    if not plan.is_current(Job("data")):
        sizes["images"] = (train + test + tier.dataset.judge_images) * pixels
    for job in jobs:
        if job.stage == "latents" and not plan.is_current(job):
            row, views = settings.precomputed(job.key), 1 + (job.key in mirrored_latents(settings))
            shape_of = offered("autoencoders", row.name, "shape_of", lambda options, size: None)
            shape = shape_of(plugin_options("autoencoders", row, "autoencoder"), tier.dataset.image_size)
            sizes["latents"] += 0 if shape is None else views * train * 2 * math.prod(shape) * 4
    drawn = sum(1 for cell in cells(settings) if not plan.is_current(Job("sample", str(cell))))
    # One set is written as it is before it is compressed; how small those are that are kept nobody knows beforehand.
    sizes["samples"] = min(drawn, 1) * tier.sampling.samples * pixels
    return sizes


def images_of(settings: Settings) -> tuple[int, int]:
    """Training and held-out images that the dataset is sure to have, 0 where that is not known.

    The tier's ``expected`` sizes are those of its own dataset: they say nothing where params.yaml names another one.
    """
    tier, overridden = settings.tier, settings.params.overrides
    groups = {key.split(".")[0] for key in overridden}
    if tier.expected is None or ("dataset" in groups and "expected" not in groups):
        return 0, 0
    train, test = (
        count if limit is None else min(count, limit)
        for count, limit in zip((tier.expected.train_images, tier.expected.test_images), most_images(tier), strict=True)
    )
    return train, test
