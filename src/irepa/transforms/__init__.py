"""Changes to an encoder's tokens, written after its name: ``dinov2-b+clsmix0.3``. One module per transform.

Each has two functions, where ``argument`` is the number that follows the transform's name, None where there is none:

- ``check(argument, where)`` raises ConfigError, naming ``where``, for an argument that it cannot work with;
- ``apply(tokens, global_token, argument, grid, indices)`` takes tokens (batch, h*w, dim), the global token (batch, dim) or None,
  the tokens' grid (h, w), and ``indices`` (batch,), the numbers of the images, so that a random transform can be a function of
  the image alone. It returns tokens of the same shape.

``NEEDS_GLOBAL_TOKEN = True`` says that it works only after an encoder that gives a global token.

Importing a transform must stay light: torch is imported inside ``apply``.
"""

from __future__ import annotations

from irepa.errors import ConfigError


def check_strength(value: float | None, where: str, transform: str, letter: str, required: bool) -> None:
    """Raises ConfigError unless a transform's strength is in [0, 1]; where it is not required it may be absent, which means 1."""
    if value is None and not required:
        return
    if value is None or not 0 <= value <= 1:
        raise ConfigError(f"{where}: {transform} needs {letter} in [0, 1], as in {transform}0.3, not {value}")
