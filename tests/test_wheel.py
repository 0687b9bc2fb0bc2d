"""The parts that are useful on their own need torch and numpy alone: a wheel, in an environment that has nothing else."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import REPOSITORY


def with_dependencies(*names: str) -> set[str]:
    """Distributions and what they require here, without extras."""
    known: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in known:
            continue
        known.add(name)
        for line in importlib.metadata.requires(name) or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return known


def link(distribution: str, target: Path) -> None:
    """Put a distribution of this environment into another one, by links to its files."""
    for file in importlib.metadata.files(distribution) or []:
        top = file.parts[0]
        place = target / top
        if top not in ("..", "__pycache__") and not place.exists():
            place.symlink_to(
                Path(str(file.locate())).parents[len(file.parts) - 2] if len(file.parts) > 1 else file.locate()
            )


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with a wheel of this checkout, torch and numpy."""
    folder = tmp_path_factory.mktemp("bare")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    source = folder / "source"  # setuptools builds in the folder that it is given
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(REPOSITORY / "src", source / "src", ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source / name)
    subprocess.run([*command, str(folder), str(source)], check=True, capture_output=True)
    venv.create(folder / "venv", with_pip=False)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = folder / "venv" / "lib" / version / "site-packages"
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:  # what `pip install --no-deps` does to a wheel of pure Python
        archive.extractall(site)
    for name in with_dependencies("torch", "numpy"):
        link(name, site)
    return folder / "venv" / "bin" / "python"


def run(python: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run([str(python), "-I", "-c", code], env=environment, capture_output=True, text=True)


def snippets() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), flags=re.DOTALL)


def test_the_environment_is_bare(bare: Path) -> None:
    for name in ("pydantic", "yaml", "pandas", "timm", "snakemake"):
        assert "ModuleNotFoundError" in run(bare, f"import {name}").stderr


@pytest.mark.parametrize("number", range(len(snippets())))
def test_the_readmes_snippets_run_with_torch_and_numpy_alone(bare: Path, number: int) -> None:
    done = run(bare, snippets()[number])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["irepa.alignment", "irepa.projectors", "irepa.spatial", "irepa.models.sit"])
def test_public_modules_import_with_torch_and_numpy_alone(bare: Path, module: str) -> None:
    done = run(bare, f"import {module}; print({module}.__file__)")
    assert done.returncode == 0, done.stderr
    assert str(bare.parents[1]) in done.stdout  # the wheel's, not the checkout's
