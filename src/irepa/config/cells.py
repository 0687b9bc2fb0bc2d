"""Cells and experiments: which training runs a tier consists of, and what each is called."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace

from irepa.config import plugins
from irepa.config.tier import ALL, Experiment, Settings
from irepa.errors import ConfigError

NO_ENCODER = "none"


@dataclass(frozen=True, order=True)
class Cell:
    """One training run. ``str(cell)`` is its path below ``results/<tier>/runs``."""

    recipe: str
    scale: str
    encoder: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.recipe}/{self.scale}/{self.encoder}/{self.method}/seed{self.seed}"

    @classmethod
    def parse(cls, text: str) -> Cell:
        """Inverse of ``str``. Raises ConfigError where the text is no cell name."""
        parts = text.split("/")
        if len(parts) != 5 or not re.fullmatch(r"seed\d+", parts[4]):
            raise ConfigError(f"cell {text!r} must read recipe/scale/encoder/method/seed<k>")
        recipe, scale, encoder, method, seed = parts
        return cls(recipe, scale, encoder, method, int(seed.removeprefix("seed")))


def trained_cell(settings: Settings, key: str) -> str:
    """The cell whose network a cell draws from: another one where its recipe is ``trained_as`` another."""
    cell = Cell.parse(key)
    other = settings.tier.recipes[cell.recipe].trained_as
    return key if other is None else str(replace(cell, recipe=other))


def snapshots(settings: Settings, key: str) -> list[int]:
    """The training steps, before its last, after which a cell's EMA weights are drawn from: by recipes ``trained_as`` its own."""
    cell, recipes = Cell.parse(key), settings.tier.recipes
    wanted: set[int] = set()
    for name, recipe in recipes.items():
        if recipe.at is not None and recipe.trained_as == cell.recipe:
            other = replace(cell, recipe=name)
            if any(
                other in experiment_cells(settings, experiment) for experiment in settings.tier.experiments.values()
            ):
                wanted.add(recipe.at)
    return sorted(wanted)


def split_encoder(name: str) -> tuple[str, tuple[tuple[str, float | None], ...]]:
    """``effnet-lite0-s16+clsmix0.3`` -> (``effnet-lite0-s16``, ((``clsmix``, 0.3),)).

    Raises ConfigError for a transform that does not exist or is not written name-then-number.
    """
    base, *wrappers = name.split("+")
    transforms: list[tuple[str, float | None]] = []
    for wrapper in wrappers:
        match = re.fullmatch(r"([a-z][a-z-]*?)(\d+(?:\.\d+)?)?", wrapper)
        if match is None or match[1] not in plugins.names("transforms"):
            raise ConfigError.unknown(f"encoder {name}: transform", wrapper, plugins.names("transforms"))
        argument = float(match[2]) if match[2] is not None else None
        plugins.load("transforms", match[1], name).check(argument, f"encoder {name}")
        transforms.append((match[1], argument))
    return base, tuple(transforms)


def _chosen(value: list[str] | str, everything: list[str]) -> list[str]:
    return everything if value == ALL else list(value)


def experiment_cells(settings: Settings, experiment: Experiment) -> list[Cell]:
    """The product of an experiment's lists. A method without alignment has one cell, whatever the encoder."""
    tier = settings.tier
    first = settings.params.seed
    found: dict[Cell, None] = {}
    for recipe, scale, encoder, method, seed in itertools.product(
        _chosen(experiment.recipes or list(tier.recipes)[:1], list(tier.recipes)),
        _chosen(experiment.scales, list(tier.scales)),
        _chosen(experiment.encoders, tier.encoders),
        _chosen(experiment.methods, tier.methods),
        range(first, first + (experiment.seeds or tier.seeds)),
    ):
        aligned = settings.methods[method].aligned
        found[Cell(recipe, scale, encoder if aligned else NO_ENCODER, method, seed)] = None
    return list(found)


def cells(settings: Settings) -> dict[Cell, list[str]]:
    """Every training run of the tier, with the experiments that it serves, in a fixed order."""
    found: dict[Cell, list[str]] = {}
    for name, experiment in settings.tier.experiments.items():
        for cell in experiment_cells(settings, experiment):
            found.setdefault(cell, []).append(name)
    for key in settings.tier.checkpoints:
        found.setdefault(Cell.parse(key), []).append("checkpoints")
    return dict(sorted(found.items()))


def targets(settings: Settings) -> list[str]:
    """Every encoder, wrapped ones included, that is listed by the tier or used by an experiment."""
    named = set(settings.tier.encoders)
    for experiment in settings.tier.experiments.values():
        named |= set(experiment.encoders) if experiment.encoders != ALL else set()
    return sorted(named)
