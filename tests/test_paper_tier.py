"""The imagenet256 tier's own path at toy size: latents from a folder in the hub's format, online encoders, the SDE sampler, a
published checkpoint, and the table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from diffusers import AutoencoderKL

from irepa.config.load import load_settings
from irepa.models.sit import SiT
from irepa.pipeline.plan import Plan
from tests.conftest import WORKFLOW, call, copy_project, snakemake

TOY_SCALE = {"depth": 2, "width": 32, "heads": 2, "patch": 2, "align_depth": 1, "projector_hidden": 32}
CHECKPOINT_CELL = "sit/toy/none/none/seed0"


def small_autoencoder(folder: Path) -> None:
    """A random AutoencoderKL of SD-VAE's shape (f8, d4), 8 channels wide, as the hub stores it."""
    torch.manual_seed(0)
    AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    ).save_pretrained(folder)


def toy_overrides(dataset: dict[str, Any], grid: list[int], autoencoder: Path) -> dict[str, Any]:
    """What makes imagenet256 small; everything else is the tier's."""
    return {
        "dataset": dataset,
        "grid": grid,
        "autoencoder.weights": str(autoencoder),
        "autoencoder.architecture": {"latent_channels": 4, "layers_per_block": 1},
        "scales": {"toy": TOY_SCALE},
        "recipes.sit.sampler.steps": 4,
        "recipes.sit.guidance": {"scale": 1.5, "low": 0.1, "high": 0.9},
        "features": {"input_size": dataset["image_size"], "disk_limit_gib": 1e-5, "batch": 16},
        "spatial.images": 32,
        "probe.train_images": 48,
        "training": {"steps": 4, "batch": 8, "precision": "bf16", "ema": 0.5, "log_every": 1},
        "sampling": {"samples": 20, "batch": 4, "shard": 2, "keep": False, "preview": 4},
        "evaluation": {"extractors": ["effnet-lite2"], "input_size": 64, "kid_subsets": 2, "kid_subset_size": 16},
        "experiments": {
            "e5-ablation": {"question": "Which part?", "encoders": ["effnet-lite0-s16"], "methods": ["none", "repa", "irepa"]}
        },
        "figures": {"ablation": {"kind": "ablation", "experiment": "e5-ablation"}},
        "resources": {},
    }  # fmt: skip


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_project(tmp_path_factory.mktemp("toy") / "project")
    small_autoencoder(folder / "vae")
    torch.manual_seed(1)
    model = SiT((16, 16), 4, 16, **{key: value for key, value in TOY_SCALE.items() if key != "projector_hidden"})
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save(
        {"ema": state | {"module.projectors.0.0.weight": torch.zeros(3)}, "steps": 100_000}, folder / "public.pt"
    )
    photos = {"name": "photos", "image_size": 128, "train_per_class": 6, "test_per_class": 2}
    overrides = toy_overrides(photos, [8, 8], folder / "vae") | {
        "checkpoints": {CHECKPOINT_CELL: str(folder / "public.pt")}
    }
    overrides["training"]["flips"] = True
    params = {"tier": "imagenet256", "encoders": ["effnet-lite0-s16"], "overrides": overrides}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    snakemake(folder)
    return folder / "results" / "imagenet256"


def record(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / name).read_text())


def test_the_paper_tier_runs_to_its_report_at_toy_size(toy: Path) -> None:
    table = pd.read_csv(toy / "table.csv")
    distances = table[table["metric"] == "FD-EffLite2"]
    assert set(zip(distances["scale"], distances["method"], strict=True)) == {
        ("toy", "none"), ("toy", "repa"), ("toy", "irepa"),
    }  # fmt: skip
    assert np.isfinite(distances["value"]).all()
    report = (toy / "report.html").read_text()
    assert "This run is not the tier as its file has it." in report
    assert "training" in report
    sampled = record(toy, "samples/sit/toy/effnet-lite0-s16/irepa/seed0/sample.json")
    assert sampled["settings"]["sampler"]["name"] == "euler-maruyama"
    assert sampled["settings"]["guidance"] == {"scale": 1.5, "low": 0.1, "high": 0.9, "time": "t"}


def test_latents_are_stored_as_moments_of_every_training_image_and_of_its_mirror_image(toy: Path) -> None:
    latents = record(toy, "data/latents/default/latents.json")
    assert latents["files"]["train.moments.npy"]["shape"] == [2 * 96, 8, 16, 16]
    assert not list((toy / "data").glob(".*.shards"))
    moments = np.load(toy / "data" / "latents" / "default" / "train.moments.npy")
    images = torch.from_numpy(np.load(toy / "data" / "train.images.npy")).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        encode = AutoencoderKL.from_pretrained(toy.parents[1] / "vae").eval().encode
        for row, view in ((5, images[5]), (96 + 5, images[5].flip(2))):
            np.testing.assert_allclose(moments[row, :4], encode(view[None]).latent_dist.mean[0], atol=1e-4)
    assert (moments[:, 4:] > 0).all()  # standard deviations
    # The mean and spread of latents drawn from them, by the law of total variance.
    mean, std = moments[:, :4].astype(float), moments[:, 4:].astype(float)
    spread = np.sqrt(mean.var(axis=(0, 2, 3)) + (std**2).mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(latents["metrics"]["mean"], mean.mean(axis=(0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(latents["metrics"]["std"], spread, rtol=1e-9)


def test_an_encoder_whose_cache_would_be_too_large_runs_online(toy: Path) -> None:
    network = record(toy, "features/effnet-lite0-s16/features.json")
    assert network["metrics"]["online"]
    assert network["files"]["train.tokens.npy"]["shape"][0] == 0
    assert network["files"]["test.tokens.npy"]["shape"][0] == 32
    assert len(network["metrics"]["weights_sha256"]) == 64


def test_a_published_checkpoint_goes_straight_to_samples_and_evaluation(toy: Path) -> None:
    train = record(toy, f"runs/{CHECKPOINT_CELL}/train.json")
    assert train["inputs"] == {}
    assert train["metrics"]["classes"] == 16
    assert len(train["metrics"]["checkpoint_sha256"]) == 64
    assert np.isfinite(record(toy, f"evaluation/{CHECKPOINT_CELL}.json")["metrics"]["FD-EffLite2"])


def test_a_run_without_the_dataset_fails_with_one_message(tmp_path: Path) -> None:
    folder = copy_project(tmp_path / "project")
    done = call(folder, "snakemake", "--cores", "1", "--config", "tier=imagenet256")
    assert done.returncode != 0
    message = r"dataset\.train = data/imagenet/train: there is no such folder; set dataset\.train under overrides in params\.yaml"
    assert len(re.findall(message, done.stdout + done.stderr)) == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(folder.glob("results/imagenet256/data/*"))


def test_the_grid_of_the_paper_is_complete() -> None:
    plan = Plan(load_settings({"tier": "imagenet256"}, WORKFLOW, check_options=False), WORKFLOW.parent)
    jobs = plan.jobs()
    runs = [job.key.split("/") for job in jobs if job.stage == "train"]
    for scale in ("sit-b-2", "sit-l-2", "sit-xl-2"):
        assert (
            len({key[2] for key in runs if key[1] == scale and key[3] == "repa"} & set(plan.settings.tier.encoders))
            == 27
        )
    mixed = {key[2] for key in runs if "+clsmix" in key[2]}
    assert mixed == {f"dinov2-b+clsmix0.{tenths}" for tenths in range(1, 6)}
    assert {key[2] for key in runs} >= {"sift", "hog", "vgg16-pool4", "sam2-s"}
    large = Plan(load_settings({"tier": "imagenet512"}, WORKFLOW, check_options=False), WORKFLOW.parent)
    assert large.settings.tier.grid == (32, 32)
    assert large.settings.tier.training == plan.settings.tier.training
