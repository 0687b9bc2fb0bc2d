"""Classification: the kind of encoder that knows what is in an image, and little of where.

The loss is the cross-entropy of the labels, smoothed, and a linear layer on the vector of a random crop. Labels may be coarser
than the dataset's, or wrong for some of the images (Zhang et al., 2017), each time that one of those is seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Fraction, Strict
from irepa.errors import ConfigError
from irepa.objectives import Objective
from irepa.objectives._views import crop_and_flip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from irepa.models.learner import Learner
    from irepa.random import StepRandom


class Options(Strict):
    smallest: float = Field(0.5, gt=0, le=1, description="Share of the image's area that a random crop has at least.")
    label_smoothing: Fraction = Field(0.1, description="Share of each label that is spread over all classes.")
    groups: list[list[int]] | None = Field(
        None,
        description="The classes that are told apart, each a list of the dataset's, such as [[0, 1], [2, 3, 4]]; null: the "
        "dataset's own.",
    )
    wrong: Fraction = Field(
        0.0, description="Share of the images whose label is replaced by another class, the same one in every epoch."
    )


def check(options: Options, classes: int) -> None:
    """Raises ConfigError where ``groups`` are no partition of the dataset's classes, or too few to be told apart."""
    groups = options.groups
    if groups is None:
        return
    if len(groups) < 2 or not all(groups) or sorted(label for group in groups for label in group) != [*range(classes)]:
        raise ConfigError(
            f"groups = {groups}: at least 2 groups are needed, and each of the classes 0 to {classes - 1} in one of them; list "
            "the classes anew, or leave groups out"
        )


class Supervised(Objective):
    def __init__(self, options: Options) -> None:
        self.options = options

    def relabelled(self, labels: NDArray[np.int64], classes: int, seed: int) -> NDArray[np.int64]:
        import numpy as np

        from irepa.random import replaced_labels

        groups = self.options.groups or [[label] for label in range(classes)]
        group_of = np.zeros(classes, np.int64)
        for number, members in enumerate(groups):
            group_of[members] = number
        return replaced_labels(seed, group_of[labels], self.options.wrong, len(groups))

    def equip(self, learner: Learner, classes: int) -> None:
        from torch import nn

        learner.head = nn.Linear(learner.width, len(self.options.groups or range(classes)))

    def loss(self, learner: Learner, images: Tensor, labels: Tensor, rng: StepRandom) -> dict[str, Tensor]:
        from torch.nn.functional import cross_entropy

        logits = learner.head(learner.pooled(crop_and_flip(images, rng, self.options.smallest)))
        return {"cross_entropy": cross_entropy(logits.float(), labels, label_smoothing=self.options.label_smoothing)}


def build(options: Options) -> Supervised:
    return Supervised(options)
