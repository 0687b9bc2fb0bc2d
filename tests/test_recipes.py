"""Recipes beyond SiT against finite differences, closed forms and what they must be able to learn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from pydantic import ValidationError
from torch import Tensor, nn
from torchvision.models import vgg16

from irepa.alignment import Alignment
from irepa.autoencoders import autoencoder_kl, identity, posterior_sample
from irepa.commands.export import export
from irepa.config import plugins
from irepa.config.cells import Cell
from irepa.config.load import load_settings
from irepa.config.tier import Scale
from irepa.engine.network import build_parts
from irepa.errors import ConfigError, WeightsError
from irepa.models.jit import rotary_table, rotate
from irepa.models.joint import Joint
from irepa.models.lpips import Lpips
from irepa.models.patchgan import PatchGan, adversarial_terms
from irepa.models.sit import TimestepEmbedder
from irepa.pipeline.plan import Plan
from irepa.projectors import ConvProjector, LinearProjector, MlpProjector
from irepa.random import StepRandom
from irepa.recipes import Recipe, interpolate, meanflow, repa_e, reported_metrics
from irepa.recipes import jit as jit_recipe
from irepa.recipes import sit as sit_recipe
from irepa.samplers import ode_euler, ode_heun
from tests.conftest import REPOSITORY, WORKFLOW

SHAPE, CLASSES, GRID = (3, 16, 16), 4, (4, 4)
SCALE = Scale(
    depth=2, width=32, heads=4, patch=4, align_depth=1,
    options={"jit": {"bottleneck": 16, "context": 3, "context_start": 1}},
)  # fmt: skip


def draws(batch: int, step: int = 0) -> StepRandom:
    return StepRandom(0, step, batch, slice(0, batch), torch.device("cpu"))


def build(architecture: str, scale: Scale, shape: tuple[int, int, int], classes: int, grid: tuple[int, int]) -> Any:
    """The network of an architecture at a scale, with the scale's options of it."""
    options = plugins.plugin_options("architectures", scale.plugged(architecture), "test")
    return plugins.load("architectures", architecture, "test").build(options, scale, shape, classes, grid)


def no_noise(step: int) -> Tensor:
    raise AssertionError("an ODE takes no noise")


def awake(network: nn.Module) -> nn.Module:
    """Nothing at zero, as after some training: a fresh network's output is 0 whatever goes in."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in network.parameters():
            if parameter.requires_grad and not parameter.any():
                nn.init.normal_(parameter, std=0.05)
    return network


# MeanFlow: the target.


def test_meanflow_derivative_is_that_of_finite_differences_in_float64() -> None:
    """du/dt along (v, 0, 1) of a whole network; t's sinusoids are computed in float32 by design, so in float64 here."""
    network = awake(build("mean-sit", SCALE, SHAPE, CLASSES, GRID)).double()
    for embedder in (network.t_embedder, network.span_embedder):
        embedder.forward = lambda t, e=embedder: e.mlp(sinusoids(t))  # type: ignore[assignment, method-assign, misc]
    generator = torch.Generator().manual_seed(0)
    z, v = (torch.randn(2, *SHAPE, generator=generator, dtype=torch.float64) for _ in range(2))
    r, t = torch.tensor([0.1, 0.4], dtype=torch.float64), torch.tensor([0.7, 0.4], dtype=torch.float64)
    labels = torch.tensor([0, 3])
    _, change, _ = meanflow.derivative(network, z, r, t, labels, v)
    h = 1e-5

    def u(s: float) -> Tensor:
        moved: Tensor = network(z + s * v, t + s, labels, t + s - r)[0]
        return moved

    with torch.no_grad():
        difference = (u(h) - u(-h)) / (2 * h)
    assert float(change.abs().max()) > 0.1
    torch.testing.assert_close(change, difference, atol=1e-7, rtol=1e-6)


def sinusoids(t: Tensor) -> Tensor:
    half = TimestepEmbedder.frequencies // 2
    angle = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half, dtype=t.dtype) / half)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


@dataclass
class Gaussian:
    """Data N(mean, sd^2), per pixel independent: along a path (x - (1 - t) mean) / s(t) is constant, s^2 = (1 - t)^2
    sd^2 + t^2."""

    mean: float = 1.5
    sd: float = 0.5

    def s(self, t: Tensor) -> Tensor:
        return ((1 - t) ** 2 * self.sd**2 + t**2).sqrt()

    def velocity(self, z: Tensor, t: Tensor) -> Tensor:
        slope = (t - (1 - t) * self.sd**2) / self.s(t) ** 2
        return slope * (z - (1 - t) * self.mean) - self.mean

    def mean_velocity(self, z: Tensor, r: Tensor, t: Tensor) -> Tensor:
        """(z_t - z_r) / (t - r) in closed form; the velocity itself for t = r."""
        there = (1 - r) * self.mean + self.s(r) / self.s(t) * (z - (1 - t) * self.mean)
        span = torch.where(t > r, t - r, torch.ones_like(t))
        return torch.where(t > r, (z - there) / span, self.velocity(z, t))


class Exact(nn.Module):
    """A network that knows the mean velocity; one weight, so that there is something to take a gradient of."""

    def __init__(self, flow: Gaussian) -> None:
        super().__init__()
        self.flow, self.classes, self.offset = flow, CLASSES, nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor, span: Tensor | None = None) -> tuple[Tensor, Tensor]:
        t = t.view(-1, 1, 1, 1)
        r = t if span is None else t - span.view(-1, 1, 1, 1)
        return self.flow.mean_velocity(x, r, t) + self.offset, x.flatten(2).mT


def test_the_exact_mean_velocity_is_the_fixed_point_of_meanflows_target() -> None:
    """u = v - (t - r) du/dt, with v the marginal velocity of a Gaussian flow, whose mean velocity is known."""
    flow = Gaussian()
    network = Exact(flow)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(64, 1, 2, 2, generator=generator, dtype=torch.float64)
    r, t = torch.rand(2, 64, generator=generator, dtype=torch.float64).sort(dim=0).values
    v = flow.velocity(z, t.view(-1, 1, 1, 1))
    u, change, _ = meanflow.derivative(network, z, r, t, torch.zeros(64, dtype=torch.int64), v)
    torch.testing.assert_close(u, v - (t - r).view(-1, 1, 1, 1) * change, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 4])
def test_one_step_of_a_mean_velocity_gives_the_right_gaussian(steps: int) -> None:
    flow = Gaussian()
    recipe = meanflow.build(meanflow.Options())
    noise = torch.randn(4000, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    velocity = recipe.velocity(Exact(flow), torch.zeros(4000, dtype=torch.int64))
    x = ode_euler.build(ode_euler.Options(steps=steps)).sample(velocity, noise, no_noise)
    torch.testing.assert_close(x, flow.mean + flow.sd * noise, atol=1e-5, rtol=1e-5)
    flat = x.detach().flatten(1).numpy()
    np.testing.assert_allclose(flat.mean(0), flow.mean, atol=0.03)
    np.testing.assert_allclose(np.cov(flat.T), flow.sd**2 * np.eye(4), atol=0.02)


def test_meanflow_times_and_weights_are_the_papers() -> None:
    recipe = meanflow.build(meanflow.Options())
    r, t = recipe.times(draws(40_000))
    assert bool((r <= t).all())
    assert float((r < t).float().mean()) == pytest.approx(0.25, abs=0.01)
    logit = torch.logit(t[r == t].double())
    # The larger of two normals N(-0.4, 1): mean -0.4 + 1 / sqrt(pi).
    assert float(logit.mean()) == pytest.approx(-0.4 + 1 / math.sqrt(math.pi), abs=0.02)
    network = Exact(Gaussian())
    x = torch.randn(8, 1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss = recipe.loss(network, x, torch.zeros(8, dtype=torch.int64), lambda h: h.new_zeros(()), draws(8))["denoise"]
    assert 0 < loss.item() < 1  # error / (error + c), an image at a time
    loss.backward()
    assert network.offset.grad is not None


def test_meanflows_guidance_mixes_velocities_and_spares_dropped_labels() -> None:
    network = awake(build("mean-sit", SCALE, SHAPE, CLASSES, GRID))
    recipe = meanflow.build(meanflow.Options(omega=1.5, kappa=0.25))
    z, v, t = torch.randn(3, *SHAPE), torch.randn(3, *SHAPE), torch.tensor([0.2, 0.5, 0.9])
    labels = torch.tensor([0, 1, CLASSES])
    mixed = recipe.guided(network, z, v, t, labels)
    with torch.no_grad():
        of_class, of_none = network(z, t, labels)[0], network(z, t, torch.full_like(labels, CLASSES))[0]
    torch.testing.assert_close(mixed[:2], (1.5 * v + 0.25 * of_class - 0.75 * of_none)[:2])
    assert torch.equal(mixed[2], v[2])


# JiT.


def test_jit_velocity_follows_from_the_clean_image() -> None:
    """For t <= 0.95 v = x - eps, whichever of z, x, eps it is computed from; beyond, 1 - t counts as 0.05."""
    recipe = jit_recipe.build(jit_recipe.Options())
    x, noise = torch.randn(2, 6, *SHAPE, dtype=torch.float64)
    t = torch.tensor([0.0, 0.2, 0.5, 0.8, 0.95, 0.99], dtype=torch.float64)
    z = t.view(-1, 1, 1, 1) * x + (1 - t.view(-1, 1, 1, 1)) * noise
    v = recipe.velocity_of(x, z, t)
    torch.testing.assert_close(v[:5], (x - noise)[:5])
    torch.testing.assert_close(v[5], (x[5] - z[5]) / 0.05)
    noised, times = recipe.noised(x, noise, 0.3)
    torch.testing.assert_close(noised, 0.7 * x + 0.3 * noise)
    assert times.tolist() == pytest.approx([0.7] * 6)


class Oracle(nn.Module):
    """E[x | z] of Gaussian data, at JiT's time (1 is data)."""

    def forward(self, z: Tensor, t: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        flow, t = Gaussian(), t.view(-1, 1, 1, 1)
        gain = t * flow.sd**2 / (t**2 * flow.sd**2 + (1 - t) ** 2)
        return flow.mean + gain * (z - t * flow.mean), z.flatten(2).mT


def test_jit_with_the_exact_prediction_samples_the_data() -> None:
    noise = torch.randn(3000, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    recipe = jit_recipe.build(jit_recipe.Options(floor=1e-3))
    velocity = recipe.velocity(Oracle(), torch.zeros(3000, dtype=torch.int64))
    t = torch.full((3000,), 0.6, dtype=torch.float64)
    exact = Gaussian().velocity(noise, t.view(-1, 1, 1, 1))
    torch.testing.assert_close(velocity(noise, t, t), exact, atol=1e-5, rtol=1e-5)
    sampler = ode_heun.build(ode_heun.Options(steps=50, last_euler=True))
    assert sampler.evaluations == 99
    x = sampler.sample(velocity, noise, no_noise)
    assert float(x.mean()) == pytest.approx(1.5, abs=0.03)
    assert float(x.std()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("depth", "width", "heads", "bottleneck", "start", "millions"),
    [(12, 768, 12, 128, 4, 131), (24, 1024, 16, 128, 8, 459), (32, 1280, 16, 256, 10, 953)],
)
def test_jit_has_the_published_sizes(
    depth: int, width: int, heads: int, bottleneck: int, start: int, millions: int
) -> None:
    options = {"jit": {"bottleneck": bottleneck, "context": 32, "context_start": start}}
    scale = Scale(depth=depth, width=width, heads=heads, patch=16, align_depth=4, options=options)
    with torch.device("meta"):
        network = build("jit", scale, (3, 256, 256), 1000, (16, 16))
    count = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert count / 1e6 == pytest.approx(millions, rel=0.01)


def test_rotary_attention_depends_on_relative_positions_only() -> None:
    angles = rotary_table((4, 4), 8, context=2)
    q, k = torch.randn(2, 1, 1, 1, 8).expand(2, 1, 1, 18, 8)
    scores = (rotate(q, angles) @ rotate(k, angles).mT)[0, 0]
    assert torch.allclose(scores[:2, :2], scores[0, 0])  # context tokens have no position
    patches = scores[2:, 2:].view(4, 4, 4, 4)
    torch.testing.assert_close(patches[0, 0, 1, 2], patches[2, 1, 3, 3])
    assert not torch.allclose(patches[0, 0, 1, 2], patches[0, 0, 2, 1])


def test_patches_come_back_to_their_place() -> None:
    """JiT's output layer: patch k of the tokens is patch k of the image, channels and pixels in one order."""
    network = build("jit", SCALE, SHAPE, CLASSES, GRID)
    with torch.no_grad():
        network.linear.bias.copy_(torch.arange(48.0))
        image, _ = network(torch.zeros(1, *SHAPE), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    first = image[0, :, :4, :4]
    assert torch.equal(first, image[0, :, 4:8, 12:16])
    assert torch.equal(first, torch.arange(48.0).view(4, 4, 3).permute(2, 0, 1))


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"align_depth must be in 1\.\.2, not 3"):
        build("jit", SCALE.model_copy(update={"align_depth": 3}), SHAPE, CLASSES, GRID)


# U-Net.


def test_a_unets_bottleneck_lies_on_the_grid() -> None:
    network = build("unet", SCALE, SHAPE, CLASSES, GRID)
    velocity, hidden = network(torch.randn(2, *SHAPE), torch.rand(2), torch.tensor([0, CLASSES]))
    assert velocity.shape == (2, *SHAPE)
    assert hidden.shape == (2, 16, SCALE.width)
    with pytest.raises(ConfigError, match="does not come to the tier's grid of 5x5 by halving"):
        build("unet", SCALE, SHAPE, CLASSES, (5, 5))


# REPA-E.


class SmallVae(identity.Identity):
    """An untrained autoencoder with latents of (4, 8, 8) for images of 16x16."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.shape = (4, 8, 8)
        self.model = AutoencoderKL(
            block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1, latent_channels=4, norm_num_groups=4,
            mid_block_add_attention=False,
        )  # fmt: skip

    def trainable(self) -> nn.Module:
        module: nn.Module = self.model
        return module


def joint(options: repa_e.Options) -> tuple[repa_e.RepaE, Joint, Alignment]:
    recipe = repa_e.build(options)
    scale = Scale(depth=2, width=32, heads=4, patch=2, align_depth=1)
    torch.manual_seed(0)
    network = recipe.join(awake(build("sit", scale, (4, 8, 8), CLASSES, GRID)), SmallVae())
    return recipe, network.train(), Alignment(32, 6, "mlp", hidden=16)


def gradients(term: str, **weights: float) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Gradients of one term of REPA-E's loss: at the autoencoder, at the denoiser and at the projector."""
    recipe, network, alignment = joint(repa_e.Options(**weights))
    pixels = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(2)).clamp(-1, 1)
    tokens = torch.randn(4, 16, 6, generator=torch.Generator().manual_seed(3))
    terms = recipe.loss(network, pixels, torch.tensor([0, 1, 2, 3]), lambda h: alignment(h, tokens), draws(4))
    terms[term].backward()
    parts: tuple[nn.Module, ...] = (network.vae, network.denoiser, alignment)
    of_parts = [{name: p.grad for name, p in part.named_parameters() if p.grad is not None} for part in parts]
    return of_parts[0], of_parts[1], of_parts[2]


def total(gradient: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float(g.square().sum()) for g in gradient.values()))


def test_repa_e_gradients_go_where_the_paper_sends_them() -> None:
    """Of the diffusion loss none reaches the autoencoder; of the alignment loss, its own share does and nothing else moves."""
    of_denoise, of_align, of_vae = gradients("denoise"), gradients("align"), gradients("vae_align")
    of_pixels = gradients("reconstruction")
    table = {
        "diffusion": of_denoise,
        "alignment": of_align,
        "alignment at the VAE": of_vae,
        "reconstruction": of_pixels,
    }
    for name, (vae, denoiser, projector) in table.items():
        print(f"{name}: VAE {total(vae):.2e}, denoiser {total(denoiser):.2e}, projector {total(projector):.2e}")
    assert total(of_denoise[0]) == total(of_align[0]) == 0
    assert total(of_denoise[1]) > 0
    assert total(of_align[1]) > 0
    assert total(of_align[2]) > 0
    assert total(of_vae[0]) > 0
    assert total(of_vae[1]) == total(of_vae[2]) == 0
    assert total(of_pixels[0]) > 0
    assert total(of_pixels[1]) == 0


def test_repa_e_hands_the_vae_the_gradient_of_the_whole_chain() -> None:
    """Against autograd through encoder, norm, interpolant and denoiser in one piece, times the weight."""
    handed, _, _ = gradients("vae_align", vae_align=3.0)
    _, network, alignment = joint(repa_e.Options())
    pixels = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(2)).clamp(-1, 1)
    tokens = torch.randn(4, 16, 6, generator=torch.Generator().manual_seed(3))
    rng = draws(4)
    network.norm.eval()  # as the autoencoder is steered
    z = network.norm(posterior_sample(network.vae, pixels, rng.normal(4, 8, 8))[0])
    t = rng.uniform()
    hidden = network(interpolate(z, rng.normal(4, 8, 8), t), t, torch.tensor([0, 1, 2, 3]))[1]
    (3.0 * alignment(hidden, tokens)).backward()
    whole = {name: p.grad for name, p in network.vae.named_parameters() if p.grad is not None}
    for name, gradient in handed.items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-4, atol=1e-7)


def test_repa_e_learns_by_heart_and_its_codec_undoes_the_norm() -> None:
    recipe, network, alignment = joint(repa_e.Options())
    images = (torch.rand(16, 3, 1, 1, generator=torch.Generator().manual_seed(5)) * 2 - 1).expand(16, 3, 16, 16)
    torch.manual_seed(1)
    tokens, labels = torch.randn(16, 1, 6).expand(16, 16, 6), torch.arange(16) % CLASSES
    optimizer = torch.optim.Adam([*network.parameters(), *alignment.parameters()], lr=3e-3)
    for step in range(300):
        terms = recipe.loss(network, images.contiguous(), labels, lambda h: alignment(h, tokens), draws(16, step))
        optimizer.zero_grad()
        sum(terms.values()).backward()  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    network.eval()
    codec = recipe.codec(network, SmallVae())
    pixels = ((images + 1) * 127.5).round().to(torch.uint8)
    with torch.no_grad():
        latents = codec.encode(pixels)
        back = codec.decode(latents)
    print(f"terms after 300 steps: { {name: round(term.item(), 3) for name, term in terms.items()} }")
    assert float((back.float() - pixels.float()).abs().mean()) < 0.15 * 127.5
    assert float(latents.mean()) == pytest.approx(0, abs=0.3)
    assert float(latents.std()) == pytest.approx(1, abs=0.4)
    assert terms["align"].item() < -0.4
    assert terms["denoise"].item() < 0.7


def test_the_tuned_autoencoder_serves_the_plain_latent_recipe(tmp_path: Path) -> None:
    """Saved in the hub's format, it gives the joined network's latents up to the norm: one scale and shift instead
    of one per channel."""
    recipe, network, _ = joint(repa_e.Options())
    for _ in range(200):
        network.norm(3 + 2 * torch.randn(16, 4, 8, 8))
    network.eval()
    recipe.save_autoencoder(network, tmp_path)
    plain = autoencoder_kl.build(autoencoder_kl.Options(model="tuned", weights=str(tmp_path)), 16, torch.device("cpu"))
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        tuned = recipe.codec(network, SmallVae())
        torch.testing.assert_close(plain.encode(pixels), tuned.encode(pixels), atol=0.1, rtol=0.1)


def test_the_discriminator_starts_from_the_cells_seed(tmp_path: Path) -> None:
    """Whatever was drawn before in the same process; the denoiser is the same with and without one."""
    SmallVae().model.save_pretrained(tmp_path)
    recipe = {
        "name": "repa-e",
        "architecture": "sit",
        "autoencoder": "small-vae",
        "sampler": {"name": "ode-euler", "steps": 1},
    }
    overrides = {
        "autoencoders.small-vae.architecture.block_out_channels": [8, 8],
        "recipes.plain": recipe,
        "recipes.gan": recipe | {"adversarial": 0.1},
    }
    settings = load_settings({"tier": "demo", "overrides": overrides}, WORKFLOW)

    def weights(recipe: str, seed: int, drawn: int) -> dict[str, Tensor]:
        torch.manual_seed(drawn)
        cell = Cell(recipe, "latent-64", "none", "none", seed)
        return build_parts(settings, cell, CLASSES, torch.device("cpu"), tmp_path).network.state_dict()

    one, again, other = weights("gan", 0, 1), weights("gan", 0, 2), weights("gan", 1, 1)
    assert all(torch.equal(tensor, again[name]) for name, tensor in one.items())
    assert not torch.equal(one["discriminator.layers.0.weight"], other["discriminator.layers.0.weight"])
    assert all(torch.equal(tensor, one[name]) for name, tensor in weights("plain", 0, 3).items())


def test_an_autoencoder_without_weights_cannot_be_trained_along() -> None:
    with pytest.raises(
        ConfigError, match="Identity has no weights: the recipe needs an autoencoder that can be trained"
    ):
        repa_e.build(repa_e.Options()).join(nn.Identity(), identity.Identity(16))


def test_only_recipes_that_tune_an_autoencoder_export_one(tmp_path: Path) -> None:
    plan = Plan(load_settings({"tier": "demo"}, WORKFLOW), REPOSITORY)
    with pytest.raises(ConfigError, match="recipe sit does not tune its autoencoder; those that do are repa-e"):
        export(plan, "sit/tiny-64/none/none/seed0", tmp_path)


class Shifted(nn.Module):
    """Stands for an autoencoder in a test of gradients: one weight, added to the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(0.1))

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels + self.by


def test_each_side_of_the_adversarial_loss_moves_its_own_weights_only() -> None:
    """And by the gradients of the two separate losses that alternating optimizers would see."""
    torch.manual_seed(0)
    discriminator, vae = PatchGan(channels=32, levels=2), Shifted()
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    fooling, telling = adversarial_terms(discriminator, pixels, vae(pixels))
    weights = list(discriminator.parameters())
    assert torch.autograd.grad(fooling, weights, retain_graph=True, allow_unused=True) == (None,) * len(weights)
    (of_vae,) = torch.autograd.grad(fooling, vae.by, retain_graph=True)
    assert torch.autograd.grad(telling, vae.by, retain_graph=True, allow_unused=True) == (None,)
    of_discriminator = torch.autograd.grad(telling, weights)
    assert float(of_vae.abs()) > 0
    assert torch.allclose(of_vae, torch.autograd.grad(-discriminator(vae(pixels)).mean(), vae.by)[0])
    hinge = (1 - discriminator(pixels)).clamp(min=0).mean() + (1 + discriminator(vae(pixels))).clamp(min=0).mean()
    for gradient, expected in zip(of_discriminator, torch.autograd.grad(hinge / 2, weights), strict=True):
        torch.testing.assert_close(gradient, expected)


def test_the_discriminator_learns_to_tell_noise_from_a_gradient() -> None:
    torch.manual_seed(0)
    discriminator = PatchGan(channels=32, levels=2)
    smooth = torch.linspace(-1, 1, 32).expand(8, 3, 32, 32)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
    for _ in range(20):
        _, telling = adversarial_terms(discriminator, smooth, torch.rand(8, 3, 32, 32) * 2 - 1)
        optimizer.zero_grad()
        telling.backward()
        optimizer.step()
    with torch.no_grad():
        assert float(discriminator(smooth).mean()) > 0.5
        assert float(discriminator(torch.rand(8, 3, 32, 32) * 2 - 1).mean()) < -0.5


def perceptual_weights(folder: Path) -> None:
    """LPIPS' two files under their own names: of VGG-16 the layers it reads at random, its classifier one number repeated."""
    torch.manual_seed(0)
    with torch.device("meta"):
        layout = vgg16().state_dict()
    state = {
        name: torch.randn(t.shape) / math.sqrt(max(1, t[0].numel()))
        if "features" in name
        else torch.zeros(1).expand(t.shape)
        for name, t in layout.items()
    }
    folder.mkdir(parents=True)
    torch.save(state, folder / "vgg16-397923af.pth")
    widths = [64, 128, 256, 512, 512]
    lins = {f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1) for i, width in enumerate(widths)}
    torch.save(lins, folder / "weights-vgg16-lpips.pth")


def test_repa_e_with_lpips_and_the_adversarial_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LPIPS is read from torch's hub folder, is 0 for equal images, sends the VAE a gradient, and is in no checkpoint."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    perceptual_weights(tmp_path / "hub" / "checkpoints")
    recipe, network, alignment = joint(repa_e.Options(lpips=1.0, adversarial=0.1))
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2)).clamp(-1, 1)
    tokens = torch.randn(2, 16, 6, generator=torch.Generator().manual_seed(3))
    network.shape, network.denoiser = (4, 16, 16), awake(build("sit", SCALE, (4, 16, 16), CLASSES, (4, 4)))
    terms = recipe.loss(network, pixels, torch.tensor([0, 1]), lambda h: alignment(h, tokens), draws(2))
    assert set(terms) >= {"lpips", "adversarial", "discriminator"}
    assert float(recipe.lpips(pixels.device)(pixels, pixels)) == 0
    assert terms["lpips"].item() > 0
    terms["lpips"].backward()
    assert any(p.grad is not None and p.grad.any() for p in network.vae.parameters())
    assert not [name for name in network.state_dict() if "lpips" in name or "slice" in name]
    assert any(name.startswith("discriminator.") for name in network.state_dict())


def test_lpips_without_its_weights_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    with pytest.raises(WeightsError, match=r"weights-vgg16-lpips.pth and vgg16-397923af.pth into \$TORCH_HOME"):
        Lpips(torch.device("cpu"))


def unreachable(url: str, *_: object, **__: object) -> None:
    raise OSError(f"no route to {url}")


# What every recipe must be able to do.

RECIPES: dict[str, tuple[Recipe, str]] = {
    "sit": (sit_recipe.build(sit_recipe.Options()), "sit"),
    "meanflow": (meanflow.build(meanflow.Options()), "mean-sit"),
    "jit": (jit_recipe.build(jit_recipe.Options()), "jit"),
    "unet": (sit_recipe.build(sit_recipe.Options()), "unet"),
}


def test_reports_read_the_terms_that_recipes_declare() -> None:
    class Other(sit_recipe.SiTRecipe):
        reported = {"denoise": "velocity loss", "gate": "gate loss"}  # noqa: RUF012

    assert reported_metrics([sit_recipe.SiTRecipe(0), Other(0)]) == {
        "final_denoise": "velocity loss",
        "final_align": "alignment loss",
        "final_gate": "gate loss",
    }


@pytest.mark.parametrize("name", list(RECIPES))
def test_sixteen_images_are_learned_by_heart_with_their_alignment(name: str) -> None:
    """16 images of one colour each: samples of their labels come out near them, and hidden tokens near their targets."""
    recipe, architecture = RECIPES[name]
    torch.manual_seed(0)
    shape, classes = (3, 8, 8), 16
    scale = Scale(depth=2, width=64, heads=4, patch=2, align_depth=1)
    network = build(architecture, scale, shape, classes, (4, 4))
    alignment = Alignment(64, 8, "mlp", hidden=64)
    images = (torch.rand(16, 3, 1, 1) * 2 - 1).expand(16, *shape).contiguous()
    tokens, labels = torch.randn(16, 1, 8).expand(16, 16, 8), torch.arange(16)
    optimizer = torch.optim.Adam([*network.parameters(), *alignment.parameters()], lr=5e-3)
    for step in range(150):
        rows = torch.arange(16).repeat(2)
        terms = recipe.loss(network, images[rows], labels[rows], lambda h: alignment(h, tokens[rows]), draws(32, step))  # noqa: B023
        optimizer.zero_grad()
        sum(terms.values()).backward()  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    network.eval()
    noise = torch.randn(16, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        velocity = recipe.velocity(network, labels)
        drawn = ode_euler.build(ode_euler.Options(steps=8)).sample(velocity, noise, no_noise)
    error = float((drawn - images).square().mean().sqrt())
    spread = float(images.std())
    print(f"{name}: rms error {error:.3f} of a spread of {spread:.3f}; alignment {terms['align'].item():.3f} of -0.5")
    assert set(recipe.reported) <= set(terms)
    assert error < 0.35 * spread
    assert terms["align"].item() < -0.4


def test_jit_starts_with_short_time_embeddings() -> None:
    """Linear layers of N(0, 0.02): the length of an embedding is that of a product of such matrices, worked out by hand."""
    torch.manual_seed(0)
    network = build("jit", Scale(depth=1, width=512, heads=4, patch=4, align_depth=1), (3, 16, 16), 10, (4, 4))
    embedded = network.t_embedder(torch.rand(200))
    # 256 inputs of mean square 1/2 give N(0, s^2), s^2 = 0.02^2 * 128; SiLU of it has mean square s^2 / 4 + O(s^4).
    variance = 0.02**2 * 128
    by_hand = (512 * 0.02**2 * 512 * variance / 4) ** 0.5
    assert float(embedded.detach().norm(dim=1).mean()) == pytest.approx(by_hand, rel=0.1)


def test_meanflow_squared_is_the_square_of_each_images_loss() -> None:
    """With power 1 an image's loss is e / (e + floor), so its square has the gradient times 2 e / (e + floor)."""
    found = {}
    for squared in (False, True):
        recipe = meanflow.build(meanflow.Options(squared=squared, floor=1e-9))
        torch.manual_seed(0)
        network = awake(build("mean-sit", SCALE, (3, 16, 16), CLASSES, (4, 4)))
        x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        loss = recipe.loss(network, x, torch.arange(4) % CLASSES, lambda hidden: hidden.new_zeros(()), draws(4))[
            "denoise"
        ]
        loss.backward()
        found[squared] = [p.grad for p in network.parameters() if p.grad is not None]
    for once, twice in zip(found[False], found[True], strict=True):
        torch.testing.assert_close(twice, 2 * once, rtol=1e-3, atol=1e-6)


def test_guidance_of_the_public_meanflow_is_allowed_and_weaker_than_none_is_not() -> None:
    assert meanflow.Options(omega=0.2, kappa=0.92).omega == 0.2
    with pytest.raises(ValidationError, match=r"omega / \(1 - kappa\) = 0.4, less than without guidance"):
        meanflow.Options(omega=0.2, kappa=0.5)


def test_projectors_start_as_the_linear_layers_of_sit() -> None:
    torch.manual_seed(0)
    for layer in [*MlpProjector(64, 128, hidden=256), LinearProjector(64, 128)]:
        if isinstance(layer, nn.Linear):
            bound = math.sqrt(6 / (layer.in_features + layer.out_features))
            assert not layer.bias.any()
            assert 0.98 * bound < float(layer.weight.detach().abs().max()) <= bound
    conv = ConvProjector(64, 128, 3, (4, 4))
    assert any(parameter.any() for name, parameter in conv.named_parameters() if name.endswith("bias"))


def test_the_discriminator_has_batch_norm_and_starts_small() -> None:
    torch.manual_seed(0)
    network = PatchGan()
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert (len(convolutions), len(norms)) == (5, 3)
    for layer in convolutions[1:4]:
        assert float(layer.weight.std()) == pytest.approx(0.02, rel=0.05)
    assert all(float(norm.weight.mean()) == pytest.approx(1, abs=0.01) and not norm.bias.any() for norm in norms)


def test_repa_e_starts_from_the_statistics_of_the_latents_and_averages_them() -> None:
    """A norm that starts from (z - shift) * scale gives the autoencoder's own latents; its EMA is that of the network."""
    recipe, network, _ = joint(repa_e.Options(adversarial=0.1))
    network.preset(torch.tensor([0.5, 0.0, -1.0, 2.0]), torch.tensor([0.5, 1.0, 2.0, 4.0]))
    z = torch.randn(2, 4, 8, 8)
    wanted = (z - torch.tensor([0.5, 0, -1, 2]).view(1, 4, 1, 1)) * torch.tensor([0.5, 1, 2, 4]).view(1, 4, 1, 1)
    torch.testing.assert_close(network.normalised(z), wanted, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(network.raw(network.normalised(z)), z)
    before = [statistic.clone() for statistic in network.statistics()]
    network.normalised(z)
    assert all(torch.equal(a, b) for a, b in zip(before, network.statistics(), strict=True))
    averaged = {name for name, _ in network.named_parameters() if recipe.averages(name, False)}
    assert averaged == {name for name, _ in network.named_parameters() if name.startswith("denoiser.")}
    assert recipe.averages("norm.running_var", True)
    assert recipe.clipped_apart(network) == [network.vae, network.discriminator]


def test_the_divergence_of_a_posterior_is_that_of_the_closed_form_summed_over_a_latent() -> None:
    model = SmallVae().model
    pixels = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    with torch.no_grad():
        posterior = model.encode(pixels).latent_dist
        drawn = torch.distributions.Normal(posterior.mean, posterior.std)
        wanted = (
            torch.distributions.kl_divergence(drawn, torch.distributions.Normal(0.0, 1.0)).sum(dim=(1, 2, 3)).mean()
        )
        assert float(posterior_sample(model, pixels, torch.zeros_like(posterior.mean))[2]) == pytest.approx(
            float(wanted), rel=1e-4
        )
