"""Spatial normalisation, projectors and the alignment loss, against numpy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irepa.alignment import Alignment, alignment_loss, irepa, spatial_normalize
from irepa.projectors import ConvProjector, LinearProjector, MlpProjector, build_projector


@given(st.integers(0, 2**31), st.floats(0, 1), st.sampled_from(["std", "var"]))
def test_spatial_normalisation_is_the_formula(seed: int, gamma: float, normaliser: str) -> None:
    x = np.random.default_rng(seed).normal(2, 3, size=(2, 9, 4))
    centred = x - gamma * x.mean(axis=1, keepdims=True)
    if normaliser == "std":
        expected = centred / (x.std(axis=1, ddof=1, keepdims=True) + 1e-6)
    else:
        expected = centred / np.sqrt(x.var(axis=1, ddof=1, keepdims=True) + 1e-6)
    normalised = spatial_normalize(torch.from_numpy(x), gamma, normaliser=normaliser)
    np.testing.assert_allclose(normalised.numpy(), expected, rtol=1e-10, atol=1e-10)


def test_full_normalisation_has_mean_0_and_spread_1_and_ignores_shift_and_scale_per_image() -> None:
    x = torch.randn(3, 64, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = spatial_normalize(x)
    torch.testing.assert_close(y.mean(dim=1), torch.zeros(3, 5, dtype=torch.float64))
    torch.testing.assert_close(y.std(dim=1), torch.ones(3, 5, dtype=torch.float64), rtol=1e-5, atol=0)
    torch.testing.assert_close(spatial_normalize(7 * x + 3), y, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="at least two positions"):
        spatial_normalize(x[:, :1])


def test_alignment_loss_is_minus_the_mean_cosine() -> None:
    a = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0))
    assert alignment_loss(a, 5 * a).item() == pytest.approx(-1, abs=1e-6)
    assert alignment_loss(a, -a).item() == pytest.approx(1, abs=1e-6)
    b = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assert alignment_loss(b, b.flip(-1)).item() == pytest.approx(0, abs=1e-7)


def test_conv_projector_of_kernel_1_is_a_linear_layer_and_of_kernel_3_sees_neighbours_only() -> None:
    hidden = torch.randn(2, 12, 6, generator=torch.Generator().manual_seed(0))
    conv, linear = ConvProjector(6, 5, kernel=1, grid=(3, 4)), LinearProjector(6, 5)
    linear.load_state_dict({"weight": conv.conv.weight[:, :, 0, 0], "bias": conv.conv.bias})
    torch.testing.assert_close(conv(hidden), linear(hidden))
    wide = ConvProjector(6, 5, kernel=3, grid=(3, 4))
    changed = hidden.clone()
    changed[:, 0] += 1
    touched = (wide(hidden) - wide(changed)).abs().amax(dim=(0, 2)).view(3, 4) > 0
    assert touched.tolist() == [[True, True, False, False], [True, True, False, False], [False] * 4]
    with pytest.raises(ValueError, match="must be odd"):
        ConvProjector(6, 5, kernel=2)
    with pytest.raises(ValueError, match="do not lie on a 3x3 grid"):
        ConvProjector(6, 5)(hidden)


def test_projectors_by_name_and_the_papers_mlp() -> None:
    mlp = build_projector("mlp", 768, 1024)
    assert isinstance(mlp, MlpProjector)
    assert [tuple(p.shape) for p in mlp.parameters() if p.ndim == 2] == [(2048, 768), (2048, 2048), (1024, 2048)]
    with pytest.raises(ValueError, match="must be mlp, linear or conv, not 'attention'"):
        build_projector("attention", 8, 8)


def test_irepa_is_the_convolution_with_normalised_targets_and_its_gradient_reaches_the_network() -> None:
    hidden = torch.randn(2, 16, 6, requires_grad=True)
    tokens = torch.randn(2, 16, 5) + 10
    alignment = irepa(6, 5)
    loss = alignment(hidden, tokens)
    expected = 0.5 * alignment_loss(alignment.projector(hidden), spatial_normalize(tokens))
    assert loss.item() == pytest.approx(expected.item())
    loss.backward()
    assert hidden.grad is not None
    assert hidden.grad.abs().sum() > 0
    plain = Alignment(6, 5, "mlp", hidden=8)
    assert plain.target(tokens) is tokens
