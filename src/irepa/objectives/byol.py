"""BYOL (Grill et al., 2020; by lightly): one view of an image predicts what a momentum teacher makes of another view.

    loss = mean over views i of |p_i / |p_i| - z_j / |z_j||^2 = mean over i of 2 - 2 cos(p_i, z_j)

p is the prediction from a view's projected vector, z the teacher's projection, j the other view of the same image. No
gradient enters the teacher.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Positive
from irepa.objectives import Objective
from irepa.objectives._views import ViewOptions, two_views

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.models.learner import Learner
    from irepa.random import StepRandom


class Options(ViewOptions):
    hidden: Positive = Field(256, description="Width of the hidden layers of projection and prediction.")
    output: Positive = Field(64, description="Width of what is predicted.")
    momentum: float = Field(0.99, ge=0, lt=1, description="Share of the teacher that stays in each step.")


class Byol(Objective):
    def __init__(self, options: Options) -> None:
        from lightly.loss import NegativeCosineSimilarity

        self.options = options
        self.negative_cosine = NegativeCosineSimilarity()

    def equip(self, learner: Learner, classes: int) -> None:
        from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
        from torch import nn

        from irepa.models.teacher import Teacher

        o = self.options
        project = BYOLProjectionHead(learner.width, o.hidden, o.output)
        predict = BYOLPredictionHead(o.output, o.hidden, o.output)
        teacher = Teacher({"network": learner.network, "project": project})
        learner.head = nn.ModuleDict({"project": project, "predict": predict, "teacher": teacher})

    def loss(self, learner: Learner, images: Tensor, labels: Tensor, rng: StepRandom) -> dict[str, Tensor]:
        import torch

        from irepa.models.learner import read

        project, predict, teacher = (learner.head[name] for name in ("project", "predict", "teacher"))
        teacher.follow({"network": learner.network, "project": project}, self.options.momentum, rng.step)
        views = two_views(images, rng, self.options)
        predicted = predict(project(learner.pooled(views))).float()
        with torch.no_grad():
            one, other = teacher["project"](read(teacher["network"], learner.standardised(views))[1]).float().chunk(2)
        return {"regression": 2 + 2 * self.negative_cosine(predicted, torch.cat([other, one]))}


def build(options: Options) -> Byol:
    return Byol(options)
