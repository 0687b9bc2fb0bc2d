"""Objectives of pre-training, against formulas written out anew; what a step may see; and trainings that are interrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from irepa.config import plugins
from irepa.config.tier import Training
from irepa.engine.checkpoints import Checkpoints
from irepa.engine.trainer import TrainingData, train
from irepa.errors import ConfigError
from irepa.models.learner import Learner, read
from irepa.models.teacher import Teacher
from irepa.objectives import Objective
from irepa.objectives.autoencoder import divergence
from irepa.objectives.jepa import hidden_block, seen_patches
from irepa.objectives.rotation import turned
from irepa.random import replaced_labels
from irepa.stored import InMemory
from tests.test_pretraining import draws, learner, two_kinds

SMALL: dict[str, dict[str, Any]] = {
    "supervised": {},
    "contrastive": {},
    "mae": {},
    "byol": {"hidden": 32, "output": 16, "momentum": 0.9},
    "vicreg": {"hidden": 32, "output": 16},
    "barlow-twins": {"hidden": 32, "output": 16},
    "dino": {"hidden": 32, "bottleneck": 16, "prototypes": 32, "momentum": 0.9},
    "jepa": {"block": (2, 1), "momentum": 0.9, "width": 32},
    "rotation": {},
    "denoising": {},
    "autoencoder": {"latent": 8, "hidden": 32},
}
WITH_TEACHERS = ("byol", "dino", "jepa")
VIEWS = ("vicreg", "barlow-twins", "contrastive")


def objective(name: str, **options: Any) -> Objective:
    module = plugins.load("objectives", name, "x")
    built: Objective = module.build(module.Options(**options))
    return built


def resnet() -> Learner:
    import timm

    torch.manual_seed(0)
    sizes = {"layers": [1, 1, 1, 1], "channels": [8, 12, 16, 32], "output_stride": 8, "num_classes": 0}
    return Learner(timm.create_model("resnet18", **sizes), (0.5,) * 3, (0.5,) * 3, (32, 32))


def mixer() -> Learner:
    from timm.models.mlp_mixer import MlpMixer

    torch.manual_seed(0)
    network = MlpMixer(img_size=16, patch_size=4, embed_dim=32, num_blocks=2, num_classes=0)
    return Learner(network, (0.5,) * 3, (0.5,) * 3, (16, 16))


KINDS: dict[str, Callable[[], Learner]] = {"transformer": learner, "resnet": resnet, "mixer": mixer}
TRAINED = [
    (kind, name)
    for kind in KINDS
    for name in SMALL
    if kind == "transformer" or not plugins.offered("objectives", name, "HIDES_PATCHES", False)
]


def equipped(name: str, network: Learner, **options: Any) -> Objective:
    torch.manual_seed(1)
    chosen = objective(name, **(SMALL[name] | options))
    chosen.equip(network, 2)
    return chosen


def images_for(network: Learner, count: int = 16) -> tuple[Tensor, Tensor]:
    images, labels = two_kinds(count)
    return nn.functional.interpolate(images, network.size), labels


def loss_of(chosen: Objective, network: Any, images: Tensor, labels: Tensor, step: int) -> Tensor:
    return torch.stack([*chosen.loss(network, images, labels, draws(step, len(images))).values()]).sum()


@pytest.mark.parametrize(("kind", "name"), TRAINED)
def test_a_short_training_lowers_the_loss_of_the_same_views(kind: str, name: str) -> None:
    """Every step sees the same views, and teachers stand still, so that nothing but learning lowers it."""
    network = KINDS[kind]()
    chosen = equipped(name, network, **({"centring": 0.999} if name == "dino" else {}))
    images, labels = images_for(network)
    optimizer = torch.optim.Adam([weight for weight in network.parameters() if weight.requires_grad], lr=1e-3)
    network.train()
    losses = []
    for _ in range(25):
        loss = loss_of(chosen, network, images, labels, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.02 * abs(losses[0]), losses


@pytest.mark.parametrize("name", WITH_TEACHERS)
def test_no_gradient_enters_a_teacher(name: str) -> None:
    network = learner()
    chosen = equipped(name, network)
    loss_of(chosen, network, *images_for(network), 0).backward()
    teacher = network.head["teacher"]
    assert all(weight.grad is None and not weight.requires_grad for weight in teacher.parameters())
    learned = [weight for weight in network.network.parameters() if weight.grad is not None]
    assert sum(float(weight.grad.abs().sum()) for weight in learned) > 0


def test_a_teacher_is_a_running_mean_of_its_student_once_a_step() -> None:
    student = nn.Linear(3, 2)
    teacher, expected = Teacher({"network": student}), student.weight.detach().clone()
    for step in range(4):
        for _ in range(2):  # parts of one batch
            teacher.follow({"network": student}, 0.75, step)
        expected = 0.75 * expected + 0.25 * student.weight.detach()
        assert torch.allclose(teacher["network"].weight, expected, atol=1e-6)
        with torch.no_grad():
            student.weight.add_(torch.randn(2, 3))


class InterruptionError(Exception):
    pass


@pytest.mark.parametrize(
    ("kind", "name"),
    [*((kind, name) for kind, name in TRAINED if kind == "transformer"), ("resnet", "byol"), ("mixer", "dino")],
)
def test_an_interrupted_training_ends_with_the_same_bytes(kind: str, name: str, tmp_path: Path) -> None:
    """What went on after step 4 of 6 against what was never interrupted: the weights, the heads and the teachers."""
    settings = Training(steps=6, batch=8, lr=1e-3, ema=0.9, label_dropout=0.0, checkpoint_every=2, log_every=2)
    images, labels = two_kinds(24)

    def weights(folder: Path, until: int) -> dict[str, Tensor]:
        network = KINDS[kind]()
        chosen = equipped(name, network)

        def loss(module: Learner, x: Tensor, given: Tensor, align: object, rng: Any) -> dict[str, Tensor]:
            if rng.step == until:
                raise InterruptionError
            return chosen.loss(module, nn.functional.interpolate(x, module.size), given, rng)

        stored = {"images": InMemory(images.numpy())}
        data = TrainingData(stored, lambda rows, rng: rows["images"], labels.numpy(), 2)
        where = Checkpoints(folder, "stamp")
        return train(network, None, loss, data, settings, 0, torch.device("cpu"), where, averages=lambda *_: True)[0]

    whole = weights(tmp_path / "whole", 99)
    with pytest.raises(InterruptionError):
        weights(tmp_path / "parts", 5)
    again = weights(tmp_path / "parts", 99)
    assert set(whole) == set(again)
    assert [key for key in whole if not torch.equal(whole[key], again[key])] == []


def stub(vectors: Tensor, head: Any = None) -> Any:
    """A learner that makes these vectors of images whose number it is given."""
    return SimpleNamespace(pooled=lambda images: vectors, head=nn.Identity() if head is None else head)


def vectors(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_vicreg_is_its_formula() -> None:
    z = vectors(0, 12, 5) * 0.4
    got = objective("vicreg").loss(stub(z), torch.rand(6, 3, 8, 8), torch.zeros(6), draws(0, 6))["vicreg"]
    one, other = (part.double().numpy() for part in z.chunk(2))
    expected = 25 * ((one - other) ** 2).mean()
    for part in (one, other):
        expected += 25 * np.maximum(0, 1 - np.sqrt(part.var(axis=0, ddof=1) + 1e-4)).mean() / 2
        covariance = np.cov(part.T)
        expected += (covariance**2).sum() / 5 - (np.diag(covariance) ** 2).sum() / 5
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_barlow_twins_is_its_formula() -> None:
    z = vectors(1, 40, 5)
    got = objective("barlow-twins").loss(stub(z), torch.rand(20, 3, 8, 8), torch.zeros(20), draws(0, 20))["correlation"]
    correlations = np.corrcoef(z[:20].T.numpy(), z[20:].T.numpy())[:5, 5:]
    apart = correlations - np.diag(np.diag(correlations))
    assert float(got) == pytest.approx(((1 - np.diag(correlations)) ** 2).sum() + 0.005 * (apart**2).sum(), rel=1e-3)


@pytest.mark.parametrize("name", ["vicreg", "barlow-twins"])
def test_a_collapse_costs_more_than_vectors_that_agree_and_vary(name: str) -> None:
    """Collapsed to a point, and to a line; agreed, with uncorrelated numbers of spread 1."""
    q = torch.linalg.qr(vectors(2, 64, 5) - vectors(2, 64, 5).mean(0)).Q * 64**0.5
    images, labels = torch.rand(64, 3, 8, 8), torch.zeros(64)

    def cost(z: Tensor) -> float:
        return float(next(iter(objective(name).loss(stub(z.repeat(2, 1)), images, labels, draws(0, 64)).values())))

    perfect, point, line = cost(q - q.mean(0)), cost(torch.ones(64, 5)), cost(q[:, :1].expand(64, 5).contiguous())
    assert perfect < 0.1
    assert min(point, line) > perfect + 0.05
    assert point > 1


def two_headed(network: Learner, one: Tensor, other: Tensor, teacher_too: Callable[[Tensor], Tensor]) -> None:
    """The network and its teacher give vectors of these two views, whatever the images; projections are the identity."""
    network.head["project"] = nn.Identity()
    network.head["teacher"]["project"] = nn.Identity()
    both = torch.cat([one, other])
    network.pooled = lambda images: both  # type: ignore[method-assign]
    held = nn.Module()
    held.forward_features = lambda x: teacher_too(both)[:, None]  # type: ignore[assignment]
    network.head["teacher"]["network"] = held
    network.head["teacher"].step.fill_(0)


def test_byol_is_its_formula_and_nothing_for_a_perfect_prediction() -> None:
    network, (one, other) = learner(), vectors(3, 2, 6, 16)
    chosen = equipped("byol", network)
    two_headed(network, one, other, lambda both: both)
    network.head["predict"] = nn.Identity()
    images = torch.rand(6, 3, 16, 16)
    unit = [part / part.norm(dim=1, keepdim=True) for part in (one, other)]
    expected = float((unit[0] - unit[1]).square().sum(dim=1).mean())
    assert float(loss_of(chosen, network, images, torch.zeros(6), 0)) == pytest.approx(expected, rel=1e-5)
    two_headed(
        network, one, other, lambda both: both.roll(6, dims=0)
    )  # the teacher says of each view what is said of the other
    assert float(loss_of(chosen, network, images, torch.zeros(6), 0)) == pytest.approx(0, abs=1e-5)


def test_dino_is_its_formula_and_log_of_the_prototypes_for_a_student_who_cannot_sort() -> None:
    network, (one, other) = learner(), vectors(4, 2, 6, 32) / 10
    chosen = equipped("dino", network)
    two_headed(network, one, other, lambda both: both)
    centre = vectors(5, 1, 1, 32) / 10
    network.head["compare"].center.copy_(centre)

    def softmax(x: Tensor) -> Tensor:
        return x.double().exp() / x.double().exp().sum(dim=1, keepdim=True)

    expected = 0.0
    for student, teacher in ((one, other), (other, one)):
        expected -= float((softmax((teacher - centre[0]) / 0.04) * softmax(student / 0.1).log()).sum(1).mean()) / 2
    images = torch.rand(6, 3, 16, 16)
    assert float(loss_of(chosen, network, images, torch.zeros(6), 0)) == pytest.approx(expected, rel=1e-4)
    moved = 0.9 * centre + 0.1 * torch.cat([one, other]).mean(0)
    assert torch.allclose(network.head["compare"].center, moved, atol=1e-6)
    two_headed(network, torch.zeros(6, 32), torch.zeros(6, 32), lambda both: torch.cat([one, other]))
    assert float(loss_of(chosen, network, images, torch.zeros(6), 0)) == pytest.approx(np.log(32), rel=1e-5)


def test_prototypes_of_dino_have_unit_length_and_are_those_that_lightly_drew() -> None:
    from lightly.models.modules import DINOProjectionHead

    network = learner()
    equipped("dino", network)
    own = network.head["project"]
    assert torch.allclose(own.last_layer.weight.norm(dim=1), torch.ones(32), atol=1e-6)
    torch.manual_seed(1)
    theirs = DINOProjectionHead(32, 32, 16, 32)
    x = vectors(6, 4, 32)
    assert torch.allclose(own(x), theirs(x), atol=1e-6)


def test_hidden_blocks_are_rectangles_and_nothing_of_them_is_seen() -> None:
    rng, grid, block, count = draws(0, 200), (8, 8), (3, 4), 64 - 4 * 12
    hidden = [hidden_block(rng, grid, block) for _ in range(4)]
    seen = seen_patches(rng, hidden, 64, count)
    shapes = set()
    corners = set()
    for image in range(200):
        of_image = set()
        for patches in (part[image].tolist() for part in hidden):
            rows, columns = sorted({p // 8 for p in patches}), sorted({p % 8 for p in patches})
            assert patches == [8 * row + column for row in rows for column in columns]
            assert rows == [*range(rows[0], rows[-1] + 1)]
            assert columns == [*range(columns[0], columns[-1] + 1)]
            shapes.add((len(rows), len(columns)))
            corners.add((rows[0], columns[0], rows[-1], columns[-1]))
            of_image |= set(patches)
        assert len(set(seen[image].tolist())) == count
        assert not of_image & set(seen[image].tolist())
    assert shapes == {(3, 4), (4, 3)}
    assert len(corners) == 2 * 6 * 5, "every place is taken"


def test_jepa_predicts_from_what_is_seen_and_a_perfect_prediction_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("irepa.objectives.jepa.crop_and_flip", lambda images, rng, smallest: images)
    network = learner()
    chosen = equipped("jepa", network)
    images = torch.rand(5, 3, 16, 16)
    told: dict[str, Any] = {}

    def predictor(context: Tensor, seen: Tensor, hidden: list[Tensor]) -> Tensor:
        told.update(context=context, seen=seen, hidden=hidden)
        tokens = read(network.head["teacher"]["network"], network.standardised(told.get("whole", images)))[0]
        mean, spread = tokens.mean(-1, keepdim=True), tokens.var(-1, correction=0, keepdim=True).add(1e-5).sqrt()
        normal = (tokens - mean) / spread
        return torch.cat([normal[torch.arange(5)[:, None], part] for part in hidden])

    del network.head["predictor"]
    held = nn.Module()
    held.forward = predictor
    network.head["predictor"] = held
    assert float(loss_of(chosen, network, images, torch.zeros(5), 0)) == pytest.approx(0, abs=1e-9)
    before = told["context"]
    other = images.clone().view(5, 3, 4, 4, 4, 4)
    unseen = torch.ones(5, 16, dtype=torch.bool).scatter(1, told["seen"], False).view(5, 4, 4)
    other.permute(0, 2, 4, 1, 3, 5)[unseen] = 0.0
    told["whole"] = other.view(5, 3, 16, 16)
    loss_of(chosen, network, told["whole"], torch.zeros(5), 0)
    assert torch.equal(told["context"], before)
    assert not torch.equal(told["whole"], images)


def test_jepa_without_room_for_its_blocks_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"jepa: blocks = 4 of block = \[3, 4\] do not leave a patch of a grid of 4x4"
    ):
        objective("jepa").equip(learner(), 2)


def test_images_are_turned_by_their_quarters() -> None:
    images, quarters = torch.rand(6, 3, 5, 5), torch.tensor([0, 1, 2, 3, 1, 0])
    expected = [np.rot90(image.numpy(), int(turn), axes=(1, 2)) for image, turn in zip(images, quarters, strict=True)]
    assert np.array_equal(turned(images, quarters).numpy(), np.stack(expected))


def test_turns_are_told_apart_by_who_sees_them() -> None:
    """An image that is bright at its top: where the brightest side is says how it was turned; and a guess costs log 4."""
    images = torch.zeros(400, 3, 8, 8)
    images[:, :, 0] = 1

    def sides(views: Tensor) -> Tensor:
        edges = [views[:, :, 0], views[:, :, :, 0], views[:, :, -1], views[:, :, :, -1]]  # counter-clockwise
        return torch.stack([edge.mean(dim=(1, 2)) for edge in edges], dim=1)

    for pooled, expected in (
        (lambda views: 100 * sides(views), 0.0),
        (lambda views: torch.zeros(len(views), 4), np.log(4)),
    ):
        seeing = SimpleNamespace(pooled=pooled, head=nn.Identity())
        got = objective("rotation", smallest=1.0).loss(seeing, images, torch.zeros(400), draws(0, 400))  # type: ignore[arg-type]
        assert float(got["cross_entropy"]) == pytest.approx(expected, abs=1e-4)


def test_denoising_costs_the_noise_where_tokens_are_the_noisy_pixels() -> None:
    """A network whose tokens are its pixels, patch by patch, leaves the noise as it is: sigma^2, and nothing without noise."""

    class Pixels(nn.Module):
        def forward_features(self, x: Tensor) -> Tensor:
            folded = nn.functional.unfold(x, 4, stride=4)  # (batch, 3 * 16, patches), a channel after another
            return folded.view(len(x), 3, 16, -1).permute(0, 3, 2, 1).flatten(2)

    network = Learner(Pixels(), (0.5,) * 3, (0.5,) * 3, (16, 16))
    assert (network.grid, network.width) == ((4, 4), 48)
    images = torch.rand(64, 3, 16, 16)
    for sigma in (0.0, 0.7):
        chosen = objective("denoising", sigma=sigma)
        chosen.equip(network, 2)
        network.head = nn.Identity()
        assert float(loss_of(chosen, network, images, torch.zeros(64), 0)) == pytest.approx(
            sigma**2, rel=0.02, abs=1e-9
        )


def test_the_divergence_is_that_of_normal_distributions() -> None:
    from torch.distributions import Normal, kl_divergence

    mu, log_s = vectors(7, 4, 3), vectors(8, 4, 3)
    expected = kl_divergence(Normal(mu, log_s.exp()), Normal(0.0, 1.0)).sum(dim=1)
    assert torch.allclose(divergence(mu, log_s), expected, atol=1e-5)


def test_an_autoencoder_without_beta_draws_nothing() -> None:
    network = learner()
    chosen = equipped("autoencoder", network, beta=0.0, smallest=1.0)
    images, labels = images_for(network)
    terms = chosen.loss(network, images, labels, draws(0, len(images)))
    assert set(terms) == {"reconstruction"}
    network.head["narrow"].bias.data[8:] = 5.0  # the spread, which nothing reads
    assert torch.equal(
        terms["reconstruction"], chosen.loss(network, images, labels, draws(0, len(images)))["reconstruction"]
    )


def test_so_many_labels_are_wrong_and_each_other_class_is_as_likely() -> None:
    labels = np.random.default_rng(0).integers(5, size=20000)
    wrong = replaced_labels(3, labels, 0.4, 5)
    assert (wrong != labels).sum() == 8000
    assert np.array_equal(wrong, replaced_labels(3, labels, 0.4, 5))
    assert not np.array_equal(wrong, replaced_labels(4, labels, 0.4, 5))
    counts = np.bincount((wrong - labels)[wrong != labels] % 5, minlength=5)[1:]
    assert np.abs(counts - 2000).max() < 4 * np.sqrt(8000 * 0.25 * 0.75)
    assert np.array_equal(replaced_labels(3, labels, 0.0, 5), labels)


def test_labels_are_grouped_before_some_are_wrong() -> None:
    labels = np.arange(10).repeat(100)
    groups = [[0, 1, 8, 9], [2, 3, 4, 5, 6, 7]]
    vehicle = np.isin(labels, groups[0])
    assert np.array_equal(objective("supervised", groups=groups).relabelled(labels, 10, 0), np.where(vehicle, 0, 1))
    some = objective("supervised", groups=groups, wrong=0.25).relabelled(labels, 10, 0)
    assert (some != np.where(vehicle, 0, 1)).sum() == 250
    assert np.array_equal(objective("contrastive").relabelled(labels, 10, 0), labels)
    network = learner()
    objective("supervised", groups=groups).equip(network, 10)
    assert network.head.out_features == 2


@pytest.mark.parametrize("groups", [[[0, 1, 2]], [[0], [1]], [[0, 1], [1, 2]], [[0, 1, 2], []], [[0, 1], [2, 3]]])
def test_groups_that_are_no_partition_are_refused(groups: list[list[int]]) -> None:
    module = plugins.load("objectives", "supervised", "x")
    with pytest.raises(ConfigError, match=r"groups = .* each of the classes 0 to 2 in one of them"):
        module.check(module.Options(groups=groups), 3)


def test_vectors_are_class_tokens_or_means_and_tokens_lie_row_by_row() -> None:
    """A ResNet's map and a transformer's tokens, of an image whose places are told apart by moving it."""
    network = resnet().eval()
    x = torch.rand(2, 3, 32, 32)
    tokens, pooled = read(network.network, x)
    features = network.network.forward_features(x)
    assert (network.grid, network.width) == ((4, 4), 32)
    assert torch.equal(tokens[:, 4 * 1 + 2], features[:, :, 1, 2])
    assert torch.allclose(pooled, features.mean(dim=(2, 3)), atol=1e-5)
    with_token = learner().eval()
    tokens, pooled = read(with_token.network, x[:, :, :16, :16])
    output = with_token.network.forward_features(x[:, :, :16, :16])
    assert torch.equal(pooled, output[:, 0])
    assert torch.equal(tokens, output[:, 1:])
