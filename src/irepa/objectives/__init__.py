"""Objectives: what the pipeline's own encoders are trained for. One module per objective.

To add one, write a file in this folder. It holds ``Options``, what a tier may set, and ``build``, which returns an
:class:`Objective`. A whole one asks a network's vector of an image for the mean colour::

    from __future__ import annotations

    from irepa.config.options import Strict
    from irepa.objectives import Objective


    class Options(Strict):
        pass


    class MeanColour(Objective):
        def equip(self, learner, classes):
            from torch import nn

            learner.head = nn.Linear(learner.width, 3)

        def loss(self, learner, images, labels, rng):
            predicted = learner.head(learner.pooled(images))
            return {"colour": (predicted.float() - images.mean(dim=(2, 3))).square().mean()}


    def build(options):
        return MeanColour()

Saved as ``mean_colour.py`` it is at once known by that name: ``pretraining: {mine: {name: mean-colour, encoder:
vit-supervised, training: {...}}}`` in a tier asks for it. The configuration is read without torch, so torch, and what
imports it, is imported inside the functions that use it.

An objective asks :class:`irepa.models.learner.Learner` for ``tokens`` or for one vector per image, ``pooled``, so that it trains
a transformer, a mixer and a ResNet alike. One that leaves patches out, which takes a vision transformer, says ``HIDES_PATCHES =
True`` beside ``build``; other networks are then refused before a run starts. So is what ``check(options, classes)`` beside it
raises a ConfigError for. What a step leaves for the next one, such as a momentum teacher
(:class:`irepa.models.teacher.Teacher`), is a module or a buffer of ``learner.head``: checkpoints have it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from irepa.models.learner import Learner
    from irepa.random import StepRandom


class Objective(ABC):
    """The contract of an objective: ``equip`` and ``loss`` have to be written."""

    def relabelled(self, labels: NDArray[np.int64], classes: int, seed: int) -> NDArray[np.int64]:
        """The labels that it learns of all training images, (n,), for theirs in 0..classes-1. Raises ConfigError."""
        return labels

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
