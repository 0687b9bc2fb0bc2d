'''Vision encoders as frozen feature extractors: one module per library. This is the guide for writing one.

An encoder turns images into patch tokens that lie on a grid. To add one, write a file in this folder. A row of
``workflow/encoders.yaml`` then names the file as its ``library`` (with hyphens for underscores), and nothing else has to list
it. A whole file, ``irepa/encoders/mean_colour.py``::

    """The mean colour of each patch: the smallest encoder there is."""

    from __future__ import annotations

    from typing import TYPE_CHECKING

    from pydantic import Field

    from irepa.config.options import Strict
    from irepa.encoders import Encoder, Library

    if TYPE_CHECKING:
        from torch import Tensor

        from irepa.tokens import Tokens


    class Options(Strict):
        contrast: float = Field(1.0, description="Factor of the colours.")


    class MeanColour(Encoder):
        options: Options

        def forward(self, images: Tensor) -> Tokens:
            from torch.nn.functional import adaptive_avg_pool2d

            from irepa.tokens import Tokens

            colours = adaptive_avg_pool2d(images.float() / 255, self.grid).flatten(2).transpose(1, 2)
            return Tokens(self.options.contrast * colours, self.grid)


    LIBRARY = Library(encoder=MeanColour)

The row ``mean-colour: {library: mean-colour, family: handcrafted, contrast: 2}`` declares it, and a tier lists ``mean-colour``
under ``encoders``.

**What a module must have.** ``Options``, a settings class with a description for every field: the keys of the row beyond those
of :class:`irepa.config.tier.EncoderEntry`. ``LIBRARY``, a :class:`Library`: what the module builds from them. Importing the
module must stay light, because ``irepa check`` and the dry run do it on machines without torch: import torch, and whatever
imports it, inside the functions that use it.

**What is optional.** Everything else has a default.

- A network: extend :class:`NetworkEncoder`. Build the network in ``__init__``, frozen and in evaluation mode, and set
  ``network``, ``input_size``, ``mean`` and ``std``; ``self.pixels(images)`` is then what it is given, resized as the row's
  ``resize`` says. Its parameters are counted and the SHA-256 of its weights is recorded. Let ``Options`` extend
  :class:`NetworkOptions`, so that ``irepa encoders`` and ``irepa plan`` can build it without weights.
  ``irepa/encoders/open_clip.py`` is short and has all of this.
- ``prefix``, where there are tokens before the patch tokens, and ``has_global_token``, where it gives one.
- ``paths``: the files and folders of this machine that it reads beyond the path in ``weights``; a change of theirs is noticed.
- ``check``: refuse, before a run starts, what this machine lacks (:func:`irepa.weights.check_weights`).
- ``download``: what the library fetches by itself (:func:`irepa.weights.hub_download`), so that a start without network says so.
- ``judge``: a :class:`Judge`, for rows that a tier lists under ``evaluation.extractors``.
- ``fit``: for rows with a ``base``, what is made of that encoder's tokens, fitted to them without labels: a change of them,
  or with ``fitted_dim`` an encoder in its own right, such as principal components of the pixels that ``rgb`` gives.

**What the pipeline does with it.** ``irepa check`` calls ``check``. The stage ``features`` builds the encoder for the tier's
grid and calls it on batches of images without gradients, in the tier's arithmetic. Tokens on a finer grid than the tier's are
averaged down to it and stored; those on a coarser one are stored as they are and enlarged when they are read. Where they would
take too much disk, the encoder runs during training instead. The stages ``reference`` and ``evaluate`` call judges.
'''

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from pydantic import Field, model_validator

from irepa.config import plugins
from irepa.config.options import Seed, Strict
from irepa.errors import ConfigError, WeightsError, translated
from irepa.weights import HUB, RANDOM, Download, fingerprint, is_path

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from irepa.config.tier import EncoderEntry
    from irepa.tokens import Grid, Tokens, TokenSource

PerChannel = tuple[float, float, float]  # red, green, blue
Use = Literal["encoder", "judge", "fit"]  # what a row can be put to: the fields of Library
Offer = TypeVar("Offer")
LACKING: dict[Use, str] = {
    "encoder": "no patch tokens: the row cannot be an alignment target",
    "judge": "no pooled feature: the row cannot be one of evaluation.extractors",
    "fit": "nothing that is fitted to another encoder: the row takes no `base`",
}


class Encoder(ABC):
    """A frozen network, or a rule, that turns images into patch tokens.

    Attributes:
        options: the validated ``Options`` of its row.
        grid: (h, w), the tier's token grid, for which it was built; its own grid stands in the tokens that it gives.
        network: what has its weights, frozen and in evaluation mode; None for a rule without weights.
        prefix: number of tokens before the patch tokens (class and register tokens).
        has_global_token: whether it gives a token of the whole image, of the width of its patch tokens.
        input_size: (H, W) of the pixels that it resizes images to; None where it takes them as they are.
        mean, std: by which it standardises pixels in [0, 1], per colour channel; None where it does not.
    """

    network: nn.Module | None = None
    prefix: int = 0
    has_global_token: bool = False
    input_size: Grid | None = None
    mean: PerChannel | None = None
    std: PerChannel | None = None

    def __init__(self, options: Any, grid: Grid, device: torch.device) -> None:
        """Build it on ``device``, which is ``meta`` where only shapes are asked for. Raises WeightsError without its weights."""
        self.options, self.grid = options, grid

    @abstractmethod
    def forward(self, images: Tensor) -> Tokens:
        """Images (batch, 3, H, W) uint8, on the encoder's device, to tokens: patch (batch, h*w, dim) float32, row by row."""

    def __call__(self, images: Tensor) -> Tokens:
        """:meth:`forward`, held to its contract. Raises ConfigError for tokens that do not fit their grid or what is declared."""
        height, width = images.shape[2:]
        with translated(
            ConfigError,
            f"{self._called} cannot encode images of {height}x{width} pixels for a grid of {self.grid[0]}x{self.grid[1]} tokens",
            "choose another encoder, image size or grid",
        ):
            tokens = self.forward(images)
        expected = (len(images), math.prod(tokens.grid))
        if tokens.patch.ndim != 3 or tuple(tokens.patch.shape[:2]) != expected:
            raise ConfigError(f"{self._called}: tokens of shape {tuple(tokens.patch.shape)} on a grid of {tokens.grid}")
        if (tokens.global_token is not None) != self.has_global_token:
            raise ConfigError(f"{self._called}: has_global_token = {self.has_global_token} is not what it gives")
        return tokens

    def weights_sha256(self) -> str | None:
        """SHA-256 of the weights that give its tokens, for the record of the features; None without weights."""
        return None if self.network is None else fingerprint(self.network)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return 0 if self.network is None else sum(weight.numel() for weight in self.network.parameters())

    @property
    def _called(self) -> str:
        return f"encoder class {type(self).__name__}"


class NetworkEncoder(Encoder):
    """An encoder that is a network, given images that are resized and standardised."""

    network: Any  # a torch.nn.Module with the methods of its library
    input_size: Grid
    mean: PerChannel
    std: PerChannel

    def pixels(self, images: Tensor) -> Tensor:
        """Images (batch, 3, H, W) uint8 to what the network was trained on: (batch, 3, *input_size) float32."""
        from irepa.images import standardise

        return standardise(images, self.input_size, self.mean, self.std, **self.options.resize.model_dump())


@dataclass(frozen=True)
class Judged:
    """What a judge says of a batch of images.

    Attributes:
        pooled: (batch, dim), a feature of the whole image.
        logits: (batch, classes) of ImageNet's classes, which give the Inception Score; None where the judge has none.
        spatial: (batch, dim) of an early layer, place by place, which gives sFID; None where it has none.
    """

    pooled: Tensor
    logits: Tensor | None = None
    spatial: Tensor | None = None


class Judge(ABC):
    """Features of whole images, by which samples are compared with data. Built as ``Judge(options, device)``."""

    def __init__(self, options: Any, device: torch.device) -> None:
        """Build it on ``device``, which is ``meta`` where only shapes are asked for. Raises WeightsError without its weights."""
        self.options = options

    @abstractmethod
    def forward(self, images: Tensor) -> Judged:
        """Features of images (batch, 3, H, W) uint8, on the judge's device."""

    def __call__(self, images: Tensor) -> Judged:
        """:meth:`forward` without gradients. Raises ConfigError where it fails."""
        import torch

        failed = (
            f"judge class {type(self).__name__} cannot look at images of {images.shape[2]}x{images.shape[3]} pixels"
        )
        with torch.inference_mode(), translated(ConfigError, failed, "choose another judge or evaluation.input_size"):
            return self.forward(images)


class Resize(Strict):
    """How a network's input is resized. The defaults are what the libraries document for themselves."""

    mode: Literal["bicubic", "bilinear"] = Field("bicubic", description="Interpolation, with half-pixel centres.")
    antialias: bool = Field(True, description="Whether the filter is widened where images shrink.")
    clamp: bool = Field(True, description="Whether values are brought back to [0, 1] where bicubic overshoots.")
    order: Literal["resize-first", "normalise-first"] = Field(
        "resize-first", description="Whether images are resized before they are normalised by mean and std, or after."
    )

    @model_validator(mode="after")
    def _clamps_colours(self) -> Self:
        if self.clamp and self.order == "normalise-first":
            raise ValueError("clamp is for values in [0, 1]: with order: normalise-first it must be false")
        return self


class NetworkOptions(Strict):
    """What every network with weights has among its options."""

    model: str = Field(description="The network, as its library names it.")
    weights: str = Field(
        HUB, description="hub, random, package:NAME, trained:NAME, an https:// address, or the path of a file."
    )
    seed: Seed = Field(0, description="Seed of random weights.")
    mean: PerChannel | None = Field(
        None, description="Of the input, for images in [0, 1]; null: what the library says of this model."
    )
    std: PerChannel | None = Field(
        None, description="Of the input, for images in [0, 1]; null: what the library says of this model."
    )
    resize: Resize = Field(Resize(), description="How images become the size that the network is given.")


def local_weights(options: Any) -> list[Path]:
    """The file or folder that ``weights`` of a network names, if it names one."""
    named = isinstance(options, NetworkOptions) and is_path(options.weights)
    return [Path(options.weights)] if named else []


def nothing_to_find(name: str, options: Any) -> None:
    """The check of what needs nothing but the installed packages."""


def any_grid(options: Any, grid: Grid, image_size: int) -> None:
    """The check of what fits every grid."""


def nothing_to_download(options: Any) -> Download | None:
    """The download of what needs nothing but the installed packages."""
    return None


@dataclass(frozen=True)
class Library:
    """What one module of this folder builds from its ``Options``: at least one of ``encoder``, ``judge`` and ``fit``.

    Attributes:
        encoder: class of the alignment target, called with (options, grid, device).
        judge: class of the judge of samples, called with (options, device).
        fit: called with (options, source, grid, device): fits a map of tokens, (batch, h*w, dim) to (batch, h*w, dim'), to the
            training tokens of the row's ``base``, which lie on the tier's grid.
        fitted_dim: called with (options, dim): dim' of that map, which makes another encoder of the base's tokens; None: it
            changes them and keeps dim, and the row counts as the network that its base is.
        paths: called with (options): files and folders outside the repository that its result depends on. Needs no torch.
        check: called with (name, options): raises WeightsError where this machine lacks something. Needs no torch.
        check_grid: called with (options, grid, image_size): raises ConfigError where it cannot give tokens on the tier's grid.
        download: called with (options): the weights that the library would fetch by itself, None for none. Needs no torch.
        judge_flops: per image, a multiply-add counted as two, of a judge that cannot be built without weights; None: counted.
        judge_dim: width of the pooled features of such a judge; None: asked of the judge.
        judge_spatial_dim: width of a judge's spatial features; None: it gives none.
        trains: whether the pipeline can train its networks: as what gives ``tokens``, or as a vision transformer, from which
            ``patches`` can be left out as well; None: it cannot.
    """

    encoder: Callable[[Any, Grid, torch.device], Encoder] | None = None
    judge: Callable[[Any, torch.device], Judge] | None = None
    fit: Callable[[Any, TokenSource, Grid, torch.device], Callable[[Tensor], Tensor]] | None = None
    fitted_dim: Callable[[Any, int], int] | None = None
    paths: Callable[[Any], list[Path]] = local_weights
    check: Callable[[str, Any], None] = nothing_to_find
    check_grid: Callable[[Any, Grid, int], None] = any_grid
    download: Callable[[Any], Download | None] = nothing_to_download
    judge_flops: float | None = None
    judge_dim: int | None = None
    judge_spatial_dim: int | None = None
    trains: Literal["tokens", "patches"] | None = None


def library(name: str, where: str) -> Library:
    """The library of a name, as rows write it. Raises ConfigError, naming ``where`` it was asked for, where there is none."""
    declared = vars(plugins.load("encoders", name, where)).get("LIBRARY")
    if not isinstance(declared, Library):
        raise ConfigError(
            f"{where}: {plugins.module_name('encoders', name)} has no LIBRARY: see `pydoc irepa.encoders`"
        )
    return declared


@dataclass(frozen=True)
class Declared:
    """A row of ``workflow/encoders.yaml`` that can be built: its name, its library, and its validated options."""

    name: str
    library_name: str
    library: Library
    options: Any

    @classmethod
    def of(cls, name: str, entry: EncoderEntry, input_size: int | None) -> Self:
        """``input_size``: pixels, of the tier, for a row that sets none; null in both leaves it to the library.

        Raises ConfigError.
        """
        options = plugins.encoder_options(entry, input_size, f"encoders.yaml: {name}")
        return cls(name, entry.library, library(entry.library, name), options)

    def changed(self, **options: Any) -> Self:
        """The same with other values of its options."""
        return replace(self, options=self.options.model_copy(update=options))

    def check(self, use: Use | None = None) -> None:
        """Raises WeightsError where this machine lacks what it needs, ConfigError where it cannot be put to this use."""
        if use is not None:
            self.check_use(use)
        self.library.check(self.name, self.options)

    def check_use(self, use: Use) -> None:
        """Raises ConfigError where its library does not give what it is put to."""
        self._offered(vars(self.library)[use], use)

    def encoder(self, grid: Grid, device: torch.device) -> Encoder:
        """The alignment target for a token grid (h, w). Raises ConfigError where it is none, WeightsError without its weights."""
        build = self._offered(self.library.encoder, "encoder")
        with self._building("encoder"):
            return build(self.options, grid, device)

    def judge(self, device: torch.device) -> Judge:
        """The judge of samples. Raises ConfigError where it is none, WeightsError without its weights."""
        build = self._offered(self.library.judge, "judge")
        with self._building("judge"):
            return build(self.options, device)

    def fit(self, source: TokenSource, grid: Grid, device: torch.device) -> Callable[[Tensor], Tensor]:
        """A map of tokens (batch, h*w, dim), fitted to those of its base. Raises ConfigError where nothing can be fitted."""
        fit = self._offered(self.library.fit, "fit")
        with self._building("fit"):
            return fit(self.options, source, grid, device)

    def without_weights(self) -> tuple[Self, str]:
        """The same for building without weights, and the device: none with storage, but for rules, which have no weights."""
        return (self.changed(weights=RANDOM), "meta") if isinstance(self.options, NetworkOptions) else (self, "cpu")

    def _building(self, use: Use) -> AbstractContextManager[None]:
        """The boundary to the library: whatever it raises becomes a WeightsError, which names the row."""
        what = f"encoder {self.name}: library {self.library_name} cannot build it as {use}"
        return translated(
            WeightsError, what, "see `irepa encoders` for those that are declared, or choose another library"
        )

    def _offered(self, offer: Offer | None, use: Use) -> Offer:
        if offer is None:
            raise ConfigError(f"encoders.yaml: {self.name}: library {self.library_name} gives {LACKING[use]}")
        return offer
