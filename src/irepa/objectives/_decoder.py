"""The sizes of a transformer that works on what an encoder gives."""

from __future__ import annotations

from pydantic import Field, model_validator

from irepa.config.options import Positive, Strict


class DecoderOptions(Strict):
    width: Positive = Field(64, description="Width of the decoder.")
    depth: Positive = Field(1, description="Blocks of the decoder.")
    heads: Positive = Field(4, description="Attention heads of the decoder.")

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> DecoderOptions:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self
