"""What a tier costs before it is run: arithmetic, GPU-hours and disk of every job, and a cheap subset of each experiment.

Arithmetic is counted by running each network once on a device without storage (a multiply-add counts as two). GPU-hours are that
arithmetic at a share of a card's peak matrix-product rate; reading, decoding and everything on the CPU are not in them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from irepa.audit.statistics import correlation_power
from irepa.autoencoders import AutoencoderFacts
from irepa.commands.describe import EncoderFacts, describe_encoder, judge_flops, network_facts, projector_facts
from irepa.config import plugins
from irepa.config.cells import NO_ENCODER, Cell, cells, experiment_cells, mirrored_latents, split_encoder
from irepa.config.plugins import plugin_options
from irepa.config.tier import Expected
from irepa.engine.network import describe_autoencoder
from irepa.errors import ConfigError
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.tokens import cache_bytes, storage_grid

# Peak dense bf16 matrix-product rate in FLOP/s, from the makers' data sheets.
GPUS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "L40S": 362e12, "RTX4090": 165e12}
BACKWARD = 2  # a backward pass takes about two forward passes
PIXEL, FLOAT = 1, 4  # bytes


@dataclass(frozen=True)
class Cost:
    """``flops``; ``disk``: bytes that stay; ``scratch``: bytes that are deleted once they have been read."""

    flops: float = 0.0
    disk: float = 0.0
    scratch: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.disk + other.disk, self.scratch + other.scratch)


class Budget:
    """Costs of the jobs of one plan. Raises ConfigError where the tier does not say how large its dataset is."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.settings, self.tier = plan, plan.settings, plan.settings.tier
        self.sizes = self._sizes()
        self.pixels = 3 * self.tier.dataset.image_size**2
        self.tokens = math.prod(self.tier.grid)

    @functools.cache  # noqa: B019
    def autoencoder_of(self, recipe: str) -> AutoencoderFacts:
        return describe_autoencoder(self.settings.autoencoder(recipe), self.tier.dataset.image_size)

    def _sizes(self) -> Expected:
        if self.plan.is_current(Job("data")):
            sizes = self.plan.record(Job("data")).metrics
            return Expected(**{key: sizes[key] for key in Expected.model_fields})
        if self.tier.expected is None:
            raise ConfigError("the tier has no `expected` sizes and its data stage has not run: nothing to plan with")
        return self.tier.expected

    @functools.cache  # noqa: B019 (a budget lives as long as its command)
    def encoder(self, name: str) -> EncoderFacts:
        return describe_encoder(
            name, self.settings.catalogue, self.tier.grid, self.tier.dataset.image_size, self.tier.features.input_size
        )

    @functools.cache  # noqa: B019
    def judge(self, name: str) -> float:
        entry = self.settings.catalogue[name]
        return judge_flops(name, entry, self.tier.dataset.image_size, self.tier.evaluation.input_size)

    @functools.cache  # noqa: B019
    def network(self, recipe: str, scale: str) -> tuple[int, int]:
        return network_facts(self.tier, recipe, scale, self.autoencoder_of(recipe).shape, self.sizes.classes)

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
        return Cost(disk=images * self.pixels * PIXEL)

    def _latents(self, key: str) -> Cost:
        images = self.sizes.train_images * (1 + (key in mirrored_latents(self.settings)))
        facts = describe_autoencoder(self.settings.precomputed(key), self.tier.dataset.image_size)
        return Cost(images * facts.encode_flops, images * 2 * math.prod(facts.shape) * FLOAT)

    def _pretrain(self, key: str) -> Cost:
        chosen = self.tier.pretraining[key]
        images = chosen.training.steps * chosen.training.batch
        facts = self.encoder(chosen.encoder)
        return Cost(3.0 * images * facts.flops, facts.parameters * FLOAT)

    def _metric_images(self) -> int:
        return min(self.tier.spatial.images, self.sizes.test_images)

    def _features(self, key: str) -> Cost:
        images = self._metric_images() + (0 if self.online(key) else self.sizes.train_images)
        return Cost(images * self.encoder(key).flops, self._cache_bytes(key, images))

    def _spatial(self, key: str) -> Cost:
        dim = self.encoder(split_encoder(key)[0]).dim
        return Cost(self._metric_images() * 2 * self.tokens**2 * dim)

    def _probe(self, key: str) -> Cost:
        base = split_encoder(key)[0]
        images = min(self.tier.probe.train_images or self.sizes.train_images, self.sizes.train_images)
        return Cost(images * self.encoder(base).flops if self.online(base) else 0.0)

    def _reference(self, key: str) -> Cost:
        if key in self.tier.evaluation.references:
            return Cost()
        return Cost(self.sizes.train_images * self.judge(key))

    def _floor(self, key: str) -> Cost:
        return Cost(min(self.tier.sampling.samples, self.sizes.test_images) * self.judge(key))

    def _train(self, key: str) -> Cost:
        cell = Cell.parse(key)
        parameters, forward = self.network(cell.recipe, cell.scale)
        if key in self.tier.checkpoints:
            return Cost(disk=parameters * FLOAT)
        training = self.tier.training_of(cell.recipe)
        seen = training.steps * training.batch
        online = 0.0
        if cell.encoder != NO_ENCODER:
            base = split_encoder(cell.encoder)[0]
            method, scale = self.settings.methods[cell.method], self.tier.scales[cell.scale]
            extra = projector_facts(method, scale, self.encoder(base).dim, self.tier.grid)
            parameters, forward = parameters + extra[0], forward + extra[1]
            online = self.encoder(base).flops if training.flips or self.online(base) else 0.0
        encode = (
            0 if self.settings.latents_of(cell.recipe) is not None else self.autoencoder_of(cell.recipe).encode_flops
        )
        return Cost(seen * ((1 + BACKWARD) * forward + online + encode), parameters * FLOAT)

    def _sample(self, key: str) -> Cost:
        cell = Cell.parse(key)
        recipe, images = self.tier.recipes[cell.recipe], self.tier.sampling.samples
        sampler = plugins.load("samplers", recipe.sampler.name, key)
        steps = sampler.build(plugin_options("samplers", recipe.sampler, key)).evaluations
        share = (
            0.0 if recipe.guidance is None else recipe.guidance.high - recipe.guidance.low
        )  # in either direction of time
        per_image = (
            steps * (1 + share) * self.network(cell.recipe, cell.scale)[1]
            + self.autoencoder_of(cell.recipe).decode_flops
        )
        size = images * self.pixels * PIXEL
        kept = self.tier.sampling.keep
        return Cost(images * per_image, disk=size if kept else 0.0, scratch=0.0 if kept else size)

    def _evaluate(self, key: str) -> Cost:
        return Cost(self.tier.sampling.samples * sum(map(self.judge, self.tier.evaluation.extractors)))

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
        scale = min({cell.scale for cell in chosen}, key=lambda s: min(self.network(c.recipe, s)[1] for c in chosen))
        bases = {split_encoder(cell.encoder)[0] for cell in chosen} - {NO_ENCODER}
        members: dict[str, str] = {}
        for base in sorted(bases, key=lambda base: (self.encoder(base).flops, base)):
            family = self.settings.catalogue[base].family
            members.setdefault(family if experiment.one_per_family else base, base)
        kept = {NO_ENCODER, *members.values()}
        return {cell for cell in chosen if cell.scale == scale and split_encoder(cell.encoder)[0] in kept}


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


def summary(budget: Budget, peak: float, utilisation: float) -> dict[str, Any]:
    """Costs by stage, by experiment and of the cheapest subset, as plain numbers."""
    plan, tier = budget.plan, budget.tier

    def row(jobs: Collection[Job]) -> dict[str, float]:
        cost = budget.total(jobs)
        hours = cost.flops / (peak * utilisation) / 3600
        sizes = {"disk_bytes": cost.disk, "scratch_bytes": cost.scratch}
        return {"jobs": len(jobs), "flops": cost.flops, "gpu_hours": hours, **sizes}

    jobs = plan.jobs()
    stages: dict[str, dict[str, float]] = {}
    for stage in dict.fromkeys(job.stage for job in jobs):
        stages[stage] = row([job for job in jobs if job.stage == stage])
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
        "total": row(jobs),
        "experiments": experiments,
        "cheapest_total": row(union),
        "online": [name for name in bases if budget.online(name)],
        "cached": [name for name in bases if not budget.online(name)],
        "largest_samples": max((budget.cost(job).scratch for job in jobs if job.stage == "sample"), default=0.0),
    }


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
    for table in (stages, alone, small):
        console.print(table)
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
        f"{costs['largest_samples'] / 1e9:.1f} GB per run at a time; work on the CPU (decoding, masks, probes) is not counted. "
        "The subset keeps the cheapest scale and, where one encoder per family still answers the question, the cheapest of each.",
    )
