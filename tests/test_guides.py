"""The examples in the guides for writing a plug-in: each is saved as a file of its own, and does what the guide says."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from irepa.config.options import Strict
from irepa.config.tier import Scale, Training
from irepa.engine.checkpoints import Checkpoints
from irepa.engine.trainer import TrainingData, train
from irepa.errors import ConfigError
from irepa.models.learner import Learner
from irepa.models.sit import SiT
from irepa.random import StepRandom
from irepa.stored import InMemory
from tests.conftest import guide_of

CPU = torch.device("cpu")
Load = Callable[[str], ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Saves the example of a folder as a file and imports it."""

    def imported(kind: str) -> ModuleType:
        path = tmp_path / f"example_of_{kind}.py"
        path.write_text(guide_of(importlib.import_module(f"irepa.{kind}")) + "\n")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, path.stem, module)
        spec.loader.exec_module(module)
        assert issubclass(module.Options, Strict)
        assert all(field.description for field in module.Options.model_fields.values())
        return module

    return imported


def constant_images(count: int) -> torch.Tensor:
    """Images (count, 3, 8, 8) in [-1, 1], of one colour each."""
    colours = torch.rand(count, 3, 1, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return colours.expand(count, 3, 8, 8).contiguous()


def network(align_depth: int = 1) -> SiT:
    torch.manual_seed(0)
    return SiT((8, 8), 3, 2, depth=2, width=32, heads=2, patch=2, align_depth=align_depth)


def test_the_recipe_learns_in_the_projects_own_trainer(load: Load, tmp_path: Path) -> None:
    module = load("recipes")
    recipe = module.build(module.Options(spread=0.8))
    x = constant_images(16)
    data = TrainingData({"x": InMemory(x.numpy())}, lambda rows, draws: rows["x"], np.zeros(16, np.int64), 2)
    settings = Training(steps=200, batch=16, lr=3e-3, log_every=1)
    _, curve = train(network(), None, recipe.loss, data, settings, 0, CPU, Checkpoints(tmp_path, "stamp"))
    assert set(recipe.reported) <= set(curve[0])
    first, last = (float(np.mean([row["denoise"] for row in part])) for part in (curve[:20], curve[-20:]))
    assert last < 0.6 * first
    noised, times = recipe.noised(x, torch.zeros_like(x), 0.25)
    torch.testing.assert_close(noised, 0.75 * x)
    assert times.tolist() == [0.25] * 16
    with pytest.raises(ConfigError, match="LogitNormal does not tune its autoencoder"):
        recipe.save_autoencoder(network(), tmp_path)


def test_the_sampler_is_of_second_order(load: Load) -> None:
    """On dx/dt = x, whose solution at t = 0 is x exp(-1)."""
    module = load("samplers")
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)

    def error(steps: int) -> float:
        sampler = module.build(module.Options(steps=steps))
        assert sampler.evaluations == 2 * steps
        end = sampler.sample(lambda x, t, r: x, x, lambda step: torch.zeros_like(x))
        return abs(float(end) - np.exp(-1))

    assert np.log2(error(20) / error(40)) == pytest.approx(2, abs=0.1)


def test_the_autoencoder_gives_back_grey_images(load: Load) -> None:
    module = load("autoencoders")
    autoencoder = module.build(module.Options(), 8, CPU)
    assert autoencoder.shape == module.describe(module.Options(), 8).shape == (1, 8, 8)
    grey = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(2, 3, 8, 8)
    latents = autoencoder.encode(grey)
    assert latents.shape == (2, *autoencoder.shape)
    assert torch.equal(autoencoder.decode(latents), grey)
    for refused in (lambda: autoencoder.moments(grey), autoencoder.trainable):
        with pytest.raises(ConfigError, match="Grey has no"):
            refused()


def test_the_objective_is_learned(load: Load) -> None:
    from timm.models.vision_transformer import VisionTransformer

    module = load("objectives")
    torch.manual_seed(0)
    vit = VisionTransformer(img_size=8, patch_size=4, embed_dim=32, depth=2, num_heads=2, num_classes=0)
    learner, objective = Learner(vit, (0.5,) * 3, (0.5,) * 3, (8, 8)), module.build(module.Options())
    objective.equip(learner, 2)
    images, labels = (constant_images(16) + 1) / 2, torch.zeros(16, dtype=torch.int64)
    optimizer = torch.optim.Adam(learner.parameters(), lr=1e-3)
    losses: list[float] = []
    for step in range(40):
        terms: dict[str, Any] = objective.loss(learner, images, labels, StepRandom(0, step, 16, slice(0, 16), CPU))
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        losses.append(float(terms["colour"].detach()))
    assert losses[-1] < 0.2 * losses[0]


def test_the_architecture_has_the_width_that_was_asked_for(load: Load) -> None:
    module = load("architectures")
    scale = Scale(depth=2, width=32, heads=2, patch=2, align_depth=1)
    built = module.build(module.Options(mlp_ratio=2.0), scale, (3, 8, 8), 2, (4, 4))
    assert built.blocks[0].mlp.fc1.out_features == 64
    prediction, hidden = built(torch.zeros(2, 3, 8, 8), torch.zeros(2), torch.tensor([0, 2]))
    assert (prediction.shape, hidden.shape) == ((2, 3, 8, 8), (2, 16, 32))
    with pytest.raises(ConfigError, match="the tier's grid is 2x2"):
        module.build(module.Options(), scale, (3, 8, 8), 2, (2, 2))
