"""Every family of encoders is fed as the paper's released code feeds it: against a reference written from that description.

Small networks with random weights, saved as their hub saves them, behind the rows of workflow/encoders.yaml themselves. The
references use the libraries for the blocks of a network alone; what comes before and after is written out here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from kornia.feature import PatchDominantGradientOrientation, SIFTDescriptor
from pydantic import ValidationError
from safetensors.torch import save_file
from skimage import data as photographs
from skimage.feature import hog
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers
from transformers import Dinov2Config, Dinov2Model

from irepa.config.read import read_yaml
from irepa.config.tier import EncoderEntry
from irepa.encoders import Declared, Resize
from irepa.images import standardise
from tests.conftest import WORKFLOW

CATALOGUE = {name: EncoderEntry.model_validate(row) for name, row in read_yaml(WORKFLOW / "encoders.yaml").items()}
GRID, CPU = (16, 16), torch.device("cpu")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5,) * 3, (0.5,) * 3)
SMALL = {"depth": 2, "embed_dim": 64, "num_heads": 2}


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Two photographs, (2, 3, 256, 256) uint8."""
    crops = [photographs.astronaut()[:256, 100:356], photographs.coffee()[:256, 150:406]]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


def normal(x: Tensor, to: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in to)
    return (x - mean) / std


def plain(x: Tensor, size: int, mode: str = "bicubic") -> Tensor:
    return F.interpolate(x, (size, size), mode=mode, antialias=False, align_corners=False)


def grid_to(positions: Tensor, prefix: int, **how: Any) -> Tensor:
    """Position embeddings (1, prefix + n * n, dim) to 16 x 16 patches."""
    head, patches = positions[:, :prefix], positions[:, prefix:]
    side = math.isqrt(patches.shape[1])
    planes = F.interpolate(patches.unflatten(1, (side, side)).permute(0, 3, 1, 2), GRID, **how)
    return torch.cat([head, planes.flatten(2).transpose(1, 2)], dim=1)


def last_block(model: Any, block: nn.Module, x: Tensor) -> Tensor:
    """What a block of a model gives for pixels, before whatever follows."""
    seen: list[Tensor] = []
    handle = block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(x)
    handle.remove()
    return seen[0]


@dataclass(frozen=True)
class Family:
    """One row, made small.

    Attributes:
        pixels: what the described code makes of images in [0, 1].
        patch: pixels.
        positions: how stored position embeddings are brought to 16 x 16; None where there is nothing to do.
        stored: side of the grid that the weights were trained on, tokens.
        norm: whether the last norm is applied.
        counted: offset from which rotary positions are counted; None where timm's are left.
        architecture: what makes it small.
    """

    pixels: Callable[[Tensor], Tensor]
    patch: int = 16
    positions: dict[str, Any] | None = None
    stored: int = 16
    norm: bool = True
    counted: float | None = None
    architecture: dict[str, Any] | None = None


def normalised(x: Tensor) -> Tensor:
    return normal(x, IMAGENET)


def normalised_first(x: Tensor) -> Tensor:
    return plain(normal(x, IMAGENET), 224)


def for_perception(size: int) -> Callable[[Tensor], Tensor]:
    return lambda x: normal(plain(x, size, "bilinear"), HALF)


AS_TIMM = {"mode": "bicubic", "antialias": True, "align_corners": False}
BILINEAR = {"mode": "bilinear", "antialias": False, "align_corners": False}
PE_14 = Family(for_perception(224), 14, BILINEAR, 32, norm=False, counted=1.0)
TIMM = {
    "dino-b": Family(normalised, positions=AS_TIMM, stored=14),
    "dinov2-b": Family(normalised_first, 14, AS_TIMM, 37),
    "dinov3-b": Family(normalised),
    "mocov3-b": Family(normalised, positions=AS_TIMM, stored=14),
    "mae-l": Family(normalised, positions=AS_TIMM, stored=14, norm=False),
    "ijepa-h": Family(normalised_first, 14),
    "siglip-b": Family(normalised),
    "siglip2-b": Family(normalised),
    "pe-core-b": Family(for_perception(256), 16, BILINEAR, 14, norm=False, counted=1.0),
    "pe-core-l": Family(for_perception(224), 14, BILINEAR, 24, norm=False, counted=1.0),
    "pe-core-g": Family(for_perception(224), 14, BILINEAR, 32, norm=False, counted=0.0),
    "pe-spatial-b": Family(for_perception(256), 16, BILINEAR, 32, norm=False, counted=1.0),
    "pe-spatial-l": PE_14,
    "pe-lang-l": PE_14,
    "c-radio-v3-b": Family(lambda x: normal(x, CLIP), positions=BILINEAR, stored=128, norm=False),
    "c-radio-v3-l": Family(lambda x: normal(x, CLIP), positions=BILINEAR, stored=128, norm=False),
}


def counted_rotary(head: int, offset: float) -> Tensor:
    """Sines, then cosines, (256, 2 * head), of columns and rows that are counted from ``offset``, each frequency twice."""
    frequencies = 10000.0 ** (-torch.arange(head // 4) / (head // 4))
    at = torch.arange(16) + offset
    angles = torch.cat([at.repeat(16)[:, None] * frequencies, at.repeat_interleave(16)[:, None] * frequencies], dim=1)
    angles = angles.repeat_interleave(2, dim=1)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def built(name: str, **options: Any) -> Any:
    entry = EncoderEntry.model_validate(CATALOGUE[name].model_dump() | options)
    return Declared.of(name, entry, 256).encoder(GRID, CPU)


def relative(found: Tensor, other: Tensor) -> float:
    return float((found - other).norm() / other.norm())


def saved(network: nn.Module, folder: Path, name: str) -> dict[str, Any]:
    """Options that point a row to weights as its hub keeps them."""
    state = network.state_dict()
    if name.startswith("moco"):
        torch.save({"state_dict": {f"module.base_encoder.{k}": v for k, v in state.items()}}, folder / "vit.pth.tar")
        return {"weights": str(folder / "vit.pth.tar")}
    save_file(state, folder / "model.safetensors")
    return {"weights": str(folder / "model.safetensors")}


@pytest.mark.parametrize("name", TIMM)
def test_transformers_of_timm_follow_the_description(name: str, images: Tensor, tmp_path: Path) -> None:
    family, row = TIMM[name], CATALOGUE[name].options()
    torch.manual_seed(0)
    trained = timm.create_model(row["model"], img_size=family.stored * family.patch, num_classes=0, **SMALL)
    for key, parameter in trained.named_parameters():  # biases and scales too, so that nothing is left out unseen
        scale = parameter.ndim == 1 and "bias" not in key
        nn.init.normal_(parameter, mean=float(scale), std=0.3 if scale else 0.1)
    options = saved(trained, tmp_path, name) | {"architecture": SMALL}

    reference = timm.create_model(row["model"], img_size=16 * family.patch, num_classes=0, **SMALL).eval()
    state = trained.state_dict()
    if family.positions is not None:
        prefix = 0 if trained.no_embed_class else trained.num_prefix_tokens
        state["pos_embed"] = grid_to(state["pos_embed"], prefix, **family.positions)
    reference.load_state_dict(state)
    if family.counted is not None:
        reference.rope.pos_embed = counted_rotary(32, family.counted)
    with torch.inference_mode():
        expected = last_block(reference, reference.blocks[-1], family.pixels(images.float() / 255))
        expected = reference.norm(expected) if family.norm else expected
        expected = expected[:, reference.num_prefix_tokens :]
        found = built(name, **options)(images)
        assert relative(found.patch, expected) < 1e-5
        assert found.grid == GRID
        if f"{name}-library" in CATALOGUE:
            assert relative(built(f"{name}-library", **options)(images).patch, expected) > 1e-3


def test_webssl_follows_the_description(images: Tensor, tmp_path: Path) -> None:
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=224, patch_size=14)
    model = Dinov2Model(config).eval()
    model.save_pretrained(tmp_path)
    with torch.inference_mode():
        expected = model(pixel_values=normalised_first(images.float() / 255)).last_hidden_state[:, 1:]
        found, library = (
            built(name, weights=str(tmp_path), architecture=None)(images).patch
            for name in ("webssl-300m", "webssl-300m-library")
        )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert relative(library, expected) > 1e-3


def test_clip_follows_the_description(images: Tensor, tmp_path: Path) -> None:
    vision = {"image_size": 224, "layers": 2, "width": 64, "head_width": 32, "patch_size": 14}
    text = {"context_length": 8, "vocab_size": 16, "width": 32, "heads": 2, "layers": 1}
    (tmp_path / "tiny-clip.json").write_text(
        json.dumps({"embed_dim": 32, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text})
    )
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    model = open_clip.create_model("tiny-clip", load_weights=False).eval()
    torch.nn.init.normal_(model.visual.ln_post.weight)
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    with torch.inference_mode():
        x = normal(plain(images.float() / 255, 224), CLIP)
        expected = last_block(model.visual, model.visual.transformer.resblocks[-1], x)[:, 1:]
        options = {"model": "tiny-clip", "weights": str(tmp_path / "clip.pt")}
        found, library = (built(name, **options)(images).patch for name in ("clip-l", "clip-l-library"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert relative(library, expected) > 1e-3


@pytest.mark.parametrize(("name", "size"), [("sam-b", 1024), ("sam2-s", 512)])
def test_sam_follows_the_description(name: str, size: int, images: Tensor, tmp_path: Path) -> None:
    small = {"embed_dim": 16} if name == "sam2-s" else SMALL | {"embed_dim": 16}
    torch.manual_seed(0)
    model = timm.create_model(CATALOGUE[name].options()["model"], **small).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    options = {"weights": str(tmp_path / "model.safetensors"), "architecture": small}
    with torch.inference_mode():
        x = normal(plain(images.float() / 255, size), IMAGENET)
        if name == "sam2-s":
            planes = last_block(model, model.blocks[-1], x).permute(0, 3, 1, 2)
            assert planes.shape[1:] == (8 * 16, 16, 16)
        else:
            planes = plain(last_block(model, model.neck, x), 16, "bilinear")
        found = built(name, **options)(images)
    assert found.grid == GRID
    torch.testing.assert_close(found.patch, planes.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-4)


def test_vgg16_follows_the_description(images: Tensor, tmp_path: Path) -> None:
    """From a file whose classifier is NaN, as torchvision's is; timm's names for it, because its own has 100 million weights."""
    torch.manual_seed(0)
    features = make_layers(cfgs["D"]).eval()
    small = {"mlp_ratio": 8 / 4096}
    state = {
        key: features.state_dict()[key.removeprefix("features.")]
        if "features" in key
        else torch.full_like(tensor, torch.nan)
        for key, tensor in timm.create_model("vgg16", **small).state_dict().items()
    }
    torch.save(state, tmp_path / "vgg.pth")
    options = {"weights": str(tmp_path / "vgg.pth"), "architecture": small}
    with torch.inference_mode():
        fourth = [k for k, layer in enumerate(features) if isinstance(layer, nn.MaxPool2d)][3]
        expected = features[: fourth + 1](normal(images[:1].float() / 255, IMAGENET))
        found = built("vgg16-pool4", **options)(images[:1])
        assert expected.shape == (1, 512, 16, 16)
        torch.testing.assert_close(found.patch, expected.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)
        library = built("vgg16-pool4-library", **options)(images[:1])
        trained = normal(images[:1].float(), ((123.0, 117.0, 104.0), (1.0,) * 3))
        expected = features[: fourth + 1](trained).flatten(2).transpose(1, 2)
    assert relative(library.patch, expected) < 1e-3


def test_hog_follows_the_description(images: Tensor) -> None:
    """scikit-image's own, block by block, on the grey of the description."""
    red, green, blue = images.numpy().transpose(1, 0, 2, 3) / 255
    greys = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    blocks = np.stack([
        hog(grey, 8, (2, 2), (4, 4), block_norm="L2-Hys", feature_vector=False).reshape(125, 125, 128) for grey in greys
    ])  # fmt: skip
    planes = F.normalize(torch.from_numpy(blocks), dim=-1).permute(0, 3, 1, 2)
    expected = plain(planes, 16, "bilinear").flatten(2).transpose(1, 2).float()
    torch.testing.assert_close(built("hog")(images).patch, expected, rtol=1e-5, atol=1e-5)


def test_sift_follows_the_description(images: Tensor) -> None:
    weights = torch.tensor([0.299, 0.587, 0.114])
    grey = (images.float() / 255 * weights[:, None, None]).sum(1, keepdim=True)

    def patches(side: int, angles: Tensor) -> Tensor:
        """Squares that reach 16 pixels from (8 + 16 j, 8 + 16 i), turned counter-clockwise by ``angles`` (2, 256)."""
        at = (2 * torch.arange(side) + 1) / side - 1
        v, u = torch.meshgrid(at, at, indexing="ij")
        cos, sin = angles.cos()[..., None, None], angles.sin()[..., None, None]
        centres = 8 + 16 * torch.arange(16)
        x = centres.repeat(16)[:, None, None] + 16 * (cos * u + sin * v)
        y = centres.repeat_interleave(16)[:, None, None] + 16 * (-sin * u + cos * v)
        places = torch.stack([x, y], dim=-1) / 255 * 2 - 1
        sampled = F.grid_sample(grey, places.flatten(1, 2), padding_mode="border", align_corners=True)
        return sampled.reshape(-1, 1, side, side)

    with torch.no_grad():
        turned = PatchDominantGradientOrientation(20)(patches(20, torch.zeros(2, 256))).reshape(2, 256)
        described = SIFTDescriptor(41, 8, 4, rootsift=False, clipval=0.2)(patches(41, turned)).reshape(2, 256, 128)
    found = built("sift")(images).patch
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(2, 256))
    # A dominant gradient that is nearly a tie may turn a key point the other way.
    same = (found - F.normalize(described, dim=-1)).norm(dim=-1) < 1e-2
    assert float(same.float().mean()) > 0.98


@given(
    st.integers(5, 40),
    st.sampled_from(["bicubic", "bilinear"]),
    st.booleans(),
    st.floats(0.1, 0.9),
    st.integers(0, 2**31),
)
def test_the_order_of_resizing_and_normalising_is_worth_rounding_alone(
    side: int, mode: str, antialias: bool, std: float, seed: int
) -> None:
    """Interpolation weights add up to 1; only clamping makes the order matter, and it is refused in the one that it spoils."""
    noise = torch.randint(0, 256, (1, 3, 17, 17), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    found = [
        standardise(noise, (side, side), (0.3, 0.5, 0.7), (std,) * 3, **Resize(
            mode=mode, antialias=antialias, clamp=False, order=order
        ).model_dump())
        for order in ("resize-first", "normalise-first")
    ]  # fmt: skip
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_clamping_what_is_normalised_is_refused() -> None:
    with pytest.raises(ValidationError, match="with order: normalise-first it must be false"):
        Resize(order="normalise-first")
