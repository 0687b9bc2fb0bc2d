"""What is installed where: pyproject.toml, the lock and the conda environments agree, and each can be had on its channels."""

from __future__ import annotations

import csv
import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from rattler import MatchSpec, PackageRecord
from rattler.package.build_string import BuildString

from tests.conftest import REPOSITORY

# Packages with another name on conda-forge.
CONDA_NAMES = {
    "matplotlib": "matplotlib-base",
    "nbconvert": "nbconvert-core",
    "seaborn": "seaborn-base",
    "snakemake": "snakemake-minimal",
    "torch": "pytorch",
}
PERSON, RULES, PLANNING = "environment.yml", "workflow/envs/irepa.yaml", "workflow/envs/plan.yaml"
ENVIRONMENTS = (PERSON, RULES, PLANNING)
WORKFLOW_ALONE = {
    "snakemake-minimal",
    "snakemake-executor-plugin-slurm",
    "snakemake-logger-plugin-rich",
    "dvc",
}  # what no job imports
NOT_RECORDED = {"python", "pip"}
# The newest version of each package on its channel, as seen in August 2026.
with (Path(__file__).parent / "conda-packages.csv").open() as stream:
    CHANNELS = {row["name"]: row for row in csv.DictReader(stream)}


def project() -> dict[str, Any]:
    content: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return content


def named(requirements: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(r.name): r for r in map(Requirement, requirements)}


def direct() -> dict[str, Requirement]:
    return named([*project()["dependencies"], *project()["optional-dependencies"]["pipeline"]])


def development() -> dict[str, Requirement]:
    return named(project()["optional-dependencies"]["dev"])


def locked() -> dict[str, Version]:
    pins = re.findall(r"^([\w.-]+)==([^\s;\\]+)", (REPOSITORY / "requirements.lock").read_text(), flags=re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in pins}


def environment(path: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((REPOSITORY / path).read_text())
    return content


def specs(content: dict[str, Any]) -> dict[str, MatchSpec]:
    listed = [MatchSpec(item) for item in content["dependencies"] if isinstance(item, str)]
    return {str(spec.name.normalized): spec for spec in listed if spec.name is not None}


def through_pip(content: dict[str, Any]) -> list[str]:
    return [line for item in content["dependencies"] if isinstance(item, dict) for line in item["pip"]]


def cannot_be_had(content: dict[str, Any]) -> list[str]:
    """What of an environment is on none of its channels, or not in a version that satisfies it."""
    missing = []
    for name, spec in specs(content).items():
        if name in NOT_RECORDED:
            continue
        seen = CHANNELS.get(name)
        if seen is None or seen["channel"] not in content["channels"]:
            missing.append(f"{name} is on {seen['channel'] if seen else 'no channel that was looked at'}")
        elif not spec.matches(PackageRecord(name, seen["version"], BuildString("0"), 0, "noarch")):
            missing.append(f"{name} {spec.version} is asked for, {seen['version']} is on {seen['channel']}")
    return missing


@pytest.mark.parametrize("path", ENVIRONMENTS)
def test_every_spec_can_be_had_on_the_files_channels(path: str) -> None:
    assert not cannot_be_had(environment(path))


def test_the_check_fails_on_what_could_not_be_solved() -> None:
    """The file of before: Snakemake was sought on conda-forge, and torch-fidelity in a version that is not there."""
    before = {
        "channels": ["conda-forge", "nodefaults"],
        "dependencies": ["python >=3.11", "snakemake-minimal >=9.0", "snakemake-executor-plugin-slurm >=1.0",
                         "torch-fidelity >=0.4.0", "numpy >=2.0"],
    }  # fmt: skip
    assert cannot_be_had(before) == [
        "snakemake-minimal is on bioconda",
        "snakemake-executor-plugin-slurm is on bioconda",
        "torch-fidelity >=0.4.0 is asked for, 0.3.0 is on conda-forge",
    ]


@pytest.mark.parametrize("path", [RULES, PLANNING])
def test_no_environment_of_the_workflow_has_snakemake_or_dvc_or_a_name(path: str) -> None:
    content = environment(path)
    assert not set(specs(content)) & WORKFLOW_ALONE
    assert "name" not in content
    assert content["channels"] == ["conda-forge", "nodefaults"]


def test_every_rule_and_the_workflow_name_an_environment_that_exists() -> None:
    text = "".join(path.read_text() for path in (REPOSITORY / "workflow").rglob("*Snakefile"))
    text += "".join(path.read_text() for path in (REPOSITORY / "workflow" / "rules").glob("*.smk"))
    assert set(re.findall(r"\"(?:\.\./)?(envs/.*\.yaml)\"", text)) == {"envs/irepa.yaml", "envs/plan.yaml"}


def test_the_rules_environment_is_pinned_and_has_what_jobs_import() -> None:
    content = environment(RULES)
    for name, spec in specs(content).items():
        assert name == "pip" or re.fullmatch(r"\d+\.\d+\.\*", str(spec.version)), f"{name} {spec.version}"
    by_pip = set(named(through_pip(content)))
    expected = {CONDA_NAMES.get(name, name) for name in set(direct()) - by_pip}
    assert set(specs(content)) - NOT_RECORDED == expected - WORKFLOW_ALONE


def test_the_planning_environment_is_what_reading_the_workflow_takes() -> None:
    bounds = {name: str(spec.version) for name, spec in specs(environment(PLANNING)).items()}
    assert bounds == {name: str(direct()[name].specifier) for name in ("numpy", "pydantic", "pyyaml")}


def test_conda_and_pip_list_the_same_direct_dependencies() -> None:
    content = environment(PERSON)
    assert through_pip(content) == ["--editable .[pipeline,dev]"]
    on_channels = {CONDA_NAMES.get(name, name) for name in direct()} & set(CHANNELS) - {"torch-fidelity"}
    assert set(specs(content)) - NOT_RECORDED == on_channels


@pytest.mark.parametrize("name", sorted(direct()))
def test_versions_are_compatible(name: str) -> None:
    requirement, pin = direct()[name], locked()[name]
    assert pin in requirement.specifier
    spec = specs(environment(PERSON)).get(CONDA_NAMES.get(name, name))
    if spec is not None:
        assert set(str(spec.version).split(",")) == {str(bound) for bound in requirement.specifier}
    pinned = named(through_pip(environment(RULES))).get(name)
    if pinned is not None:
        assert pin in pinned.specifier
        assert {str(bound) for bound in requirement.specifier} <= {str(bound) for bound in pinned.specifier}


def required(python: str) -> set[str]:
    """What pip comes to from `irepa[pipeline,dev]` by the metadata of what is installed here, for a version of Python."""
    markers = {"python_version": python, "python_full_version": f"{python}.0"}
    visited: set[tuple[str, str]] = set()
    waiting = [(name, extra) for name, r in (direct() | development()).items() for extra in ("", *r.extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in visited:
            continue
        visited.add((name, extra))
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # another Python needs it; its own needs are not known here
            continue
        for requirement in map(Requirement, lines):
            if requirement.marker is None or requirement.marker.evaluate({**markers, "extra": extra}):
                name_needed = canonicalize_name(requirement.name)
                waiting += [(name_needed, wanted) for wanted in ("", *requirement.extras)]
    return {name for name, _ in visited}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_is_complete_so_that_pip_adds_nothing(python: str) -> None:
    assert python in SpecifierSet(project()["requires-python"])
    assert required(python) - set(locked()) == set()


def test_the_lock_is_what_is_installed_and_each_pin_has_checksums() -> None:
    text = (REPOSITORY / "requirements.lock").read_text()
    entries = re.split(r"\n(?=\S)", text.rstrip())
    pins = [entry for entry in entries if not entry.startswith("#")]
    assert len(pins) == len(locked())
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in pins)
    here = {name: Version(importlib.metadata.version(name)) for name in locked()}
    assert {name: version.public for name, version in here.items()} == {n: v.public for n, v in locked().items()}


def test_the_lock_has_every_direct_dependency_and_the_development_tools() -> None:
    pins = locked()
    for name, requirement in (direct() | development()).items():
        assert pins[name] in requirement.specifier
