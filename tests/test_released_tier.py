"""A tier of released checkpoints, on a folder in their layout: small networks, one file damaged, one run unknown, one missing."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from irepa.audit.evidence import released
from irepa.audit.verdicts import VERDICTS
from irepa.commands.check import check_machine
from irepa.commands.describe import network_facts
from irepa.commands.plan import Budget, summary
from irepa.config.cells import Cell, cells
from irepa.config.load import load_settings
from irepa.config.released import damaged, match
from irepa.config.tier import Settings
from irepa.engine.network import build_parts
from irepa.errors import ConfigError
from irepa.pipeline.files import read_json
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import execute
from tests.conftest import REPOSITORY, WORKFLOW

Load = Callable[..., Settings]
WORDS = {"rgb-vit-s": "rgb", "hog-vit-s": "hog"}
RUNS: dict[str, str | None] = {
    "{scale}-sdvae-{encoder}-enc*-projlayer-mlp*": "sit/{scale}/{encoder}/repa/seed0",
    "{scale}-sdvae-{encoder}-enc*-projlayer-conv*": "sit/{scale}/{encoder}/irepa/seed0",
    "debug-*": None,
}
OVERRIDES: dict[str, Any] = {
    "released": {
        "collection": "someone/models",
        "folder": "exps",
        "autoencoder": "pretrained_models",
        "encoders": WORDS,
        "runs": RUNS,
    },
    "training.steps": 400_000,
    "evaluation.parts": [],
    "experiments.methods": {
        "question": "Which is better?", "paper": ["E1", "E4"], "methods": ["repa", "irepa"], "inspect": True
    },
    "experiments.correlation": None,
    "experiments.cls-mixing": None,
    **{f"figures.{name}": None for name in ("correlation", "cls-mixing", "lds-sensitivity")},
}  # fmt: skip
RGB, RGB_CONV, HOG = (f"sit/nano-32/{name}/seed0" for name in ("rgb/repa", "rgb/irepa", "hog/repa"))


def name_of(word: str, kind: str) -> str:
    return f"nano-32-sdvae-{word}-enc1-coeff0.5-loss-cosine-projlayer-{kind}-v1"


@pytest.fixture
def settings(tmp_path: Path) -> Load:
    def load(folder: Path | None, **overrides: object) -> Settings:
        params = {"tier": "smoke", "encoders": ["rgb", "hog"], "results": str(tmp_path / "results")}
        changed = OVERRIDES | overrides
        return load_settings(params | {"released": folder and str(folder), "overrides": changed}, WORKFLOW)

    return load


@pytest.fixture
def save(tmp_path: Path, settings: Load) -> Callable[..., Path]:
    """Writes one run as the training scripts of REPA do, and returns its file."""

    def write(run: str, projector: str = "mlp", seed: int = 0, step: int = 400_000) -> Path:
        network = build_parts(settings(None), Cell.parse(RGB), 16, torch.device("cpu")).network
        generator = torch.Generator().manual_seed(seed)
        state = {
            name: torch.randn(value.shape, generator=generator) / 10 if value.requires_grad else value
            for name, value in network.state_dict(keep_vars=True).items()
        }
        shape = (3, 32, 3, 3) if projector == "conv" else (3, 32)
        state = {name: value.detach() for name, value in state.items()} | {"projectors.0.0.weight": torch.zeros(shape)}
        ema = {name: value + 1 for name, value in state.items()}
        content = {"model": state, "ema": ema, "opt": {}, "args": argparse.Namespace(enc="rgb"), "steps": step}
        path = tmp_path / "hub" / "exps" / run / "checkpoints" / f"{step:07d}.pt"
        path.parent.mkdir(parents=True)
        torch.save(content, path)
        return path

    return write


@pytest.fixture
def folder(tmp_path: Path, save: Callable[..., Path]) -> Path:
    """Two good runs and a damaged one, one that no row knows, one of another step, one left out; hog/irepa has none."""
    save(name_of("rgb-vit-s", "mlp"))
    save(name_of("hog-vit-s", "mlp"), seed=1)
    broken = save(name_of("rgb-vit-s", "conv"), "conv")
    broken.write_bytes(broken.read_bytes()[:-5000])
    save("nano-32-something-new")
    save("debug-1")
    return tmp_path / "hub"


def test_runs_are_sampled_and_audited_and_what_is_wrong_is_told(folder: Path, settings: Load) -> None:
    loaded = settings(folder)
    assert [str(cell) for cell in cells(loaded)] == sorted([RGB, RGB_CONV, HOG])
    assert damaged(loaded.tier) == [
        f"{folder}/exps/{name_of('rgb-vit-s', 'conv')}/checkpoints/0400000.pt is damaged or cut short: its run will fail; "
        "fetch it again."
    ]
    plan = Plan(loaded, REPOSITORY)
    for job in plan.jobs([Job("figure", "self-similarity"), Job("audit")]):
        execute(plan, job)
    taken = load_file(plan.outputs(Job("train", RGB))[1])
    path = folder / "exps" / name_of("rgb-vit-s", "mlp") / "checkpoints" / "0400000.pt"
    with torch.serialization.safe_globals([argparse.Namespace]):
        ema = torch.load(path, weights_only=True)["ema"]
    assert torch.equal(taken["blocks.0.mlp.fc1.weight"], ema["blocks.0.mlp.fc1.weight"])
    failed = {job.key: plan.record(job).failed for job in plan.jobs() if job.stage == "evaluate"}
    assert {key for key, why in failed.items() if why} == {RGB_CONV}
    audit = read_json(plan.outputs(Job("audit"))[1])
    assert [source["name"] for source in audit["sources"]] == ["published", "smoke"]
    notes = "\n".join(audit["sources"][1]["notes"])
    for said in (
        "after 400,000 steps",
        "Runs that no row of `released.runs` knows (1): nano-32-something-new.",
        "Runs left out by their row (1): debug-1.",
        "Cells without a released run (1): sit/nano-32/hog/irepa/seed0.",
        f"Left out: train {RGB_CONV}: {folder}/exps/{name_of('rgb-vit-s', 'conv')}",
    ):
        assert said in notes
    for claim in audit["claims"]:
        assert claim["sources"]["smoke"]["verdict"] in VERDICTS
    table = pd.read_csv(plan.outputs(Job("table"))[1])
    assert set(table.loc[table["metric"] == "precision-EffLite2", "encoder"]) == {"rgb", "hog"}
    inspected = table[(table["stage"] == "inspect") & (table["metric"] == "lds_hidden")]
    assert set(inspected["encoder"]) == {"rgb", "hog"}


def test_a_checkpoint_of_another_method_or_size_is_a_failed_run(
    save: Callable[..., Path], settings: Load, tmp_path: Path
) -> None:
    save(name_of("rgb-vit-s", "mlp"), "conv")
    plan = Plan(settings(tmp_path / "hub"), REPOSITORY)
    failed = execute(plan, Job("train", RGB)).failed
    assert "the projector in it is of the kind conv, the method's is mlp" in str(failed)
    wider = {"depth": 2, "width": 64, "heads": 2, "patch": 8, "align_depth": 1}
    plan = Plan(settings(tmp_path / "hub", **{"scales.nano-32": wider}), REPOSITORY)
    assert "scale nano-32 of the tier must have the sizes" in str(execute(plan, Job("train", RGB)).failed)


def test_a_subset_runs_alone_and_without_a_folder_all_is_planned_and_nothing_runs(
    save: Callable[..., Path], settings: Load, tmp_path: Path
) -> None:
    save(name_of("hog-vit-s", "mlp"))
    some = settings(tmp_path / "hub")
    assert ([str(cell) for cell in cells(some)], some.tier.encoders) == ([HOG], ["hog"])
    every = settings(None)
    assert len(cells(every)) == 4
    with pytest.raises(
        ConfigError, match=r"released = null: .*hf download someone/models --include .exps/\*/checkpoints/04"
    ):
        check_machine(every, weights=False)
    with pytest.raises(ConfigError, match="released = null"):
        execute(Plan(every, REPOSITORY), Job("train", HOG))
    for chosen, here in ((some, 1), (every, 0)):
        found = summary(Budget(Plan(chosen, REPOSITORY)), 1e12, 0.5)
        runs = found["released"]["runs"]
        assert set(runs) == {str(cell) for cell in cells(chosen)}
        size = 0 if here else 4 * 4 * network_facts(chosen.tier, "sit", "nano-32", (3, 32, 32), 16)[0]
        assert {run["bytes"] for run in runs.values()} == {size}
        assert sum(run["gpu_hours"] for run in runs.values()) == pytest.approx(
            sum(found["stages"][stage]["gpu_hours"] for stage in ("sample", "evaluate"))
        )
        assert any("someone/models" in line for line in found["released"]["downloads"]) != bool(here)


def test_layouts_and_rows_that_cannot_be_are_refused(save: Callable[..., Path], settings: Load, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no folder exps in it; fetch the runs with: hf download"):
        settings(tmp_path)
    save("new-1")
    with pytest.raises(
        ConfigError, match=r"no run in exps is a cell of the tier\. Runs that no row .* knows \(1\): new-1\."
    ):
        settings(tmp_path / "hub")
    save(name_of("rgb-vit-s", "mlp"))
    save(name_of("rgb-vit-s", "mlp").replace("v1", "v2"))
    twice = rf"{name_of('rgb-vit-s', 'mlp')} and .*-v2 are both {RGB}; put the whole name"
    with pytest.raises(ConfigError, match=twice):
        settings(tmp_path / "hub")
    first = {name_of("rgb-vit-s", "mlp"): None} | RUNS
    corrected = settings(tmp_path / "hub", **{"released.runs": first})
    assert "v2" in str(corrected.tier.checkpoints[RGB])
    assert corrected.taken is not None
    assert corrected.taken.left_out == [name_of("rgb-vit-s", "mlp")]
    for runs in ({"{size}-x": None}, {"x": "sit/{scale}/rgb/repa/seed0"}):
        with pytest.raises(
            ConfigError, match=r"allowed are \{scale\} and \{encoder\}, in a cell only those that the run has"
        ):
            settings(tmp_path / "hub", **{"released.runs": runs})


def statistics() -> Iterator[tuple[str, str]]:
    """Run names as the released statistics write them, with their cells."""
    for row in pd.read_csv(Path(released.__file__).with_name("released.csv")).itertuples():
        yield str(row.xl_file), f"sit/sit-xl-2/{row.encoder}/repa/seed0"
        for kind, method in (("mlp", "repa"), ("conv", "irepa")):
            run = f"sit-b-2-sdvae-{row.feature}-enc8-coeff0.5-loss-cosine-projlayer-{kind}-400000-v1"
            yield run, f"sit/sit-b-2/{row.encoder}/{method}/seed0"


def test_the_tiers_own_table_knows_the_names_of_the_statistics() -> None:
    tier = load_settings({"tier": "released"}, WORKFLOW, check_options=False).tier
    for run, cell in statistics():
        found = match(run, tier)
        assert found is not None, run
        assert found[1] == cell
    assert match("sit-xl-2-sdvae-mydinov2-b-enc8-cosine0.5", tier) is None, "a part of a word is no encoder"
    assert {name for row in tier.experiments.values() for name in row.recipes or ["sit"]} == {"sit"}
    assert tier.training_of("sit").steps == 400_000
