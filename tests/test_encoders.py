"""Encoders: shapes, and their numbers against the libraries' own documented calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from skimage import data as photographs
from skimage.color import rgb2gray
from skimage.feature import hog as skimage_hog
from torch import Tensor

from irepa.config.plugins import encoder_options
from irepa.config.read import read_yaml
from irepa.config.tier import EncoderEntry, Evaluation
from irepa.encoders import Declared, Encoder, hog
from irepa.encoders import timm as timm_encoders
from irepa.engine.judges import extract
from irepa.errors import WeightsError
from irepa.images import resize, standardise
from irepa.weights import load_in_order
from tests.conftest import WORKFLOW

CATALOGUE = {name: EncoderEntry.model_validate(row) for name, row in read_yaml(WORKFLOW / "encoders.yaml").items()}
LOCAL = ("package:", "random")
HERE = [
    name
    for name, entry in CATALOGUE.items()
    if not entry.evaluation_only
    and entry.base is None
    and entry.options().get("weights", "random" if entry.family == "handcrafted" else "").startswith(LOCAL)
]
GRID, CPU = (8, 8), torch.device("cpu")


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Three 32x32 crops of photographs, (3, 3, 32, 32) uint8."""
    crops = [photographs.astronaut()[100:228:4, 150:278:4], photographs.coffee()[50:178:4, 200:328:4],
             photographs.cat()[100:228:4, 100:228:4]]  # fmt: skip
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


def build(name: str) -> Encoder:
    return Declared.of(name, CATALOGUE[name], 96).encoder(GRID, CPU)


@pytest.mark.parametrize("name", HERE)
def test_every_target_with_weights_here_gives_finite_tokens_on_a_grid_for_each_image_alone(
    name: str, images: Tensor
) -> None:
    encoder = build(name)
    with torch.inference_mode():
        tokens = encoder(images)
        alone = encoder(images[1:2])
    assert tokens.patch.shape[:2] == (3, tokens.grid[0] * tokens.grid[1])
    assert bool(torch.isfinite(tokens.patch).all())
    assert tokens.patch.std() > 0
    torch.testing.assert_close(alone.patch, tokens.patch[1:2], rtol=1e-3, atol=1e-4)
    if tokens.global_token is not None:
        assert tokens.global_token.shape == (3, tokens.patch.shape[2])


def test_rgb_tokens_are_the_pixels_of_their_patch(images: Tensor) -> None:
    patch = build("rgb")(images).patch
    second = (images[0, :, 0:4, 4:8].float() / 127.5 - 1).flatten()
    torch.testing.assert_close(patch[0, 1], second)


def test_hog_tokens_are_scikit_images_cells(images: Tensor) -> None:
    patch = hog.Hog(hog.Options(cells_per_token=2), GRID, CPU)(images).patch
    grey = rgb2gray(images[0].permute(1, 2, 0).numpy())
    cells = skimage_hog(grey, 9, (2, 2), (1, 1), feature_vector=False)[:, :, 0, 0]
    expected = np.concatenate([cells[2, 4], cells[2, 5], cells[3, 4], cells[3, 5]])  # token in row 1, column 2
    np.testing.assert_allclose(patch[0, 8 + 2].numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("stride", "level"), [(8, 2), (16, 3), (32, 4)])
def test_network_tokens_are_timms_own_feature_map(stride: int, level: int, images: Tensor) -> None:
    name = f"effnet-lite0-s{stride}"
    encoder = build(name)
    library = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    state = {key: value for key, value in encoder.network.state_dict().items() if key in library.state_dict()}
    library.load_state_dict(state)
    pixels = resize(images.float() / 255, (96, 96)) * 2 - 1  # timm's mean and std of this model are 0.5
    with torch.inference_mode():
        expected = library(pixels)[level]
        tokens = encoder(images)
    assert tokens.grid == tuple(expected.shape[-2:])
    torch.testing.assert_close(tokens.patch, expected.flatten(2).transpose(1, 2), rtol=1e-3, atol=1e-4)


def test_the_pooled_feature_in_token_width_has_the_length_of_the_tokens(images: Tensor) -> None:
    with torch.inference_mode():
        tokens = build("effnet-lite0-s16")(images)
    assert tokens.global_token is not None
    torch.testing.assert_close(tokens.global_token.norm(dim=-1), tokens.patch.norm(dim=-1).mean(dim=1))


def test_the_bundled_weights_are_imagenets(images: Tensor) -> None:
    """The classifier calls the cat a cat: names, order and normalisation of the weights are right."""
    options = encoder_options(CATALOGUE["effnet-lite0-s16"], 96, "x")
    model = timm_encoders.create(options)
    cat = torch.from_numpy(photographs.cat()).permute(2, 0, 1)[None, :, :, 75:375]
    with torch.inference_mode():
        logits = model(standardise(cat, (224, 224), model.pretrained_cfg["mean"], model.pretrained_cfg["std"]))
    assert int(logits.argmax()) in {281, 282, 283, 284, 285}  # ImageNet's five domestic cats


def test_weights_that_do_not_fit_are_refused_by_tensor(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    good = [tensor.clone() for tensor in model.state_dict().values()]
    load_in_order(model, dict(zip("abcd", good, strict=True)), "file")
    with pytest.raises(WeightsError, match=r"file: c \(3, 2\) does not fit 1\.weight \(2, 3\)"):
        load_in_order(model, dict(zip("abcd", [*good[:2], good[2].T, good[3]], strict=True)), "file")
    with pytest.raises(WeightsError, match="file has 3 tensors, the model has 4"):
        load_in_order(model, dict(zip("abc", good, strict=False)), "file")


def test_random_weights_follow_their_seed() -> None:
    def first(seed: int) -> Tensor:
        options = timm_encoders.Options(model="tf_efficientnet_lite0", weights="random", input_size=32, seed=seed)
        return next(timm_encoders.create(options).parameters())

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


def test_the_judges_features_are_timms_pooled_ones(images: Tensor) -> None:
    entry = CATALOGUE["effnet-lite2"]
    settings = Evaluation(extractors=["effnet-lite2"], batch=2, input_size=96)
    judged = extract("effnet-lite2", entry, images.permute(0, 2, 3, 1).numpy(), settings, CPU)
    model = timm_encoders.create(encoder_options(entry, 96, "x"))
    with torch.inference_mode():
        pixels = resize(images.float() / 255, (96, 96)) * 2 - 1
        expected = model.forward_features(pixels).mean(dim=(2, 3))
    np.testing.assert_allclose(judged.pooled, expected.numpy(), rtol=1e-3, atol=1e-4)
    assert judged.logits is None
