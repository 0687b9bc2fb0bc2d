"""The pipeline's own encoders: what each objective learns, and the way from their training to tokens; early EMA weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from irepa.config import plugins
from irepa.config.load import load_settings
from irepa.errors import ConfigError, WeightsError
from irepa.images import standardise
from irepa.models.learner import Learner
from irepa.objectives import _views
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import execute
from irepa.random import StepRandom
from irepa.tokens import spread
from tests.conftest import REPOSITORY, WORKFLOW

CPU = torch.device("cpu")
TRAINING = {"steps": 4, "batch": 16, "label_dropout": 0.0, "ema": 0.5}
SMALL = {"name": "supervised", "encoder": "vit-supervised", "training": TRAINING}


def draws(step: int, batch: int) -> StepRandom:
    return StepRandom(0, step, batch, slice(0, batch), CPU)


def learner() -> Learner:
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    vit = VisionTransformer(img_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=2, num_classes=0)
    return Learner(vit, (0.5,) * 3, (0.5,) * 3, (16, 16))


def two_kinds(count: int = 32) -> tuple[Tensor, Tensor]:
    """Images in [0, 1] of two classes that colour alone does not tell apart: stripes across and stripes down."""
    labels = torch.arange(count) % 2
    wave = (torch.arange(16) % 4 < 2).float()
    stripes = torch.where(labels.view(-1, 1, 1).bool(), wave.view(1, 16, 1), wave.view(1, 1, 16)).expand(count, 16, 16)
    noise = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return 0.8 * stripes[:, None] + 0.2 * noise, labels


@pytest.mark.parametrize(("name", "options"), [("supervised", {}), ("contrastive", {"smallest": 0.8}), ("mae", {})])
def test_an_objective_is_learned_and_tells_stripes_apart(name: str, options: dict[str, Any]) -> None:
    """The loss falls, and afterwards a nearest class mean on the class token is right."""
    module = plugins.load("objectives", name, "x")
    objective, network = module.build(module.Options(**options)), learner()
    objective.equip(network, 2)
    images, labels = two_kinds()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    losses = []
    for step in range(60):
        loss = sum(objective.loss(network, images, labels, draws(step, len(images))).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    print(f"{name}: {losses[0]:.3f} to {losses[-1]:.3f}")
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:3])
    with torch.no_grad():
        tokens = network.eval().pooled(images)
    means = torch.stack([tokens[labels == kind].mean(0) for kind in (0, 1)])
    if name != "contrastive":  # which need not sort stripes by their direction
        assert float((torch.cdist(tokens, means).argmin(1) == labels).float().mean()) > 0.9


def test_views_are_functions_of_the_step_and_of_the_image() -> None:
    images = torch.rand(6, 3, 16, 16)
    whole = _views.jitter(_views.crop_and_flip(images, draws(3, 6), 0.3), draws(4, 6), 0.4, 0.2)
    again = _views.jitter(_views.crop_and_flip(images, draws(3, 6), 0.3), draws(4, 6), 0.4, 0.2)
    assert torch.equal(whole, again)
    part = _views.crop_and_flip(images[2:4], StepRandom(0, 3, 6, slice(2, 4), CPU), 0.3)
    assert torch.allclose(part, _views.crop_and_flip(images, draws(3, 6), 0.3)[2:4], atol=1e-6)
    assert float(whole.min()) >= 0
    assert float(whole.max()) <= 1


def test_a_crop_of_everything_is_the_image_or_its_mirror() -> None:
    images = torch.rand(20, 3, 16, 16)
    seen = _views.crop_and_flip(images, draws(0, 20), 1.0)
    same, mirrored = ((seen - other).abs().amax(dim=(1, 2, 3)) < 1e-4 for other in (images, images.flip(3)))
    assert bool((same | mirrored).all())
    assert 0 < int(same.sum()) < 20


def plan_of(tmp_path: Path, **changes: object) -> Plan:
    overrides = {"grid": [8, 8], "pretraining.supervised": SMALL, "scales.nano-32.patch": 4} | changes
    params = {"tier": "smoke", "results": str(tmp_path), "overrides": overrides}
    return Plan(load_settings(params, WORKFLOW), REPOSITORY)


def run(plan: Plan, *goal: Job) -> None:
    for job in plan.jobs(goal):
        execute(plan, job)


def test_an_encoder_is_trained_read_at_two_depths_and_tuned(tmp_path: Path) -> None:
    """From images over weights to tokens, the adapter's included: every record names the weights it was made with."""
    names = ["vit-supervised", "vit-supervised-mid"]
    plan = plan_of(tmp_path, encoders=names)
    run(plan, *(Job("features", name) for name in names))
    records = [plan.record(Job("features", name)) for name in names]
    assert [record.metrics["dim"] for record in records] == [96, 96]
    assert records[0].metrics["weights_sha256"] == records[1].metrics["weights_sha256"]
    last, middle = (record.array("test.tokens.npy") for record in records)
    assert not np.array_equal(last, middle)
    kept = load_file(plan.record(Job("pretrain", "supervised")).file("model.safetensors"))
    assert "cls_token" in kept
    assert not [name for name in kept if name.startswith(("head", "network."))]


@pytest.mark.parametrize(("name", "dim"), [("resnet-byol", 128), ("mixer-dino", 96)])
def test_a_resnet_and_a_mixer_are_trained_and_give_their_tokens(name: str, dim: int, tmp_path: Path) -> None:
    """The stored weights have timm's names, and the stored tokens are those of a network that timm builds from them."""
    from timm.models import build_model_with_cfg, create_model
    from timm.models.mlp_mixer import MlpMixer

    how = {"name": name.split("-")[1], "encoder": name, "training": TRAINING}
    plan = plan_of(tmp_path, encoders=[name], **{f"pretraining.{name}": how})
    run(plan, Job("features", name))
    kept = load_file(plan.record(Job("pretrain", name)).file("model.safetensors"))
    network: Any
    if name.startswith("resnet"):
        sizes = {"layers": [1] * 4, "channels": [48, 64, 96, 128], "output_stride": 8, "num_classes": 0}
        network, side = create_model("resnet18", **sizes), 64
        assert not torch.equal(kept["bn1.running_mean"], network.bn1.running_mean), (
            "statistics are those of the training"
        )
    else:
        network = build_model_with_cfg(
            MlpMixer, "mixer_s16_224", False, num_classes=0, img_size=(32, 32), patch_size=4, embed_dim=96, num_blocks=6
        )
        side = 32
    network.load_state_dict(kept)  # strictly
    record, data = plan.record(Job("features", name)), plan.record(Job("data"))
    images = data.array("test.images.npy")
    shown = spread(len(images), plan.settings.tier.spatial.images)[:8]
    config = network.pretrained_cfg
    given = torch.from_numpy(np.array(images[shown])).permute(0, 3, 1, 2)
    pixels = standardise(given, (side, side), config["mean"], config["std"])
    with torch.no_grad():
        output = network.eval().forward_features(pixels)
    expected = output.flatten(2).transpose(1, 2) if output.ndim == 4 else output
    stored = torch.from_numpy(np.array(record.array("test.tokens.npy")[:8])).float()
    assert stored.shape == (8, 64, dim)
    assert float((stored - expected).norm() / expected.norm()) < 2e-3  # stored in half precision


def test_weights_that_the_pipeline_would_train_are_not_sought_elsewhere() -> None:
    from irepa.encoders.timm import Options, create

    with pytest.raises(WeightsError, match="resnet18, trained:x: the pipeline trains it, in a tier that says how"):
        create(Options(model="resnet18", weights="trained:x", stride=8))


def test_a_fitted_encoder_reads_the_tokens_of_its_base(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, encoders=["effnet-lite0-s16-lds", "effnet-lite0-s16"], **{"features.input_size": 128})
    run(plan, Job("spatial", "effnet-lite0-s16-lds"), Job("spatial", "effnet-lite0-s16"))
    base, tuned = (
        plan.record(Job("spatial", name)).metrics["lds"] for name in ("effnet-lite0-s16", "effnet-lite0-s16-lds")
    )
    print(f"LDS {base:.3f} before, {tuned:.3f} after")
    assert tuned > base + 0.1


def test_pretraining_that_the_tier_does_not_have_is_refused() -> None:
    params = {"tier": "smoke", "encoders": ["vit-mae"]}
    with pytest.raises(ConfigError, match="vit-mae: weights trained:: unknown value 'mae'"):
        load_settings(params, WORKFLOW)


def test_pretraining_with_dropped_labels_is_refused(tmp_path: Path) -> None:
    training = TRAINING | {"label_dropout": 0.1}
    with pytest.raises(ConfigError, match=r"pretraining\.supervised\.training\.label_dropout = 0\.1: .* it must be 0"):
        plan_of(tmp_path, encoders=["vit-supervised"], **{"pretraining.supervised": SMALL | {"training": training}})


def test_early_weights_are_those_of_a_shorter_training(tmp_path: Path) -> None:
    """`at: 3` of a training of 6 steps, against a training of 3 steps, byte by byte; and they are drawn from."""
    cell = "sit/nano-32/effnet-lite0-s16/irepa/seed0"
    recipe = {"name": "sit", "architecture": "sit", "sampler": {"name": "ode-heun", "steps": 2}}
    early = {"recipes.sit-3": recipe | {"trained_as": "sit", "at": 3}, "experiments.methods.recipes": ["sit", "sit-3"]}
    long = plan_of(tmp_path / "long", **early)
    drawn = Job("sample", cell.replace("sit/", "sit-3/"))
    run(long, drawn)
    short = plan_of(tmp_path / "short", **{"training.steps": 3})
    run(short, Job("train", cell), Job("sample", cell))
    kept = load_file(long.record(Job("train", cell)).file("snapshots.safetensors"))
    expected = load_file(short.record(Job("train", cell)).file("model.safetensors"))
    assert {name.removeprefix("3/") for name in kept} == set(expected)
    assert all(torch.equal(kept[f"3/{name}"], tensor) for name, tensor in expected.items())
    images = [plan.record(job).array("preview.npy") for plan, job in ((long, drawn), (short, Job("sample", cell)))]
    assert np.array_equal(*images)
    with pytest.raises(ConfigError, match=r"recipes.sit-3.at = 9 must be smaller than training.steps = 6"):
        plan_of(tmp_path, **early | {"recipes.sit-3": recipe | {"trained_as": "sit", "at": 9}})


def test_what_seeds_share_is_that_of_the_first_seed(tmp_path: Path) -> None:
    """Seeds 0 and 1 that share start, order or samples: weights and samples by what is left to differ."""
    recipe = {"name": "sit", "architecture": "sit", "sampler": {"name": "ode-heun", "steps": 2}}
    cell = "{}/nano-32/effnet-lite0-s16/irepa/seed{}"
    shared = {
        "trained": {"shared": ["initialisation", "order"]},
        "started": {"shared": ["initialisation"]},
        "ordered": {"shared": ["order"]},
        "drawn": {"shared": ["initialisation", "order", "sampling"], "trained_as": "trained"},
    }
    plan = plan_of(
        tmp_path,
        **{f"recipes.{name}": recipe | options for name, options in shared.items()},
        **{"experiments.methods.recipes": ["sit", *shared], "seeds": 2},
    )
    cells = [(name, seed) for name in ("sit", "trained", "started", "ordered", "drawn") for seed in (0, 1)]
    run(plan, *(Job("sample", cell.format(name, seed)) for name, seed in cells))
    weights = {
        (name, seed): plan.record(Job("train", cell.format(name, seed))).file("model.safetensors").read_bytes()
        for name, seed in cells
        if name != "drawn"
    }
    assert all(weights[name, 0] == weights["sit", 0] for name in shared if name != "drawn")
    assert weights["trained", 1] == weights["sit", 0]
    assert len({weights[name, 1] for name in ("sit", "trained", "started", "ordered")}) == 4
    images = {
        (name, seed): plan.record(Job("sample", cell.format(name, seed))).array("preview.npy") for name, seed in cells
    }
    assert np.array_equal(images["drawn", 1], images["sit", 0])
    assert not np.array_equal(images["trained", 1], images["sit", 0])
    with pytest.raises(ConfigError, match="of shared, only sampling may differ"):
        plan_of(tmp_path, **{"recipes.sit-h": recipe | {"trained_as": "sit", "shared": ["order"]}})
