"""The screen: the one place through which commands print tables and sentences with data in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def screen(least: int = 0) -> Console:
    """A console of at least so many columns that prints brackets as they are: ``[nan, nan]`` is data and not markup.

    What is to have a style is a ``rich.text.Text``.
    """
    from rich.console import Console

    return Console(width=max(least, Console().width), markup=False, highlight=False, emoji=False)
