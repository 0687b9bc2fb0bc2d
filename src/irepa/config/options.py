"""Base types of every settings class, and of the ``Options`` of a plug-in."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Grid = tuple[Positive, Positive]  # rows and columns of the token grid
Shape = tuple[int, int, int]  # (channels, height, width) of the latents or images that a network sees


class Strict(BaseModel):
    """A settings object: unknown keys are refused, values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Plugged(BaseModel):
    """A named implementation and its own options, written flat: ``{name: photos, train_per_class: 250}``."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(description="The implementation, as its module is called. Its options stand beside this key.")

    def options(self) -> dict[str, Any]:
        """The keys beside ``name``: what :func:`irepa.config.plugins.plugin_options` validates."""
        return dict(self.model_extra or {})
