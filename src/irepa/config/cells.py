"""Cells and experiments: which training runs a tier consists of, and what each is called.

A cell is one training run: a recipe, a scale of the network, an encoder, a method of alignment and a seed. An experiment has a
list of each, and its cells are all their combinations. Experiments share cells: what two of them name is trained once.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from irepa.config import plugins
from irepa.config.tier import ALL, EncoderEntry, Experiment, Settings
from irepa.errors import ConfigError

NO_ENCODER = "none"


@dataclass(frozen=True, order=True)
class Cell:
    """One training run. ``str(cell)`` is its name, and its path below ``results/<tier>/runs``."""

    recipe: str
    scale: str
    encoder: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.recipe}/{self.scale}/{self.encoder}/{self.method}/seed{self.seed}"

    @staticmethod
    @functools.cache  # a plan asks for the same few hundred again and again
    def parse(text: str) -> Cell:
        """Inverse of ``str``. Raises ConfigError where the text is no cell's name."""
        parts = text.split("/")
        if len(parts) != 5 or not re.fullmatch(r"seed\d+", parts[4]):
            raise ConfigError(f"cell {text!r} must read recipe/scale/encoder/method/seed<k>")
        recipe, scale, encoder, method, seed = parts
        return Cell(recipe, scale, encoder, method, int(seed.removeprefix("seed")))


def trained_cell(settings: Settings, key: str) -> str:
    """The cell whose weights this cell draws from: itself, or its like under the recipe that its own is ``trained_as``."""
    cell = Cell.parse(key)
    other = settings.tier.recipes[cell.recipe].trained_as
    return key if other is None else str(replace(cell, recipe=other))


def seed_of(settings: Settings, cell: Cell, part: str) -> int:
    """What the cell draws a part of its random numbers from: its seed, or the first, where its recipe has that ``shared``."""
    return settings.params.seed if part in settings.tier.recipes[cell.recipe].shared else cell.seed


def early_steps(settings: Settings, key: str) -> list[int]:
    """The steps in the midst of a cell's training after which its averaged weights are kept, in order.

    Other cells of the tier draw from them: those whose recipe is ``trained_as`` this one's, ``at`` such a step.
    """
    return list(_early_steps(settings).get(key, ()))


@functools.lru_cache(maxsize=8)
def _early_steps(settings: Settings) -> Mapping[str, tuple[int, ...]]:
    """Those of every cell that has any."""
    steps: dict[str, set[int]] = {}
    for cell in cells(settings):
        at = settings.tier.recipes[cell.recipe].at
        if at is not None:
            steps.setdefault(trained_cell(settings, str(cell)), set()).add(at)
    return MappingProxyType({key: tuple(sorted(of_cell)) for key, of_cell in steps.items()})


@functools.cache
def split_encoder(name: str) -> tuple[str, tuple[tuple[str, float | None], ...]]:
    """An encoder's name without its transforms, and those: ``dinov2-b+clsmix0.3`` -> (``dinov2-b``, ((``clsmix``, 0.3),)).

    Raises ConfigError for a transform that does not exist or is not written name-then-number.
    """
    base, *written = name.split("+")
    transforms: list[tuple[str, float | None]] = []
    for text in written:
        match = re.fullmatch(r"([a-z][a-z-]*?)(\d+(?:\.\d+)?)?", text)
        if match is None or match[1] not in plugins.names("transforms"):
            raise ConfigError.unknown(f"encoder {name}: transform", text, plugins.names("transforms"))
        argument = float(match[2]) if match[2] is not None else None
        plugins.load("transforms", match[1], name).check(argument, f"encoder {name}")
        transforms.append((match[1], argument))
    return base, tuple(transforms)


def changed_by(name: str, catalogue: Mapping[str, EncoderEntry]) -> str | None:
    """The row whose tokens this one changes. None for one without a base, and for one that makes another encoder of them."""
    entry = catalogue[name]
    if entry.base is None:
        return None
    own = getattr(plugins.offered("encoders", entry.library, "LIBRARY", None), "fitted_dim", None)
    return entry.base if own is None else None


def network_of(name: str, catalogue: Mapping[str, EncoderEntry]) -> str:
    """What encoders share that are layers of one network, or changes of its tokens: its library, model, weights and seed.

    A library without models is named by the encoder.
    """
    base = split_encoder(name)[0]
    entry = catalogue[base]
    changed = changed_by(base, catalogue)
    if changed is not None:
        return network_of(changed, catalogue)
    options = entry.options()
    if not options.get("model"):
        return base
    told = (options.get(key) for key in ("model", "pretrained", "weights", "seed"))
    return " ".join(str(text) for text in (entry.library, *told) if text is not None)


def _named(names: list[str] | str, everything: list[str]) -> list[str]:
    """The names of a list, which may be ``all``."""
    return everything if names == ALL else list(names)


def experiment_cells(settings: Settings, experiment: Experiment) -> list[Cell]:
    """The training runs of an experiment: every combination of its lists, or those of them that have been released."""
    every = combinations(settings, experiment)
    return every if settings.taken is None else [cell for cell in every if str(cell) in settings.tier.checkpoints]


def combinations(settings: Settings, experiment: Experiment) -> list[Cell]:
    """Every combination of an experiment's lists. A method without alignment has one cell, whatever the encoder."""
    tier = settings.tier
    first = settings.params.seed
    product = itertools.product(
        _named(experiment.recipes or list(tier.recipes)[:1], list(tier.recipes)),
        _named(experiment.scales, list(tier.scales)),
        _named(experiment.encoders, tier.encoders),
        _named(experiment.methods, tier.methods),
        range(first, first + (experiment.seeds or tier.seeds)),
    )
    return list(
        dict.fromkeys(
            Cell(recipe, scale, encoder if settings.methods[method].aligned else NO_ENCODER, method, seed)
            for recipe, scale, encoder, method, seed in product
        )
    )


@functools.lru_cache(maxsize=8)
def cells(settings: Settings) -> Mapping[Cell, tuple[str, ...]]:
    """Every training run of the tier, in a fixed order, with the names of the experiments that it serves."""
    serves: dict[Cell, tuple[str, ...]] = {}
    for name, experiment in settings.tier.experiments.items():
        for cell in experiment_cells(settings, experiment):
            serves[cell] = (*serves.get(cell, ()), name)
    for key in settings.tier.checkpoints:  # each is one of them: irepa.config.consistency
        cell = Cell.parse(key)
        serves[cell] = (*serves[cell], "checkpoints")
    return MappingProxyType(dict(sorted(serves.items())))


def inspected(settings: Settings) -> list[Cell]:
    """The cells of experiments that ask for measurements of hidden tokens, in a fixed order."""
    asking = {name for name, experiment in settings.tier.experiments.items() if experiment.inspect}
    return [cell for cell, serves in cells(settings).items() if asking & set(serves)]


@functools.lru_cache(maxsize=8)
def mirrored_latents(settings: Settings) -> frozenset[str]:
    """The keys of the `latents` jobs that work on both views of each image: a recipe that learns from them flips images."""
    tier = settings.tier
    recipes = {tier.recipes[cell.recipe].trained_as or cell.recipe for cell in cells(settings)}
    flipping = [settings.latents_of(name) for name in recipes if tier.training_of(name).flips]
    return frozenset(key for key in flipping if key is not None)


def targets(settings: Settings) -> list[str]:
    """Every encoder, with its transforms, that the tier lists, an experiment names or hidden tokens are compared with."""
    names = set(settings.tier.encoders)
    compare = settings.tier.inspection.compare
    for experiment in settings.tier.experiments.values():
        names |= set(experiment.encoders) if experiment.encoders != ALL else set()
        names |= {compare} if experiment.inspect and compare is not None else set()
    return sorted(names)
