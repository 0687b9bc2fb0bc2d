"""Take an autoencoder that was trained along with a network out of its run, for other recipes and other programs."""

from __future__ import annotations

from pathlib import Path

import torch

from irepa.config.cells import Cell
from irepa.engine.network import load_trained, parts_of
from irepa.errors import ConfigError
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import Context
from irepa.recipes import build_recipe


def export(plan: Plan, key: str, folder: Path) -> None:
    """Save the tuned autoencoder of a run in the hub's format.

    Raises ConfigError for a cell whose recipe tunes none, and CacheError where its run is missing or damaged.
    """
    cell, tier, device = Cell.parse(key), plan.settings.tier, torch.device("cpu")
    tuning = [name for name in tier.recipes if build_recipe(tier, name).tunes_autoencoder]
    if cell.recipe not in tuning:
        allowed = f"those that do are {', '.join(tuning)}" if tuning else "the tier has none that does"
        raise ConfigError(f"{key}: recipe {cell.recipe} does not tune its autoencoder; {allowed}")
    job = Job("train", key)
    record = plan.record(job)
    parts = parts_of(Context(plan, job), cell, record.metrics["classes"], device)
    load_trained(parts, record, plan.settings, cell, device)
    parts.recipe.save_autoencoder(parts.network, folder)
