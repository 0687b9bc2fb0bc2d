"""DINO (Caron et al., 2021; by lightly): one view of an image is sorted as a momentum teacher sorts another view.

    loss = mean over views i of - sum over k of softmax((t_j - c) / sharp)_k log softmax(s_i / temperature)_k

s and t are the scores that student and teacher give to ``prototypes``, j the other view of the same image, c a running mean of t.
No gradient enters the teacher. Both views show a large part of the image: small ones of 32 pixels would be of few patches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from irepa.config.options import Positive
from irepa.objectives import Objective
from irepa.objectives._views import ViewOptions, two_views

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.models.learner import Learner
    from irepa.random import StepRandom


class Options(ViewOptions):
    hidden: Positive = Field(256, description="Width of the projection head's hidden layers.")
    bottleneck: Positive = Field(64, description="Width of what is compared with prototypes.")
    prototypes: Positive = Field(512, description="Number of prototypes.")
    temperature: float = Field(0.1, gt=0, description="Temperature of the student's softmax.")
    sharp: float = Field(0.04, gt=0, description="Temperature of the teacher's softmax.")
    centring: float = Field(0.9, ge=0, lt=1, description="Share of the running mean that stays in each step.")
    momentum: float = Field(0.99, ge=0, lt=1, description="Share of the teacher that stays in each step.")


def projection(width: int, options: Options) -> Any:
    """lightly's head, whose prototypes have unit length by a parametrisation that can be copied, as the old one cannot."""
    from lightly.models.modules import DINOProjectionHead
    from torch.nn.utils import parametrizations, remove_weight_norm

    head: Any = DINOProjectionHead(width, options.hidden, options.bottleneck, options.prototypes)
    remove_weight_norm(head.last_layer)
    parametrizations.weight_norm(head.last_layer)
    head.last_layer.parametrizations.weight.original0.requires_grad_(False)
    return head


class Dino(Objective):
    def __init__(self, options: Options) -> None:
        self.options = options

    def equip(self, learner: Learner, classes: int) -> None:
        from lightly.loss import DINOLoss
        from torch import nn

        from irepa.models.teacher import Teacher

        o = self.options
        project = projection(learner.width, o)
        teacher = Teacher({"network": learner.network, "project": project})
        compare = DINOLoss(o.prototypes, teacher_temp=o.sharp, student_temp=o.temperature, center_momentum=o.centring)
        learner.head = nn.ModuleDict({"project": project, "teacher": teacher, "compare": compare})

    def loss(self, learner: Learner, images: Tensor, labels: Tensor, rng: StepRandom) -> dict[str, Tensor]:
        import torch

        from irepa.models.learner import read

        project, teacher, compare = (learner.head[name] for name in ("project", "teacher", "compare"))
        teacher.follow({"network": learner.network, "project": project}, self.options.momentum, rng.step)
        views = two_views(images, rng, self.options)
        sorted_by_student = project(learner.pooled(views)).float()
        with torch.no_grad():
            sorted_by_teacher = teacher["project"](read(teacher["network"], learner.standardised(views))[1]).float()
        centre = compare.center.data
        sorting = compare(list(sorted_by_teacher.chunk(2)), list(sorted_by_student.chunk(2)))
        compare.center.data = centre.copy_(
            compare.center
        )  # the loss gives it new storage, which no running mean would follow
        return {"sorting": sorting}


def build(options: Options) -> Dino:
    return Dino(options)
