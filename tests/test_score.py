"""`irepa score`, and the published points it compares with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from irepa.audit import paper as published
from irepa.commands.score import (
    Score,
    declared_encoders,
    mean_over_images,
    parse_encoder,
    read_images,
    score,
    show_score,
)
from irepa.data.photos import photographs
from irepa.encoders import Encoder
from irepa.errors import ConfigError, DataError, IrepaError
from irepa.masks import boundary_contrast_mask, token_masks
from irepa.spatial import spatial_metrics
from irepa.tokens import Tokens
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
    with pytest.raises(DataError, match="nowhere: there is no such folder"):
        read_images(tmp_path / "nowhere", 64, 10)


# Random weights of small members of families that `irepa score` used to end on with a traceback.
NETWORKS = (
    "swin_tiny_patch4_window7_224", "swinv2_cr_tiny_ns_224", "maxvit_tiny_tf_224", "xcit_nano_12_p16_224", "hiera_tiny_224",
    "levit_128s", "vit_base_patch16_siglip_224", "mvitv2_tiny", "cait_xxs24_224", "vitamin_small_224", "pit_ti_224",
    "volo_d1_224", "coatnet_0_rw_224", "resnet18", "gmlp_s16_224", "tnt_s_patch16_224",
    "efficientformer_l1",
)  # fmt: skip


@pytest.mark.parametrize("model", NETWORKS)
def test_networks_of_every_kind_have_a_score(model: str, folder: Path) -> None:
    entry = parse_encoder(f"timm:{model}", {}, "random")
    scored = score(entry, read_images(folder, 256, 2), (16, 16), torch.device("cpu"), batch=2)
    assert -1 <= scored.metrics["lds"].value <= 1
    assert scored.metrics["lds"].n == 2


@pytest.mark.parametrize(
    ("text", "weights", "message"),
    [
        ("timm:crossvit_tiny_240", "random", r"has strides \[12, .*\], not 16"),
        ("timm:mixer_s32_224", "random", r"has strides \[32, .*\], not 16"),
        (
            "timm:swin_tiny_patch4_window7_224",
            "/nowhere/swin.pt",
            r"weights = /nowhere/swin\.pt: there is no such file",
        ),
        ("open_clip:RN50/openai", "random", "its image tower is a ResNet without patch tokens; take a ViT"),
        (
            "open_clip:ViT-B-16-SigLIP/webli",
            "random",
            "tower is timm's vit_base_patch16_siglip_224, whose patch tokens",
        ),
        ("open_clip:nothing/openai", "random", r"open_clip knows no model nothing; `open_clip\.list_models\(\)`"),
        ("open_clip:ViT-B-32", None, "which weights is not said; it has openai, "),
        ("transformers:somebody/nothing", "random", "random weights need `architecture`"),
        ("transformers:somebody/nothing", "/nowhere", "weights = /nowhere: there is no such file"),
        ("inception", None, "inception: library torch-fidelity gives no patch tokens"),
        ("inception", "random", "there is no such file"),
        ("vit-mae", None, "the pipeline trains it"),
        ("effnet-lite0-s16-lds", None, "gives no patch tokens"),
    ],
)
def test_what_has_no_score_is_one_message(text: str, weights: str | None, message: str, folder: Path) -> None:
    images = read_images(folder, 256, 2)

    def asked() -> None:
        entry = parse_encoder(text, declared_encoders(REPOSITORY), weights)
        score(entry, images, (16, 16), torch.device("cpu"), batch=2, name=text)

    with pytest.raises(IrepaError, match=message):
        asked()


class Broken(Encoder):
    def forward(self, images: torch.Tensor) -> Tokens:
        raise KeyError(7)


def test_what_an_encoder_raises_is_one_message() -> None:
    message = r"encoder class Broken cannot encode images of 8x8 pixels for a grid of 2x2 tokens \(KeyError: 7\); choose another"
    with pytest.raises(ConfigError, match=message):
        Broken(None, (2, 2), torch.device("cpu"))(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_a_grid_that_does_not_divide_the_image_is_refused_with_those_that_do(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--side 5: a grid of 5x5 does not divide --image-size 64; allowed are 4, 8, 16, 32, 64"
    ):
        score(parse_rgb(), read_images(folder, 64, 2), (5, 5), torch.device("cpu"))


def test_an_interval_of_one_image_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    line = published.Line.of("lds")
    metrics = {"lds": mean_over_images(np.array([0.3])), "srss": mean_over_images(np.array([np.nan]))}
    show_score(Score(metrics, line.predict(0.3), line), "x")
    assert capsys.readouterr().out.count("[nan, nan]") == 2


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
