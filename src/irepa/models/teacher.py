"""A momentum teacher: what students were a while ago, as a target for what they are now."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Teacher(nn.ModuleDict):
    """Running means of modules by name, as they are called by their students (MoCo: He et al., 2020; by lightly).

        teacher = momentum * teacher + (1 - momentum) * student, once for each step

    It is part of what a learner keeps, the last step that it followed included, so that an interrupted training goes on with the
    same teacher. Nothing trains it.
    """

    def __init__(self, students: dict[str, nn.Module]) -> None:
        super().__init__(copy.deepcopy(students))
        self.requires_grad_(False)
        self.step: Tensor
        self.register_buffer("step", torch.tensor(-1))

    def follow(self, students: dict[str, nn.Module], momentum: float, step: int) -> None:
        """Take over a share of the students; a second part of the same step's batch changes nothing."""
        from lightly.models.utils import update_momentum

        if int(self.step) != step:
            for name, student in students.items():
                update_momentum(student, self[name], momentum)
            self.step.fill_(step)
