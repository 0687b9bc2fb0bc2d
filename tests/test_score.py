"""`irepa score`, and the published points it compares with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from irepa.audit import paper as published
from irepa.commands.score import mean_over_images, parse_encoder, read_images, score
from irepa.data.photos import photographs
from irepa.errors import ConfigError, DataError
from irepa.masks import boundary_contrast_mask, token_masks
from irepa.spatial import spatial_metrics
from tests.conftest import REPOSITORY, call

PRINTED = {"linear_probe_accuracy": -0.260, "lds": -0.852, "cds": -0.847, "srss": -0.885, "rmsc": -0.888}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photographs as files, two of them a folder deeper."""
    place = tmp_path_factory.mktemp("images")
    (place / "deeper").mkdir()
    for index, name in enumerate(("astronaut", "cat", "coffee", "rocket", "china", "flower")):
        Image.fromarray(photographs()[name]).save(place / ("deeper" if index > 3 else ".") / f"{name}.png")
    return place


@pytest.mark.parametrize("metric", PRINTED)
def test_the_points_read_off_the_plot_have_the_printed_correlations(metric: str) -> None:
    line = published.Line.of(metric)
    assert line.r == pytest.approx(PRINTED[metric], abs=0.005)
    printed = published.correlations().query("model == 'SiT-XL/2'").set_index("metric")["pearson_r"]
    assert printed[metric] == PRINTED[metric]


def test_the_prediction_interval_is_the_textbooks() -> None:
    """Against the definition: y0 +- t * s * sqrt(x0' (X'X)^-1 x0 + 1)."""
    x, y = published.scatter("lds").to_numpy().T
    design = np.stack([np.ones_like(x), x], axis=1)
    beta, *_ = np.linalg.lstsq(design, y, rcond=None)
    s = np.sqrt(np.sum((y - design @ beta) ** 2) / (len(x) - 2))
    new = np.array([1.0, 0.3])
    half = stats.t.ppf(0.975, len(x) - 2) * s * np.sqrt(1 + new @ np.linalg.inv(design.T @ design) @ new)
    centre, low, high = published.Line.of("lds").predict(0.3)
    assert (centre, low, high) == pytest.approx((new @ beta, new @ beta - half, new @ beta + half))


def test_metrics_are_those_of_the_encoders_tokens(folder: Path) -> None:
    images = read_images(folder, 64, 100)
    assert images.shape == (6, 64, 64, 3)
    found = score(parse_encoder("rgb", {"rgb": parse_rgb()}, None), images, (8, 8), torch.device("cpu"), batch=4)
    patches = torch.from_numpy(images).float().unflatten(1, (8, 8)).unflatten(3, (8, 8)).permute(0, 1, 3, 5, 2, 4)
    tokens = patches.flatten(3).flatten(1, 2) / 127.5 - 1
    masks = token_masks(torch.from_numpy(np.stack([boundary_contrast_mask(image) for image in images])), (8, 8))
    expected = spatial_metrics(tokens, (8, 8), masks)
    assert found.metrics["lds"].value == pytest.approx(float(expected.lds.mean()), rel=1e-5)
    assert found.metrics["rmsc"].value == pytest.approx(float(expected.rmsc.mean()), rel=1e-5)
    assert found.metrics["lds"].low < found.metrics["lds"].value < found.metrics["lds"].high
    assert found.fid[1] < found.fid[0] < found.fid[2]


def parse_rgb():  # type: ignore[no-untyped-def]
    from irepa.config.tier import EncoderEntry

    return EncoderEntry(library="rgb", family="handcrafted")


def test_an_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(100):
        found = mean_over_images(rng.normal(0.3, 0.1, size=60))
        inside += found.low <= 0.3 <= found.high
    assert 88 <= inside <= 99


@pytest.mark.parametrize(
    ("text", "library", "options"),
    [
        ("timm:vit_small_patch14_dinov2.lvd142m", "timm-vit", {"model": "vit_small_patch14_dinov2.lvd142m"}),
        ("timm:resnet50.a1_in1k", "timm", {"model": "resnet50.a1_in1k", "stride": 16}),
        ("open_clip:ViT-B-16/laion2b_s34b_b88k", "open-clip", {"model": "ViT-B-16", "pretrained": "laion2b_s34b_b88k"}),
        ("transformers:facebook/dinov2-small", "transformers", {"model": "facebook/dinov2-small"}),
    ],
)
def test_an_encoder_is_named_by_its_library(text: str, library: str, options: dict[str, object]) -> None:
    entry = parse_encoder(text, {}, "random")
    assert entry.library == library
    assert entry.options() == options | {"weights": "random"}


def test_bad_names_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--encoder keras:x: give a name of workflow/encoders\.yaml or one of timm:MODEL"
    ):
        parse_encoder("keras:x", {}, None)
    with pytest.raises(ConfigError, match="timm knows no such model"):
        parse_encoder("timm:vit_nothing", {}, None)
    with pytest.raises(DataError, match="no image in this folder or below it"):
        read_images(tmp_path, 64, 10)


def test_the_command_prints_metrics_and_the_extrapolation(folder: Path) -> None:
    done = call(
        REPOSITORY,
        "irepa",
        "score",
        "--encoder",
        "timm:vit_tiny_patch16_224",
        "--weights",
        "random",
        "--images",
        folder,
    )
    assert done.returncode == 0, done.stderr
    assert "LDS" in done.stdout
    assert "95% prediction interval" in done.stdout
    assert "This is an extrapolation, not a measurement" in done.stdout
