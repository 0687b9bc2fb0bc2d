"""bf16 on a processor that has no instructions for it.

torch computes products of bf16 matrices there one element at a time, 40 times as slow as in fp32 (measured on AVX2). A product of
two bf16 numbers is exact in fp32, and instructions for bf16 sum such products in fp32. So the same is computed
here with the instructions for fp32: operands as they are, sums in fp32, the result rounded to bf16. What differs is
the order of the sums, as it does between any two processors.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

# By operation of torch's: which of its results stay in fp32.
OPERATIONS: dict[str, tuple[int, ...]] = {
    "mm": (),
    "addmm": (),
    "bmm": (),
    "baddbmm": (),
    "convolution": (),
    "convolution_backward": (),
    "_scaled_dot_product_flash_attention_for_cpu": (1,),  # the logarithm of the sums of weights
    "_scaled_dot_product_flash_attention_for_cpu_backward": (),
}
INTO = ("mm.out", "addmm.out", "bmm.out", "baddbmm.out")  # the same into a given tensor, as compiled code calls them


def has_bf16() -> bool:
    """Whether torch has a kernel for products of bf16 matrices on this processor that is made for them."""
    import torch

    # As torch asks itself; absent from builds without oneDNN.
    ask = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return ask is not None and bool(ask())


def prepare() -> None:
    """Compute bf16 products on the CPU by way of fp32 from here on, in this process, if torch is loaded and has no better way."""
    if "torch" in sys.modules and not _LIBRARIES and not has_bf16():
        multiply_in_fp32()


def bf16_products() -> str | None:
    """What a record says of them: ``native`` or ``by way of fp32``; None of a job whose stage does not load torch to compute."""
    if _LIBRARIES:
        return "by way of fp32"
    return "native" if "torch" in sys.modules and has_bf16() else None


_LIBRARIES: list[Any] = []  # what a library registers lasts as long as the library


def multiply_in_fp32() -> None:
    """Replace torch's products of bf16 tensors on the CPU, in this process, by those of the same numbers in fp32."""
    import torch

    library = torch.library.Library("aten", "IMPL")
    for name, kept in OPERATIONS.items():
        library.impl(name, _returned(torch.library.get_kernel(f"aten::{name}", "CPU"), kept), "CPU", with_keyset=True)
    for name in INTO:
        library.impl(name, _written(torch.library.get_kernel(f"aten::{name}", "CPU")), "CPU", with_keyset=True)
    _LIBRARIES.append(library)


def _returned(kernel: Any, kept: tuple[int, ...]) -> Callable[..., Any]:
    import torch

    def product(keys: Any, *arguments: Any, **named: Any) -> Any:
        if arguments[0].dtype is not torch.bfloat16:
            return kernel.call_boxed(keys, *arguments, **named)
        found = kernel.call_boxed(keys, *map(_wide, arguments), **{name: _wide(value) for name, value in named.items()})
        if isinstance(found, torch.Tensor):
            return found.bfloat16()
        return tuple(value if place in kept or value is None else value.bfloat16() for place, value in enumerate(found))

    return product


def _written(kernel: Any) -> Callable[..., Any]:
    import torch

    def product(keys: Any, *arguments: Any, out: Any, **named: Any) -> Any:
        if out.dtype is not torch.bfloat16:
            return kernel.call_boxed(keys, *arguments, out=out, **named)
        wide = out.new_empty(out.shape, dtype=torch.float32)
        kernel.call_boxed(keys, *map(_wide, arguments), out=wide, **named)
        return out.copy_(wide)

    return product


def _wide(argument: Any) -> Any:
    import torch

    narrow = isinstance(argument, torch.Tensor) and argument.dtype is torch.bfloat16
    return argument.float() if narrow else argument
