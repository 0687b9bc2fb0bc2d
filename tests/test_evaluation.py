"""Frechet and kernel distances against closed forms; FID is the name of one of them only."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from irepa.config.load import load_settings
from irepa.config.tier import EncoderEntry, Evaluation
from irepa.engine.judges import (
    extract,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
    statistics,
    width,
)
from irepa.errors import ConfigError, DataError, DivergedError, WeightsError
from irepa.images import to_images
from irepa.models.sit import SiT
from irepa.pipeline.files import describe_file, write_json
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import execute
from irepa.references import read_statistics
from tests.conftest import WORKFLOW, copy_project


def gaussian(mean: np.ndarray, covariance: np.ndarray) -> dict[str, np.ndarray]:
    return {"mu": mean, "sigma": covariance}


@given(st.integers(0, 2**31), st.integers(1, 12))
def test_commuting_gaussians_have_the_closed_form(seed: int, dim: int) -> None:
    """Same eigenvectors: |mu1 - mu2|^2 + sum (sqrt(a) - sqrt(b))^2 over eigenvalues."""
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    a, b = rng.uniform(0.1, 4, size=(2, dim))
    m, n = rng.normal(size=(2, dim))
    found = frechet_distance(gaussian(m, q * a @ q.T), gaussian(n, q * b @ q.T))
    assert found == pytest.approx(np.sum((m - n) ** 2) + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2), rel=1e-8, abs=1e-8)


def test_statistics_are_mean_and_unbiased_covariance() -> None:
    features = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    found = statistics(features)
    np.testing.assert_allclose(found["mu"], features.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["sigma"], np.cov(features, rowvar=False), rtol=1e-5)
    assert frechet_distance(found, found) == pytest.approx(0, abs=1e-5)


def test_kernel_distance_is_unbiased_around_0_and_grows_with_a_shift() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 600, 8)).astype(np.float32)
    same, spread = kernel_distance(one, other, 20, 300)
    assert abs(same) < 3 * spread
    shifts = [kernel_distance(one, other + shift, 20, 300)[0] for shift in (0.2, 0.5, 1.0)]
    assert same < shifts[0] < shifts[1] < shifts[2]
    # E k(x, y) for the cubic kernel has a closed form for one constant point each: (x.y/d + 1)^3.
    zeros, ones = np.zeros((300, 8), np.float32), np.ones((300, 8), np.float32)
    assert kernel_distance(zeros, ones, 2, 300)[0] == pytest.approx(1 + 8 - 2)


def test_only_inception_may_be_called_fid() -> None:
    judge = EncoderEntry(library="timm", family="f", evaluation_only=True, judge="EffLite2")
    assert [judge.metric_name(m) for m in ("FID", "KID", "recall")] == [
        "FD-EffLite2",
        "KID-EffLite2",
        "recall-EffLite2",
    ]
    inception = EncoderEntry(library="torch-fidelity", family="f", evaluation_only=True, judge="Inception")
    assert [inception.metric_name(m) for m in ("FID", "KID", "recall")] == ["FID", "KID", "recall"]
    with pytest.raises(ValueError, match="needs a judge name"):
        EncoderEntry(library="timm", family="f", evaluation_only=True)


def test_a_library_without_pooled_features_cannot_judge() -> None:
    images = np.zeros((1, 8, 8, 3), np.uint8)
    entry, settings = EncoderEntry(library="rgb", family="f"), Evaluation(extractors=["rgb-judge"])
    with pytest.raises(ConfigError, match=r"rgb-judge: library rgb gives no pooled feature: .* evaluation\.extractors"):
        extract("rgb-judge", entry, images, settings, torch.device("cpu"))


def test_precision_and_recall_are_the_shares_inside_the_others_neighbourhoods() -> None:
    """Against brute force: a point is inside if it is no further from some point than that point's k-th neighbour."""
    rng = np.random.default_rng(0)
    samples, data = rng.normal(size=(60, 3)).astype(np.float32), rng.normal(0.5, 1, size=(80, 3)).astype(np.float32)

    def inside(points: np.ndarray, manifold: np.ndarray, k: int) -> float:
        among = np.linalg.norm(manifold[:, None] - manifold, axis=-1)
        radius = np.sort(among, axis=1)[:, k]  # the 0-th is the point itself
        distance = np.linalg.norm(points[:, None] - manifold, axis=-1)
        return float((distance <= radius).any(axis=1).mean())

    found = precision_recall(samples, data, 3)
    assert found == pytest.approx((inside(samples, data, 3), inside(data, samples, 3)), abs=1e-6)


def test_the_inception_score_of_certain_and_of_uniform_classes() -> None:
    classes = np.eye(5, dtype=np.float32)[np.arange(1000) % 5]
    assert inception_score(classes * 100) == pytest.approx(
        5, abs=0.15
    )  # ten splits, whose shares of classes differ a little
    assert inception_score(np.zeros((1000, 5), np.float32)) == pytest.approx(1)


def test_reference_statistics_are_read_as_the_adm_suite_writes_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 4)).astype(np.float32)
    images = rng.integers(0, 255, (5, 8, 8, 3)).astype(np.uint8)
    np.savez(tmp_path / "full.npz", **statistics(features), mu_s=np.zeros(2), arr_0=images)
    found, stored = read_statistics(tmp_path / "full.npz")
    assert frechet_distance(found, statistics(features)) == pytest.approx(0, abs=1e-5)
    np.testing.assert_array_equal(stored, images)
    np.savez(tmp_path / "bare.npz", mu=np.zeros(3), sigma=np.eye(3))
    assert read_statistics(tmp_path / "bare.npz")[1] is None
    np.savez(tmp_path / "bad.npz", mu=np.zeros(3), sigma=np.eye(2))
    with pytest.raises(WeightsError, match=r"bad\.npz: mu \(3,\) and sigma \(2, 2\)"):
        read_statistics(tmp_path / "bad.npz")
    (tmp_path / "none.npz").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"none\.npz cannot be read as statistics"):
        read_statistics(tmp_path / "none.npz")


def test_no_images_and_no_numbers_are_no_judgement() -> None:
    entry = EncoderEntry(library="timm", family="x", model="tf_efficientnet_lite0", weights="random", judge="Lite0")
    settings = Evaluation(extractors=["x"], input_size=64)
    for images in (
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((2, 3, 8, 8), np.uint8),
        np.zeros((0, 8, 8, 3), np.uint8),
    ):
        with pytest.raises(DataError, match=r"are no images; \(n, H, W, 3\) uint8 are needed"):
            extract("x", entry, images, settings, torch.device("cpu"))
    assert width("x", entry, settings) == 1280
    inception = EncoderEntry(library="torch-fidelity", family="x", judge="Inception")
    assert width("inception", inception, settings) == 2048


def test_pixels_that_are_not_finite_never_become_images() -> None:
    pixels = torch.zeros(2, 3, 4, 4)
    assert (to_images(pixels) == 128).all()
    for value in (float("nan"), float("inf")):
        pixels[1, 2, 3, 3] = value
        with pytest.raises(DivergedError, match="decoded pixels: 1 of 96 values are NaN or infinite"):
            to_images(pixels)


ADOPTED = "sit/nano-32/none/none/seed0"


@pytest.fixture
def adopting(tmp_path: Path) -> Callable[[dict[str, torch.Tensor]], Plan]:
    """The smoke tier, with the EMA weights of a checkpoint in place of one of its trainings."""
    network = SiT((32, 32), 3, 16, depth=2, width=32, heads=2, patch=8, align_depth=1)
    root = copy_project(tmp_path / "project")

    def plan(changed: dict[str, torch.Tensor]) -> Plan:
        torch.save({"model_ema": network.state_dict() | changed, "step": 3}, tmp_path / "ema.pt")
        overrides = {"checkpoints": {ADOPTED: str(tmp_path / "ema.pt")}}
        return Plan(load_settings({"tier": "smoke", "overrides": overrides}, WORKFLOW), root)

    return plan


def test_a_nan_in_a_checkpoint_is_a_failed_run(adopting: Callable[[dict[str, torch.Tensor]], Plan]) -> None:
    plan = adopting({"final_layer.linear.bias": torch.full((192,), float("nan"))})
    trained = execute(plan, Job("train", ADOPTED))
    assert trained.failed is not None
    assert "model_ema: final_layer.linear.bias: 192 of 192 values are NaN or infinite" in trained.failed
    sampled = execute(plan, Job("sample", ADOPTED))
    assert sampled.failed == trained.failed
    assert not sampled.content["files"]


def test_a_nan_in_ema_weights_is_found_before_they_are_sampled(
    adopting: Callable[[dict[str, torch.Tensor]], Plan],
) -> None:
    """One number of the finished run's weights is made NaN, and the record told that this is what was written."""
    plan = adopting({})
    trained = execute(plan, Job("train", ADOPTED))
    assert trained.failed is None
    assert trained.metrics["checkpoint_entry"] == "model_ema"
    assert execute(plan, Job("sample", ADOPTED)).failed is None
    path = trained.file("model.safetensors")
    weights = load_file(path)
    weights["blocks.1.mlp.fc1.weight"][3, 4] = float("nan")
    save_file(weights, path)
    content = trained.content | {"files": trained.content["files"] | {path.name: describe_file(path)}}
    write_json(trained.path, content)
    sampled = execute(plan, Job("sample", ADOPTED))
    assert sampled.failed is not None
    assert "blocks.1.mlp.fc1.weight: 1 of 4096 values are NaN or infinite" in sampled.failed


def test_weights_that_are_finite_and_give_nan_are_a_failed_run(
    adopting: Callable[[dict[str, torch.Tensor]], Plan],
) -> None:
    plan = adopting({"final_layer.linear.bias": torch.full((192,), 3e38)})
    assert execute(plan, Job("train", ADOPTED)).failed is None
    failed = execute(plan, Job("sample", ADOPTED)).failed
    assert failed is not None
    assert re.search(r"samples 0 to 15 of .*: \d+ of 49152 values are NaN or infinite", failed)
