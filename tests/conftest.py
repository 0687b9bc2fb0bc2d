"""Fixtures that several tests share: a copy of the project to run in, and the smallest tier run to its end once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest
import torch
from filelock import FileLock

from irepa.config.load import load_settings
from irepa.config.tier import Settings

torch.set_num_threads(1)  # what tests compute is too small to share: several threads take longer

# The first example pays for imports and warm-up; a deadline per example would measure the machine.
hypothesis.settings.register_profile("irepa", deadline=None, derandomize=True, max_examples=40)
hypothesis.settings.load_profile("irepa")

REPOSITORY = Path(__file__).resolve().parent.parent
WORKFLOW = REPOSITORY / "workflow"
BIN = Path(sys.executable).parent
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PARTS = ("Snakefile", "params.yaml", "dvc.yaml", "environment.yml", "workflow", "src", "reports", ".dvc", ".dvcignore")


def browse(page: Path, scratch: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """What the browser makes of a page, once it has loaded, on standard output; its profile lies in a scratch folder."""
    assert BROWSER is not None
    return subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={scratch / 'profile'}", *options,
         "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def guide_of(package: ModuleType) -> str:
    """The example in a package's guide: the indented block of its docstring that ``::`` introduces."""
    block: list[str] = []
    for line in (package.__doc__ or "").partition("::\n\n")[2].splitlines():
        if line and not line.startswith("    "):
            break
        block.append(line)
    return textwrap.dedent("\n".join(block))


def copy_project(target: Path) -> Path:
    """The project without results, as a fresh clone has it."""
    target.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "cache", "tmp", "config.local")
    for name in PARTS:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=ignore)
        elif source.exists():
            shutil.copy(source, target / name)
    return target


def call(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment in a folder, on that folder's own copy of the package."""
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run([str(part) for part in command], cwd=folder, env=environment, capture_output=True, text=True)


def succeed(folder: Path, *command: str) -> str:
    """Run a program as ``call`` does and return what it said; fails the test, showing it, where the program fails."""
    done = call(folder, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def snakemake(folder: Path, *arguments: str) -> str:
    return succeed(folder, "snakemake", "--cores", "2", *arguments)


@pytest.fixture
def settings() -> Callable[..., Settings]:
    """Settings of the smoke tier with overrides, as from params.yaml."""

    def load(**params: object) -> Settings:
        return load_settings({"tier": "smoke"} | params, WORKFLOW)

    return load


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the smoke tier has run to its end: once, however many processes run tests."""
    own = tmp_path_factory.mktemp("finished") / "project"
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with FileLock(shared / "smoke.lock"):
        made = shared / "smoke"
        if not (made / "complete").exists():
            shutil.rmtree(made, ignore_errors=True)
            copy_project(made)
            params = made / "params.yaml"
            params.write_text(params.read_text().replace("tier: demo", "tier: smoke"))
            snakemake(made)
            (made / "complete").touch()
    shutil.copytree(made, own, symlinks=True)
    (own / "complete").unlink()
    return own
