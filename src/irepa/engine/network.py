"""Build the parts of one cell from the settings: what training, sampling and inspection have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from irepa.alignment import Alignment
from irepa.architectures import Architecture
from irepa.autoencoders import Autoencoder, AutoencoderFacts, read_latent_statistics
from irepa.config import plugins
from irepa.config.cells import Cell, seed_of
from irepa.config.options import Shape
from irepa.config.plugins import plugin_options
from irepa.config.tier import AutoencoderSettings, Settings, Tier
from irepa.engine.trainer import PROJECTOR, build_alignment
from irepa.errors import CacheError, ConfigError, WeightsError, translated
from irepa.pipeline.files import Record
from irepa.pipeline.graph import Job
from irepa.pipeline.runner import Context
from irepa.recipes import Recipe, build_recipe
from irepa.tokens import check_finite, check_images_finite


@dataclass(frozen=True)
class Parts:
    """``network``: with the autoencoder inside, where the recipe trains it along."""

    network: nn.Module
    recipe: Recipe
    autoencoder: Autoencoder

    @property
    def codec(self) -> Autoencoder:
        """The autoencoder as the network knows it: the one inside where it was trained along."""
        return self.recipe.codec(self.network, self.autoencoder)


def parts_of(context: Context, cell: Cell, classes: int, device: torch.device) -> Parts:
    """As :func:`build_parts`, with the autoencoder that the pipeline has trained for the cell, if it has.

    Its latents are normalised by what the pipeline has measured, if they are. Raises ConfigError; WeightsError where weights
    cannot be had; CacheError where the trained autoencoder or the measurement is missing.
    """
    trained, measured = trained_autoencoder(context, cell), measured_latents(context, cell)
    return build_parts(context.settings, cell, classes, device, trained, measured)


def trained_autoencoder(context: Context, cell: Cell) -> Path | None:
    """Folder of the cell's autoencoder where the pipeline has trained it, verified; else None."""
    name = context.settings.trains_autoencoder(cell.recipe)
    if name is None:
        return None
    record = context.plan.record(Job("autoencoder", name))
    record.file("config.json")
    return record.file("diffusion_pytorch_model.safetensors").parent


def measured_latents(context: Context, cell: Cell) -> tuple[Tensor, Tensor] | None:
    """Mean and standard deviation (channels,) by which the cell's latents are normalised, where the pipeline measures them."""
    latents = context.settings.latents_of(cell.recipe)
    if context.settings.autoencoder(cell.recipe).normalisation != "per-channel" or latents is None:
        return None
    found = context.plan.record(Job("latents", latents)).metrics
    return torch.tensor(found["mean"]), torch.tensor(found["std"])


def build_parts(
    settings: Settings,
    cell: Cell,
    classes: int,
    device: torch.device,
    trained: Path | None = None,
    measured: tuple[Tensor, Tensor] | None = None,
) -> Parts:
    """Network, initialised from the cell's seed, recipe and autoencoder of one cell.

    Args:
        trained: folder of the autoencoder's weights, where the pipeline has trained it.
        measured: mean and standard deviation (channels,) of its latents, where they are normalised by those.

    Raises ConfigError, and WeightsError where weights or statistics of latents cannot be had.
    """
    named = settings.autoencoder(cell.recipe)
    autoencoder = build_autoencoder(settings, named, device, trained)
    if named.statistics is not None:
        autoencoder.normalise(*read_latent_statistics(named.statistics, autoencoder.shape[0]))
    elif measured is not None:
        autoencoder.normalise(measured[0], 1 / measured[1])
    recipe = build_recipe(settings.tier, cell.recipe)
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(settings, cell, "initialisation"))
        network = build_network(settings.tier, cell.recipe, cell.scale, autoencoder.shape, classes)
        joined = recipe.join(network, autoencoder)  # may have weights of its own to initialise, as a discriminator's
    return Parts(joined, recipe, autoencoder)


def build_autoencoder(
    settings: Settings, named: AutoencoderSettings, device: torch.device, trained: Path | None = None
) -> Autoencoder:
    """One of the tier's autoencoders, with its own scale of latents. Arguments and errors as of :func:`build_parts`."""
    options = plugin_options("autoencoders", named, "autoencoder")
    if trained is not None:
        options = options.model_copy(update={"weights": str(trained)})
    module = plugins.load("autoencoders", named.name, "autoencoder")
    with translated(WeightsError, f"autoencoder {named.name} cannot be built", "see `irepa settings autoencoder`"):
        autoencoder: Autoencoder = module.build(options, settings.tier.dataset.image_size, device)
        autoencoder.grey = named.grey
    return autoencoder


def check_latents(values: Tensor, images: Iterable[int], named: AutoencoderSettings) -> None:
    """Of what one of a tier's autoencoders makes of images, (batch, ...), with these numbers in their split.

    Raises WeightsError, naming it and them, where a value is NaN or infinite.
    """
    model = named.options().get("model", named.name)
    cure = "give the autoencoder other weights, or leave the images out"
    check_images_finite(values, f"autoencoder {model}: latents of images", images, cure)


def describe_autoencoder(named: AutoencoderSettings, image_size: int) -> AutoencoderFacts:
    """One of a tier's autoencoders without its weights, for images of ``image_size`` pixels. Raises ConfigError."""
    module = plugins.load("autoencoders", named.name, "autoencoder")
    options = plugin_options("autoencoders", named, "autoencoder")
    with translated(ConfigError, f"autoencoder {named.name} cannot be described", "see its `architecture`"):
        facts: AutoencoderFacts = module.describe(options, image_size)
    return facts


def build_network(tier: Tier, recipe: str, scale: str, shape: Shape, classes: int) -> nn.Module:
    """The network of a recipe at a scale, for latents or images of ``shape``, initialised from torch's random state.

    Raises ConfigError where its tokens do not lie on the tier's grid.
    """
    architecture, where = tier.recipes[recipe].architecture, f"scales.{scale}.options"
    sizes = tier.scales[scale]
    options = plugin_options("architectures", sizes.plugged(architecture), where)
    module = cast(Architecture, plugins.load("architectures", architecture, where))
    return module.build(options, sizes, shape, classes, tier.grid)


def check_weights_finite(weights: Mapping[str, Tensor], where: str) -> None:
    """Raises DivergedError, naming the first of them, where a weight is NaN or infinite: every number after it is garbage."""
    for name, tensor in weights.items():
        check_finite(tensor, f"{where}: {name}")


def load_trained(
    parts: Parts, record: Record, settings: Settings, cell: Cell, device: torch.device
) -> Alignment | None:
    """Load a run's EMA weights, its last or those its recipe is ``at``, into ``parts.network``.

    Returns the alignment with the trained projector, None where the run has none. Raises CacheError where the weights
    are missing, damaged or another network's, and DivergedError where one is NaN or infinite.
    """
    at = settings.tier.recipes[cell.recipe].at
    path = record.file("model.safetensors" if at is None else "snapshots.safetensors")
    cure = f"delete {record.path} and run again"
    with translated(CacheError, f"{path} cannot be read as weights", cure):
        weights = load_file(path)
    if at is not None:
        weights = {name.removeprefix(f"{at}/"): w for name, w in weights.items() if name.startswith(f"{at}/")}
    check_weights_finite(weights, str(path))
    projector = {name.removeprefix(PROJECTOR): w for name, w in weights.items() if name.startswith(PROJECTOR)}
    with translated(CacheError, f"{path} does not fit the network of {cell}", cure):
        parts.network.load_state_dict({name: w for name, w in weights.items() if not name.startswith(PROJECTOR)})
    parts.network.to(device).eval()
    if not projector:
        return None
    tier = settings.tier
    alignment = build_alignment(
        settings.methods[cell.method], tier.scales[cell.scale], record.metrics["token_dim"], tier.grid, cell.seed
    )
    with translated(CacheError, f"{path} does not fit the projector of {cell}", cure):
        alignment.projector.load_state_dict(projector)
    return alignment.to(device).eval()
