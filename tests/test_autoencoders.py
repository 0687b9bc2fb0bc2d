"""Latents of an AutoencoderKL saved in the hub's format, against diffusers' own calls; pixels through the identity."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

from irepa.autoencoders import autoencoder_kl, identity, read_latent_statistics
from irepa.errors import ConfigError, WeightsError
from irepa.images import to_images
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


def test_latents_normalised_per_channel_are_decoded_as_the_plain_ones(folder: Path) -> None:
    plain, changed = build(folder), build(folder)
    raw = plain.encode(images()) / plain.scale + plain.shift
    shift, scale = torch.tensor([0.1, -0.2, 0.3, 0.0]), torch.tensor([0.5, 1.0, 2.0, 4.0])
    changed.normalise(shift, scale)
    expected = (raw - shift.view(1, 4, 1, 1)) * scale.view(1, 4, 1, 1)
    torch.testing.assert_close(changed.encode(images()), expected)
    moments, noise = plain.moments(images()), torch.randn(3, *plain.shape)
    drawn = changed.sample(moments, noise) / scale.view(1, 4, 1, 1) + shift.view(1, 4, 1, 1)
    torch.testing.assert_close(drawn, plain.sample(moments, noise) / plain.scale + plain.shift)
    assert (changed.decode(expected).int() - plain.decode(plain.encode(images())).int()).abs().max() <= 1
    assert [s.tolist() for s in changed.statistics()] == [shift.tolist(), scale.tolist()]


SHIFT, SPREAD = [0.1, -0.2, 0.3, 0.0], [0.5, 1.0, 2.0, 4.0]


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_statistics_of_both_kinds_mean_the_same(tmp_path: Path, suffix: str) -> None:
    shift, scale = (torch.tensor(values).view(1, 4, 1, 1) for values in (SHIFT, SPREAD))
    kinds = [{"latents_bias": shift, "latents_scale": scale}, {"mean": shift.flatten(), "std": 1 / scale.flatten()}]
    for number, content in enumerate(kinds):
        file = tmp_path / f"{number}.{suffix}"
        save_file(content, file) if suffix == "safetensors" else torch.save(content, file)
        found = read_latent_statistics(file, 4)
        torch.testing.assert_close(found[0], torch.tensor(SHIFT))
        torch.testing.assert_close(found[1], torch.tensor(SPREAD))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"mean": torch.zeros(4)}, r"holds mean float32 \(4,\); statistics of latents are latents_bias and"),
        ({"mean": torch.zeros(4), "std": torch.zeros(4)}, "spreads above 0"),
        ({"mean": torch.full((4,), torch.nan), "std": torch.ones(4)}, "must be finite"),
        ({"mean": torch.zeros(3), "std": torch.ones(4)}, "one number for each of 4 channels is needed"),
        ({"mean": torch.zeros(4, dtype=torch.int64), "std": torch.ones(4)}, r"mean is int64 \(4,\)"),
        ({"latents_bias": torch.zeros(4), "latents_scale": torch.ones(4), "mean": torch.zeros(4), "std": torch.ones(4)},
         "one of the two pairs"),
        (torch.zeros(4), r"holds float32 \(4,\)"),
        (b"garbage", "cannot be read as statistics of latents"),
    ],
)  # fmt: skip
def test_statistics_that_are_none_are_refused(tmp_path: Path, content: object, message: str) -> None:
    file = tmp_path / "x.pt"
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(WeightsError, match=message):
        read_latent_statistics(file, 4)


def test_pixels_become_the_nearest_level_or_the_next_below() -> None:
    levels = torch.tensor([0.0, 0.4, 0.6, 254.6, 255.0, 300.0])
    pixels = (levels / 127.5 - 1).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert to_images(pixels)[0, 0, 0].tolist() == [0, 0, 1, 255, 255, 255]
    assert to_images(pixels, "below")[0, 0, 0].tolist() == [0, 0, 0, 254, 255, 255]
