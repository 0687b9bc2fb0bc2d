"""Encoders that are designed or fitted to patches, against what they are said to be: closed forms and brute force."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.signal import fftconvolve
from skimage import data as photographs
from torch import Tensor
from torch.nn.functional import unfold

from irepa.commands.describe import describe_encoder
from irepa.config.cells import changed_by, network_of
from irepa.config.load import load_settings
from irepa.encoders import (
    colour_histogram,
    dct,
    gabor,
    k_means,
    lbp,
    library,
    multiscale,
    pca,
    random_fourier,
    rgb,
    scattering,
    standardised,
    wavelet,
)
from irepa.engine.targets import TokenCache
from irepa.errors import ConfigError
from irepa.images import to_unit
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import execute
from irepa.stored import InMemory
from tests.conftest import REPOSITORY, WORKFLOW
from tests.test_encoders import CATALOGUE

GRID, CPU = (8, 8), torch.device("cpu")


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Forty 32x32 crops of a photograph, (40, 3, 32, 32) uint8."""
    photograph = photographs.astronaut()[::2, ::2]
    places = np.random.default_rng(0).integers(0, 256 - 32, (40, 2))
    crops = [photograph[row : row + 32, column : column + 32] for row, column in places]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


def grey(pattern: NDArray[np.float64]) -> Tensor:
    """A pattern (H, W) in [0, 1] as a grey image, (1, 3, H, W) uint8."""
    return torch.from_numpy(np.round(255 * pattern).astype(np.uint8)).expand(1, 3, -1, -1)


def grating(frequency: float, angle: float, side: int = 32) -> NDArray[np.float64]:
    """Waves (side, side) along ``angle`` from the columns' direction towards the rows'."""
    down, right = np.mgrid[:side, :side]
    return 0.5 + 0.4 * np.cos(2 * np.pi * frequency * (right * np.cos(angle) + down * np.sin(angle)))


def windows(images: Tensor) -> TokenCache:
    """The tokens that patches are taken from."""
    tokens = rgb.RgbPatches(rgb.Options(margin=2), GRID, CPU)(images).patch
    return TokenCache(InMemory(tokens.numpy()), InMemory(np.zeros((len(tokens), 0), np.float32)), GRID, GRID, ())


def all_of(source: TokenCache) -> Tensor:
    return source[np.arange(len(source))]


def test_a_margin_is_the_pixels_around_a_patch(images: Tensor) -> None:
    plain = rgb.RgbPatches(rgb.Options(), GRID, CPU)(images).patch
    wide = rgb.RgbPatches(rgb.Options(margin=2), GRID, CPU)(images).patch.unflatten(2, (3, 8, 8))
    torch.testing.assert_close(wide[..., 2:6, 2:6].flatten(2), plain)
    torch.testing.assert_close(wide[0, 9], to_unit(images)[0, :, 2:10, 2:10])
    torch.testing.assert_close(wide[0, 0, :, 0], wide[0, 0, :, 4])  # by reflection
    with pytest.raises(ConfigError, match=r"margin = 32 does not fit dataset\.image_size = 32"):
        rgb.check_grid(rgb.Options(margin=32), GRID, 32)


@pytest.mark.parametrize("scale", [0, 1, 2])
@pytest.mark.parametrize("direction", [0, 3, 6])
def test_a_grating_is_answered_most_by_the_gabor_kernel_of_its_frequency_and_direction(
    scale: int, direction: int
) -> None:
    options = gabor.Options(highest=0.36)
    waves = grey(grating(0.36 / 2**scale, math.pi * direction / 8))
    energy = gabor.Gabor(options, GRID, CPU)(waves).patch[0].mean(dim=0).reshape(3, 8)
    assert divmod(int(energy.argmax()), 8) == (scale, direction)
    across = energy[scale, (direction + 4) % 8]
    assert energy[scale, direction] > 2 * across  # the widest kernel sees the mirror image beyond the border


def test_gabor_kernels_are_blind_to_brightness_and_as_large_as_the_field_has_them() -> None:
    for frequency in (0.36, 0.18, 0.09):
        bank = gabor.kernels(frequency, 8)
        assert float(bank.sum(dim=(1, 2)).abs().max()) < 1e-12
        assert bank.shape == (8, 2 * gabor.half_width(frequency) + 1, 2 * gabor.half_width(frequency) + 1)
    flat = gabor.Gabor(gabor.Options(), GRID, CPU)(grey(np.full((32, 32), 0.7))).patch
    assert float(flat.abs().max()) < 1e-5
    # One octave: half the amplitude at 2/3 and 4/3 of the frequency.
    sigma = gabor.envelope(0.3)
    assert math.exp(-2 * (math.pi * sigma * 0.1) ** 2) == pytest.approx(0.5)
    with pytest.raises(ConfigError, match=r"does not fit dataset\.image_size = 16"):
        gabor.check_grid(gabor.Options(), GRID, 16)


@pytest.mark.parametrize("radius", [1, 2])
def test_lbp_has_a_bin_for_every_uniform_pattern_and_one_for_all_others(radius: int) -> None:
    levels = np.random.default_rng(1).integers(0, 256, (32, 32))
    encoder = lbp.Lbp(lbp.Options(radii=(radius,), spread=0), (32, 32), CPU)
    tokens = encoder(grey(levels / 255)).patch[0]
    assert tokens.shape == (32 * 32, 59)
    assert set(tokens.unique().tolist()) == {0.0, 1.0}
    codes = tokens.argmax(dim=1).numpy()
    # The circle by bilinear interpolation, as the paper has it.
    padded, turns = np.pad(levels, radius, mode="reflect").astype(float), np.arange(8) * np.pi / 4
    rows, columns = (radius * np.round(wave(turns), 9) for wave in (np.sin, np.cos))  # whole pixels along the axes
    down, right = np.mgrid[radius : 32 + radius, radius : 32 + radius].reshape(2, -1)
    ring = [
        map_coordinates(padded, [down - row, right + column], order=1)
        for row, column in zip(rows, columns, strict=True)
    ]
    bits = np.stack(ring) >= levels.flatten()
    changes = (bits != np.roll(bits, 1, axis=0)).sum(axis=0)
    assert set(codes[changes > 2]) == {58}
    uniform = {
        (tuple(pattern), code) for pattern, code in zip(bits.T[changes <= 2].tolist(), codes[changes <= 2], strict=True)
    }
    assert len(uniform) == len({pattern for pattern, _ in uniform}) == len({code for _, code in uniform}) > 40


def test_lbp_does_not_see_brightness_and_contrast_and_reaches_beyond_a_token(images: Tensor) -> None:
    dark = (images[:3] // 2).clone()
    plain = lbp.Lbp(lbp.Options(radii=(1,)), GRID, CPU)
    grey_only = dark[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(plain(grey_only).patch, plain(2 * grey_only + 1).patch)
    changed = grey_only.clone()
    changed[:, :, 0:4, 8:10] = 255 - changed[:, :, 0:4, 8:10]  # two pixels beyond the second token
    assert not torch.equal(plain(changed).patch[:, 1], plain(grey_only).patch[:, 1])
    torch.testing.assert_close(plain(changed).patch[:, 0], plain(grey_only).patch[:, 0])


def test_the_haar_frame_keeps_energy_and_gives_the_image_back(images: Tensor) -> None:
    x = images[:2].double() / 255
    details, rest = wavelet.frames(x, 3)
    energy = sum(float(part.square().sum()) for part in (*details, rest))
    assert energy == pytest.approx(float(x.square().sum()))
    assert [part.shape[1] for part in details] == [9, 9, 9]
    # A sum of a pixel's four numbers at a level is the pixel one level before.
    for level in (2, 1, 0):
        rest = rest + details[level].unflatten(1, (3, 3)).sum(dim=1)
    torch.testing.assert_close(rest, x)


def test_wavelets_tell_edges_by_direction_and_size() -> None:
    encoder = wavelet.Wavelet(wavelet.Options(), GRID, CPU)
    stripes = np.tile(np.arange(32) // 2 % 2, (32, 1)).astype(float)  # two pixels wide, changing along a row
    energy = encoder(grey(stripes)).patch[0].mean(dim=0).reshape(3, 3, 3)  # level, direction, colour
    assert float(energy[:, 1:].max()) < 1e-6
    torch.testing.assert_close(energy[..., 0], energy[..., 2])
    # Half of the neighbours differ, and every pair of sums of two pixels does by half of the range on the mean.
    torch.testing.assert_close(energy[0, 0, 0], torch.tensor(0.25), rtol=0.1, atol=0)
    turned = encoder(grey(stripes.T)).patch[0].mean(dim=0).reshape(3, 3, 3)
    torch.testing.assert_close(turned[:, 1], energy[:, 0], rtol=1e-4, atol=1e-6)


def test_cosines_of_blocks_are_orthonormal_and_weighted_as_jpeg_does(images: Tensor) -> None:
    basis = dct.basis()
    np.testing.assert_allclose(basis @ basis.T, np.eye(64), atol=1e-12)
    place = np.arange(8)
    wave = np.cos(np.pi * (2 * place + 1) * 3 / 16)[:, None] * np.cos(np.pi * (2 * place + 1) * 5 / 16) / 4
    np.testing.assert_allclose(basis[8 * 3 + 5].reshape(8, 8), wave, atol=1e-12)
    tokens = dct.Dct(dct.Options(), GRID, CPU)(images).patch.unflatten(2, (3, 8, 8))
    block = images[0, :, 2:10, 2:10].double().numpy()
    luminance = 0.299 * block[0] + 0.587 * block[1] + 0.114 * block[2] - 127.5
    np.testing.assert_allclose(tokens[0, 9, 0, 0, 0].item(), luminance.sum() / 8 / 16, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(tokens[0, 9, 0, 3, 5].item(), (luminance * wave).sum() / 87, rtol=1e-3, atol=1e-3)
    blue = 0.564 * (block[2] - luminance - 127.5)
    np.testing.assert_allclose(tokens[0, 9, 1, 0, 0].item(), blue.sum() / 8 / 17, rtol=1e-3, atol=1e-2)


def test_features_of_pixels_are_gaussians_and_their_gradients(images: Tensor) -> None:
    options = multiscale.Options(finest=1.0, coarsest=2.0)
    tokens = multiscale.Multiscale(options, GRID, CPU)(images[:1]).patch[0]
    red = images[0, 0].double().numpy() / 255
    blurred = [gaussian_filter(red, sigma, mode="nearest", truncate=4.0) for sigma in (1.0, 2.0)]
    means = [plane.reshape(8, 4, 8, 4).mean(axis=(1, 3)).flatten() for plane in blurred]
    columns = tokens.double().numpy().T
    assert all(min(np.abs(columns - mean).max(axis=1)) < 1e-4 for mean in means)
    without = multiscale.Multiscale(options.model_copy(update={"intensity": False}), GRID, CPU)(images[:1]).patch[0]
    assert (tokens.shape[1], without.shape[1]) == (3 * 2 * 4, 3 * 2 * 3)
    flat = multiscale.Multiscale(options.model_copy(update={"intensity": False}), GRID, CPU)(
        grey(np.full((32, 32), 0.6))
    )
    assert float(flat.patch.abs().max()) < 1e-5


def test_colours_share_the_nearest_bins_and_their_mean_is_kept(images: Tensor) -> None:
    tokens = colour_histogram.ColourHistogram(colour_histogram.Options(bins=4), GRID, CPU)(images).patch
    torch.testing.assert_close(tokens.sum(dim=2), torch.ones(40, 64))
    assert float(tokens.min()) >= 0
    centres = torch.stack(torch.meshgrid(*[torch.linspace(0, 255, 4)] * 3, indexing="ij")).flatten(1)  # (3, 64)
    means = images.float().unfold(2, 4, 4).unfold(3, 4, 4).mean(dim=(4, 5)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens @ centres.T, means, rtol=1e-4, atol=1e-2)
    pure = torch.tensor([0, 85, 255], dtype=torch.uint8)[None, :, None, None].expand(1, 3, 8, 8)
    one = colour_histogram.shares(pure, 4)[0, :, 0, 0]
    assert int(one.argmax()) == 0 * 16 + 1 * 4 + 3
    assert float(one.max()) == pytest.approx(1)


def test_random_fourier_features_are_near_a_gaussian_kernel_and_follow_their_seed(images: Tensor) -> None:
    def tokens(seed: int, features: int = 20000) -> Tensor:
        options = random_fourier.Options(features=features, seed=seed)
        return random_fourier.RandomFourier(options, GRID, CPU)(images[:1]).patch[0]

    pixels = rgb.RgbPatches(rgb.Options(), GRID, CPU)(images[:1]).patch[0]
    squared = torch.cdist(pixels, pixels).square() / pixels.shape[1]
    found = tokens(0)
    torch.testing.assert_close(found @ found.T, torch.exp(-squared / (2 * 0.5**2)), rtol=0, atol=0.05)
    assert torch.equal(tokens(3, 8), tokens(3, 8))
    assert not torch.equal(tokens(3, 8), tokens(4, 8))


def test_scattering_is_a_cascade_of_convolutions_and_lengths() -> None:
    """Kymatio's definition by scipy's convolutions on a padded plane, far from the border."""
    options = scattering.Options(scales=2, orientations=4)
    plane = gaussian_filter(np.random.default_rng(2).random((64, 64)), 1.0)
    levels = np.round(255 * plane) / 255
    encoder = scattering.Scattering(options, (16, 16), CPU)
    tokens = encoder(grey(plane)).patch[0].T.reshape(-1, 16, 16)
    assert tokens.shape[0] == 3 * (1 + 2 * 4 + 4 * 4)

    def wavelet_of(scale: int, number: int) -> NDArray[np.complex128]:
        angle, sigma, slant = math.pi * number / 4, 0.8 * 2**scale, 1.0
        down, right = np.mgrid[-20:21, -20:21]
        along, across = down * np.cos(angle) + right * np.sin(angle), down * np.sin(angle) - right * np.cos(angle)
        envelope = np.exp(-(along**2 + (slant * across) ** 2) / (2 * sigma**2))
        wave = envelope * np.exp(1j * 0.75 * np.pi / 2**scale * along)
        return (wave - envelope * wave.sum() / envelope.sum()) * slant / (2 * np.pi * sigma**2)

    def averaged(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        return gaussian_filter(plane, 1.6, truncate=6).reshape(16, 4, 16, 4).mean(axis=(1, 3))[5:11, 5:11]

    first = np.abs(fftconvolve(levels, wavelet_of(0, 1), mode="same"))
    second = np.abs(fftconvolve(first, wavelet_of(1, 3), mode="same"))
    middle = tokens[:, 5:11, 5:11].numpy()
    np.testing.assert_allclose(middle[0], averaged(levels), rtol=1e-4)
    np.testing.assert_allclose(middle[3 + 1], averaged(first), rtol=1e-3)
    np.testing.assert_allclose(middle[3 + 3 * 4 + 4 * 1 + 3], averaged(second), rtol=1e-3)


def test_scattering_is_blind_to_brightness_beyond_its_first_numbers_and_never_expands(images: Tensor) -> None:
    encoder = scattering.Scattering(scattering.Options(), GRID, CPU)
    flat = encoder(grey(np.full((32, 32), 0.4))).patch
    torch.testing.assert_close(flat[:, :, :3], torch.full((1, 64, 3), 102 / 255))
    assert float(flat[:, :, 3:].abs().max()) < 1e-5
    one, other = encoder(images[:20]).patch, encoder(images[20:]).patch
    apart = (images[:20].float() - images[20:].float()).div(255).square().sum(dim=(1, 2, 3)).sqrt()
    # A token stands for 16 pixels.
    assert bool((4 * (one - other).square().sum(dim=(1, 2)).sqrt() <= 1.1 * apart).all())
    with pytest.raises(ConfigError, match="scales = 5 of scattering do not fit"):
        scattering.check_grid(scattering.Options(scales=5), GRID, 32)


def test_standardised_numbers_have_mean_0_and_deviation_1_and_the_base_is_their_network(images: Tensor) -> None:
    source = windows(images)
    tokens = all_of(source)
    tokens[..., 0] = 0.3
    constant = TokenCache(InMemory(tokens.numpy()), InMemory(np.zeros((40, 0), np.float32)), GRID, GRID, ())
    found = standardised.fit(standardised.Options(), constant, GRID, CPU)(tokens).double()
    np.testing.assert_allclose(found.mean(dim=(0, 1)).numpy(), 0, atol=1e-5)
    np.testing.assert_allclose(found.var(dim=(0, 1), correction=0)[1:].numpy(), 1, rtol=1e-4)
    assert float(found[..., 0].abs().max()) < 1e-5
    assert changed_by("k-means-standardised", CATALOGUE) == "k-means"
    assert network_of("k-means-standardised", CATALOGUE) == "k-means"
    assert network_of("scattering-standardised", CATALOGUE) == "scattering"


@pytest.mark.parametrize("whiten", [False, True])
def test_principal_components_are_numpys_singular_vectors(whiten: bool, images: Tensor) -> None:
    source = windows(images)
    options = pca.Options(components=10, images=30, whiten=whiten)
    found = pca.fit(options, source, GRID, CPU)
    rows = all_of(source)[:30].flatten(0, 1).double().numpy()
    _, singular, axes = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    tokens = found(all_of(source)).double().numpy()
    expected = (all_of(source).double().numpy() - rows.mean(axis=0)) @ axes[:10].T
    if whiten:
        expected /= singular[:10] / math.sqrt(len(rows))
        np.testing.assert_allclose(tokens[:30].reshape(-1, 10).var(axis=0), 1, rtol=1e-3)
    signs = np.sign((tokens * expected).sum(axis=(0, 1)))
    np.testing.assert_allclose(tokens, signs * expected, atol=2e-3)
    axes_found = found.axes.numpy()
    assert (axes_found[np.abs(axes_found).argmax(axis=0), np.arange(10)] > 0).all()
    assert torch.equal(pca.fit(options, source, GRID, CPU).axes, found.axes)


def test_patches_of_a_window_are_those_that_torch_unfolds(images: Tensor) -> None:
    window = torch.rand(2, 5, 3 * 8 * 8)
    found = k_means.windows_to_patches(window, 6)
    assert found.shape == (2, 5, 9, 3 * 6 * 6)
    expected = unfold(window.reshape(10, 3, 8, 8), 6).transpose(1, 2).reshape(2, 5, 9, -1)
    torch.testing.assert_close(found, expected)
    for wrong in (100, 3 * 5 * 5):
        with pytest.raises(
            ConfigError, match=f"tokens of width {wrong} are no colour windows with patches of 6 pixels"
        ):
            k_means.windows_to_patches(torch.zeros(1, 1, wrong), 6)


def test_k_means_tokens_are_the_paper_s_activation_by_brute_force(images: Tensor) -> None:
    source = windows(images)
    options = k_means.Options(centroids=7, patch=6, patches=2000)
    found = k_means.fit(options, source, GRID, CPU)
    tokens = found(all_of(source)[:2])
    assert tokens.shape == (2, 64, 7)
    around = torch.nn.functional.pad(images[:2].double(), (2, 2, 2, 2), mode="reflect").numpy()
    row, column = 3, 6
    activations = []
    for down in range(3):
        for right in range(3):
            top, left = 4 * row + down, 4 * column + right
            patch = around[1, :, top : top + 6, left : left + 6].flatten()
            patch = (patch - patch.mean()) / np.sqrt(patch.var() + 10)
            white = (patch - found.mean.double().numpy()) @ found.whiten.double().numpy()
            z = np.array([np.linalg.norm(white - centroid) for centroid in found.centroids.double().numpy()])
            activations.append(np.maximum(0, z.mean() - z))
    np.testing.assert_allclose(tokens[1, 8 * row + column].numpy(), np.mean(activations, axis=0), atol=1e-3)


def test_centroids_are_means_of_the_patches_nearest_to_them_and_those_are_white(images: Tensor) -> None:
    source = windows(images)
    options = k_means.Options(centroids=5, patch=6, patches=3000, iterations=300)
    found = k_means.fit(options, source, GRID, CPU)
    patches = k_means.normalised(k_means.sample(options, source))
    white = ((patches - found.mean) @ found.whiten).double().numpy()
    nearest = np.array([[np.linalg.norm(x - c) for c in found.centroids.double().numpy()] for x in white]).argmin(
        axis=1
    )
    assert set(nearest) == set(range(5))
    for number in range(5):
        # scikit-learn stops when the centroids hardly move.
        np.testing.assert_allclose(white[nearest == number].mean(axis=0), found.centroids[number].numpy(), atol=0.05)
    variances = np.linalg.eigvalsh(np.cov(white, rowvar=False, bias=True))
    raw = np.linalg.eigvalsh(np.cov(patches.double().numpy(), rowvar=False, bias=True)).clip(0)
    np.testing.assert_allclose(variances, np.sort(raw / (raw + 0.1)), atol=1e-3)


def test_patches_are_drawn_by_seed_from_all_images_and_centroids_may_be_patches(images: Tensor) -> None:
    source = windows(images)
    drawn = k_means.sample(k_means.Options(patches=400), source)
    assert drawn.shape == (400, 108)
    assert len(torch.unique(drawn, dim=0)) > 350
    few = k_means.sample(k_means.Options(patches=10), source)
    assert len(few) == 10
    assert not torch.equal(few, k_means.sample(k_means.Options(patches=10, seed=1), source))
    options = k_means.Options(centroids=6, patches=50, iterations=0)
    found = k_means.fit(options, source, GRID, CPU)
    white = (k_means.normalised(k_means.sample(options, source)) - found.mean) @ found.whiten
    assert float(torch.cdist(found.centroids, white).min(dim=1).values.max()) < 1e-2
    assert torch.equal(k_means.fit(options, source, GRID, CPU).centroids, found.centroids)


def test_what_is_fitted_with_a_width_of_its_own_is_another_network_than_its_base() -> None:
    assert changed_by("effnet-lite0-s16-lds", CATALOGUE) == "effnet-lite0-s16"
    assert network_of("effnet-lite0-s16-lds", CATALOGUE) == network_of("effnet-lite0-s8", CATALOGUE)
    for name in ("pca", "k-means", "random-patches"):
        assert changed_by(name, CATALOGUE) is None
        assert network_of(name, CATALOGUE) == name


@pytest.mark.parametrize(("name", "dim"), [("pca", 64), ("k-means", 128)])
def test_the_declared_width_is_that_of_the_tokens(name: str, dim: int, images: Tensor) -> None:
    declared = library(CATALOGUE[name].library, name)
    wide: Callable[[object, int], int] | None = declared.fitted_dim
    assert wide is not None
    options = {"pca": pca.Options(), "k-means": k_means.Options(patches=500, iterations=1)}[name]
    assert declared.fit is not None
    source = windows(images)
    assert wide(options, source.dim) == declared.fit(options, source, GRID, CPU)(all_of(source)).shape[2] == dim


def test_what_is_fitted_goes_from_images_to_its_metrics(tmp_path: Path) -> None:
    names = ["pca", "random-patches", "k-means-standardised"]
    plan = Plan(load_settings({"tier": "smoke", "results": str(tmp_path), "encoders": names}, WORKFLOW), REPOSITORY)
    for job in plan.jobs(Job("spatial", name) for name in names):
        execute(plan, job)
    for name in names:
        record = plan.record(Job("features", name))
        facts = describe_encoder(name, CATALOGUE, (4, 4), 32, 32)
        assert (record.metrics["dim"], record.metrics["grid"]) == (facts.dim, [4, 4])
        assert math.isfinite(plan.record(Job("spatial", name)).metrics["lds"])
