"""How the numbers were made, with what, and what they cost."""

from __future__ import annotations

import json

from irepa.pipeline.files import Json
from irepa.pipeline.graph import Job
from irepa.report.cost import Cost, costs
from irepa.report.markdown import bullets, grid
from irepa.report.tier import FinishedTier


def changed_settings(finished: FinishedTier) -> str:
    """What ``params.yaml`` changes of the tier as its file has it; empty where it changes nothing."""
    changed = finished.settings.params.changes()
    if not changed:
        return ""
    lines = bullets(f"`{key}`: `{json.dumps(value)}`" for key, value in changed.items())
    return f"**This run is not the tier as its file has it.** `params.yaml` changes:\n\n{lines}"


def outdated(finished: FinishedTier) -> str:
    """Results that the present settings and code would not make; empty where there are none."""
    if not finished.outdated:
        return ""
    jobs = ", ".join(f"`{job}`" for job in finished.outdated)
    return f"**Out of date.** Made from other settings or code than the present ones: {jobs}. `snakemake` makes them again."


def method_list(finished: FinishedTier) -> str:
    """Data, training, samples, statistics; revision, packages and machine of the job that ran last."""
    tier = finished.tier
    data = finished.plan.record(Job("data")).metrics
    height, width = tier.grid
    side = tier.dataset.image_size
    provenances: list[Json] = [record.content["provenance"] for record in finished.records]
    last = max(provenances, key=lambda provenance: provenance["started"])
    state = " with uncommitted changes" if last["git_dirty"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items() if version)
    return bullets(
        [
            f"Data: `{tier.dataset.name}`, {data['train_images']} training and {data['test_images']} held-out images of "
            f"{side}x{side} px, {data['classes']} classes, tokens on a {height}x{width} grid.",
            f"Training: {tier.training.steps} steps of {tier.training.batch} images, AdamW, learning rate "
            f"{tier.training.lr:g}, EMA {tier.training.ema}.",
            f"Samples: {tier.sampling.samples} per run, EMA weights, {_guidance(finished)}; {finished.distance} and "
            f"{finished.kernel_distance} against {_reference(finished)}.",
            "Statistics: Pearson's r and Spearman's rho with BCa bootstrap intervals over encoders, permutation p; thresholds "
            "are tested by Fisher's z, differences of dependent correlations by paired bootstrap, pairs of runs by a t test of "
            "their log ratio; Holm's correction over the claims that a source tests.",
            f"Git revision `{last['git_revision']}`{state}, {last['started']}.",
            f"{versions}; Python {last['python']}, {last['platform']}.",
            f"Every number above is in {finished.link_to(Job('table'), 'table.csv')} with the JSON record it comes from; each "
            "record names its settings, the fingerprints of its inputs, the checksums of its files, git revision, package "
            "versions, seconds and peak memory.",
        ]
    )


def _guidance(finished: FinishedTier) -> str:
    used = {name: recipe.guidance for name, recipe in finished.tier.recipes.items() if recipe.guidance is not None}
    texts = [f"{name} with guidance {g.scale:g} for {g.low:g} to {g.high:g} of {g.time}" for name, g in used.items()]
    return "; ".join(texts) or "no guidance"


def _reference(finished: FinishedTier) -> str:
    evaluation = finished.tier.evaluation
    statistics = evaluation.references.get(evaluation.extractors[0])
    return "the training images" if statistics is None else f"the statistics in `{statistics}`"


def cost_summary(finished: FinishedTier) -> str:
    """Trainings, images and core-hours, in a sentence; an archive lacks the records of some stages."""
    trainings = [
        record.metrics for record in finished.records if record.content["stage"] == "train" and not record.failed
    ]
    images = sum(metrics.get("images_seen") or 0 for metrics in trainings)
    hours = sum(cost.core_hours for cost in costs(finished.records).values())
    return f"{len(trainings)} trainings, {images:,} training images in them, {hours:.1f} core-hours in the jobs below."


def cost_table(finished: FinishedTier) -> str:
    """A row per stage."""
    return grid([_row(stage, cost) for stage, cost in costs(finished.records).items()], 2)


def _row(stage: str, cost: Cost) -> dict[str, object]:
    return {
        "stage": stage,
        "jobs": cost.jobs,
        "seconds, all jobs": cost.seconds,
        "core-hours": cost.core_hours,
        "largest peak memory (MiB)": cost.peak_memory_mib,
    }
