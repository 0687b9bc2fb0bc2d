"""SiT: sizes of the paper, names of the public checkpoints, and identities of its parts."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from irepa.errors import WeightsError
from irepa.models.sit import SiT, load_public_state_dict, public_state_dict, sincos_positions

# Paper section 3: latents of 32x32x4, 1000 classes, patch 2; millions of parameters.
PAPER = {
    "S": (dict(depth=12, width=384, heads=6, align_depth=4), 33),
    "B": (dict(depth=12, width=768, heads=12, align_depth=4), 130),
    "L": (dict(depth=24, width=1024, heads=16, align_depth=8), 458),
    "XL": (dict(depth=28, width=1152, heads=16, align_depth=8), 675),
}


def tiny(**changes: int) -> SiT:
    sizes = dict(depth=2, width=16, heads=2, patch=2, align_depth=1) | changes
    return SiT((8, 8), 4, 10, **sizes)


@pytest.mark.parametrize("name", PAPER)
def test_parameter_counts_are_the_papers_within_a_percent_and_follow_the_patch(name: str) -> None:
    sizes, millions = PAPER[name]

    def parameters(patch: int) -> int:
        with torch.device("meta"):
            model = SiT((32, 32), 4, 1000, patch=patch, **sizes)
        return sum(p.numel() for n, p in model.named_parameters() if n != "pos_embed")

    base = parameters(2)
    # The table rounds to millions.
    assert base / 1e6 == pytest.approx(millions, rel=0.01, abs=0.5)
    for patch in (4, 8):
        # Only the patch embedding (4 p^2 inputs) and the output layer (4 p^2 outputs, with bias) grow.
        assert parameters(patch) - base == 4 * (patch**2 - 4) * (2 * sizes["width"] + 1)


def test_names_and_shapes_are_those_of_the_public_checkpoints() -> None:
    with torch.device("meta"):
        model = SiT((32, 32), 4, 1000, depth=28, width=1152, heads=16, patch=2, align_depth=8)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    expected = {
        "pos_embed": (1, 256, 1152),
        "x_embedder.proj.weight": (1152, 4, 2, 2),
        "t_embedder.mlp.0.weight": (1152, 256),
        "t_embedder.mlp.2.bias": (1152,),
        "y_embedder.embedding_table.weight": (1001, 1152),
        "blocks.27.attn.qkv.weight": (3456, 1152),
        "blocks.27.attn.proj.bias": (1152,),
        "blocks.0.mlp.fc1.weight": (4608, 1152),
        "blocks.0.mlp.fc2.weight": (1152, 4608),
        "blocks.5.adaLN_modulation.1.weight": (6912, 1152),
        "final_layer.linear.weight": (16, 1152),
        "final_layer.adaLN_modulation.1.weight": (2304, 1152),
    }
    assert expected.items() <= shapes.items()
    assert len(shapes) == 28 * 10 + 12


def test_a_checkpoint_with_public_names_makes_the_round_trip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = tiny()
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    state = {f"module.{name}": tensor for name, tensor in source.state_dict().items()}
    state["module.projectors.0.0.weight"] = torch.zeros(3, 16)
    torch.save({"ema": state, "args": argparse.Namespace(model="SiT-XL/2")}, tmp_path / "0100000.pt")
    loaded, state = tiny(), public_state_dict(tmp_path / "0100000.pt").state
    load_public_state_dict(loaded, state)
    x, t, y = torch.randn(2, 4, 8, 8), torch.rand(2), torch.tensor([1, 10])
    torch.testing.assert_close(loaded(x, t, y)[0], source(x, t, y)[0])
    del state["blocks.0.attn.qkv.weight"]
    with pytest.raises(WeightsError, match=r"blocks\.0\.attn\.qkv\.weight"):
        load_public_state_dict(tiny(), state)


def test_a_final_layer_with_a_variance_keeps_its_velocity() -> None:
    source = tiny()
    torch.nn.init.normal_(source.final_layer.linear.weight)
    torch.nn.init.normal_(source.final_layer.linear.bias)
    state = dict(source.state_dict())
    # As DiT stores it: for each pixel of the patch, 4 channels of mean and 4 of variance.
    for name in ("final_layer.linear.weight", "final_layer.linear.bias"):
        mean = state[name].unflatten(0, (4, 4))
        state[name] = torch.cat([mean, torch.full_like(mean, 9.0)], dim=1).flatten(0, 1)
    loaded = tiny()
    load_public_state_dict(loaded, state)
    torch.testing.assert_close(loaded.final_layer.linear.weight, source.final_layer.linear.weight)
    torch.testing.assert_close(loaded.final_layer.linear.bias, source.final_layer.linear.bias)


def test_a_new_model_predicts_0_and_its_blocks_are_the_identity() -> None:
    model = tiny()
    x = torch.randn(3, 4, 8, 8)
    velocity, hidden = model(x, torch.rand(3), torch.tensor([0, 5, 10]))
    assert torch.equal(velocity, torch.zeros_like(x))
    torch.testing.assert_close(hidden, model.x_embedder(x) + model.pos_embed)


def test_unpatchify_undoes_patches() -> None:
    model = tiny()
    x = torch.randn(2, 4, 8, 8)
    patches = x.unflatten(3, (4, 2)).unflatten(2, (4, 2)).permute(0, 2, 4, 3, 5, 1).reshape(2, 16, 16)
    torch.testing.assert_close(model.unpatchify(patches), x)


def test_positions_are_unit_circles_with_the_column_first() -> None:
    table = sincos_positions(16, (3, 5))[0].double()
    assert table.shape == (15, 16)
    pairs = table.view(15, 2, 2, 4)  # axis, sin/cos, frequency
    torch.testing.assert_close(pairs.square().sum(dim=2), torch.ones(15, 2, 4, dtype=torch.float64), rtol=1e-6, atol=0)
    assert torch.equal(table[0, :8], table[5, :8])  # same column, next row
    assert torch.equal(table[0, 8:], table[1, 8:])  # same row, next column
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_positions(18, (2, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(patch=3), "patch 3 does not divide the input 8x8"),
        (dict(heads=3), "heads 3 does not divide width 16"),
        (dict(align_depth=3), r"align_depth must be in 1\.\.2, not 3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_what_readers_import_needs_torch_and_numpy_alone() -> None:
    modules = ("irepa.alignment", "irepa.projectors", "irepa.spatial", "irepa.models.sit")
    code = f"""
import sys, torch, numpy
before = {{name.partition(".")[0] for name in sys.modules}}
for name in {modules}: __import__(name)
print(*sorted({{name.partition(".")[0] for name in sys.modules}} - before - set(sys.stdlib_module_names)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["irepa"]
