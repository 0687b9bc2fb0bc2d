"""Which distances on the token grid are near and far for the spatial metrics (paper section 2)."""

from __future__ import annotations

from dataclasses import dataclass

PAPER_SIDE = 16  # the paper's thresholds are for a 16x16 grid


@dataclass(frozen=True)
class Thresholds:
    """Distances in grid steps.

    Attributes:
        near: local pairs of LDS, and pairs of one region in SRSS, have 1 <= d <= near.
        far: distant pairs have d >= far.
        slope: CDS fits its line over d = 1..slope.
    """

    near: int = 1
    far: int = 6
    slope: int = 8

    @classmethod
    def for_grid(
        cls, height: int, width: int, near: int | None = None, far: int | None = None, slope: int | None = None
    ) -> Thresholds:
        """The paper's (1, 6, 8) on a 16x16 grid. Values that are given win.

        On another grid, far and slope scale with (H + W) / 32 and are rounded, but are at least 2; near stays 1, because the
        nearest neighbour is one step away on any grid.
        """
        scale = (height + width) / (2 * PAPER_SIDE)
        return cls(near or 1, far or max(2, round(6 * scale)), slope or max(2, round(8 * scale)))
