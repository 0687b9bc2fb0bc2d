"""What is measured inside a trained network, against the same by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from irepa.config.load import load_settings
from irepa.models.sit import SiT
from irepa.pipeline.files import describe_file, write_json
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import execute
from irepa.random import image_noise
from irepa.spatial import similarity_agreement
from irepa.table import described
from tests.conftest import REPOSITORY, WORKFLOW

CELL = "sit/nano-32/effnet-lite0-s16/irepa/seed0"
NONE = "sit/nano-32/none/none/seed0"
INSPECTION = {"inspection.probe_images": 96, "inspection.measured": 6, "inspection.compare": "effnet-lite0-s16"}


@given(st.integers(0, 1000))
def test_agreement_is_the_correlation_of_cosines_and_knows_nothing_of_width_length_or_rotation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(2, 9, 5)), rng.normal(size=(2, 9, 3))
    pairs = np.triu_indices(9, 1)

    def cosines(x: np.ndarray) -> np.ndarray:
        unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
        return (unit @ unit.T)[pairs]

    expected = [np.corrcoef(cosines(a), cosines(b))[0, 1] for a, b in zip(one, other, strict=True)]
    a, b = torch.from_numpy(one), torch.from_numpy(other)
    found = similarity_agreement(a, b)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)
    turned = torch.from_numpy(np.linalg.qr(rng.normal(size=(5, 5)))[0])
    lengths = torch.from_numpy(rng.uniform(0.1, 9, (2, 9, 1)))
    torch.testing.assert_close(similarity_agreement(lengths * (a @ turned), b), found, atol=1e-8, rtol=0)
    torch.testing.assert_close(similarity_agreement(a, a), torch.ones(2, dtype=torch.float64))
    order = torch.from_numpy(rng.permutation(9))
    torch.testing.assert_close(similarity_agreement(a[:, order], b[:, order]), found, atol=1e-8, rtol=0)
    assert torch.isnan(similarity_agreement(torch.ones_like(a), b)).all()


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The smoke tier, with a trained cell of iREPA and one without alignment, both looked into."""
    overrides = INSPECTION | {"experiments.methods.inspect": True}
    params: dict[str, Any] = {
        "tier": "smoke",
        "results": str(tmp_path_factory.mktemp("results")),
        "overrides": overrides,
    }
    plan = Plan(load_settings(params, WORKFLOW), REPOSITORY)
    for job in plan.jobs([Job("inspect", CELL), Job("inspect", NONE)]):
        execute(plan, job)
    return plan


def hidden(plan: Plan, split: str, numbers: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Tokens after the first block of the cell's network, built here, of images that are told no class: 16 is none of 0 to 15."""
    network = SiT((32, 32), 3, 16, depth=2, width=32, heads=2, patch=8, align_depth=1).eval()
    weights = load_file(plan.record(Job("train", CELL)).file("model.safetensors"))
    network.load_state_dict({name: w for name, w in weights.items() if not name.startswith("projectors.")})
    t = plan.settings.tier.inspection.time
    pixels = plan.record(Job("data")).array(f"{split}.images.npy")[places]
    x = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    noise = torch.cat(
        [image_noise(0, range(n, n + 1), 0, (3, 32, 32), torch.device("cpu")) for n in numbers.tolist()]
    ).float()
    count = len(numbers)
    with torch.inference_mode():
        tokens = network((1 - t) * x + t * noise, torch.full((count,), t), torch.full((count,), 16))[1]
    return tokens.double().numpy()


def test_numbers_inside_a_run_are_those_by_hand(plan: Plan) -> None:
    record = plan.record(Job("inspect", CELL))
    table = pd.read_csv(record.file("seed0.images.csv"))
    assert table["image"].tolist() == [0, 8, 16, 24, 32, 40]
    assert record.metrics["measured"] == 6
    for name in table.columns.drop("image"):
        assert record.metrics[name] == pytest.approx(table[name].mean(), rel=1e-5)
    numbers = table["image"].to_numpy()
    inside = hidden(plan, "test", numbers, numbers * 64 // 48)  # 48 of the 64 images are measured, spread evenly
    features = plan.record(Job("features", "effnet-lite0-s16"))
    assert features.metrics["grid"] == [2, 2], "enlarged to the tier's 4x4 when they are read"
    stored = torch.from_numpy(np.array(features.array("test.tokens.npy")[numbers])).float()
    planes = torch.nn.functional.interpolate(stored.transpose(1, 2).unflatten(2, (2, 2)), (4, 4), mode="bilinear")
    tokens = planes.flatten(2).transpose(1, 2).double().numpy()
    target = (tokens - tokens.mean(1, keepdims=True)) / (tokens.std(1, ddof=1, keepdims=True) + 1e-6)

    def agreement(one: np.ndarray, other: np.ndarray) -> list[float]:
        def cosines(x: np.ndarray) -> np.ndarray:
            unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
            return (unit @ unit.T)[np.triu_indices(16, 1)]

        return [np.corrcoef(cosines(a), cosines(b))[0, 1] for a, b in zip(one, other, strict=True)]

    np.testing.assert_allclose(table["agreement_hidden_encoder"], agreement(inside, tokens), atol=1e-3)
    np.testing.assert_allclose(table["agreement_hidden_target"], agreement(inside, target), atol=1e-3)
    np.testing.assert_allclose(
        table["agreement_hidden_other"], agreement(inside, np.roll(target, -1, axis=0)), atol=1e-3
    )
    for name, x in (("hidden", inside), ("encoder", tokens), ("target", target)):
        unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
        rmsc = np.sqrt(np.square(unit - unit.mean(1, keepdims=True)).sum(-1).mean(1))
        np.testing.assert_allclose(table[f"rmsc_{name}"], rmsc, atol=1e-3)
    np.testing.assert_allclose(table["rmsc_target"], 1, atol=0.1)  # what normalisation is for


def test_the_probe_of_hidden_tokens_is_one_of_their_means(plan: Plan) -> None:
    places = np.arange(96) * 128 // 96, np.arange(48) * 64 // 48
    data = plan.record(Job("data"))
    x, y = (hidden(plan, split, here, here).mean(axis=1) for split, here in zip(("train", "test"), places, strict=True))
    labels = [data.array(f"{split}.labels.npy")[here] for split, here in zip(("train", "test"), places, strict=True)]
    scale = StandardScaler().fit(x)
    model = LogisticRegression(C=0.1, max_iter=500).fit(scale.transform(x), labels[0])
    found = plan.record(Job("inspect", CELL)).metrics["accuracy_hidden"]
    assert found == pytest.approx(model.score(scale.transform(y), labels[1]), abs=1 / 48 + 1e-9)


def test_a_run_without_alignment_is_compared_with_the_encoder_that_the_tier_names(plan: Plan) -> None:
    own, without = (plan.record(Job("inspect", cell)).metrics for cell in (CELL, NONE))
    assert without["lds_encoder"] == own["lds_encoder"] == without["lds_target"]
    assert {"lds_projected", "agreement_projected_target"} <= set(own) - set(without)
    assert -1 <= without["agreement_hidden_target"] <= 1
    assert Job("inspect", NONE) in plan.needs(Job("table"))
    assert Job("inspect", "sit/nano-32/hog/repa/seed0") not in plan.needs(Job("table"))


def changed(plan: Plan, edit: Callable[[dict[str, torch.Tensor]], None]) -> dict[str, Any]:
    """Metrics of the cell with weights that are edited for as long as it is looked into."""
    record = plan.record(Job("train", CELL))
    path = record.file("model.safetensors")
    before, weights = path.read_bytes(), load_file(path)
    edit(weights)
    try:
        save_file(weights, path)
        files = record.content["files"] | {path.name: describe_file(path)}
        write_json(record.path, record.content | {"files": files})
        return execute(plan, Job("inspect", CELL)).metrics
    finally:
        path.write_bytes(before)
        write_json(record.path, record.content)


def test_no_class_is_told_where_numbers_are_measured(plan: Plan) -> None:
    """Were it told, embeddings a thousand times as large would change every number."""
    plain = execute(plan, Job("inspect", CELL)).metrics

    def shout(weights: dict[str, torch.Tensor]) -> None:
        weights["y_embedder.embedding_table.weight"][:16] *= 1000

    def shout_nothing(weights: dict[str, torch.Tensor]) -> None:
        weights["y_embedder.embedding_table.weight"][16] *= 1000

    assert changed(plan, shout) == plain
    assert changed(plan, shout_nothing) != plain


def test_a_projector_of_one_place_that_is_the_identity_loses_nothing_and_a_wide_one_blurs(plan: Plan) -> None:
    """A 3x3 convolution with the identity in its middle gives hidden tokens as they are; spread over nine places, their means."""

    def middle(weights: dict[str, torch.Tensor]) -> None:
        kernel = weights["projectors.0.conv.weight"].zero_()
        kernel[:32, :, 1, 1] = torch.eye(32)
        weights["projectors.0.conv.bias"].zero_()

    def spread(weights: dict[str, torch.Tensor]) -> None:
        middle(weights)
        weights["projectors.0.conv.weight"][:32] = torch.eye(32)[:, :, None, None] / 9

    same, blurred = changed(plan, middle), changed(plan, spread)
    assert same["agreement_projected_hidden"] == pytest.approx(1, abs=1e-6)
    assert same["lds_projected"] == pytest.approx(same["lds_hidden"], abs=1e-5)
    assert same["rmsc_projected"] == pytest.approx(same["rmsc_hidden"], abs=1e-5)
    assert blurred["agreement_projected_hidden"] < 0.9
    assert blurred["rmsc_projected"] < same["rmsc_projected"]


def test_the_table_has_the_numbers_of_experiments_that_ask_for_them(plan: Plan, tmp_path: Path) -> None:
    from irepa.pipeline.runner import Context

    stages = [(job.stage, about.get("method")) for job, about in described(Context(plan, Job("table")))]
    assert {method for stage, method in stages if stage == "inspect"} == {"none", "repa", "irepa"}
    plain = Plan(load_settings({"tier": "smoke"}, WORKFLOW), REPOSITORY)
    assert "inspect" not in {job.stage for job, _ in described(Context(plain, Job("table")))}
