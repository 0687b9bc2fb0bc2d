"""Changes to an encoder's tokens, written after its name: ``dinov2-b+clsmix0.3``. One module per transform.

Each has ``check(argument, where)`` and ``apply(tokens, global_token, argument, grid, indices)``; ``indices`` are the
numbers of the images, so that a random transform can be a function of the image alone.
"""

from __future__ import annotations

from irepa.errors import ConfigError


def check_strength(value: float | None, where: str, transform: str, letter: str, required: bool) -> None:
    """Raises ConfigError unless a transform's strength is in [0, 1]; where it is not required it may be absent, which means 1."""
    if value is None and not required:
        return
    if value is None or not 0 <= value <= 1:
        raise ConfigError(f"{where}: {transform} needs {letter} in [0, 1], as in {transform}0.3, not {value}")
