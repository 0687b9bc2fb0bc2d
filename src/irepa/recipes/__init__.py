"""What is trained: one module per recipe, with interpolant, prediction, loss and how samples are drawn.

Each has ``Options`` and ``build(options)``. A recipe never knows which encoder or method is in use: it is handed ``align``,
a function of the hidden tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from irepa.autoencoders import Autoencoder
from irepa.random import StepRandom

Align = Callable[[Tensor], Tensor]
Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]  # v(x, t, r)


class Loss(Protocol):
    def loss(self, network: Any, x: Tensor, labels: Tensor, align: Align, rng: StepRandom) -> dict[str, Tensor]:
        """Terms of the loss, to be added up: x (batch, C, H, W) data, labels (batch,) with dropped ones already null."""


class Recipe(Loss, Protocol):
    def noised(self, x: Tensor, noise: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """Data and noise (batch, C, H, W) at noise level t: what the network sees, and the times (batch,) it is given."""

    def velocity(self, network: nn.Module, labels: Tensor) -> Velocity:
        """v(x, t, r) of the probability flow from noise (t = 1) to data (t = 0), times (batch,): its mean between t and r for a
        recipe that learns one, else its value at t."""


@runtime_checkable
class JointRecipe(Protocol):
    """A recipe that trains the autoencoder along with the network: it learns from pixels in [-1, 1]."""

    def join(self, network: nn.Module, autoencoder: Autoencoder) -> nn.Module:
        """Both as one module, which is what is trained, averaged and saved."""

    def codec(self, network: nn.Module, autoencoder: Autoencoder) -> Autoencoder:
        """From images to the latents of a joined network, and back."""
