"""Correlograms against the spatial metrics and against a loop over all pairs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from irepa.alignment import spatial_normalize
from irepa.correlogram import Correlogram, lds
from irepa.spatial import spatial_metrics


def test_lds_of_a_correlogram_is_lds() -> None:
    tokens = torch.randn(7, 64, 10) + torch.linspace(-1, 1, 64)[None, :, None]
    correlogram = Correlogram((8, 8))
    correlogram.add(tokens[:3])
    correlogram.add(tokens[3:])
    table, metrics = correlogram.table(), spatial_metrics(tokens, (8, 8))
    assert lds(table, 1, 3) == pytest.approx(float(metrics.lds.mean()), abs=1e-6)
    assert lds(table, 2, 3) == pytest.approx(float(metrics.lds_text.mean()), abs=1e-6)
    normalised = spatial_metrics(spatial_normalize(tokens), (8, 8))
    assert lds(table, 1, 3, normalisation="spatial") == pytest.approx(float(normalised.lds.mean()), abs=1e-6)
    assert math.isnan(lds(table, 1, 99))


@pytest.mark.parametrize("kind", ["euclidean", "chebyshev"])
def test_other_distances_against_a_loop(kind: str) -> None:
    grid, tokens = (3, 4), torch.randn(2, 12, 5)
    correlogram = Correlogram(grid)
    correlogram.add(tokens)
    near: list[float] = []
    far: list[float] = []
    places = list(itertools.product(range(3), range(4)))
    for image in tokens:
        centred = image - image.mean(0)
        for (i, a), (j, b) in itertools.permutations(enumerate(places), 2):
            rows, columns = abs(a[0] - b[0]), abs(a[1] - b[1])
            d = math.hypot(rows, columns) if kind == "euclidean" else max(rows, columns)
            cosine = float(torch.cosine_similarity(centred[i], centred[j], dim=0))
            near += [cosine] if d <= 1 else []
            far += [cosine] if d >= 2 else []
    expected = sum(near) / len(near) - sum(far) / len(far)
    assert lds(correlogram.table(), 1, 2, kind, "centred") == pytest.approx(expected, abs=1e-6)
