"""How many lines of code is iREPA on top of REPA? They are counted, and run against the project's own implementation."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from pydantic import Field

from irepa.audit.evidence import Evidence
from irepa.audit.rules import Finding, Rule, side
from irepa.audit.statistics import Estimate
from irepa.config.options import Positive

if TYPE_CHECKING:
    from torch import Tensor, nn

WIDTH, DIM, GRID = 12, 20, (4, 4)


class Options(Rule):
    """The claim is about a number of lines."""

    minimum: Positive = Field(1, description="Fewest counts that a verdict may rest on: there is one.")


def rule(options: Options) -> str:
    return (
        f"The lines that turn REPA into iREPA, written out in the decision's own module, give the project's iREPA loss and are "
        f"{side(options)} in number."
    )


def changed_lines(hidden: Tensor, tokens: Tensor, gamma: float, projector: nn.Module) -> tuple[Tensor, Tensor]:
    # REPA: projected = projector(hidden), with an MLP; target = tokens
    projected = projector(hidden.mT.unflatten(2, GRID)).flatten(2).mT
    target = (tokens - gamma * tokens.mean(1, keepdim=True)) / (tokens.std(1, keepdim=True) + 1e-6)
    return projected, target


def count() -> int:
    """Lines of :func:`changed_lines` between its signature and its return, comments apart, and the projector's own line."""
    body = [line.strip() for line in inspect.getsource(changed_lines).splitlines()[1:-1]]
    return len([line for line in body if line and not line.startswith("#")]) + 1


def decide(evidence: Evidence, experiment: str, options: Options) -> Finding:
    """The same for every source: it is the code that is counted."""
    lines = count()
    return Finding(
        parameter="lines of code that change",
        estimate=Estimate(float(lines), float(lines), float(lines), 1),
        p=None,
        lacking="" if agrees() else "the lines do not give the project's loss",
        decided=options.holds(lines),
        notes=[
            "The layer, the call through the token grid, and the normalisation; the call needs a reshape that prose leaves out."
        ],
    )


def agrees() -> bool:
    """Whether the lines give the project's iREPA loss on random tokens."""
    import torch

    from irepa.alignment import irepa
    from irepa.projectors import ConvProjector

    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, GRID[0] * GRID[1], WIDTH, generator=generator)
    tokens = torch.randn(3, GRID[0] * GRID[1], DIM, generator=generator)
    alignment = irepa(WIDTH, DIM, weight=1.0)
    assert isinstance(alignment.projector, ConvProjector)
    with torch.no_grad():
        projected, target = changed_lines(hidden, tokens, 1.0, alignment.projector.conv)
        by_hand = -torch.cosine_similarity(projected, target, dim=-1).mean()
        return abs(float(by_hand - alignment(hidden, tokens))) < 1e-6
