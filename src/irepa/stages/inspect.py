"""What one cell's network makes of held-out images inside (E7): maps to look at, and numbers over many images.

Maps: the cosine of an anchor token to all tokens of an image, for the encoder's tokens, the network's hidden tokens, and their
projection. Numbers: how far the self-similarity of hidden tokens follows that of the target (its mechanism), LDS and RMSC
before and after the projector (what the projector loses), and a linear probe of hidden tokens (what they know of the class).
Where numbers are measured the network is told no class, so that a probe finds only what it has seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from irepa.alignment import Alignment
from irepa.config.cells import Cell, trained_cell
from irepa.data import stored_images
from irepa.engine.device import setup
from irepa.engine.network import Parts, load_trained, parts_of
from irepa.engine.targets import token_source
from irepa.pipeline.files import Json, whole
from irepa.pipeline.graph import inspected_encoder
from irepa.pipeline.runner import Context
from irepa.random import image_noise
from irepa.spatial import metrics_by_image, similarity_agreement
from irepa.stages.probe import linear_probe
from irepa.thresholds import Thresholds
from irepa.tokens import TokenSource, check_finite, in_batches, spread

METRICS = ("lds", "rmsc")
PAIRS = (("hidden", "target"), ("hidden", "encoder"), ("projected", "target"), ("projected", "hidden"))


def anchor_similarity(tokens: Tensor, anchor: int) -> Tensor:
    """Cosine of token ``anchor`` to every token: tokens (T, dim) -> (T,) in [-1, 1]."""
    return F.cosine_similarity(tokens[anchor : anchor + 1].float(), tokens.float(), dim=-1)


@dataclass(frozen=True)
class Inside:
    """A trained network, opened.

    Attributes:
        alignment: None where the run has none.
        source: tokens of the encoder that hidden tokens are compared with, by number among the metric images; None for none.
        time: noise level of the network's input.
        null: the label that says no class.
    """

    parts: Parts
    alignment: Alignment | None
    source: TokenSource | None
    seed: int
    time: float
    null: int
    device: torch.device

    def hidden(self, images: NDArray[np.uint8], numbers: NDArray[np.int64], labels: NDArray[np.int64] | None) -> Tensor:
        """Hidden tokens (n, T, width) of images (n, H, W, 3), noised as their ``numbers`` (n,) say; ``labels`` None: no class."""
        x = self.parts.codec.encode(torch.from_numpy(images).permute(0, 3, 1, 2).to(self.device)).to(self.device)
        shape = tuple(x.shape[1:])
        noise = [image_noise(self.seed, range(n, n + 1), 0, shape, self.device) for n in numbers.tolist()]
        noised, times = self.parts.recipe.noised(x, torch.cat(noise).to(x), self.time)
        told = np.full(len(numbers), self.null) if labels is None else labels
        hidden: Tensor = self.parts.network(noised, times, torch.from_numpy(told).to(self.device))[1]
        check_finite(hidden, f"hidden tokens of test images {numbers.min()} to {numbers.max()}")
        return hidden

    def sources(self, hidden: Tensor, numbers: NDArray[np.int64]) -> dict[str, Tensor]:
        """By name, tokens (n, T, dim) of the same images: hidden, projected, the encoder's, and the target made of these."""
        found = {"hidden": hidden}
        if self.alignment is not None:
            found["projected"] = self.alignment.projector(hidden)
        if self.source is not None:
            tokens = self.source[numbers].to(self.device)
            found |= {"encoder": tokens, "target": self.target(tokens)}
        return found

    def target(self, tokens: Tensor) -> Tensor:
        """What the method makes of the encoder's tokens, to align with: (n, T, dim) to the same shape."""
        return tokens if self.alignment is None else self.alignment.target(tokens)


@torch.inference_mode()
def run(context: Context) -> Json:
    cell, settings = Cell.parse(context.key), context.tier.inspection
    device = setup(context.resources.threads)
    trained = context.input("train", trained_cell(context.settings, context.key))
    classes = trained.metrics["classes"]
    parts = parts_of(context, cell, classes, device)
    alignment = load_trained(parts, trained, context.settings, cell, device)
    encoder = inspected_encoder(context.settings, context.key)
    source = None if encoder is None else token_source(context, encoder, "test", device)
    inside = Inside(parts, alignment, source, cell.seed, settings.time, classes, device)
    return draw_maps(context, inside) | measure(context, inside) | probe(context, inside)


def draw_maps(context: Context, inside: Inside) -> Json:
    """Write the maps of the tier's few images, whose classes the network is told."""
    settings, (_height, width) = context.tier.inspection, context.tier.grid
    data = context.input("data")
    row, column = (
        min(int(share * side), side - 1) for share, side in zip(settings.anchor, context.tier.grid, strict=True)
    )
    anchor = row * width + column
    shown = np.array(settings.images, np.int64)
    held_out = stored_images(data, "test")
    places = spread(len(held_out), context.tier.spatial.images)[shown]
    labels = data.array("test.labels.npy")[places]
    hidden = inside.hidden(held_out[places], shown, labels)
    sources = inside.sources(hidden, shown)
    rows = [
        {"image": int(image), "source": name, "row": t // width, "column": t % width, "similarity": float(value)}
        for name, tokens in sources.items()
        if name != "target"
        for image, one in zip(shown, tokens, strict=True)
        for t, value in enumerate(anchor_similarity(one, anchor))
    ]
    with whole(context.output(f"{context.key}.csv")) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6f")
    return {"anchor": [row, column], "time": settings.time, "images": places.tolist()}


def measure(context: Context, inside: Inside) -> Json:
    """Write a row per image of what tokens are like and how they agree, and return the means.

    ``lds_hidden`` and so on: a spatial metric of these tokens. ``agreement_hidden_target``: Pearson correlation of the two
    self-similarities over pairs of positions; ``agreement_hidden_other``: the same with the target of another image.
    """
    tier, data = context.tier, context.input("data")
    images, settings = stored_images(data, "test"), tier.spatial
    places = spread(len(images), settings.images)
    numbers = spread(len(places), tier.inspection.measured)
    limits = Thresholds.for_grid(*tier.grid, near=settings.near, far=settings.far, slope=settings.slope)
    next_of = dict(zip(numbers.tolist(), np.roll(numbers, -1).tolist(), strict=True))
    columns: list[pd.DataFrame] = []
    for some in in_batches(numbers, tier.sampling.batch):
        sources = inside.sources(inside.hidden(images[places[some]], some, None), some)
        found = {f"{metric}_{name}": values[metric].double().numpy() for name, tokens in sources.items()
                 for values in [metrics_by_image([(tokens, None)], tier.grid, limits)] for metric in METRICS}  # fmt: skip
        for one, other in PAIRS:
            if {one, other} <= set(sources):
                found[f"agreement_{one}_{other}"] = (
                    similarity_agreement(sources[one], sources[other]).double().cpu().numpy()
                )
        if inside.source is not None and len(numbers) > 1:
            another = inside.target(
                inside.source[np.array([next_of[number] for number in some.tolist()])].to(inside.device)
            )
            found["agreement_hidden_other"] = similarity_agreement(sources["hidden"], another).double().cpu().numpy()
        columns.append(pd.DataFrame({"image": some, **found}))
    table = pd.concat(columns, ignore_index=True)
    with whole(context.output(f"{context.key}.images.csv")) as temporary:
        table.to_csv(temporary, index=False, float_format="%.7g")
    means = table.drop(columns="image").mean(skipna=True)
    return {"measured": len(table)} | {str(name): float(value) for name, value in means.items()}


def probe(context: Context, inside: Inside) -> Json:
    """Accuracy of a linear probe of mean hidden tokens on the metric images; nothing where the tier asks for none."""
    tier, data = context.tier, context.input("data")
    if tier.inspection.probe_images is None:
        return {}
    fitted = spread(len(data.array("train.labels.npy")), tier.inspection.probe_images)
    tested = spread(len(data.array("test.labels.npy")), tier.spatial.images)
    pooled = []
    for split, places in (("train", fitted), ("test", tested)):
        images = stored_images(data, split)
        parts = (inside.hidden(images[some], some, None) for some in in_batches(places, tier.sampling.batch))
        pooled.append(np.concatenate([hidden.double().mean(dim=1).cpu().numpy() for hidden in parts]))
    labels = data.array("train.labels.npy")[fitted], data.array("test.labels.npy")[tested]
    accuracy, converged = linear_probe(pooled[0], labels[0], pooled[1], labels[1], tier.probe.c, tier.probe.max_iter)
    return {"accuracy_hidden": accuracy, "converged_hidden": converged}
