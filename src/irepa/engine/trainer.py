"""Train one cell: the recipe's loss plus the method's alignment, with an exponential moving average of the weights.

Everything random at step k is a function of (seed, k), so cells with the same seed see the same images, times and
noise in the same order whatever their method: differences between methods are paired. For the same reason a run that
was killed goes on from its last checkpoint as if nothing had happened, and the loss does not depend on the number of
processes.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from irepa.alignment import Alignment
from irepa.config.tier import Method, Scale, Training
from irepa.engine.checkpoints import Checkpoints
from irepa.engine.loading import Batch, Rows, read_ahead
from irepa.errors import DivergedError, PreemptedError, WeightsError
from irepa.pipeline.files import Json, whole, write_text
from irepa.progress import track
from irepa.random import StepRandom, batch_indices, compile_draws, mirrored
from irepa.recipes import Align, last_value
from irepa.stored import InMemory, Stored
from irepa.tokens import TokenSource

# (network, x (batch, C, H, W), labels (batch,), align, draws) -> terms of the loss; see irepa.recipes.Recipe.loss.
Loss = Callable[[Any, Tensor, Tensor, Align, StepRandom], dict[str, Tensor]]
Curve = list[dict[str, float]]  # rows: step, loss, its terms, and grad_norm
Averages = Callable[[str, bool], bool]  # (name, whether it is a buffer) -> whether it has a running mean
Pair = tuple[list[Tensor], list[Tensor]]
PROJECTOR = "projectors.0."  # the name under which REPA's public checkpoints hold the projector
ENTERS = {  # among the terms of a step: of what frozen networks make of its images, how many values are not finite
    "not finite: inputs": ("the autoencoder's latents", "the autoencoder"),
    "not finite: tokens": ("the encoder's tokens", "the encoder"),
}
PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # as accelerate names them


@dataclass(frozen=True)
class TrainingData:
    """What a batch is made of. With ``training.flips`` each image has two rows (:class:`irepa.stored.Mirrored`).

    Attributes:
        stored: what is read ahead, by name, a row per image.
        inputs: (its rows on the device, draws) -> what is learned, (batch, C, H, W) float32: pixels, or latents drawn anew.
        labels: (n,) in 0..classes-1.
        target: tokens of the target encoder, or None.
    """

    stored: Mapping[str, Stored]
    inputs: Callable[[Rows, StepRandom], Tensor]
    labels: NDArray[np.int64]
    classes: int
    target: TokenSource | None = None

    def all_stored(self, flips: bool) -> dict[str, Stored]:
        """Everything that a step reads of an image."""
        target = {} if self.target is None else dict(self.target.stored)
        labels = np.tile(self.labels, 2) if flips else self.labels
        return {**self.stored, **target, "labels": InMemory(labels)}


def build_alignment(method: Method, scale: Scale, dim: int, grid: tuple[int, int], seed: int) -> Alignment:
    """The method's projector for an encoder of width ``dim``, initialised from the seed."""
    assert method.projector is not None
    with torch.random.fork_rng():
        torch.manual_seed(seed + 1)
        return Alignment(
            scale.width,
            dim,
            method.projector,
            kernel=method.kernel,
            hidden=scale.projector_hidden,
            grid=grid,
            gamma=None if method.spatial_norm is None else method.spatial_norm.gamma,
            normaliser="std" if method.spatial_norm is None else method.spatial_norm.normaliser,
            weight=method.weight,
        )


def learning_rate(settings: Training, step: int, images: int) -> float:
    """That of a step, counted from 0, where there are so many training images."""
    rising, falling = settings.warmup_epochs * images / settings.batch, settings.decay * settings.steps
    left = settings.steps - step
    up = step / rising if step < rising else 1.0
    down = left / falling if left < falling else 1.0
    return settings.lr * min(up, down)


def branch_steps(settings: Training, early: int) -> int:
    """The last of ``early`` steps, over which the rate of so short a training falls and that of a longer one does not."""
    return max(0, math.ceil(settings.decay * early) - 1)


def steps_taken(settings: Training, early: Iterable[int]) -> int:
    """All steps of a training, those of the branches to ``early`` steps among them."""
    return settings.steps + sum(branch_steps(settings, step) for step in early)


def drop_labels(labels: Tensor, draws: Tensor, rate: float, null: int) -> Tensor:
    """Replace labels (batch,) by the null class where draws (batch,) in [0, 1) fall below ``rate``."""
    return torch.where(draws < rate, torch.full_like(labels, null), labels)


class LossModule(nn.Module):
    """Network, projector and loss as one module: what is trained, and what processes exchange gradients of."""

    def __init__(self, network: nn.Module, alignment: Alignment | None, loss: Loss) -> None:
        super().__init__()
        self.network, self.alignment, self.loss = network, alignment, loss

    def forward(self, x: Tensor, labels: Tensor, tokens: Tensor | None, draws: StepRandom) -> dict[str, Tensor]:
        """Terms of the loss, scalars: x (batch, C, H, W), labels (batch,), tokens (batch, T, dim) or None."""

        def align(hidden: Tensor) -> Tensor:
            if self.alignment is None or tokens is None:
                return hidden.new_zeros(())
            weighted: Tensor = self.alignment(hidden, tokens)
            return weighted

        return self.loss(self.network, x, labels, align, draws)


@contextmanager
def termination() -> Iterator[threading.Event]:
    """An event that SIGTERM sets instead of ending the process: a cluster warns before it takes the machine away."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def make_accelerator(settings: Training, device: torch.device, log_folder: Path) -> Accelerator:
    """One per process."""
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=PRECISION[settings.precision],
        log_with="tensorboard" if settings.tensorboard else None,
        project_dir=log_folder,
    )


def train(
    network: nn.Module,
    alignment: Alignment | None,
    loss: Loss,
    data: TrainingData,
    settings: Training,
    seed: int,
    device: torch.device,
    checkpoints: Checkpoints,
    preview: Callable[[nn.Module], Tensor] | None = None,
    snapshots: Mapping[int, Path] | None = None,
    workers: int = 0,
    averages: Averages = lambda name, is_buffer: not is_buffer,
    apart: Sequence[nn.Module] = (),
) -> tuple[dict[str, Tensor], Curve]:
    """Train, from the last checkpoint if there is one; returns (EMA weights with the projector's, loss curve).

    Args:
        network: changed in place.
        alignment: None where the method has none.
        loss: of the recipe or of the objective.
        preview: draws images (n, H, W, 3) uint8 from the EMA network at each checkpoint, for TensorBoard.
        snapshots: files for the weights that trainings of so many steps would end with. Where the rate falls at the end, each is
            a branch that leaves this training at the step from which its rate falls.
        workers: processes that read ahead, as of :func:`irepa.engine.loading.read_ahead`.
        averages: as of :meth:`irepa.recipes.Recipe.averages`.
        apart: modules of it whose gradients are clipped each by a norm of its own.

    Raises DivergedError, naming the step, the learning rate and the last checkpoint, where the loss stops being finite,
    WeightsError where a frozen network makes NaN of an image, and PreemptedError after SIGTERM, once a checkpoint is written.
    Losses are looked at every ``log_every`` steps and before anything is kept: to look makes the host wait for the device.
    """
    accelerator = make_accelerator(settings, device, checkpoints.folder.parent)
    device = accelerator.device
    network.to(device).train()
    averaged = copy.deepcopy(network).requires_grad_(False)
    module = LossModule(network, alignment, loss).to(device).train()
    if settings.compile:
        network.compile()  # not the projector: one graph whatever the target is, so that one compilation serves a tier
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=settings.lr, betas=settings.betas, eps=1e-8, weight_decay=settings.weight_decay, fused=True
    )
    prepared, stepper = accelerator.prepare(module, optimizer)
    accelerator.register_for_checkpointing(averaged)
    means, copies = followed(averaged, network, averages)
    groups = clip_groups(trained, apart)
    asked_anywhere = agreement(accelerator)
    if settings.tensorboard:
        accelerator.init_trackers("tensorboard")
    if settings.compile and device.type == "cuda":
        compile_draws(device)

    def take_step(settings: Training, step: int, batches: Iterator[Batch]) -> tuple[dict[str, Tensor], Tensor]:
        terms = _accumulate(prepared, accelerator, data, settings, seed, step, batches)
        # With loss scaling a gradient may overflow; the scaler then skips the step by itself.
        norm = clip(accelerator, groups, settings.grad_clip)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, step, len(data.labels))
        stepper.step()
        stepper.zero_grad(set_to_none=True)
        torch._foreach_lerp_(*means, 1 - settings.ema)
        if copies[0]:
            torch._foreach_copy_(*copies)
        return terms, norm

    def keep(done: int) -> None:
        if accelerator.is_main_process and snapshots is not None:
            with whole(snapshots[done]) as temporary:
                save_file(kept_weights(averaged, alignment), temporary)

    def go(settings: Training, steps: range, checkpoints: Checkpoints, curve: Curve, branch: bool = False) -> None:
        """Take these steps of a training of ``settings.steps``."""
        losses = Losses(accelerator, settings, checkpoints)
        share = settings.batch // (accelerator.num_processes * settings.accumulation)
        asked_for = shares(accelerator, data, settings, seed, steps)
        with closing(read_ahead(data.all_stored(settings.flips), asked_for, share, workers, device)) as batches:
            for step in track(steps, "train", len(steps)):
                terms, norm = take_step(settings, step, batches)
                done = step + 1
                losses.add(done, terms, norm)
                if done % settings.log_every == 0 or done == settings.steps:
                    curve.append(losses.look())
                    if settings.tensorboard and not branch:
                        accelerator.log({key: value for key, value in curve[-1].items() if key != "step"}, step=done)
                if snapshots and done in snapshots and not settings.decay:
                    losses.look()
                    keep(done)
                stop = asked_anywhere(asked.is_set())
                due = settings.checkpoint_every is not None and done % settings.checkpoint_every == 0
                if (due or stop) and done < steps.stop:
                    losses.look()
                    checkpoints.save(accelerator, done, curve)
                    if settings.tensorboard and not branch and preview is not None and accelerator.is_main_process:
                        accelerator.get_tracker("tensorboard").writer.add_images(
                            "samples", preview(averaged), done, dataformats="NHWC"
                        )
                    if stop:
                        raise PreemptedError(
                            f"SIGTERM at step {done} of {settings.steps}: {checkpoints.last_words()}; run again to go on"
                        )
            losses.look()

    start, curve = checkpoints.restore(accelerator)
    if start and accelerator.is_main_process:
        logging.getLogger("irepa").info("goes on after step %d of %d", start, settings.steps)
    with termination() as asked, _attention(settings, device):
        for early in sorted(snapshots or ()) if settings.decay else ():
            turn = early - branch_steps(settings, early)
            if start > turn:  # the branch was taken before the run was interrupted
                continue
            if start < turn:
                go(settings, range(start, turn), checkpoints, curve)
                checkpoints.save(accelerator, turn, curve)
            own = checkpoints.branch(early)
            first, own_curve = own.restore(accelerator)
            shorter = settings.model_copy(update={"steps": early})
            go(shorter, range(first or turn, early), own, own_curve, branch=True)
            keep(early)
            start, curve = checkpoints.restore(accelerator)
        go(settings, range(start, settings.steps), checkpoints, curve)
    if settings.tensorboard:
        accelerator.end_training()
    return kept_weights(averaged, alignment), curve


def followed(averaged: nn.Module, network: nn.Module, averages: Averages) -> tuple[Pair, Pair]:
    """What follows the network in each step, with what it follows: (as a running mean, as it is)."""
    means: Pair = ([], [])
    copies: Pair = ([], [])
    kept = dict((*averaged.named_parameters(), *averaged.named_buffers()))
    now = (*network.named_parameters(), *network.named_buffers())
    for name, tensor in now:
        mean = averages(name, not isinstance(tensor, nn.Parameter)) and tensor.is_floating_point()
        for tensors, one in zip(means if mean else copies, (kept[name], tensor), strict=True):
            tensors.append(one.detach())
    return means, copies


def clip_groups(trained: Sequence[nn.Parameter], apart: Sequence[nn.Module]) -> list[list[nn.Parameter]]:
    """Parameters whose gradients have one norm together: those of each module ``apart``, and the others."""
    groups = [[parameter for parameter in module.parameters() if parameter.requires_grad] for module in apart]
    taken = {id(parameter) for group in groups for parameter in group}
    return [[parameter for parameter in trained if id(parameter) not in taken], *groups]


def clip(accelerator: Accelerator, groups: Sequence[Sequence[nn.Parameter]], largest: float | None) -> Tensor:
    """Scale the gradients of each group down to a norm of ``largest`` (None: of any size); returns the norm of all, before."""
    accelerator.unscale_gradients()
    norms = [nn.utils.clip_grad_norm_(group, math.inf if largest is None else largest) for group in groups]
    whole: Tensor = torch.stack(norms).norm()
    return whole


def write_curve(path: Path, curve: Curve) -> None:
    """One JSON object a line; its keys in order, because rows that a checkpoint kept come back in order."""
    write_text(path, "".join(json.dumps(row, sort_keys=True) + "\n" for row in curve))


def last_values(curve: Curve) -> Json:
    """Metrics of the end of a training: the loss and each of its terms."""
    return {last_value(name): value for name, value in curve[-1].items() if name not in ("step", "grad_norm")}


def kept_weights(averaged: nn.Module, alignment: Alignment | None) -> dict[str, Tensor]:
    """EMA weights with the projector's, on the CPU."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in averaged.state_dict().items()}
    if alignment is not None:
        projector = alignment.projector.state_dict()
        weights |= {PROJECTOR + name: tensor.detach().cpu().contiguous() for name, tensor in projector.items()}
    return weights


def shares(
    accelerator: Accelerator, data: TrainingData, settings: Training, seed: int, steps: range
) -> Iterator[NDArray[np.int64]]:
    """The rows of this process, part by part of each of these steps."""
    for step in steps:
        indices = batch_indices(seed, step, settings.batch, len(data.labels))
        if settings.flips:
            indices = mirrored(seed, step, indices, len(data.labels))
        for rows in parts_of_batch(accelerator, settings):
            yield indices[rows]


def parts_of_batch(accelerator: Accelerator, settings: Training) -> list[slice]:
    """The rows of a global batch that this process works on, one ``accumulation`` part after another."""
    size = settings.batch // (accelerator.num_processes * settings.accumulation)
    first = accelerator.process_index * settings.accumulation
    return [slice(part * size, (part + 1) * size) for part in range(first, first + settings.accumulation)]


class Losses:
    """The losses of the steps since the last look, on the device.

    :meth:`look` fetches them all at once, averaged over the processes.
    """

    def __init__(self, accelerator: Accelerator, settings: Training, checkpoints: Checkpoints) -> None:
        self.accelerator, self.settings, self.checkpoints = accelerator, settings, checkpoints
        self.names: list[str] = []
        self.pending: list[Tensor] = []
        self.done = 0
        self.last: dict[str, float] = {}

    def add(self, done: int, terms: Mapping[str, Tensor], norm: Tensor) -> None:
        """Of one step, by its number from 1: terms of the loss in this process, scalars, and the norm of the gradient of all."""
        self.names, self.done = list(terms), done
        self.pending.append(torch.stack([*terms.values(), norm.detach().float()]))

    def look(self) -> dict[str, float]:
        """The row of the loss curve of the last step. Raises DivergedError for the first of them that is not finite."""
        if self.pending:
            together = torch.stack(self.pending)
            if self.accelerator.num_processes > 1:
                together = self.accelerator.reduce(together, "mean")
            first = self.done - len(self.pending) + 1
            self.pending = []
            for step, (*values, norm) in enumerate(together.tolist(), start=first):
                terms = dict(zip(self.names, values, strict=True))
                odd = [name for name in ENTERS if terms.pop(name, 0)]
                self.last = {"step": step, "loss": sum(terms.values()), **terms, "grad_norm": norm}
                self._check(step, odd)
        return self.last

    def _check(self, step: int, odd: list[str]) -> None:
        loss, norm, scaled = self.last["loss"], self.last["grad_norm"], self.settings.precision == "fp16"
        if odd:
            what, network = ENTERS[odd[0]]
            raise WeightsError(
                f"{what} at step {step} of {self.settings.steps}: some are NaN or infinite; give {network} other weights, or "
                f"leave the images out; {self.checkpoints.last_words()}"
            )
        if not math.isfinite(loss) or not (scaled or math.isfinite(norm)):
            raise DivergedError(
                f"loss = {loss} and gradient norm = {norm} at step {step} of {self.settings.steps} "
                f"with lr = {self.settings.lr}: training diverged; lower training.lr; {self.checkpoints.last_words()}"
            )


def _accumulate(
    prepared: nn.Module,
    accelerator: Accelerator,
    data: TrainingData,
    settings: Training,
    seed: int,
    step: int,
    batches: Iterator[Batch],
) -> dict[str, Tensor]:
    """Forward and backward of one global batch; this process does its share, in ``accumulation`` parts.

    Returns the terms of the loss, averaged over this process's share, and how much of what enters is not finite (``ENTERS``).
    """
    parts = parts_of_batch(accelerator, settings)
    totals: dict[str, Tensor] = {}
    for part, rows in enumerate(parts):
        indices, stored = next(batches)
        draws = StepRandom(seed, step, settings.batch, rows, accelerator.device)
        labels = drop_labels(stored["labels"], draws.uniform(), settings.label_dropout, data.classes)
        x = data.inputs(stored, draws)
        tokens = None if data.target is None else data.target.tokens(stored, indices % len(data.labels))
        # Gradients are exchanged once, with the last part.
        with _exchange(prepared, accelerator, part == len(parts) - 1):
            terms = prepared(x, labels, tokens, draws)
            total = torch.stack(list(terms.values())).sum() / len(parts)
            accelerator.backward(total)
        entering = dict(zip(ENTERS, (x, tokens), strict=True))
        counts = {name: (~torch.isfinite(some)).sum() for name, some in entering.items() if some is not None}
        for name, term in {**terms, **counts}.items():
            totals[name] = totals.get(name, 0) + term.detach().float() / len(parts)
    return totals


@contextmanager
def _exchange(prepared: nn.Module, accelerator: Accelerator, now: bool) -> Iterator[None]:
    """Exchange gradients between processes in this backward pass, or not yet."""
    if now or accelerator.num_processes == 1:
        yield
    else:
        with accelerator.no_sync(prepared):
            yield


def _attention(settings: Training, device: torch.device) -> AbstractContextManager[None]:
    """Plain matrix products where fused attention is slow: its backward pass in bf16 on a CPU takes half of a step."""
    plain = device.type == "cpu" and settings.precision == "bf16"
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


def agreement(accelerator: Accelerator) -> Callable[[bool], bool]:
    """Whether a flag is set in any process: all of them must agree to stop at the same step.

    They ask each other on the CPU, so that no device is waited for.
    """
    if accelerator.num_processes == 1:
        return lambda flag: flag
    group: Any = torch.distributed.new_group(backend="gloo")

    def anywhere(flag: bool) -> bool:
        found = torch.tensor(float(flag))
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX, group)
        return bool(found)

    return anywhere
