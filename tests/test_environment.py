"""pyproject.toml, environment.yml and requirements.lock name the same direct dependencies with compatible versions."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from rattler import MatchSpec

from tests.conftest import REPOSITORY

# Packages with another name on conda-forge.
CONDA_NAMES = {
    "matplotlib": "matplotlib-base",
    "nbconvert": "nbconvert-core",
    "seaborn": "seaborn-base",
    "snakemake": "snakemake-minimal",
    "torch": "pytorch",
}


def direct() -> dict[str, Requirement]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return {canonicalize_name(r.name): r for r in map(Requirement, project["dependencies"])}


def development() -> dict[str, Requirement]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]["dev"]
    return {canonicalize_name(r.name): r for r in map(Requirement, extras)}


def locked() -> dict[str, Version]:
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    pins = [re.fullmatch(r"([\w.-]+)==(\S+)", line) for line in lines if line and not line.startswith("#")]
    assert all(pins)
    return {canonicalize_name(pin[1]): Version(pin[2]) for pin in pins if pin}


def conda() -> tuple[dict[str, MatchSpec], dict[str, Requirement]]:
    listed = yaml.safe_load((REPOSITORY / "environment.yml").read_text())["dependencies"]
    specs = [MatchSpec(item) for item in listed if isinstance(item, str)]
    through_pip = next(item["pip"] for item in listed if isinstance(item, dict))
    return (
        {str(spec.name.normalized): spec for spec in specs if spec.name is not None},
        {canonicalize_name(r.name): r for r in map(Requirement, through_pip)},
    )


def test_conda_and_pip_list_the_same_direct_dependencies() -> None:
    specs, through_pip = conda()
    expected = {CONDA_NAMES.get(name, name) for name in direct()}
    assert set(specs) - {"python", "pip"} | set(through_pip) == expected


@pytest.mark.parametrize("name", sorted(direct()))
def test_versions_are_compatible(name: str) -> None:
    specs, through_pip = conda()
    requirement, pin = direct()[name], locked()[name]
    assert pin in requirement.specifier
    if name in through_pip:
        assert str(through_pip[name].specifier) == str(requirement.specifier)
    else:
        bounds = {str(bound) for bound in requirement.specifier}
        assert set(str(specs[CONDA_NAMES.get(name, name)].version).split(",")) == bounds


def test_the_lock_has_every_direct_dependency_and_the_development_tools() -> None:
    pins = locked()
    for name, requirement in (direct() | development()).items():
        assert pins[name] in requirement.specifier
