"""I-JEPA (Assran et al., 2023; by lightly): tokens of hidden blocks from the patches that are seen.

    loss = mean over blocks of smooth_l1(prediction of the block's tokens, their normalised tokens by a momentum teacher)

The teacher sees the whole image; no gradient enters it. Blocks are of one shape, which lies down or stands up, and as many
patches are seen as are left where no two blocks overlap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from irepa.config.options import Grid, Positive
from irepa.errors import ConfigError
from irepa.objectives import Objective
from irepa.objectives._decoder import DecoderOptions
from irepa.objectives._views import crop_and_flip

if TYPE_CHECKING:
    from torch import Tensor

    from irepa.models.learner import Learner
    from irepa.random import StepRandom


HIDES_PATCHES = True


class Options(DecoderOptions):
    smallest: float = Field(0.5, gt=0, le=1, description="Share of the image's area that a random crop has at least.")
    blocks: Positive = Field(4, description="Hidden blocks of each image.")
    block: Grid = Field((3, 4), description="Their rows and columns, or columns and rows.")
    depth: Positive = Field(2, description="Blocks of the decoder, which predicts.")
    momentum: float = Field(0.99, ge=0, lt=1, description="Share of the teacher that stays in each step.")


def hidden_block(rng: StepRandom, grid: tuple[int, int], block: tuple[int, int]) -> Tensor:
    """A block at random of each image of a step, (batch, rows * columns): patches, numbered row by row, in ascending order."""
    import torch

    lies = rng.uniform() < 0.5
    tops, lefts = rng.uniform(), rng.uniform()
    lying_or_standing = []
    for rows, columns in (block, block[::-1]):
        top = (tops * (grid[0] - rows + 1)).long()
        left = (lefts * (grid[1] - columns + 1)).long()
        steps = torch.arange(rows)[:, None] * grid[1] + torch.arange(columns)
        lying_or_standing.append((top * grid[1] + left)[:, None] + steps.flatten().to(top.device))
    one, other = lying_or_standing
    return torch.where(lies[:, None], one, other)


def seen_patches(rng: StepRandom, hidden: list[Tensor], patches: int, count: int) -> Tensor:
    """So many patches at random, of each image, that lie in none of the hidden blocks: (batch, count), in ascending order."""
    import torch

    order = rng.normal(patches).scatter(1, torch.cat(hidden, dim=1), float("inf"))
    seen: Tensor = order.argsort(dim=1)[:, :count].sort(dim=1)[0]
    return seen


class Jepa(Objective):
    def __init__(self, options: Options) -> None:
        self.options = options

    def equip(self, learner: Learner, classes: int) -> None:
        from lightly.models.modules import MaskedVisionTransformerTIMM
        from lightly.models.modules.ijepa_timm import IJEPAPredictorTIMM
        from torch import nn

        from irepa.models.teacher import Teacher

        o, patches = self.options, learner.grid[0] * learner.grid[1]
        if max(o.block) > min(learner.grid) or o.blocks * o.block[0] * o.block[1] >= patches:
            raise ConfigError(
                f"objective jepa: blocks = {o.blocks} of block = {list(o.block)} do not leave a patch of a grid of "
                f"{learner.grid[0]}x{learner.grid[1]}; make them fewer or smaller"
            )
        encoder = MaskedVisionTransformerTIMM(learner.network)
        predictor = IJEPAPredictorTIMM(patches, o.depth, learner.width, o.width, o.heads)
        teacher = Teacher({"network": learner.network})
        learner.head = nn.ModuleDict({"encoder": encoder, "predictor": predictor, "teacher": teacher})

    def loss(self, learner: Learner, images: Tensor, labels: Tensor, rng: StepRandom) -> dict[str, Tensor]:
        import torch
        import torch.nn.functional as F
        from lightly.models.utils import apply_masks

        from irepa.models.learner import read

        o, head, patches = self.options, learner.head, learner.grid[0] * learner.grid[1]
        head["teacher"].follow({"network": learner.network}, o.momentum, rng.step)
        images = learner.standardised(crop_and_flip(images, rng, o.smallest))
        hidden = [hidden_block(rng, learner.grid, o.block) for _ in range(o.blocks)]
        seen = seen_patches(rng, hidden, patches, patches - o.blocks * o.block[0] * o.block[1])
        prefix = learner.network.num_prefix_tokens  # always seen, and predicted from none
        first = torch.arange(prefix, device=seen.device).expand(len(seen), prefix)
        context = head["encoder"].encode(images=images, idx_keep=torch.cat([first, prefix + seen], dim=1))[:, prefix:]
        predicted = head["predictor"](context, seen, hidden)
        with torch.no_grad():
            tokens = read(head["teacher"]["network"], images)[0].float()
            target = apply_masks(F.layer_norm(tokens, tokens.shape[-1:]), hidden)
        return {"prediction": F.smooth_l1_loss(predicted.float(), target)}


def build(options: Options) -> Jepa:
    return Jepa(options)
