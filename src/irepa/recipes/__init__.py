"""Recipes: what a network is trained for, and how samples are drawn from it. One module per recipe.

A recipe fixes the interpolant between data and noise, what the network predicts, the loss, and the velocity that
samplers follow. It never knows which encoder or method is in use: it is handed ``align``, a function of the hidden
tokens.

To add one, write a file in this folder. It holds ``Options``, what a tier may set, and ``build``, which returns a
:class:`Recipe`. A whole one is SiT with times drawn from a logit-normal distribution (Esser et al., 2024)::

    from __future__ import annotations

    from pydantic import Field

    from irepa.config.options import Strict
    from irepa.recipes import Recipe, interpolate


    class Options(Strict):
        spread: float = Field(1.0, gt=0, description="Standard deviation of the normal whose sigmoid the time is.")


    class LogitNormal(Recipe):
        def __init__(self, spread):
            self.spread = spread

        def loss(self, network, x, labels, align, rng):
            t = (self.spread * rng.normal()).sigmoid()
            noise = rng.normal(*x.shape[1:])
            predicted, hidden = network(interpolate(x, noise, t), t, labels)
            return {"denoise": (predicted.float() - (noise - x)).square().mean(), "align": align(hidden)}

        def velocity(self, network, labels):
            return lambda x, t, r: network(x.float(), t.float(), labels)[0].to(x.dtype)


    def build(options):
        return LogitNormal(options.spread)

Saved as ``logit_normal.py`` it is at once known by that name. A tier asks for it with
``recipes: {mine: {name: logit-normal, spread: 0.5, architecture: sit, sampler: {name: ode-euler, steps: 50}}}``.

The configuration is read without torch, so a recipe imports torch, and what imports it, inside the functions that use
it. A network of its own, with torch at the top, is a file in :mod:`irepa.models`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from irepa.config import plugins
from irepa.config.plugins import plugin_options
from irepa.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from irepa.autoencoders import Autoencoder
    from irepa.config.tier import Tier
    from irepa.random import StepRandom
    from irepa.weights import Download

# Hidden tokens (batch, T, width) -> the weighted alignment loss, a scalar; 0 where the method has no alignment.
Align: TypeAlias = "Callable[[Tensor], Tensor]"
# v(x, t, r): x (batch, C, H, W) at times t (batch,), on the way to times r (batch,) -> velocity, shaped as x.
Velocity: TypeAlias = "Callable[[Tensor, Tensor, Tensor], Tensor]"


class Recipe(ABC):
    """The contract of a recipe: :meth:`loss` and :meth:`velocity` have to be written, everything else has a default.

    ``network`` is everywhere what :meth:`join` returned: the network itself, unless the recipe trains the autoencoder
    along. It maps x (batch, C, H, W), times (batch,) and labels (batch,) to its prediction, shaped as x, and the hidden
    tokens (batch, T, width) that are aligned. Label ``network.classes`` is the null class of guidance.

    Time t is 1 at noise and 0 at data wherever this class speaks of it.

    Attributes:
        reported: terms of the loss whose last value reports show, and what they call it.
        tunes_autoencoder: whether the autoencoder is trained along with the network.
        needs_span: whether the network is told the span between two times (``TAKES_SPAN`` of an architecture).
        adopts_published: whether the network of a published SiT or REPA checkpoint predicts what this recipe's does.
    """

    reported: ClassVar[Mapping[str, str]] = {"denoise": "velocity loss", "align": "alignment loss"}
    tunes_autoencoder: ClassVar[bool] = False
    needs_span: ClassVar[bool] = False
    adopts_published: ClassVar[bool] = False

    @abstractmethod
    def loss(self, network: Any, x: Tensor, labels: Tensor, align: Align, rng: StepRandom) -> dict[str, Tensor]:
        """Terms of the loss by name, scalars, to be added up. The ``reported`` ones are among them.

        Args:
            x: what :meth:`data` returned, (batch, C, H, W).
            labels: (batch,) int64; dropped ones are already the null class.
            align: to be called once, with the hidden tokens (batch, T, width).
            rng: the only source of random numbers, so that an interrupted run goes on with the same ones.
        """

    @abstractmethod
    def velocity(self, network: Any, labels: Tensor) -> Velocity:
        """v(x, t, r) of the probability flow for images of these labels (batch,), at times t (batch,).

        A recipe that learns a mean velocity gives the mean between t and r, every other the value at t.
        """

    @property
    def uses_null_class(self) -> bool:
        """Whether the loss asks the network what no class looks like."""
        return False

    def network_time(self, t: Tensor) -> Tensor:
        """The time that the network is given at noise level t: (batch,) -> (batch,)."""
        return t

    def noised(self, x: Tensor, noise: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """Data and noise (batch, C, H, W) at noise level t: what the network sees, and at which times (batch,)."""
        times = x.new_full((len(x),), t)
        return interpolate(x, noise, times), self.network_time(times)

    def data(self, images: Tensor, autoencoder: Autoencoder) -> Tensor:
        """What the loss learns from: images (batch, 3, H, W) uint8 -> (batch, C, H, W) float32."""
        return autoencoder.encode(images)

    def join(self, network: nn.Module, autoencoder: Autoencoder) -> nn.Module:
        """What is trained, averaged and saved: the network, with the autoencoder where that is trained along."""
        return network

    def averages(self, name: str, is_buffer: bool) -> bool:
        """Whether samples are drawn with the running mean (EMA) of this parameter or buffer of what :meth:`join` returned.

        Others are taken as they are at the end, as are buffers of whole numbers.
        """
        return not is_buffer

    def clipped_apart(self, network: Any) -> list[nn.Module]:
        """Modules whose gradients are clipped each by a norm of its own; what is left is clipped together."""
        return []

    def codec(self, network: Any, autoencoder: Autoencoder) -> Autoencoder:
        """From images to what the network sees, and back: the autoencoder, the tuned one where it is trained along."""
        return autoencoder

    def downloads(self) -> list[Download]:
        """The weights that a library fetches by itself when the loss asks for them; an autoencoder's own are not among them."""
        return []

    def save_autoencoder(self, network: Any, folder: Path) -> None:
        """Save the tuned autoencoder in the hub's format. Raises ConfigError where the recipe tunes none."""
        raise ConfigError(f"{type(self).__name__} does not tune its autoencoder: there is none to save")


def interpolate(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """The linear interpolant (1 - t) x + t noise (paper section 3), for x and noise (batch, C, H, W) and t (batch,)."""
    t = t.view(-1, 1, 1, 1)
    return (1 - t) * x + t * noise


def last_value(term: str) -> str:
    """The metric of a training run that holds the last value of a term of its loss."""
    return f"final_{term}"


def build_recipe(tier: Tier, name: str) -> Recipe:
    """One of the tier's recipes. Raises ConfigError."""
    settings, where = tier.recipes[name], f"recipes.{name}"
    recipe: Recipe = plugins.load("recipes", settings.name, where).build(plugin_options("recipes", settings, where))
    return recipe


def reported_metrics(recipes: Iterable[Recipe]) -> dict[str, str]:
    """By metric of a training run: what reports call it, for all of these recipes together."""
    return {last_value(term): title for recipe in recipes for term, title in recipe.reported.items()}
