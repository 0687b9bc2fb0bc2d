"""Base types of every settings class, and of the ``Options`` of a plug-in."""

from __future__ import annotations

import re
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def named(name: str) -> str:
    """What is part of the keys of jobs, and of paths: as it is. Raises ValueError for what would break them."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ValueError("a name is of letters, digits and _ . -, and begins with a letter or a digit")
    return name


Name = Annotated[str, AfterValidator(named)]
Grid = tuple[Positive, Positive]  # rows and columns of the token grid
Shape = tuple[int, int, int]  # (channels, height, width) of the latents or images that a network sees


def _may_be_true(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(map(_may_be_true, get_args(annotation)))


class Strict(BaseModel):
    """A settings object: unknown keys are refused, numbers are finite, values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and not _may_be_true(cls.model_fields[str(info.field_name)].annotation):
            raise ValueError("true and false are no value of this key")
        return value


class Plugged(BaseModel):
    """A named implementation and its own options, written flat: ``{name: photos, train_per_class: 250}``."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(description="The implementation, as its module is called. Its options stand beside this key.")

    def options(self) -> dict[str, Any]:
        """The keys beside ``name``: what :func:`irepa.config.plugins.plugin_options` validates."""
        return dict(self.model_extra or {})
