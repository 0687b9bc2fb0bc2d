"""Reading the configuration, building the graph and asking what there is to do import no heavy library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from irepa.config import plugins
from tests.conftest import REPOSITORY, call

HEAVY = {
    "torch", "torchvision", "timm", "transformers", "diffusers", "matplotlib", "seaborn", "pandas", "scipy", "statsmodels",
    "open_clip", "torch_fidelity", "sklearn", "skimage", "kornia", "lightly", "accelerate", "safetensors", "pyarrow", "PIL",
}  # fmt: skip
KINDS = (
    "encoders", "data", "transforms", "autoencoders", "architectures", "recipes", "samplers", "objectives", "figures",
    "audit.rules",
)  # fmt: skip


def imported(code: str) -> set[str]:
    """Top-level modules that are loaded after the code has run in a process of its own."""
    ending = "\nimport json, sys\nprint()\nprint(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", code + ending], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_check_can_fail() -> None:
    assert "torch" in imported("import irepa.spatial")


@pytest.mark.parametrize("tier", sorted(path.stem for path in (REPOSITORY / "workflow" / "tiers").glob("*.yaml")))
def test_the_graph_of_a_tier_is_built_and_fingerprinted_without_them(tier: str) -> None:
    code = f"""
from pathlib import Path
from irepa.config.load import load_settings
from irepa.pipeline.plan import Plan
plan = Plan(load_settings({{"tier": "{tier}"}}, Path("workflow")), Path("."))
assert len([plan.fingerprint(job) for job in plan.jobs()]) > 30
"""
    assert not imported(code) & HEAVY


@pytest.mark.parametrize("kind", KINDS)
def test_plug_ins_are_read_without_their_heavy_half(kind: str) -> None:
    code = f"""
from irepa.config import plugins
for name in plugins.names("{kind}"):
    plugins.load("{kind}", name, "here")
"""
    assert plugins.names(kind)
    assert not imported(code) & HEAVY


def test_claims_verdicts_and_the_table_are_read_without_them() -> None:
    assert not imported("import irepa.audit.claims, irepa.audit.verdicts, irepa.figures, irepa.table") & HEAVY


def test_encoders_and_datasets_are_checked_without_them() -> None:
    code = """
from pathlib import Path
from irepa.config import plugins
from irepa.config.read import read_yaml
from irepa.config.tier import EncoderEntry
from irepa.encoders import Declared
from irepa.errors import DataError, WeightsError

for name, row in read_yaml(Path("workflow/encoders.yaml")).items():
    declared = Declared.of(name, EncoderEntry.model_validate(row), 256)
    if "weights" in type(declared.options).model_fields:
        for weights in ("random", "package:irepa_has_no_such_package", "/nowhere"):
            try:
                declared.changed(weights=Path(weights) if row["library"] == "torch-fidelity" else weights).check()
            except WeightsError:
                pass
    try:
        declared.check()
    except WeightsError:
        assert row["library"] == "hed"  # its weights are a file that a user has to write
photos, folders, parquet = (plugins.load("data", name, "x") for name in ("photos", "image-folder", "parquet"))
photos.check(photos.Options())
refused = 0
for module in (folders, parquet):
    try:
        module.check(module.Options(train="/nowhere", test="/nowhere"))
    except DataError:
        refused += 1
assert refused == 2
"""
    assert not imported(code) & HEAVY


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["train", "--help"], ["status"], ["check"], ["tiers"], ["where"], ["settings"], ["schemas"]],
)
def test_commands_that_ask_import_none_of_them(arguments: list[str]) -> None:
    code = f"""
import os, sys
sys.argv = ["irepa", *{arguments!r}]
from irepa import cli
try:
    cli.app()
except SystemExit as done:
    assert not done.code, done.code
"""
    assert not imported(code) & HEAVY


def dry_run(snakefile: Path) -> set[str]:
    """What a dry run has loaded at its end."""
    code = f"""
from snakemake.cli import main
try:
    main(["--snakefile", "{snakefile}", "--directory", "{snakefile.parent}", "--nolock", "-n", "--quiet"])
except SystemExit as done:
    assert not done.code, done.code
"""
    return imported(code) & HEAVY


@pytest.fixture(scope="module")
def snakemakes_own(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What Snakemake loads by itself: its plug-in for Slurm imports pandas, docutils imports PIL where it is."""
    snakefile = tmp_path_factory.mktemp("empty") / "Snakefile"
    snakefile.write_text("rule one:\n    output: 'one'\n    message: 'one'\n    shell: 'touch {output}'\n")
    return dry_run(snakefile)


def test_a_dry_run_imports_none_of_them(snakemakes_own: set[str]) -> None:
    assert dry_run(REPOSITORY / "Snakefile") == snakemakes_own
    assert not snakemakes_own & {"torch", "timm", "matplotlib", "sklearn"}


def test_the_workflow_is_planned_where_the_heavy_libraries_are_missing(
    tmp_path: Path, snakemakes_own: set[str]
) -> None:
    """As on a login node that has Snakemake alone: each of them fails to import."""
    for name in HEAVY - snakemakes_own:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ImportError('{name} is not installed here')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from snakemake.cli import main; main()"
    command = [sys.executable, "-c", code, "--nolock", "-n", "--quiet", "all", "--config", "tier=imagenet256"]
    done = call(REPOSITORY, *command)
    assert done.returncode == 0, done.stdout + done.stderr
