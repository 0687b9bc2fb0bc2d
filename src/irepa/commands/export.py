"""Take an autoencoder that was trained along with a network (REPA-E) out of its run, for other recipes and other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from irepa.config.cells import Cell
from irepa.engine.network import build_parts, load_trained, trained_autoencoder
from irepa.errors import ConfigError
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import Context
from irepa.recipes.repa_e import Joint


def save_tuned(network: Joint, folder: Path) -> None:
    """Save the autoencoder of a joined network in the hub's format; its scale and shift are the norm's, averaged
    over channels."""
    vae: Any = network.vae
    assert network.norm.running_mean is not None
    assert network.norm.running_var is not None
    vae.register_to_config(
        scaling_factor=1 / float(network.norm.running_var.mean().sqrt()),
        shift_factor=float(network.norm.running_mean.mean()),
    )
    vae.save_pretrained(folder)


def export(plan: Plan, key: str, folder: Path) -> None:
    """Raises ConfigError for a cell of another recipe, and CacheError where its run is missing or damaged."""
    cell, device = Cell.parse(key), torch.device("cpu")
    if cell.recipe not in plan.settings.tier.recipes or plan.settings.tier.recipes[cell.recipe].name != "repa-e":
        raise ConfigError(f"{key}: only runs of a repa-e recipe have an autoencoder of their own")
    job = Job("train", key)
    record = plan.record(job)
    context = Context(plan, job)
    parts = build_parts(plan.settings, cell, record.metrics["classes"], device, trained_autoencoder(context, cell))
    load_trained(parts, record, plan.settings, cell, device)
    assert isinstance(parts.network, Joint)
    save_tuned(parts.network, folder)
