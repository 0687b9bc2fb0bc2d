"""How cosine similarity between tokens falls with their distance on the grid: what LDS and CDS are made of.

The paper measures Manhattan distance, takes tokens as they come, and fixes two thresholds. A correlogram holds what other
distances, normalisations and thresholds would have given.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from irepa.alignment import spatial_normalize
from irepa.spatial import EPS

DISTANCES = ("manhattan", "euclidean", "chebyshev")
NORMALISATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda tokens: tokens,
    "centred": lambda tokens: tokens - tokens.mean(dim=1, keepdim=True),
    "spatial": spatial_normalize,
}


def distances(grid: tuple[int, int], kind: str) -> Tensor:
    """Distances (T, T) float64 between positions of the grid (h, w), counted row by row; ``kind`` is one of DISTANCES."""
    height, width = grid
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).double()
    return torch.cdist(places, places, p={"manhattan": 1.0, "euclidean": 2.0, "chebyshev": torch.inf}[kind])


class Correlogram:
    """Mean cosine similarity by distance, over all images that are added: each of DISTANCES with each of NORMALISATIONS."""

    def __init__(self, grid: tuple[int, int], device: torch.device | str = "cpu") -> None:
        self.images = 0
        self._groups: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        for kind in DISTANCES:
            values, group = distances(grid, kind).mul(1e6).round().unique(return_inverse=True)
            self._groups[kind] = values / 1e6, group.flatten().bincount().double(), group.flatten().to(device)
        self._sums = {
            (norm, kind): torch.zeros(len(values), dtype=torch.float64)
            for norm in NORMALISATIONS
            for kind, (values, _, _) in self._groups.items()
        }

    def add(self, tokens: Tensor) -> None:
        """Take in the tokens of some images: (images, T, dim), any float type."""
        for norm, change in NORMALISATIONS.items():
            x = change(tokens.float())
            unit = x / x.norm(dim=-1, keepdim=True).clamp_min(EPS)
            total = torch.einsum("nid,njd->ij", unit, unit).flatten()  # the sum over images of every pair's cosine
            for kind, (values, _, group) in self._groups.items():
                summed = torch.zeros(len(values), dtype=torch.float64, device=total.device)
                self._sums[norm, kind] += summed.index_add(0, group, total.double()).cpu()
        self.images += len(tokens)

    def table(self) -> pd.DataFrame:
        """A row per ``normalisation``, kind of ``distance``, and distance ``d`` > 0, grid steps.

        ``pairs`` is the number of ordered pairs per image, ``cosine`` their mean over pairs and images.
        """
        rows = [
            {
                "normalisation": norm,
                "distance": kind,
                "d": float(d),
                "pairs": int(n),
                "cosine": float(s / (n * self.images)),
            }
            for (norm, kind), sums in self._sums.items()
            for d, n, s in zip(self._groups[kind][0], self._groups[kind][1], sums, strict=True)
            if d > 0
        ]
        return pd.DataFrame(rows)


def lds(
    table: pd.DataFrame, near: float, far: float, distance: str = "manhattan", normalisation: str = "none"
) -> float:
    """LDS from a correlogram's table: mean cosine over pairs with d <= near minus that over pairs with d >= far, grid steps.

    NaN where there is no such pair.
    """
    rows = table[(table["distance"] == distance) & (table["normalisation"] == normalisation)]
    means = []
    for side in (rows[rows["d"] <= near + 1e-6], rows[rows["d"] >= far - 1e-6]):
        means.append((side["cosine"] * side["pairs"]).sum() / side["pairs"].sum() if len(side) else float("nan"))
    return float(means[0] - means[1])
