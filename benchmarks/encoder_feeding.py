"""How far tokens move when an encoder is fed as its library documents it, and not as the paper's released code does.

    python benchmarks/encoder_feeding.py --images FOLDER

For a row of each family of workflow/encoders.yaml that has a second one with the suffix -library, each setting in which the
two differ is changed alone. Vision transformers are small and have random weights: that says which settings matter, and no
more. EfficientNet-Lite0 has trained ones, and HOG and SIFT need none. Without a folder of images, scikit-image's photographs
are taken.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from irepa.commands.score import read_images
from irepa.config.read import read_yaml
from irepa.config.tier import EncoderEntry
from irepa.data import photos
from irepa.encoders import Declared
from irepa.images import Images
from irepa.spatial import spatial_metrics
from irepa.tokens import resample

GRID, CPU = (16, 16), torch.device("cpu")
TRANSFORMERS = ("dinov2-b", "ijepa-h", "mae-l", "siglip-b", "pe-core-g", "pe-spatial-l", "pe-lang-l", "c-radio-v3-b")
CATALOGUE = read_yaml(Path(__file__).parents[1] / "workflow" / "encoders.yaml")
SMALL = {"depth": 4, "embed_dim": 192, "num_heads": 3}
# Ways to feed EfficientNet-Lite0 at 224 pixels, against its library's own.
WAYS: dict[str, dict[str, object]] = {
    "no antialiasing, no clamping": {"resize": {"antialias": False, "clamp": False}},
    "no antialiasing": {"resize": {"antialias": False}},
    "no clamping": {"resize": {"clamp": False}},
    "bilinear, no antialiasing": {"resize": {"mode": "bilinear", "antialias": False}},
    "ImageNet's mean and std for 0.5 and 0.5": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
}


def tokens(row: dict[str, object], images: Tensor) -> Tensor:
    """Of the encoder that a row declares: (images, 256, dim)."""
    encoder = Declared.of("row", EncoderEntry.model_validate(row), None).encoder(GRID, CPU)
    with torch.inference_mode():
        found = encoder(images)
    return resample(found.patch, found.grid, GRID)


def lds(of: Tensor) -> float:
    return float(spatial_metrics(of, GRID).lds.mean())


def report(name: str, setting: str, first: Tensor, second: Tensor) -> None:
    """A line: |first - second| / |second| and mean cosine, where the widths agree, and both LDS."""
    same = first.shape == second.shape
    moved = f"{float((first - second).norm() / second.norm()):8.1%}" if same else "       -"
    cosine = f"{float(cosine_similarity(first, second, dim=-1).mean()):8.4f}" if same else "       -"
    print(f"{name:16} {setting:42} {moved} {cosine} {lds(first):8.3f} {lds(second):8.3f}")


def small_weights(model: str, side: int, folder: Path) -> str:
    """The file of a small network's random weights, on the grid on which the model was trained."""
    torch.manual_seed(0)
    network = timm.create_model(model, img_size=side, num_classes=0, **SMALL)
    for key, parameter in network.named_parameters():
        if parameter.ndim == 1 and "bias" not in key:
            nn.init.normal_(parameter, mean=1.0, std=0.3)  # scales, which start as 1 or nearly 0
        elif parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    save_file(network.state_dict(), folder / f"{model}.safetensors")
    return str(folder / f"{model}.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of images (default: scikit-image's photographs)")
    parser.add_argument("--limit", type=int, default=64, help="images at most")
    parser.add_argument("--transformers", nargs="*", default=TRANSFORMERS, choices=TRANSFORMERS)
    arguments = parser.parse_args()
    taken = photographs() if arguments.images is None else read_images(arguments.images, 256, arguments.limit)
    images = torch.from_numpy(taken[: arguments.limit]).permute(0, 3, 1, 2).contiguous()
    print(f"{'encoder':16} {'changed':42} {'moved':>8} {'cosine':>8} {'LDS':>8} {'LDS here':>8}")
    lite = CATALOGUE["effnet-lite0-s16"] | {"input_size": 224}
    own = tokens(lite, images)
    for way, options in WAYS.items():
        report("effnet-lite0-s16", way, tokens(lite | options, images), own)
    for plain, released in (("hog-9", "hog"), ("sift-dense", "sift")):
        report(released, plain, tokens(CATALOGUE[plain], images), tokens(CATALOGUE[released], images))
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.transformers:
            row = CATALOGUE[name]
            stored = 2048 if row["family"] == "c-radio" else timm.get_pretrained_cfg(row["model"]).input_size[-1]
            small = {
                "weights": small_weights(row["model"], stored, Path(folder)),
                "architecture": SMALL,
                "revision": None,
            }
            here = tokens(row | small, images)
            differing = set(row) - set(CATALOGUE[f"{name}-library"])
            groups = [{"mean", "std"} & differing, *({key} for key in sorted(differing - {"mean", "std"}))]
            for keys in filter(None, groups):
                other = {key: value for key, value in row.items() if key not in keys}
                report(name, ", ".join(sorted(keys)), tokens(other | small, images), here)


def photographs() -> Images:
    """(5, 256, 256, 3) uint8."""
    corners = {"astronaut": (0, 100), "coffee": (0, 150), "cat": (20, 100), "rocket": (100, 200), "tissue": (0, 0)}
    every = photos.photographs()
    return np.stack([every[name][row : row + 256, left : left + 256] for name, (row, left) in corners.items()])


if __name__ == "__main__":
    main()
