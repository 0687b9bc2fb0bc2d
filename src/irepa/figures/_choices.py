"""The same encoders as targets under other choices: another judge, other lengths of training, some of the networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from irepa.config import plugins
from irepa.config.cells import split_encoder, targets
from irepa.config.tier import EncoderEntry
from irepa.figures import cells_of
from irepa.figures._units import Source, of_recipe, source_of
from irepa.pipeline.runner import Context
from irepa.table import images_seen, read_table
from irepa.weights import RANDOM

if TYPE_CHECKING:
    import pandas as pd

EVERY = "all"
WITHOUT, ALONE = "without ", " alone"  # before or after an origin: how a choice of networks is called


@dataclass(frozen=True)
class Choice:
    """One way to look at an experiment's encoders.

    Attributes:
        distance: the name of what is measured of samples.
        training: the recipe and what it has seen: ``jit, 64,000 images``.
        source: the units under this choice, all networks and seeds among them.
    """

    distance: str
    training: str
    source: Source


def measured(context: Context, rows: pd.DataFrame) -> list[str]:
    """What the tier's judges have measured, by rows of the table, that of its claims first: Frechet, at infinity, kernel."""
    names = [context.settings.catalogue[name].metric_name for name in context.tier.evaluation.extractors]
    wanted = [f"{name('FID')}{ending}" for ending in ("", "-infinity") for name in names] + [
        name("KID") for name in names
    ]
    there = set(rows["metric"])
    return [name for name in wanted if name in there]


def choices(context: Context, experiment: str) -> Iterator[Choice]:
    """Every distance under every training. A distance that is 0 or less for any run has no logarithm, and is left out."""
    source, table = source_of(context, experiment), read_table(context)
    rows = table[table["stage"] == "evaluate"]
    names = measured(context, rows)
    for recipe in dict.fromkeys(cell.recipe for cell in cells_of(context.settings, experiment)):
        runs = source.evidence.runs
        here = of_recipe(runs, context.tier, recipe)
        for name in names:
            values = rows[rows["metric"] == name].set_index("record")["value"]
            of = runs[here & runs["record"].isin(values.index)]
            of = of.assign(fd=of["record"].map(values).astype(float), final=True)
            if of.empty or not (of["fd"] > 0).all():
                continue
            evidence = replace(source.evidence, runs=of, distance=name)
            yield Choice(name, _training(context, recipe), replace(source, evidence=evidence))


def training_of(context: Context, experiment: str) -> str:
    """What the experiment's first recipe is called as a training: the audit's, where it takes several."""
    return _training(context, cells_of(context.settings, experiment)[0].recipe)


def _training(context: Context, recipe: str) -> str:
    return f"{recipe}, {images_seen(context.tier, recipe):,} images"


def part_of(source: Source, keep: Mapping[str, bool]) -> Source:
    """The same with some of the encoders alone. Noise is still that of all runs."""
    encoders = source.evidence.encoders
    kept = encoders[[keep.get(str(name), False) for name in encoders.index]]
    return replace(source, evidence=replace(source.evidence, encoders=kept))


def of_seed(source: Source, seed: int) -> Source:
    """The same with the runs of one seed alone: nothing then says how noisy they are."""
    runs = source.evidence.runs
    return replace(source, evidence=replace(source.evidence, runs=runs[runs["seed"] == seed]))


def origins(context: Context) -> dict[str, str]:
    """What each of the tier's encoders is: hand-made, untrained, trained here on the tier's images, or pretrained elsewhere."""
    catalogue = context.settings.catalogue
    return {name: origin_of(split_encoder(name)[0], catalogue) for name in targets(context.settings)}


def origin_of(name: str, catalogue: Mapping[str, EncoderEntry]) -> str:
    """That of one row of the catalogue: what its weights are, by the row or else by its library's default."""
    entry = catalogue[name]
    if entry.base is not None:
        return origin_of(entry.base, catalogue)
    if entry.trained_by is not None:
        return "trained here"
    known = plugins.load("encoders", entry.library, name).Options.model_fields
    if "weights" not in known:
        return "hand-made"
    return "untrained" if entry.options().get("weights", known["weights"].default) == RANDOM else "pretrained"


def subsets(origin: Mapping[str, str]) -> dict[str, dict[str, bool]]:
    """Which encoders stay: all; all but those of one origin; those of one origin alone."""
    present = sorted(set(origin.values()))
    found = {EVERY: dict.fromkeys(origin, True)}
    if len(present) > 1:
        found |= {f"{WITHOUT}{one}": {name: of != one for name, of in origin.items()} for one in present}
        found |= {f"{one}{ALONE}": {name: of == one for name, of in origin.items()} for one in present}
    return found
