"""Objectives: what the pipeline's own encoders are trained for. One module per objective.

To add one, write a file in this folder. It holds ``Options``, what a tier may set, and ``build``, which returns an
:class:`Objective`. A whole one asks the class token for the mean colour of the image::

    from __future__ import annotations

    from irepa.config.options import Strict
    from irepa.objectives import Objective


    class Options(Strict):
        pass


    class MeanColour(Objective):
        def equip(self, learner, classes):
            from torch import nn

            learner.head = nn.Linear(learner.vit.embed_dim, 3)

        def loss(self, learner, images, labels, rng):
            predicted = learner.head(learner.class_token(images))
            return {"colour": (predicted.float() - images.mean(dim=(2, 3))).square().mean()}


    def build(options):
        return MeanColour()

Saved as ``mean_colour.py`` it is at once known by that name: ``pretraining: {mine: {name: mean-colour, encoder:
vit-supervised, training: {...}}}`` in a tier asks for it. The configuration is read without torch, so torch, and what
imports it, is imported inside the functions that use it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.models.learner import Learner
    from irepa.random import StepRandom


class Objective(ABC):
    """The contract of an objective: both methods have to be written."""

    @abstractmethod
    def equip(self, learner: Learner, classes: int) -> None:
        """Give the learner the heads of this objective, initialised from torch's random state."""

    @abstractmethod
    def loss(self, learner: Learner, images: Tensor, labels: Tensor, rng: StepRandom) -> dict[str, Tensor]:
        """Terms of the loss by name, scalars, to be added up.

        Args:
            images: (batch, 3, H, W) in [0, 1], of the size that the encoder takes.
            labels: (batch,) int64 in 0..classes-1.
            rng: the only source of random numbers, so that an interrupted training goes on with the same ones.
        """
