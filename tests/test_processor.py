"""bf16 products by way of fp32: the same as those of the same numbers in fp64, rounded, in value and in gradient."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch  # noqa: F401 - a process that has loaded it

from irepa.pipeline import processor

# In a process of its own: what torch multiplies with is replaced for good.
SCRIPT = """
import torch
from torch.nn import functional as F
from irepa.pipeline import processor

torch.manual_seed(0)
processor.multiply_in_fp32()
bf16 = torch.bfloat16


def compare(what, operation, *shapes):
    # On random bf16 operands, with what flows back to each, against the same in fp64.
    operands = [torch.randn(*shape, dtype=bf16, requires_grad=True) for shape in shapes]
    exact = [operand.detach().double().requires_grad_() for operand in operands]
    found, expected = operation(*operands), operation(*exact)
    upstream = torch.randn_like(expected).to(bf16)
    found.backward(upstream)
    expected.backward(upstream.double())
    near(what, found, expected)
    for operand, wide in zip(operands, exact):
        near(f"gradient of {what}", operand.grad, wide.grad)


def near(what, found, expected):
    assert found.dtype is bf16, f"{what}: {found.dtype}"
    worst = float((found.double() - expected).detach().abs().max() / expected.detach().abs().max())
    assert worst < 2**-7, f"{what}: {worst}"


compare("mm", torch.mm, (31, 17), (17, 23))
compare("addmm", torch.addmm, (23,), (31, 17), (17, 23))
compare("bmm", torch.bmm, (3, 5, 7), (3, 7, 4))
compare("baddbmm", lambda z, x, y: torch.baddbmm(z, x, y, beta=0.5), (3, 5, 4), (3, 5, 7), (3, 7, 4))
compare("linear", F.linear, (2, 5, 7), (4, 7), (4,))
compare("convolution", lambda i, k, o: F.conv2d(i, k, o, stride=2, padding=1), (2, 3, 9, 9), (4, 3, 3, 3), (4,))
compare("without bias", F.conv2d, (2, 3, 9, 9), (4, 3, 3, 3))
compare("attention", F.scaled_dot_product_attention, *3 * [(2, 3, 11, 8)])

image = torch.randn(2, 3, 9, 9, dtype=bf16)  # needs no gradient, so that torch gives none
kernel = torch.randn(4, 3, 3, 3, dtype=bf16, requires_grad=True)
F.conv2d(image, kernel).sum().backward()
assert kernel.grad.dtype is bf16

a, b = torch.randn(31, 17, dtype=bf16), torch.randn(17, 23, dtype=bf16)
near("mm.out", torch.mm(a, b, out=torch.empty(31, 23, dtype=bf16)), a.double() @ b.double())
a, b = torch.randn(31, 17), torch.randn(17, 23)
assert torch.allclose(torch.mm(a, b, out=torch.empty(31, 23)), (a.double() @ b.double()).float(), atol=1e-5), "fp32 as ever"
assert torch.allclose(a @ b, (a.double() @ b.double()).float(), atol=1e-5), "fp32 as ever"
print("all near,", processor.bf16_products())
"""


def test_products_are_those_of_the_same_numbers_in_higher_precision() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all near, by way of fp32\n"


@pytest.mark.parametrize(("supported", "replaced"), [(True, 0), (False, 1)])
def test_they_are_replaced_once_and_only_without_instructions_for_them(
    supported: bool, replaced: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def replace() -> None:
        calls.append(1)
        processor._LIBRARIES.append(None)

    monkeypatch.setattr(processor, "_LIBRARIES", [])
    monkeypatch.setattr(processor, "has_bf16", lambda: supported)
    monkeypatch.setattr(processor, "multiply_in_fp32", replace)
    for _ in range(2):
        processor.prepare()
    assert len(calls) == replaced
    assert processor.bf16_products() == ("native" if supported else "by way of fp32")


def test_a_process_without_torch_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(processor, "_LIBRARIES", [])  # an earlier test of this process may have trained
    monkeypatch.setattr(processor, "multiply_in_fp32", lambda: pytest.fail("torch was not loaded"))
    processor.prepare()
    assert processor.bf16_products() is None


def test_a_job_that_loads_torch_late_says_nothing_of_products_that_it_has_not_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processor, "_LIBRARIES", [])
    monkeypatch.setattr(processor, "has_bf16", lambda: False)
    assert processor.bf16_products() is None
