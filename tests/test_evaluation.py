"""Frechet and kernel distances against closed forms; FID is the name of one of them only."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from irepa.config.load import load_settings
from irepa.config.tier import EncoderEntry, Evaluation
from irepa.data import Split, Splits, set_aside
from irepa.encoders.torch_fidelity import Inception, Options
from irepa.engine.distances import (
    Reference,
    distances,
    extrapolate,
    frechet_distance,
    inception_score,
    kernel_distance,
    measured,
    precision_recall,
    statistics,
)
from irepa.engine.judges import JudgeFeatures, extract, width
from irepa.errors import ConfigError, DataError, DivergedError, WeightsError
from irepa.images import to_images
from irepa.models.sit import SiT
from irepa.pipeline.files import describe_file, write_json
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import execute
from irepa.references import check_reference, read_spatial, read_statistics
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


def line(features: np.ndarray, reference: dict[str, np.ndarray], parts: list[int]) -> tuple[float, float]:
    """Intercept and slope in 1/n of the library's own distance over parts of the features, one point for each number of parts."""
    x = [len(features) // k for k in parts]
    y = [np.mean([frechet_distance(statistics(p), reference) for p in np.array_split(features, k)]) for k in parts]
    slope, intercept = np.polyfit(1 / np.array(x), y, 1, w=np.ones(len(parts)))
    return float(intercept), float(slope)


@pytest.mark.parametrize(("count", "dim"), [(240, 4), (96, 40)])
def test_the_extrapolated_distance_is_the_librarys_on_parts_of_equal_weight(count: int, dim: int) -> None:
    """Also where parts have fewer samples than features have dimensions."""
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(count, dim)) * rng.uniform(0.5, 2, dim)).astype(np.float32)
    reference = statistics(rng.normal(0.3, 1, size=(300, dim)).astype(np.float32))
    found = extrapolate(features, reference, [4, 1, 2])
    assert found.value == pytest.approx(line(features, reference, [1, 2, 4])[0], rel=1e-5)
    assert found.bend == pytest.approx(line(features, reference, [1, 2])[0] - found.value, rel=1e-3)
    assert list(found.at) == [count, count // 2, count // 4]
    assert found.at[count] == pytest.approx(frechet_distance(statistics(features), reference), rel=1e-5)


def test_a_line_in_one_over_n_takes_the_bias_away_and_says_how_sure_it_is() -> None:
    """Gaussians with a known distance: over 60 draws the mean is the closed form, and the stated error is their spread."""
    dim, shift = 6, 0.4
    truth = dim * (shift**2 + (1 - 0.6) ** 2)
    reference = gaussian(np.full(dim, shift), 0.36 * np.eye(dim))
    draws = [np.random.default_rng(i).normal(size=(400, dim)).astype(np.float32) for i in range(60)]
    found = [extrapolate(draw, reference, [1, 2, 4]) for draw in draws]
    values, errors = np.array([f.value for f in found]), np.array([f.error for f in found])
    biased = np.mean([f.at[100] for f in found]) - truth
    se = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - truth) < 3 * se
    assert biased > 10 * abs(values.mean() - truth)
    assert errors.mean() == pytest.approx(values.std(), rel=0.35)
    assert max(abs(f.bend or 0) for f in found) < 4 * errors.mean()


def test_more_samples_than_dimensions_are_needed_and_the_bend_says_so() -> None:
    """A part that is smaller than the features are wide cannot see all of their covariance: the distance bends."""
    rng = np.random.default_rng(1)
    wide, narrow = (rng.normal(size=(200, dim)).astype(np.float32) for dim in (150, 5))
    bends = [extrapolate(x, gaussian(np.zeros(x.shape[1]), np.eye(x.shape[1])), [1, 2, 4]) for x in (wide, narrow)]
    assert abs(bends[0].bend or 0) > 5 * bends[0].error
    assert abs(bends[1].bend or 0) < 3 * bends[1].error


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Inception:
    """torch-fidelity's Inception with random weights, from a file."""
    from torch_fidelity import feature_extractor_inceptionv3 as library

    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(library, "load_state_dict_from_url", lambda *a, **k: {})
        patch.setattr(library.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = library.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    torch.save(network.state_dict(), path)
    return Inception(Options(weights=path), torch.device("cpu"))


def test_spatial_features_are_the_first_seven_channels_of_the_first_branch_place_by_place(inception: Inception) -> None:
    """Against that branch's layers, called one by one on what goes into the block; and the distance against its definition."""
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    given: list[torch.Tensor] = []
    block = inception.extractor.Mixed_6d
    handle = block.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0].clone()))
    judged = inception(images)
    handle.remove()
    branch = block.branch1x1
    weight = branch.conv.weight[:7, :, 0, 0]
    planes = torch.einsum("oc,bchw->bohw", weight, given[0])
    mean, variance, scale, bias = (
        of[:7, None, None] for of in (branch.bn.running_mean, branch.bn.running_var, branch.bn.weight, branch.bn.bias)
    )
    expected = ((planes - mean) / (variance + 0.001).sqrt() * scale + bias).clamp(min=0)
    assert judged.spatial is not None
    assert judged.spatial.shape == (6, 7 * 17 * 17)
    torch.testing.assert_close(judged.spatial, expected.flatten(1), atol=1e-4, rtol=1e-4)
    assert judged.pooled.shape == (6, 2048)


def test_sfid_is_the_frechet_distance_of_spatial_features_by_its_formula() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(0)
    one, other = (rng.normal(m, s, size=(60, 5)).astype(np.float32) for m, s in ((0, 1), (0.5, 2)))
    pooled = rng.normal(size=(60, 3)).astype(np.float32)
    reference = Reference(statistics(pooled), statistics(other), np.zeros((0, 3), np.float32))
    settings = Evaluation(extractors=["inception"])
    judge = EncoderEntry(library="torch-fidelity", family="x", judge="Inception")
    found = measured("inception", judge, JudgeFeatures(pooled, spatial=one), reference, settings)
    a, b = np.cov(one.T.astype(float)), np.cov(other.T.astype(float))
    shift = np.square(one.mean(0) - other.mean(0)).sum()
    assert found["sFID"] == pytest.approx(shift + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real), rel=1e-5)
    assert set(found) == {"FID", "sFID"}
    without = Reference(reference.moments, None, reference.features)
    assert set(measured("inception", judge, JudgeFeatures(pooled, spatial=one), without, settings)) == {"FID"}


def test_every_judge_gives_the_same_kinds_of_numbers_under_its_own_name() -> None:
    rng = np.random.default_rng(0)
    data, samples = rng.normal(size=(2, 64, 4)).astype(np.float32)
    reference = Reference(statistics(data), None, data)
    settings = Evaluation(extractors=["x"], parts=[1, 2, 4], kid_subsets=4, kid_subset_size=32)
    judge = EncoderEntry(library="timm", family="f", judge="Lite")
    found = measured("x", judge, JudgeFeatures(samples), reference, settings)
    assert set(found) == {
        "FD-Lite", "FD-Lite-at-32", "FD-Lite-at-16", "FD-Lite-infinity", "FD-Lite-infinity-se", "FD-Lite-infinity-bend",
        "KID-Lite", "KID-Lite-sd", "precision-Lite", "recall-Lite",
    }  # fmt: skip
    assert found["FD-Lite"] == distances(JudgeFeatures(samples), reference, settings)["FID", ""]
    assert found["FD-Lite"] < found["FD-Lite-at-32"] < found["FD-Lite-at-16"]


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
    np.savez(tmp_path / "full.npz", **statistics(features), mu_s=np.ones(2), sigma_s=np.eye(2), arr_0=images)
    spatial = read_spatial(tmp_path / "full.npz", 2)
    assert spatial is not None
    assert frechet_distance(spatial, gaussian(np.zeros(2), np.eye(2))) == pytest.approx(2)
    check_reference(tmp_path / "full.npz", 4, 2)
    with pytest.raises(WeightsError, match="statistics of 2 dimensions, the judge's features have 2023"):
        check_reference(tmp_path / "full.npz", 4, 2023)
    np.savez(tmp_path / "half.npz", **statistics(features), mu_s=np.ones(2))
    with pytest.raises(WeightsError, match=r"half\.npz has mu, sigma, mu_s; mu_s and sigma_s are needed"):
        read_spatial(tmp_path / "half.npz", 2)
    found, stored = read_statistics(tmp_path / "full.npz")
    assert frechet_distance(found, statistics(features)) == pytest.approx(0, abs=1e-5)
    np.testing.assert_array_equal(stored, images)
    np.savez(tmp_path / "bare.npz", mu=np.zeros(3), sigma=np.eye(3))
    assert read_statistics(tmp_path / "bare.npz")[1] is None
    assert read_spatial(tmp_path / "bare.npz", 2023) is None
    np.savez(tmp_path / "bad.npz", mu=np.zeros(3), sigma=np.eye(2))
    with pytest.raises(WeightsError, match=r"bad\.npz: mu \(3,\) and sigma \(2, 2\)"):
        read_statistics(tmp_path / "bad.npz")
    (tmp_path / "none.npz").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"none\.npz: it is no whole \.npz"):
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


def test_the_floor_is_what_held_out_images_get_by_hand(tmp_path: Path) -> None:
    """Of the smoke tier: as many as samples, spread over the held-out images, by the library alone; and it is in the table."""
    root = copy_project(tmp_path / "project")
    settings = load_settings({"tier": "smoke", "overrides": {"evaluation.floor": True}}, WORKFLOW)
    plan = Plan(settings, root)
    records = {job.stage: execute(plan, job) for job in plan.jobs([Job("floor", "effnet-lite2")])}
    assert Job("floor", "effnet-lite2") in plan.needs(Job("table"))
    data, found = records["data"], records["floor"].metrics
    held_out = data.array("test.images.npy")[::2]
    assert found["samples"] == len(held_out) == settings.tier.sampling.samples
    entry, device = settings.catalogue["effnet-lite2"], torch.device("cpu")
    seen, known = (
        statistics(extract("judge", entry, images, settings.tier.evaluation, device).pooled)
        for images in (held_out, data.array("train.images.npy"))
    )
    assert found["FD-EffLite2"] == pytest.approx(frechet_distance(seen, known), rel=1e-4)


JUDGE: dict[str, Any] = {
    "name": "contrastive",
    "encoder": "vit-judge",
    "images": "judge",
    "training": {"steps": 3, "batch": 16, "label_dropout": 0.0, "ema": 0.5},
}
OWN_JUDGE: dict[str, Any] = {
    "dataset.judge_images": 48,
    "expected.train_images": 80,
    "pretraining": {"judge": JUDGE},
    "evaluation.extractors": ["effnet-lite2", "vit-judge"],
    "evaluation.floor": True,
}


def test_a_judge_is_trained_on_images_that_nothing_else_sees(tmp_path: Path) -> None:
    """And its distance is that of what its weights, loaded by timm alone, say of the images."""
    root = copy_project(tmp_path / "project")
    plain = Plan(load_settings({"tier": "smoke"}, WORKFLOW), root)
    plan = Plan(load_settings({"tier": "smoke", "results": "own", "overrides": OWN_JUDGE}, WORKFLOW), root)
    records = {job.stage: execute(plan, job) for job in plan.jobs([Job("floor", "vit-judge")])}
    whole = execute(plain, Job("data"))
    every, kept, aside = (
        {image.tobytes() for image in record.array(f"{split}.images.npy")}
        for record, split in ((whole, "train"), (records["data"], "train"), (records["data"], "judge"))
    )
    assert (len(kept & aside), kept | aside) == (0, every)
    assert [records["data"].metrics[f"{name}_images"] for name in ("train", "judge", "test")] == [80, 48, 64]
    assert len(whole.array("judge.images.npy")) == 0
    labels = [np.bincount(records["data"].array(f"{split}.labels.npy"), minlength=16) for split in ("train", "judge")]
    np.testing.assert_array_equal(labels, [[5] * 16, [3] * 16])

    timm = pytest.importorskip("timm")
    network = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, num_classes=0, patch_size=4, embed_dim=96, depth=6, num_heads=6
    ).eval()
    network.load_state_dict(load_file(records["pretrain"].file("model.safetensors")))

    def by_hand(images: np.ndarray) -> dict[str, np.ndarray]:
        pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            return statistics(network.forward_features((pixels - 0.5) / 0.5)[:, 0].numpy())

    expected = frechet_distance(
        by_hand(records["data"].array("test.images.npy")[::2]), by_hand(records["data"].array("train.images.npy"))
    )
    assert records["floor"].metrics["FD-ViT"] == pytest.approx(expected, rel=1e-3)
    assert Job("pretrain", "judge") in plan.needs(Job("evaluate", ADOPTED))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretraining": {"judge": JUDGE | {"images": "train"}}}, r"judge\.images = train: a judge has not seen what"),
        ({"dataset.judge_images": 0}, r"pretraining\.judge\.images = judge: dataset\.judge_images = 0 sets none aside"),
        ({"pretraining": {}}, r"evaluation\.extractors: vit-judge: weights trained:: unknown value 'judge'"),
        ({"dataset.judge_images": 126}, r"2 training images, evaluation\.neighbours = 3 needs at least 4"),
        (
            {"pretraining": {"judge": JUDGE, "mae": JUDGE | {"encoder": "vit-mae"}}, "encoders": ["vit-mae"]},
            r"encoder vit-mae: pretraining\.mae\.images = judge: what such images train judges, and is no target",
        ),
    ],
)
def test_a_judge_that_has_seen_the_images_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(
            {"tier": "smoke", "overrides": OWN_JUDGE | {"grid": [8, 8], "scales.nano-32.patch": 4} | changes}, WORKFLOW
        )


def test_setting_all_images_aside_is_refused() -> None:
    split = Split(np.zeros(4, np.int64), lambda: iter(()))
    with pytest.raises(DataError, match=r"dataset\.judge_images = 4: there are 4 training images"):
        set_aside(Splits(split, split, ["one"]), 4)


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


def test_kept_samples_judged_again_give_the_same_numbers_and_a_further_judge_needs_no_new_ones(
    adopting: Callable[[dict[str, torch.Tensor]], Plan],
) -> None:
    plan = adopting({})
    jobs = plan.jobs([Job("evaluate", ADOPTED)])
    first = {job: execute(plan, job) for job in jobs}[Job("evaluate", ADOPTED)]
    drawn = plan.record(Job("sample", ADOPTED))
    samples, preview = drawn.compressed("samples.npz"), drawn.array("preview.npy")
    np.testing.assert_array_equal(samples[:12], preview)
    assert execute(plan, Job("evaluate", ADOPTED)).metrics == first.metrics
    overrides = plan.settings.params.overrides | {"evaluation.extractors": ["effnet-lite2", "effnet-lite0-s16-judge"]}
    root = plan.root
    entry = "\neffnet-lite0-s16-judge: {library: timm, family: x, model: tf_efficientnet_lite0, weights: random, judge: Lite0}\n"
    with (root / "workflow" / "encoders.yaml").open("a") as stream:
        stream.write(entry)
    wider = Plan(load_settings({"tier": "smoke", "overrides": overrides}, root / "workflow"), root)
    assert wider.is_current(Job("sample", ADOPTED))
    execute(wider, Job("reference", "effnet-lite0-s16-judge"))
    second = execute(wider, Job("evaluate", ADOPTED)).metrics
    assert {name: second[name] for name in first.metrics} == first.metrics
    assert set(second) - set(first.metrics) == {
        name.replace("EffLite2", "Lite0") for name in first.metrics if "EffLite2" in name
    }


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
