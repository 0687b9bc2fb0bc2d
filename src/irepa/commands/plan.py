"""What a tier costs before it is run: arithmetic, GPU-hours and disk of every job, and a cheap subset of each experiment.

Arithmetic is counted by running each network once on a device without storage (a multiply-add counts as two); what has been
counted is kept. GPU-hours are that arithmetic at a share of a card's peak matrix-product rate. What a job reads and decodes goes
on beside that: the plan says how many bytes a second and how many cores keep a GPU busy.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from irepa.audit.statistics import correlation_power
from irepa.autoencoders import AutoencoderFacts
from irepa.commands.check import downloads
from irepa.commands.counted import Counted
from irepa.commands.describe import (
    EncoderFacts,
    ShapesAlone,
    describe_encoder,
    judge_flops,
    network_facts,
    projector_facts,
)
from irepa.config import plugins
from irepa.config.cells import NO_ENCODER, Cell, cells, early_steps, experiment_cells, mirrored_latents, split_encoder
from irepa.config.plugins import plugin_options
from irepa.config.released import download_command, notes
from irepa.config.tier import AutoencoderSettings, EncoderEntry, Expected
from irepa.engine.network import describe_autoencoder
from irepa.engine.trainer import steps_taken
from irepa.errors import ConfigError
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.tokens import cache_bytes, storage_grid

if TYPE_CHECKING:
    from rich.table import Table

# Peak dense bf16 matrix-product rate in FLOP/s, from the makers' data sheets.
GPUS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "L40S": 362e12, "RTX4090": 165e12}
BACKWARD = 2  # a backward pass takes about two forward passes
PIXEL, FLOAT = 1, 4  # bytes

# What an image takes of a disk and of a core, by `dataset.storage`: bytes as a share of the pixels' own, and seconds to pack and
# to unpack a million pixels (4 and 1.5 ms for 256x256), as measured on photographs on one core of an AMD EPYC.
BYTES = {"raw": 1.0, "webp": 0.45}
PACK, UNPACK = {"raw": 0.0, "webp": 0.061}, {"raw": 0.0, "webp": 0.023}
PER_GPU = ("bytes_per_gpu_second", "cores_per_gpu")
DECODE = 0.003  # seconds of a core to decode and crop a photograph of the dataset's own, 500x375 in JPEG


@dataclass(frozen=True)
class Cost:
    """What jobs cost.

    Attributes:
        flops: arithmetic, a multiply-add counted as two.
        disk: bytes that stay, but for the images.
        scratch: bytes that are deleted once they have been read.
        stored: images that stay.
        images: stored images that are read, each as often as it is.
        read: other bytes that are read, latents and tokens.
        decoded: photographs of the dataset that are decoded.
    """

    flops: float = 0.0
    disk: float = 0.0
    scratch: float = 0.0
    stored: float = 0.0
    images: float = 0.0
    read: float = 0.0
    decoded: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*map(sum, zip(astuple(self), astuple(other), strict=True)))


class Budget:
    """Costs of the jobs of one plan. Raises ConfigError where the tier does not say how large its dataset is."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.settings, self.tier = plan, plan.settings, plan.settings.tier
        self.sizes = self._sizes()
        self.counted = Counted()
        self.pixels = 3 * self.tier.dataset.image_size**2
        self.tokens = math.prod(self.tier.grid)

    @functools.cache  # noqa: B019
    def autoencoder_of(self, recipe: str) -> AutoencoderFacts:
        return self._describe(self.settings.autoencoder(recipe))

    def _describe(self, autoencoder: AutoencoderSettings) -> AutoencoderFacts:
        size = self.tier.dataset.image_size
        asked, built_by = [_dump(autoencoder), size], ("autoencoders", autoencoder.name)
        with ShapesAlone():
            return self.counted.of(AutoencoderFacts, asked, built_by, lambda: describe_autoencoder(autoencoder, size))

    def _sizes(self) -> Expected:
        if self.plan.is_current(Job("data")):
            sizes = self.plan.record(Job("data")).metrics
            return Expected(**{key: sizes[key] for key in Expected.model_fields})
        if self.tier.expected is None:
            raise ConfigError("the tier has no `expected` sizes and its data stage has not run: nothing to plan with")
        return self.tier.expected

    @functools.cache  # noqa: B019 (a budget lives as long as its command)
    def encoder(self, name: str) -> EncoderFacts:
        catalogue, entry = self.settings.catalogue, self.settings.catalogue[name]
        sizes = (self.tier.grid, self.tier.dataset.image_size, self.tier.features.input_size)
        asked, built_by = [name, *map(_dump, _chain(catalogue, name)), sizes], ("encoders", entry.library)
        return self.counted.of(EncoderFacts, asked, built_by, lambda: describe_encoder(name, catalogue, *sizes))

    @functools.cache  # noqa: B019
    def judge(self, name: str) -> float:
        entry = self.settings.catalogue[name]
        sizes = (self.tier.dataset.image_size, self.tier.evaluation.input_size)
        asked, built_by = ["judge", _dump(entry), sizes], ("encoders", entry.library)
        return self.counted.of(float, asked, built_by, lambda: judge_flops(name, entry, *sizes))

    @functools.cache  # noqa: B019
    def network(self, recipe: str, scale: str) -> tuple[int, int]:
        tier, architecture = self.tier, self.tier.recipes[recipe].architecture
        shape, classes = self.autoencoder_of(recipe).shape, self.sizes.classes
        asked = [_dump(tier.scales[scale]), shape, classes, tier.grid]
        count = functools.partial(network_facts, tier, recipe, scale, shape, classes)
        return self.counted.of(tuple[int, int], asked, ("architectures", architecture), count)

    @functools.cache  # noqa: B019
    def projector(self, method: str, scale: str, dim: int) -> tuple[int, int]:
        return projector_facts(self.settings.methods[method], self.tier.scales[scale], dim, self.tier.grid)

    def _cache_bytes(self, name: str, images: int) -> int:
        facts = self.encoder(name)
        stored = storage_grid(facts.grid, self.tier.grid)
        return cache_bytes(images, math.prod(stored), facts.dim, np.dtype(self.tier.features.dtype))

    def online(self, name: str) -> bool:
        """Whether an encoder's training tokens would exceed the tier's disk limit."""
        return self._cache_bytes(name, self.sizes.train_images) > self.tier.features.disk_limit_gib * 2**30

    def cost(self, job: Job) -> Cost:
        """What one job costs; stages that only read and draw cost nothing that counts."""
        return COSTS[job.stage](self, job.key) if job.stage in COSTS else Cost()

    def total(self, jobs: Iterable[Job]) -> Cost:
        return sum((self.cost(job) for job in jobs), Cost())

    def _data(self, key: str) -> Cost:
        images = self.sizes.train_images + self.sizes.test_images + self.tier.dataset.judge_images
        return Cost(stored=images, decoded=images)

    def _latents(self, key: str) -> Cost:
        images = self.sizes.train_images * (1 + (key in mirrored_latents(self.settings)))
        facts = self._describe(self.settings.precomputed(key))
        return Cost(images * facts.encode_flops, images * _moments(facts), images=images)

    def _pretrain(self, key: str) -> Cost:
        chosen = self.tier.pretraining[key]
        images = chosen.training.steps * chosen.training.batch
        facts = self.encoder(chosen.encoder)
        return Cost((1 + BACKWARD) * images * facts.flops, facts.parameters * FLOAT, images=images)

    def _metric_images(self) -> int:
        return min(self.tier.spatial.images, self.sizes.test_images)

    def _features(self, key: str) -> Cost:
        images = self._metric_images() + (0 if self.online(key) else self.sizes.train_images)
        return Cost(images * self.encoder(key).flops, self._cache_bytes(key, images), images=images)

    def _spatial(self, key: str) -> Cost:
        base, images = split_encoder(key)[0], self._metric_images()
        return Cost(images * 2 * self.tokens**2 * self.encoder(base).dim, read=self._cache_bytes(base, images))

    def _probe(self, key: str) -> Cost:
        base = split_encoder(key)[0]
        images = min(self.tier.probe.train_images or self.sizes.train_images, self.sizes.train_images)
        if self.online(base):
            return Cost(images * self.encoder(base).flops, images=images)
        return Cost(read=self._cache_bytes(base, images))

    def _reference(self, key: str) -> Cost:
        if key in self.tier.evaluation.references:
            return Cost()
        return Cost(self.sizes.train_images * self.judge(key), images=self.sizes.train_images)

    def _floor(self, key: str) -> Cost:
        images = min(self.tier.sampling.samples, self.sizes.test_images)
        return Cost(images * self.judge(key), images=images)

    def _train(self, key: str) -> Cost:
        cell = Cell.parse(key)
        parameters, forward = self.network(cell.recipe, cell.scale)
        if self.tier.adopts(key):
            return Cost(disk=parameters * FLOAT)
        training = self.tier.training_of(cell.recipe)
        seen = steps_taken(training, early_steps(self.settings, key)) * training.batch
        latents = self.settings.latents_of(cell.recipe)
        read = 0 if latents is None else seen * _moments(self._describe(self.settings.precomputed(latents)))
        online = 0.0
        if cell.encoder != NO_ENCODER:
            base = split_encoder(cell.encoder)[0]
            extra = self.projector(cell.method, cell.scale, self.encoder(base).dim)
            parameters, forward = parameters + extra[0], forward + extra[1]
            online = self.encoder(base).flops if training.flips or self.online(base) else 0.0
            read += 0 if online else self._cache_bytes(base, seen)
        encode = 0 if latents is not None else self.autoencoder_of(cell.recipe).encode_flops
        flops = seen * ((1 + BACKWARD) * forward + online + encode)
        return Cost(flops, parameters * FLOAT, images=seen if online or latents is None else 0, read=read)

    def _sample(self, key: str) -> Cost:
        cell = Cell.parse(key)
        recipe, images = self.tier.recipes[cell.recipe], self.tier.sampling.samples
        sampler = plugins.load("samplers", recipe.sampler.name, key)
        steps = sampler.build(plugin_options("samplers", recipe.sampler, key)).evaluations
        guidance = recipe.guidance  # its interval is as long in either direction of time
        share = 0.0 if guidance is None else guidance.high - guidance.low
        per_image = (
            steps * (1 + share) * self.network(cell.recipe, cell.scale)[1]
            + self.autoencoder_of(cell.recipe).decode_flops
        )
        size = images * self.pixels * PIXEL
        kept = self.tier.sampling.keep
        return Cost(images * per_image, disk=size if kept else 0.0, scratch=0.0 if kept else size)

    def _evaluate(self, key: str) -> Cost:
        samples = self.tier.sampling.samples
        return Cost(samples * sum(map(self.judge, self.tier.evaluation.extractors)), read=samples * self.pixels * PIXEL)

    def experiment_jobs(self, name: str, only: set[Cell] | None = None) -> list[Job]:
        """Every job that an experiment needs if it is run alone; ``only`` keeps some of its cells."""
        chosen = experiment_cells(self.settings, self.tier.experiments[name])
        kept = [cell for cell in chosen if only is None or cell in only]
        goal = [Job("evaluate", str(cell)) for cell in kept]
        encoders = sorted({cell.encoder for cell in kept} - {NO_ENCODER})
        goal += [Job(stage, encoder) for encoder in encoders for stage in ("spatial", "probe")]
        return self.plan.jobs(goal)

    def cheapest(self, name: str) -> set[Cell]:
        """The cells of an experiment at its cheapest scale; where one encoder per family is enough, the cheapest of each."""
        experiment = self.tier.experiments[name]
        chosen = experiment_cells(self.settings, experiment)
        scale = min(
            dict.fromkeys(cell.scale for cell in chosen),
            key=lambda s: min(self.network(c.recipe, s)[1] for c in chosen),
        )
        there = [cell for cell in chosen if cell.scale == scale]  # of released runs, not every encoder at every scale
        bases = {split_encoder(cell.encoder)[0] for cell in there} - {NO_ENCODER}
        members: dict[str, str] = {}
        for base in sorted(bases, key=lambda base: (self.encoder(base).flops, base)):
            family = self.settings.catalogue[base].family
            members.setdefault(family if experiment.one_per_family else base, base)
        kept = {NO_ENCODER, *members.values()}
        return {cell for cell in there if split_encoder(cell.encoder)[0] in kept}


def _moments(facts: AutoencoderFacts) -> int:
    """Bytes of the mean and deviation of an image's latent."""
    return 2 * math.prod(facts.shape) * FLOAT


def _dump(part: BaseModel) -> Any:
    return part.model_dump(mode="json")


def _chain(catalogue: Mapping[str, EncoderEntry], name: str) -> Iterator[EncoderEntry]:
    """A row of encoders.yaml, and those that it is fitted to."""
    following: str | None = name
    while following is not None:
        yield catalogue[following]
        following = catalogue[following].base


COSTS: dict[str, Callable[[Budget, str], Cost]] = {
    "data": Budget._data,
    "latents": Budget._latents,
    "pretrain": Budget._pretrain,
    "features": Budget._features,
    "spatial": Budget._spatial,
    "probe": Budget._probe,
    "reference": Budget._reference,
    "floor": Budget._floor,
    "train": Budget._train,
    "sample": Budget._sample,
    "evaluate": Budget._evaluate,
}


def feeding(cost: Cost, pixels: int, storage: str, seconds: float) -> dict[str, float]:
    """What is read and unpacked beside the GPUs, with images stored in one way: in all, and for each second of a GPU.

    Args:
        pixels: bytes of an image as it is.
        seconds: of the GPUs in all; what takes less than a minute says nothing for each.
    """
    read = cost.read + cost.images * pixels * BYTES[storage]
    cores = cost.images * pixels / 3e6 * UNPACK[storage] + cost.decoded * DECODE
    cores += cost.stored * pixels / 3e6 * PACK[storage]
    each = {"bytes_per_gpu_second": read / seconds, "cores_per_gpu": cores / seconds} if seconds >= 60 else {}
    return {"read_bytes": read, "core_hours": cores / 3600, **each}


def summary(budget: Budget, peak: float, utilisation: float) -> dict[str, Any]:
    """Costs by stage, by experiment and of the cheapest subset, as plain numbers."""
    plan, tier = budget.plan, budget.tier
    rate, storage = peak * utilisation, tier.dataset.storage

    def row(jobs: Collection[Job]) -> dict[str, float]:
        cost = budget.total(jobs)
        images = {f"disk_bytes_{kind}": cost.stored * budget.pixels * share for kind, share in BYTES.items()}
        kept = cost.disk + images[f"disk_bytes_{storage}"]
        sizes = {"disk_bytes": kept, "scratch_bytes": cost.scratch} | (images if cost.stored else {})
        return {"jobs": len(jobs), "flops": cost.flops, "gpu_hours": cost.flops / rate / 3600, **sizes}

    def fed(jobs: Collection[Job]) -> dict[str, dict[str, float]]:
        """By storage: the sums over jobs, and what the hungriest asks for while a GPU computes, of those that last a minute."""
        found = {}
        for kind in BYTES:
            of_jobs = [feeding(cost, budget.pixels, kind, cost.flops / rate) for cost in map(budget.cost, jobs)]
            sums = {name: sum(one[name] for one in of_jobs) for name in ("read_bytes", "core_hours")}
            most = {name: max((one[name] for one in of_jobs if name in one), default=None) for name in PER_GPU}
            found[kind] = sums | {name: value for name, value in most.items() if value is not None}
        return found

    jobs = plan.jobs()
    stages: dict[str, dict[str, Any]] = {}
    for stage in dict.fromkeys(job.stage for job in jobs):
        of_stage = [job for job in jobs if job.stage == stage]
        stages[stage] = {**row(of_stage), "feeding": fed(of_stage)}
    union: set[Job] = set()
    experiments: dict[str, dict[str, Any]] = {}
    for name, experiment in tier.experiments.items():
        alone = budget.experiment_jobs(name)
        subset = budget.cheapest(name)
        small = budget.experiment_jobs(name, subset)
        union |= set(small)
        aligned = {cell.encoder for cell in subset} - {NO_ENCODER}
        correlates = experiment.one_per_family and len({cell.method for cell in subset}) == 1
        experiments[name] = {
            "runs": len(experiment_cells(budget.settings, experiment)),
            "alone": row(alone),
            "cheapest": row(small),
            "cheapest_runs": len(subset),
            "cheapest_encoders": sorted(aligned),
            "cheapest_scales": sorted({cell.scale for cell in subset}),
            "power_at_r_0.85": correlation_power(0.85, len(aligned)) if correlates else None,
        }
    bases = sorted({split_encoder(cell.encoder)[0] for cell in cells(budget.settings)} - {NO_ENCODER})
    return {
        "stages": stages,
        "storage": storage,
        "released": released(budget, rate),
        "total": row(jobs),
        "experiments": experiments,
        "cheapest_total": row(sorted(union)),
        "online": [name for name in bases if budget.online(name)],
        "cached": [name for name in bases if not budget.online(name)],
        "largest_samples": max((budget.cost(job).scratch for job in jobs if job.stage == "sample"), default=0.0),
    }


def released(budget: Budget, rate: float) -> dict[str, Any] | None:
    """Of a tier of released checkpoints: each of them, what is to be downloaded, and what was found in their folder."""
    settings, tier = budget.settings, budget.tier
    if tier.released is None:
        return None
    first = [download_command(tier)] if settings.taken is None else []
    weights = [f"{needed.what}: {needed.download.fetch}" for needed in downloads(settings)]
    return {"runs": released_runs(budget, rate), "downloads": first + weights, "notes": notes(settings)}


def released_runs(budget: Budget, rate: float) -> dict[str, dict[str, Any]]:
    """What each released checkpoint costs, by cell: GPU-hours of the jobs that it alone is needed for, and its download.

    A file holds the weights, their average and the two moments of AdamW, in fp32: ``bytes`` where it is not there yet.
    """
    found = {}
    for cell in cells(budget.settings):
        key, path = str(cell), budget.tier.checkpoints.get(str(cell))
        flops = budget.total(Job(stage, key) for stage in ("train", "sample", "evaluate")).flops
        size = 4 * FLOAT * budget.network(cell.recipe, cell.scale)[0]
        found[key] = {
            "run": None if path is None else path.parents[1].name,
            "gpu_hours": flops / rate / 3600,
            "bytes": 0 if path else size,
        }
    return found


def released_table(costs: dict[str, Any]) -> Table:
    """A row per released checkpoint."""
    from rich.table import Column, Table

    table = Table("cell", Column("run", overflow="fold"), title="Each released checkpoint")
    for column in ("GPU-hours", "to download, GB"):
        table.add_column(column, justify="right")
    runs = costs["released"]["runs"]
    for cell, run in runs.items():
        table.add_row(cell, run["run"] or "not there", f"{run['gpu_hours']:,.2f}", f"{run['bytes'] / 1e9:,.1f}")
    table.add_section()
    hours, size = (sum(run[name] for run in runs.values()) for name in ("gpu_hours", "bytes"))
    table.add_row(f"{len(runs)} checkpoints", "", f"{hours:,.1f}", f"{size / 1e9:,.1f}")
    return table


def feeding_table(costs: dict[str, Any]) -> Table:
    """What disks and cores have to give while the GPUs compute, with images stored as each storage has them."""
    from rich.table import Table

    table = Table("stage", "images as", title="Beside the GPUs: what is read, decoded, packed and unpacked")
    for column in ("stored, GB", "read, TB", "core-hours", "MB/s per GPU", "cores per GPU"):
        table.add_column(column, justify="right")
    for stage, part in costs["stages"].items():
        for kind, fed in part["feeding"].items():
            if fed["read_bytes"] or fed["core_hours"]:
                stored = part.get(f"disk_bytes_{kind}")
                table.add_row(
                    stage,
                    f"{kind}, chosen" if kind == costs["storage"] else kind,
                    "" if stored is None else f"{stored / 1e9:,.0f}",
                    f"{fed['read_bytes'] / 1e12:,.1f}",
                    f"{fed['core_hours']:,.1f}",
                    f"{fed['bytes_per_gpu_second'] / 1e6:,.0f}" if "bytes_per_gpu_second" in fed else "",
                    f"{fed['cores_per_gpu']:,.1f}" if "cores_per_gpu" in fed else "",
                )
    return table


def show(costs: dict[str, Any], gpu: str, peak: float, utilisation: float) -> None:
    """The numbers of :func:`summary` as tables, with the assumptions behind them."""
    from rich.table import Table

    from irepa.commands.screen import screen

    console = screen(130)

    def row(part: dict[str, Any]) -> list[str]:
        amounts = (part["flops"] / 1e18, part["gpu_hours"], part["disk_bytes"] / 1e9, part["scratch_bytes"] / 1e9)
        return [f"{part['jobs']:,}", *(f"{amount:,.1f}" for amount in amounts)]

    columns = ("jobs", "EFLOP", "GPU-hours", "disk, GB", "scratch, GB")
    stages = Table("stage", title="Every job of the tier")
    alone = Table("experiment", "runs", title="Each experiment alone")
    small = Table("experiment", "runs", title="The cheapest subset of each experiment")
    for table in (stages, alone, small):
        for column in columns:
            table.add_column(column, justify="right")
    for stage, part in costs["stages"].items():
        stages.add_row(stage, *row(part))
    stages.add_section()
    stages.add_row("total", *row(costs["total"]))
    for name, part in costs["experiments"].items():
        alone.add_row(name, str(part["runs"]), *row(part["alone"]))
        small.add_row(name, str(part["cheapest_runs"]), *row(part["cheapest"]))
    small.add_section()
    small.add_row("together", "", *row(costs["cheapest_total"]))
    for table in (stages, feeding_table(costs), alone, small):
        console.print(table)
    if costs["released"] is not None:
        console.print(released_table(costs))
        for line in costs["released"]["notes"]:
            console.print(line)
        if costs["released"]["downloads"]:
            console.print("\nTo be downloaded, besides the images:", *costs["released"]["downloads"], sep="\n  ")
    for name, part in costs["experiments"].items():
        power = part["power_at_r_0.85"]
        note = "" if power is None else f"; power to see |r| = 0.85 at alpha = 0.05: {power:.2f}"
        chosen = f"{', '.join(part['cheapest_scales'])}: {', '.join(part['cheapest_encoders']) or 'no encoder'}"
        console.print(f"{name}: {chosen}{note}")
    console.print(f"\nEncoders that run online in training: {', '.join(costs['online']) or 'none'}")
    console.print(f"Encoders whose tokens are stored: {', '.join(costs['cached']) or 'none'}")
    console.print(
        f"Assumptions: {gpu} at {utilisation:.0%} of {peak / 1e12:.0f} TFLOP/s (dense bf16); a multiply-add counts as two; a "
        f"backward pass as two forward passes; scratch is the sum over runs, at most "
        f"{costs['largest_samples'] / 1e9:.1f} GB per run at a time; masks, probes and figures are not counted. "
        "Per GPU is what the hungriest job of a stage asks for at that speed, of those that take a minute; what the system keeps "
        "in memory is not read again. "
        "The subset keeps the cheapest scale and, where one encoder per family still answers the question, the cheapest of each.",
    )
