"""Training: it learns, it is deterministic, it is paired over methods, and it stops when it diverges."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from irepa.autoencoders.identity import Identity
from irepa.config.tier import Method, Scale, SpatialNorm, Training
from irepa.engine.checkpoints import Checkpoints
from irepa.engine.loading import Rows
from irepa.engine.targets import TokenCache
from irepa.engine.trainer import (
    TrainingData,
    build_alignment,
    clip,
    clip_groups,
    drop_labels,
    followed,
    learning_rate,
    make_accelerator,
    steps_taken,
    train,
)
from irepa.errors import DivergedError, WeightsError
from irepa.models.sit import SiT
from irepa.random import StepRandom
from irepa.recipes.sit import SiTRecipe
from irepa.stored import InMemory, Mirrored

SCALE = Scale(depth=2, width=32, heads=2, patch=4, align_depth=1, projector_hidden=16)
CPU = torch.device("cpu")
Preview = Callable[[torch.nn.Module], Tensor]


def network(seed: int = 0) -> SiT:
    torch.manual_seed(seed)
    return SiT((8, 8), 3, 2, depth=2, width=32, heads=2, patch=4, align_depth=1)


def data(tokens: bool = False) -> TrainingData:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, size=(16, 8, 8, 3)).astype(np.uint8)
    target = rng.normal(size=(16, 4, 5)).astype(np.float32)
    source = TokenCache(InMemory(target), InMemory(np.zeros((16, 0), np.float32)), (2, 2), (2, 2), ())
    identity = Identity(8)

    def inputs(rows: Rows, draws: StepRandom) -> Tensor:
        return identity.encode(rows["images"].permute(0, 3, 1, 2))

    return TrainingData({"images": InMemory(images)}, inputs, rng.integers(0, 2, 16), 2, source if tokens else None)


def run(
    folder: Path, settings: Training, method: Method | None = None, seed: int = 0, preview: Preview | None = None
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    alignment = build_alignment(method, SCALE, 5, (2, 2), seed) if method else None
    return train(
        network(seed),
        alignment,
        SiTRecipe(data_at=0).loss,
        data(method is not None),
        settings,
        seed,
        CPU,
        Checkpoints(folder / "checkpoints", "stamp"),
        preview,
    )


def test_the_loss_falls_and_the_alignment_is_learnt(tmp_path: Path) -> None:
    settings = Training(steps=300, batch=16, lr=3e-3, ema=0.9, label_dropout=0, log_every=1)
    _, curve = run(tmp_path, settings, Method(projector="mlp", weight=0.5))
    first, last = (np.mean([row["denoise"] for row in part]) for part in (curve[:20], curve[-20:]))
    assert last < 0.8 * first
    # Random targets have nothing in common, so the cosine starts near 0; 16 images can be told apart, so it grows.
    assert abs(curve[0]["align"]) < 0.1
    assert np.mean([row["align"] for row in curve[-20:]]) < -0.2
    assert curve[0]["loss"] == pytest.approx(curve[0]["denoise"] + curve[0]["align"])


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    settings = Training(steps=4, batch=8, lr=1e-3)
    method = Method(projector="conv", spatial_norm=SpatialNorm())
    first, again, other = (run(tmp_path, settings, method, seed)[0] for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])
    assert "projectors.0.conv.weight" in first


def test_methods_see_the_same_images_times_and_noise(tmp_path: Path) -> None:
    """With weight 0 the alignment changes nothing: the diffusion loss is that of training without it."""
    settings = Training(steps=5, batch=8, lr=1e-3, log_every=1, grad_clip=1e9)
    _, without = run(tmp_path, settings)
    _, ignored = run(tmp_path, settings, Method(projector="mlp", weight=0.0))
    assert [row["denoise"] for row in without] == [row["denoise"] for row in ignored]


def test_the_average_starts_as_a_copy_and_follows_the_decay(tmp_path: Path) -> None:
    start = {name: tensor.clone() for name, tensor in network().state_dict().items()}
    frozen, _ = run(tmp_path, Training(steps=3, batch=8, lr=1e-2, ema=1.0))
    current, _ = run(tmp_path, Training(steps=1, batch=8, lr=1e-2, ema=0.0))
    average, _ = run(tmp_path, Training(steps=1, batch=8, lr=1e-2, ema=0.75))
    name = "final_layer.linear.bias"
    assert torch.equal(frozen[name], start[name])
    assert not torch.equal(current[name], start[name])
    torch.testing.assert_close(average[name], 0.75 * start[name] + 0.25 * current[name])


def test_a_loss_that_is_not_finite_stops_the_run_with_step_and_rate(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"loss = .* at step \d+ of 50 with lr = 1e\+30: training diverged"):
        run(tmp_path, Training(steps=50, batch=8, lr=1e30, grad_clip=1e30))
    assert list(tmp_path.iterdir()) == []


def test_labels_are_dropped_at_their_rate() -> None:
    labels = torch.zeros(10_000, dtype=torch.int64)
    draws = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    dropped = drop_labels(labels, draws, 0.1, null=7)
    assert set(dropped.tolist()) == {0, 7}
    assert float((dropped == 7).double().mean()) == pytest.approx(0.1, abs=0.01)
    assert torch.equal(drop_labels(labels, draws, 0.0, 7), labels)


def test_pixels_survive_the_identity_autoencoder() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    identity = Identity(16)
    x = identity.encode(images)
    assert float(x.min()) == -1
    assert float(x.max()) == 1
    assert torch.equal(identity.decode(x), images)


def test_a_batch_in_parts_is_the_whole_batch(tmp_path: Path) -> None:
    method = Method(projector="conv", spatial_norm=SpatialNorm())
    base = dict(steps=8, batch=16, lr=1e-3, log_every=1, ema=0.0)
    _, whole = run(tmp_path / "a", Training.model_validate(base), method)
    _, parts = run(tmp_path / "b", Training.model_validate(base | {"accumulation": 4}), method)
    for name in ("denoise", "align", "loss", "grad_norm"):
        assert [row[name] for row in parts] == pytest.approx([row[name] for row in whole], rel=1e-3), name


def test_losses_and_samples_go_to_tensorboard_when_asked(tmp_path: Path) -> None:
    seen: list[int] = []

    def preview(averaged: torch.nn.Module) -> Tensor:
        seen.append(sum(p.numel() for p in averaged.parameters()))
        return torch.zeros(4, 8, 8, 3, dtype=torch.uint8)

    settings = Training(steps=5, batch=8, lr=1e-3, log_every=1, tensorboard=True, checkpoint_every=2)
    _, curve = run(tmp_path, settings, preview=preview)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    written = [(event.step, event.value) for event in events.Scalars("loss")]
    assert written == [(row["step"], pytest.approx(row["loss"], rel=1e-6)) for row in curve]
    assert [image.step for image in events.Images("samples")] == [2, 4]
    assert len(seen) == 2


def test_the_learning_rate_rises_and_falls_as_it_is_told() -> None:
    settings = Training(steps=20, batch=4, lr=0.5, warmup_epochs=2.0, decay=0.25)
    rates = [learning_rate(settings, step, 8) for step in range(20)]  # two epochs are four steps, a quarter is five
    assert rates == pytest.approx([0, 0.125, 0.25, 0.375, *[0.5] * 12, 0.4, 0.3, 0.2, 0.1])
    constant = Training(steps=20, batch=4, lr=0.5)
    assert {learning_rate(constant, step, 8) for step in range(20)} == {0.5}


def cooled(folder: Path, early: tuple[int, ...], steps: int = 12, stop_after: int | None = None) -> dict[str, Path]:
    """Train with a falling rate, and stop as a kill does after so many steps in all; files of the weights by their step."""
    calls = 0
    recipe = SiTRecipe(data_at=0)

    def loss(*given: Any) -> dict[str, Tensor]:
        nonlocal calls
        if calls == stop_after:
            raise KeyboardInterrupt
        calls += 1
        return recipe.loss(*given)

    settings = Training(steps=steps, batch=8, lr=1e-2, ema=0.5, decay=0.4, checkpoint_every=2, log_every=1)
    method = Method(projector="mlp")
    files = {step: folder / f"{step}.safetensors" for step in early}
    alignment, checkpoints = build_alignment(method, SCALE, 5, (2, 2), 0), Checkpoints(folder / "checkpoints", "stamp")
    weights, curve = train(
        network(), alignment, loss, data(True), settings, 0, CPU, checkpoints, snapshots=files or None
    )
    save_file(weights, folder / f"{steps}.safetensors")
    assert [row["step"] for row in curve] == list(range(1, steps + 1))
    return {str(step): folder / f"{step}.safetensors" for step in (*early, steps)}


def test_weights_on_the_way_are_those_of_a_shorter_training_to_its_end(tmp_path: Path) -> None:
    """Their rate has fallen to 0 as well, and the longer training goes on as if they had not been asked for."""
    for name in ("all", "4", "7", "12"):
        (tmp_path / name).mkdir()
    found = cooled(tmp_path / "all", (4, 7))
    assert steps_taken(Training(steps=12, batch=8, decay=0.4), (4, 7)) == 12 + 1 + 2
    for steps, path in found.items():
        alone = cooled(tmp_path / steps, (), int(steps))
        assert path.read_bytes() == alone[steps].read_bytes()


def test_a_training_with_branches_goes_on_wherever_it_was_killed(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    wanted = {name: path.read_bytes() for name, path in cooled(whole, (4, 7)).items()}
    for steps in range(1, 15):  # of 12, and branches of 1 and 2
        folder = tmp_path / str(steps)
        folder.mkdir()
        with pytest.raises(KeyboardInterrupt):
            cooled(folder, (4, 7), stop_after=steps)
        again = cooled(folder, (4, 7))
        assert {name: path.read_bytes() for name, path in again.items()} == wanted


def test_weights_move_by_the_rate_of_their_step(tmp_path: Path) -> None:
    """AdamW's first step moves a weight by the learning rate; at rate 0 nothing moves. Without clipping it is the same step."""
    first = network().state_dict()
    moved = {}
    for name, changes in {"full": {}, "free": {"grad_clip": None}, "rising": {"warmup_epochs": 1.0}}.items():
        settings = Training.model_validate({"steps": 1, "batch": 4, "lr": 1e-3, "ema": 0.0, **changes})
        model = network()
        weights, _ = train(model, None, SiTRecipe(0).loss, data(), settings, 0, CPU, Checkpoints(tmp_path / name, "a"))
        moved[name] = max(float((weights[key] - first[key]).abs().max()) for key in first)
    assert moved == pytest.approx({"full": 1e-3, "free": 1e-3, "rising": 0.0}, rel=1e-3)


class FailsAt(SiTRecipe):
    """Its loss is NaN at one step."""

    def __init__(self, step: int) -> None:
        super().__init__(data_at=0)
        self.left = step

    def loss(self, *arguments: Any) -> dict[str, Tensor]:
        self.left -= 1
        terms = super().loss(*arguments)
        return terms | {"denoise": terms["denoise"] + (float("nan") if self.left == 0 else 0.0)}


@pytest.mark.parametrize(
    ("interval", "kept", "seen_at"), [({"log_every": 10}, None, 10), ({"log_every": 50, "checkpoint_every": 4}, 4, 8)]
)
def test_the_first_step_whose_loss_is_not_finite_is_named_and_nothing_is_kept_of_what_follows(
    tmp_path: Path, interval: dict[str, int], kept: int | None, seen_at: int
) -> None:
    recipe, checkpoints = FailsAt(step=7), Checkpoints(tmp_path / "checkpoints", "stamp")
    settings = Training(steps=50, batch=8, lr=1e-3, **interval)
    last = r"the last checkpoint is .*step-0+4" if kept else "no checkpoint was written"
    with pytest.raises(DivergedError, match=rf"loss = nan .* at step 7 of 50 with lr = 0\.001: .*{last}"):
        train(network(), None, recipe.loss, data(), settings, 0, CPU, checkpoints)
    assert 7 - recipe.left == seen_at
    assert checkpoints.steps() == ([kept] if kept else [])


def test_tokens_that_are_not_finite_are_told_as_the_encoders(tmp_path: Path) -> None:
    broken = np.zeros((16, 4, 5), np.float32)
    broken[3, 2, 1] = np.inf
    source = TokenCache(InMemory(broken), InMemory(np.zeros((16, 0), np.float32)), (2, 2), (2, 2), ())
    alignment = build_alignment(Method(projector="mlp"), SCALE, 5, (2, 2), 0)
    settings = Training(steps=50, batch=16, log_every=5)
    with pytest.raises(WeightsError, match="the encoder's tokens at step 1 of 50: some are NaN or infinite"):
        train(network(), alignment, SiTRecipe(data_at=0).loss, replace(data(), target=source), settings, 0, CPU,
              Checkpoints(tmp_path, "stamp"))  # fmt: skip


def test_a_step_asks_the_device_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these makes the host wait for a GPU. They may be called when losses are looked at, and at the end."""
    asked: list[str] = []
    for name in ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__"):
        original = getattr(torch.Tensor, name)

        def counted(*arguments: Any, name: str = name, original: Any = original) -> Any:
            asked.append(name)
            return original(*arguments)

        monkeypatch.setattr(torch.Tensor, name, counted)
    counts = []
    for steps in (20, 60):
        asked.clear()
        run(tmp_path / str(steps), Training(steps=steps, batch=8, log_every=1000), Method(projector="mlp"))
        # The indices of a batch, which are on the CPU and stay there, and the rows that are read into, go through NumPy.
        counts.append([name for name in asked if name != "numpy"])
    assert counts[0] == counts[1]
    assert counts[0]


def test_reading_ahead_changes_no_byte(tmp_path: Path) -> None:
    settings = Training(steps=6, batch=8, lr=1e-3, accumulation=2, log_every=1)
    alone, ahead = (
        train(
            network(), build_alignment(Method(projector="conv"), SCALE, 5, (2, 2), 0), SiTRecipe(data_at=0).loss,
            data(tokens=True), settings, 0, CPU, Checkpoints(tmp_path / str(workers), "stamp"), workers=workers,
        )
        for workers in (0, 2)
    )  # fmt: skip
    assert alone[1] == ahead[1]
    assert all(torch.equal(alone[0][name], ahead[0][name]) for name in alone[0])


def test_flips_show_half_of_the_images_in_a_mirror_and_no_label_changes(tmp_path: Path) -> None:
    plain, shown = data(), []

    def inputs(rows: Rows, draws: StepRandom) -> Tensor:
        shown.append((rows["images"].clone(), rows["labels"].clone()))
        return plain.inputs(rows, draws)

    images, labels = plain.stored["images"][np.arange(16)], plain.labels
    flipping = replace(plain, stored={"images": Mirrored(plain.stored["images"])}, inputs=inputs)
    settings = Training(steps=20, batch=16, flips=True, label_dropout=0)
    train(network(), None, SiTRecipe(data_at=0).loss, flipping, settings, 0, CPU, Checkpoints(tmp_path, "stamp"))
    seen = [(row.numpy(), int(label)) for rows, told in shown for row, label in zip(rows, told, strict=True)]
    turned = 0
    for row, label in seen:
        (straight,), (mirror,) = [
            [i for i in range(16) if np.array_equal(row, view[i])] or [None] for view in (images, images[:, :, ::-1])
        ]
        found = straight if straight is not None else mirror
        assert label == labels[found]
        turned += straight is None
    assert len(seen) == 320
    assert 160 - 4 * 9 < turned < 160 + 4 * 9  # four standard deviations of a fair coin


def test_gradients_are_clipped_module_by_module() -> None:
    whole, one = torch.nn.Linear(3, 2), torch.nn.Linear(2, 2)
    parameters = [*whole.parameters(), *one.parameters()]
    groups = clip_groups(parameters, [one])
    assert [len(group) for group in groups] == [2, 2]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 3.0)
    before = [math.sqrt(sum(float(p.grad.square().sum()) for p in group)) for group in groups]  # type: ignore[union-attr]
    assert float(clip(make_accelerator(Training(steps=1, batch=1), CPU, Path()), groups, 2.0)) == pytest.approx(
        math.hypot(*before)
    )
    for group in groups:
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in group))  # type: ignore[union-attr]
        assert norm == pytest.approx(2.0, rel=1e-4)


def test_what_is_averaged_and_what_is_taken_as_it_is() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    kept = copy.deepcopy(network)
    names = ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert list(network.state_dict()) == names
    for averages, means in ((lambda name, is_buffer: not is_buffer, 4), (lambda name, is_buffer: name[0] == "1", 4)):
        found, copies = followed(kept, network, averages)
        assert (len(found[0]), len(copies[0])) == (means, 7 - means)
        assert all(a.shape == b.shape for a, b in zip(*found, strict=True))
    assert followed(kept, network, lambda name, is_buffer: True)[1][0][0].dtype == torch.int64  # a count has no mean
