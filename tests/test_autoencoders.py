"""Latents of an AutoencoderKL saved in the hub's format, against diffusers' own calls; pixels through the identity."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from irepa.autoencoders import autoencoder_kl, identity
from irepa.errors import ConfigError, WeightsError
from tests.test_paper_tier import small_autoencoder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("vae")
    small_autoencoder(place)
    return place


def images(count: int = 3, size: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def build(folder: Path, **changes: object) -> autoencoder_kl.Kl:
    options = autoencoder_kl.Options.model_validate({"model": "x/y", "weights": str(folder), "batch": 2} | changes)
    return autoencoder_kl.build(options, 32, CPU)


def test_moments_latents_and_images_are_diffusers_own(folder: Path) -> None:
    ours, library = build(folder), AutoencoderKL.from_pretrained(folder).eval()
    pixels = images().float() / 127.5 - 1
    with torch.no_grad():
        posterior = library.encode(pixels).latent_dist
        moments = ours.moments(images())
        torch.testing.assert_close(moments, torch.cat([posterior.mean, posterior.std], dim=1), rtol=1e-4, atol=1e-5)
        noise = torch.randn(3, *ours.shape)
        latents = ours.sample(moments, noise)
        assert ours.shape == (4, 4, 4)
        expected = (posterior.mean + posterior.std * noise) * library.config.scaling_factor
        torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.encode(images()), ours.sample(moments, torch.zeros_like(noise)))
        decoded = library.decode(latents / library.config.scaling_factor).sample
        exact = ((decoded.clamp(-1, 1) + 1) * 127.5).round()
        assert (ours.decode(latents).float() - exact).abs().max() <= 1  # a rounding of float32 at a half


def test_samples_of_the_posterior_have_its_mean_and_spread(folder: Path) -> None:
    ours = build(folder)
    moments = ours.moments(images(1)).clone()
    noise = torch.randn(20_000, *ours.shape, generator=torch.Generator().manual_seed(0))
    mean, std = moments.chunk(2, dim=1)
    latents = ours.sample(moments, noise) / ours.scale
    torch.testing.assert_close(latents.mean(0), mean[0], rtol=0, atol=5 * float(std.max()) / 20_000**0.5)
    torch.testing.assert_close(latents.std(0), std[0], rtol=0.05, atol=0)


def test_facts_without_weights_are_those_of_the_network(folder: Path) -> None:
    config = dict(AutoencoderKL.load_config(folder))
    wanted = (
        "block_out_channels",
        "down_block_types",
        "up_block_types",
        "layers_per_block",
        "latent_channels",
        "norm_num_groups",
    )
    options = autoencoder_kl.Options(
        model="x/y", weights=str(folder), architecture={key: config[key] for key in wanted}
    )
    facts = autoencoder_kl.describe(options, 32)
    assert facts.shape == autoencoder_kl.build(options, 32, CPU).shape
    assert 0 < facts.encode_flops < facts.decode_flops
    with pytest.raises(ConfigError, match=r"autoencoder\.architecture is needed"):
        autoencoder_kl.describe(autoencoder_kl.Options(model="x/y"), 32)
    assert identity.describe(identity.Options(), 32).shape == (3, 32, 32)


def test_what_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="latent_channels is 4, declared as 16"):
        build(folder, architecture={"latent_channels": 16})
    with pytest.raises(WeightsError, match="`hf download x/y --revision r` fetches it"):
        build(tmp_path / "nothing", revision="r")
    options = autoencoder_kl.Options(model="x/y", weights=str(folder))
    with pytest.raises(ConfigError, match=r"dataset\.image_size = 36: .* needs a multiple of 8"):
        autoencoder_kl.build(options, 36, CPU)
