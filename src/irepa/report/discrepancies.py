"""Where the paper's text and its released code differ, and what that changes."""

from __future__ import annotations

from irepa.report.markdown import grid
from irepa.report.tier import FinishedTier


def discrepancy_table(finished: FinishedTier) -> str:
    """A row per difference."""
    return grid(
        [
            {
                "what differs": f"**{row['id']}** {row['about']}. {row['meaning']}",
                "paper's text": row["text"],
                "released code": row["code"],
            }
            for row in finished.audit["discrepancies"]
        ]
    )


def effect_table(finished: FinishedTier) -> str:
    """A row per number that says what a difference amounts to."""
    return grid(
        [
            {
                "": row["id"],
                "source": effect["source"],
                "effect": effect["what"],
                "value": effect["value"],
                "n": str(effect["n"]),
                "reads as": effect.get("verdict", ""),
            }
            for row in finished.audit["discrepancies"]
            for effect in row["effects"]
        ]
    )


def without_effect(finished: FinishedTier) -> str:
    """The differences that no number here bears on, in a sentence."""
    names = [row["id"] for row in finished.audit["discrepancies"] if not row["effects"]]
    return f"No number here bears on {', '.join(names)}." if names else ""
