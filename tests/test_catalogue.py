"""Every encoder that workflow/encoders.yaml declares: its architecture, and small ones against their libraries' own calls."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoImageProcessor, BitImageProcessor, Dinov2Config, Dinov2Model

from irepa.commands.describe import describe_encoder
from irepa.config.read import read_yaml
from irepa.config.tier import EncoderEntry
from irepa.encoders import Declared, timm_vit, transformers
from irepa.encoders import open_clip as open_clip_encoders
from irepa.errors import WeightsError
from tests.conftest import WORKFLOW

CATALOGUE = {name: EncoderEntry.model_validate(row) for name, row in read_yaml(WORKFLOW / "encoders.yaml").items()}
NETWORKS = [
    name
    for name, row in CATALOGUE.items()
    if not row.evaluation_only
    and row.options().get("model")
    and not name.endswith("-library")  # the same networks again
]
GRID, CPU = (16, 16), torch.device("cpu")

# Paper section 6: family sizes and widths of the 27 encoders, as their publications give them.
PAPER = {
    "dino-b": 768, "dinov2-b": 768, "dinov2-l": 1024, "dinov2-g": 1536,
    "dinov3-b": 768, "dinov3-l": 1024, "dinov3-h-plus": 1280, "dinov3-7b": 4096,
    "webssl-300m": 1024, "webssl-1b": 1536, "webssl-2b": 2688, "webssl-3b": 3072,
    "pe-core-b": 768, "pe-core-l": 1024, "pe-core-g": 1536, "pe-lang-l": 1024, "pe-lang-g": 1536,
    "pe-spatial-b": 768, "pe-spatial-l": 1024, "pe-spatial-g": 1536, "c-radio-v3-b": 768, "c-radio-v3-l": 1024,
    "clip-l": 1024, "mocov3-b": 768, "mocov3-l": 1024, "ijepa-h": 1280, "mae-l": 1024,
}  # fmt: skip
# Of the others: SAM 2's last stages, SAM's neck and VGG16's fourth pooling.
OTHERS = {
    "sam2-s": 768,
    "sam2-b-plus": 896,
    "sam2-l": 1152,
    "sam-b": 256,
    "sam-l": 256,
    "sam-h": 256,
    "vgg16-pool4": 512,
}


def images(size: int = 256, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def library_normalisation(entry: EncoderEntry) -> tuple[Any, Any]:
    """Mean and standard deviation as the library's own configuration has them."""
    row = entry.options()
    if entry.library == "open-clip":
        config = open_clip.get_pretrained_cfg(row["model"], row["pretrained"])
        return config["mean"] or open_clip.OPENAI_DATASET_MEAN, config["std"] or open_clip.OPENAI_DATASET_STD
    config = timm.get_pretrained_cfg(row["model"])
    return config.mean, config.std


def test_the_papers_27_are_declared() -> None:
    assert len(PAPER) == 27
    assert set(PAPER) <= set(CATALOGUE)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_declared_architecture_gives_its_tokens_on_the_grid(name: str) -> None:
    """With random weights and no storage: the whole network, giants included."""
    entry = CATALOGUE[name]
    facts = describe_encoder(name, CATALOGUE, GRID, 256, 256)
    of_tier = entry.options().get("input_size") != "grid"
    if entry.library == "timm" and name not in OTHERS and of_tier:  # a network of another stride, resampled later
        assert facts.grid == tuple(256 // entry.options()["stride"] for _ in range(2))
    else:
        assert facts.grid == GRID
    assert facts.dim == (PAPER | OTHERS).get(name, facts.dim)
    if entry.library == "timm-vit":
        with torch.device("meta"):
            model = timm.create_model(facts.model, **entry.options().get("architecture", {}))
        assert (facts.dim, facts.prefix) == (model.num_features, model.num_prefix_tokens)
        assert facts.input_size == (16 * model.patch_embed.patch_size[0],) * 2
    if "mean" in entry.options():
        assert facts.mean == tuple(timm.data.IMAGENET_DEFAULT_MEAN)
    else:
        mean, std = library_normalisation(entry)
        assert (facts.mean, facts.std) == (tuple(mean), tuple(std))


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name.endswith("-library")])
def test_the_librarys_own_row_is_the_same_network_fed_otherwise(name: str) -> None:
    own, released = (Declared.of(row, CATALOGUE[row], 256) for row in (name, name.removesuffix("-library")))
    fed = {"mean", "std", "resize", "positions", "rotary", "final_norm", "stride", "input_size"}
    changed = {key for key, value in own.options if value != getattr(released.options, key)}
    assert own.library_name == released.library_name
    assert changed
    assert changed <= fed


@pytest.mark.parametrize(
    "name", ["dino-b", "dinov2-b", "dinov3-b", "pe-spatial-b", "c-radio-v3-b", "clip-l", "webssl-1b"]
)
def test_at_512_pixels_the_grid_is_32x32(name: str) -> None:
    assert describe_encoder(name, CATALOGUE, (32, 32), 512, 512).grid == (32, 32)


def pixels_for(config: Any, size: int) -> Tensor:
    """What a library is documented to be given: images resized and standardised, here by torchvision's rules."""
    from torchvision.transforms import v2

    pipeline = v2.Compose([v2.Resize(size, v2.InterpolationMode.BICUBIC, antialias=True),
                           v2.ToDtype(torch.float32, scale=True), v2.Normalize(config["mean"], config["std"])])  # fmt: skip
    return pipeline(images(size))


@pytest.mark.parametrize(
    "model",
    ["vit_tiny_patch16_224.augreg_in21k", "vit_small_patch14_dinov2.lvd142m", "vit_small_patch16_dinov3.lvd1689m",
     "vit_base_patch16_siglip_256.webli", "eva02_tiny_patch14_224.mim_in22k"],
)  # fmt: skip
def test_tokens_are_timms_forward_intermediates(model: str) -> None:
    options = timm_vit.Options(model=model, weights="random", architecture={"depth": 2})
    encoder = timm_vit.TimmViT(options, GRID, CPU)
    x = pixels_for(encoder.network.pretrained_cfg, encoder.input_size[0])
    with torch.inference_mode():
        found = encoder(images(encoder.input_size[0]))
        first, expected = encoder.network.forward_intermediates(
            x, indices=[0, 1], norm=True, output_fmt="NLC", intermediates_only=True
        )
        torch.testing.assert_close(found.patch, expected, rtol=1e-4, atol=1e-4)
        features = encoder.network.forward_features(x)
        pooled = features[:, 0] if "siglip" not in model else encoder.network.forward_head(features, pre_logits=True)
        torch.testing.assert_close(found.global_token, pooled, rtol=1e-4, atol=1e-4)
        middle = timm_vit.TimmViT(options.model_copy(update={"layer": 1}), GRID, CPU)
        torch.testing.assert_close(middle(images(encoder.input_size[0])).patch, first, rtol=1e-4, atol=1e-4)


def test_a_file_of_weights_gives_the_same_tokens_and_its_positions_are_resampled(tmp_path: Path) -> None:
    model = "vit_tiny_patch16_224.augreg_in21k"
    library = timm.create_model(model, depth=2).eval()
    save_file(library.state_dict(), tmp_path / "model.safetensors")
    options = timm_vit.Options(model=model, weights=str(tmp_path / "model.safetensors"), architecture={"depth": 2})
    encoder = timm_vit.TimmViT(options, (14, 14), CPU)  # the grid it was trained on
    with torch.inference_mode():
        expected = library.forward_features(pixels_for(library.pretrained_cfg, 224))[:, 1:]
        torch.testing.assert_close(encoder(images(224)).patch, expected, rtol=1e-4, atol=1e-4)
    larger = timm_vit.TimmViT(options, GRID, CPU)
    resampled = timm.layers.resample_abs_pos_embed(library.pos_embed, (16, 16), num_prefix_tokens=1)
    torch.testing.assert_close(larger.network.pos_embed, resampled)
    assert larger.weights_sha256() != encoder.weights_sha256()


def test_moco_v3_files_with_their_misnamed_keys_load(tmp_path: Path) -> None:
    """A file as the authors wrote it: a prefix, a momentum copy, heads, and 1 and 2 replaced in blocks 13 and 14."""
    source = timm.create_model("vit_tiny_patch16_224", depth=15, num_classes=0).eval()
    misnamed = {
        "blocks.13.norm1.": "blocks.13.norm13.",
        "blocks.13.mlp.fc1.": "blocks.13.mlp.fc13.",
        "blocks.14.norm2.": "blocks.14.norm14.",
        "blocks.14.mlp.fc2.": "blocks.14.mlp.fc14.",
    }
    state: dict[str, Tensor] = {}
    for key, tensor in source.state_dict().items():
        for right, wrong in misnamed.items():
            key = key.replace(right, wrong)
        state[f"module.base_encoder.{key}"] = tensor
        state[f"module.momentum_encoder.{key}"] = torch.zeros_like(tensor)
    state["module.base_encoder.head.0.weight"] = state["module.predictor.0.weight"] = torch.zeros(3, 3)
    assert sum("13.norm13" in key or "14.mlp.fc14" in key for key in state) == 8
    torch.save({"epoch": 300, "state_dict": state}, tmp_path / "vit.pth.tar")
    options = timm_vit.Options(
        model="vit_tiny_patch16_224",
        weights=str(tmp_path / "vit.pth.tar"),
        checkpoint="moco-v3",
        architecture={"depth": 15},
    )
    loaded = timm_vit.TimmViT(options, (14, 14), CPU).network.state_dict()
    for key, tensor in source.state_dict().items():
        assert torch.equal(loaded[key], tensor), key
    del state["module.base_encoder.blocks.13.norm13.weight"]
    torch.save({"state_dict": state}, tmp_path / "vit.pth.tar")
    with pytest.raises(WeightsError, match=r"blocks\.13\.norm1\.weight"):
        timm_vit.TimmViT(options, (14, 14), CPU)


def test_tokens_of_a_folder_in_the_hubs_format_are_transformers_own(tmp_path: Path) -> None:
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=224, patch_size=14)
    library = Dinov2Model(config).eval()
    library.save_pretrained(tmp_path)
    BitImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.25, 0.3]).save_pretrained(tmp_path)
    options = transformers.Options(model="somebody/small", weights=str(tmp_path))
    encoder = transformers.TransformersViT(options, GRID, CPU)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    x = pixels_for({"mean": processor.image_mean, "std": processor.image_std}, 224)
    with torch.inference_mode():
        found, expected = encoder(images(224)), library(pixel_values=x).last_hidden_state
    torch.testing.assert_close(found.patch, expected[:, 1:], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.global_token, expected[:, 0], rtol=1e-4, atol=1e-4)
    assert found.patch.shape[1] == math.prod(GRID)
    declared = options.model_copy(update={"architecture": {"model_type": "dinov2", "hidden_size": 64}})
    with pytest.raises(WeightsError, match=r"hidden_size is 32 in .*, declared as 64"):
        transformers.TransformersViT(declared, GRID, CPU)


def test_tokens_of_an_image_tower_are_open_clips_own(tmp_path: Path) -> None:
    model = open_clip.create_model("ViT-S-32-alt", load_weights=False).eval()
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    options = open_clip_encoders.Options(model="ViT-S-32-alt", pretrained="none", weights=str(tmp_path / "clip.pt"))
    encoder = open_clip_encoders.OpenClip(options, (7, 7), CPU)
    x = pixels_for({"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}, 224)
    model.visual.output_tokens = True
    with torch.inference_mode():
        found = encoder(images(224))
        pooled, tokens = model.visual(x)
        projected = found.global_token @ model.visual.proj
    assert found.patch.shape == (2, 49, tokens.shape[2])
    torch.testing.assert_close(found.patch, tokens, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(projected, pooled, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("dinov2-b", "hf download timm/vit_base_patch14_dinov2.lvd142m --revision 4685c99d"),
        ("webssl-1b", "hf download facebook/webssl-dino1b-full2b-224 --revision d3bf033d"),
        ("clip-l", "open_clip.create_model('ViT-L-14-quickgelu', 'openai')"),
        ("mocov3-l", "curl -LO https://dl.fbaipublicfiles.com/moco-v3/vit-l-300ep/vit-l-300ep.pth.tar"),
    ],
)
def test_a_missing_file_of_weights_is_named_with_the_command_that_fetches_it(name: str, command: str) -> None:
    with pytest.raises(WeightsError) as refused:
        Declared.of(name, CATALOGUE[name], None).changed(weights="/nowhere/weights.pt").check()
    assert f"encoder {name}: weights = /nowhere/weights.pt: there is no such file" in str(refused.value)
    assert command in str(refused.value)


def test_weights_that_the_hub_cannot_give_are_refused_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    options = transformers.Options(model="somebody/nothing", revision="abc")
    with pytest.raises(WeightsError, match="`hf download somebody/nothing --revision abc` fetches them"):
        transformers.TransformersViT(options, GRID, CPU)
