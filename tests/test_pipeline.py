"""The whole graph on the smoke tier: what runs, what runs again, what two runs agree on, and DVC around it."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import REPOSITORY, call, copy_project, snakemake, succeed

RESULTS = Path("results") / "smoke"


def jobs(output: str) -> dict[str, int]:
    """Rules and how many jobs of each snakemake ran or would run."""
    counts: dict[str, int] = {}
    for rule, count in re.findall(r"^(\w+) +(\d+)$", output, flags=re.MULTILINE):
        counts[rule] = int(count)
    targets = {"total", "all", "reproduce"}
    return {rule: count for rule, count in counts.items() if rule not in targets and not rule.startswith("phase_")}


def metrics(folder: Path) -> dict[str, dict[str, object]]:
    """Every record without what may differ between equal runs."""
    found = {}
    for path in sorted((folder / RESULTS).rglob("*.json")):
        record = json.loads(path.read_text())
        if "provenance" in record:
            record.pop("provenance")
            found[str(path.relative_to(folder))] = record
    return found


@pytest.fixture
def workdir(finished: Path, tmp_path: Path) -> Path:
    """The finished run, to be changed."""
    shutil.copytree(finished, tmp_path / "project", symlinks=True)
    return tmp_path / "project"


def test_everything_is_there(finished: Path) -> None:
    results = finished / RESULTS
    for figure in ("correlation", "ablation", "cls-mixing", "samples", "self-similarity", "lds-sensitivity"):
        for suffix in ("png", "svg", "csv", "json"):
            assert (results / "figures" / f"{figure}.{suffix}").stat().st_size > 100
    page = (results / "report.html").read_text()
    assert page.count("data:image/png;base64") == 6
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page), "the page must work offline"
    assert "cannot show" in page
    table = pd.read_csv(results / "table.csv")
    assert set(table["metric"]) >= {"lds", "cds", "srss", "rmsc", "accuracy", "FD-EffLite2", "KID-EffLite2"}
    assert "FID" not in set(table["metric"])
    assert not list(results.rglob("samples.npz")), "samples are deleted once evaluated"
    assert not list(results.rglob(".*")), "no temporary file is left"


def test_every_number_can_be_traced(finished: Path) -> None:
    results = finished / RESULTS
    table = pd.read_csv(results / "table.csv")
    for row in table.sample(20, random_state=0).itertuples():
        record = json.loads((results / str(row.record)).read_text())
        assert record["metrics"][row.metric] == pytest.approx(row.value, rel=1e-6)
        assert {"fingerprint", "inputs", "settings", "files", "provenance"} <= set(record)
        assert {"git_revision", "versions", "seconds", "peak_memory_mib"} <= set(record["provenance"])


def test_figures_hold_what_their_csv_says(finished: Path) -> None:
    """The correlation figure's points are the table's numbers; three networks have no r."""
    results = finished / RESULTS
    csv, table = pd.read_csv(results / "figures" / "correlation.csv"), pd.read_csv(results / "table.csv")
    runs = table[(table["metric"] == "FD-EffLite2") & (table["method"] == "repa")].set_index("encoder")["value"]
    lds = table[table["metric"] == "lds"].set_index("encoder")["value"]
    points = csv[csv["metric"] == "lds"].set_index("network")
    np.testing.assert_allclose(points["value"], lds[points.index], rtol=1e-5)
    np.testing.assert_allclose(points["fd"], runs[points.index], rtol=1e-5)
    caption = json.loads((results / "figures" / "correlation.json").read_text())["metrics"]["caption"]
    assert "LDS no r (3 are too few)" in caption


def test_a_second_run_does_nothing_whatever_the_modification_times(workdir: Path) -> None:
    assert "Nothing to be done" in snakemake(workdir)
    files = [path for path in (workdir / "results").rglob("*") if path.is_file()]
    random.Random(0).shuffle(files)
    for moment, path in enumerate(files):
        os.utime(path, (1e9 + moment, 1e9 + moment))
    assert "Nothing to be done" in snakemake(workdir, "--dry-run")
    shutil.rmtree(workdir / ".snakemake")  # as in another clone that was given the results
    assert "Nothing to be done" in snakemake(workdir, "--dry-run")


def test_an_edited_figure_is_drawn_again_and_nothing_else(workdir: Path) -> None:
    picture = workdir / RESULTS / "figures" / "ablation.png"
    before = picture.read_bytes()
    source = workdir / "src" / "irepa" / "figures" / "ablation.py"
    source.write_text(source.read_text().replace('ylabel="method"', 'ylabel="how it is aligned"'))
    assert jobs(snakemake(workdir)) == {"figure": 1, "report": 1}
    assert picture.read_bytes() != before
    assert "Nothing to be done" in snakemake(workdir)


def test_one_more_encoder_runs_its_own_jobs_and_what_reads_the_table(workdir: Path) -> None:
    output = snakemake(workdir, "--dry-run", "--config", "encoders=[rgb,hog,effnet-lite0-s16,sift]")
    assert jobs(output) == {
        "features": 1, "spatial": 1, "probe": 1, "train": 1, "sample": 1, "evaluate": 1, "table": 1, "figure": 4,
        "audit": 1, "report": 1,
    }  # fmt: skip


def test_two_runs_with_one_seed_agree_and_another_seed_differs(finished: Path, workdir: Path) -> None:
    shutil.rmtree(workdir / "results")
    target = str(RESULTS / "evaluation/sit/nano-32/rgb/repa/seed{}.json")
    snakemake(workdir, target.format(0), str(RESULTS / "spatial/rgb.json"), str(RESULTS / "probe/rgb.json"))
    first, again = metrics(finished), metrics(workdir)
    assert len(again) == 8
    assert {name: first[name] for name in again} == again
    snakemake(workdir, target.format(1), "--config", "seed=1")
    other = metrics(workdir)
    values = [other[target.format(seed)]["metrics"]["FD-EffLite2"] for seed in (0, 1)]
    assert values[0] != values[1]


def test_a_damaged_feature_cache_stops_what_reads_it(workdir: Path) -> None:
    path = workdir / RESULTS / "features" / "rgb" / "train.tokens.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    target = str(RESULTS / "runs/sit/nano-32/rgb/repa/seed2/train.json")
    done = call(workdir, "snakemake", "--cores", "2", target, "--config", "seed=2")
    assert done.returncode != 0
    log = (workdir / RESULTS / "logs" / "train" / "sit/nano-32/rgb/repa/seed2.log").read_text()
    assert "rgb/train.tokens.npy is damaged: its content is not what was written" in log
    assert not (workdir / target).exists()
    assert "is damaged" in done.stdout + done.stderr, "the message is on the screen as well as in the log"


def test_bad_configuration_stops_snakemake_and_the_command_line_before_any_job(tmp_path: Path) -> None:
    folder = copy_project(tmp_path / "project")
    for command in (
        ("snakemake", "--cores", "1", "--config", "tier=smoke", "encoders=[rgb,dinov9]"),
        ("snakemake", "--cores", "1", "--config", "tier=smokey"),
    ):
        done = call(folder, *command)
        assert done.returncode != 0
        assert "unknown value" in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
    (folder / "params.yaml").write_text("tier: smoke\nseeds: 3\n")
    done = call(folder, "python", "-m", "irepa", "data")
    assert done.returncode != 0
    assert done.stderr.strip().startswith("error: params: unknown key seeds (did you mean seed?)")
    (folder / "params.yaml").write_text("tier: smoke\n")
    done = call(folder, "python", "-m", "irepa", "probe", "rgbb")
    assert done.returncode != 0
    assert (
        "probe key: unknown value 'rgbb'; allowed are effnet-lite0-s16, effnet-lite0-s16+clsmix0.5, hog, rgb"
        in done.stderr
    )
    assert not (folder / "results").exists()


def test_the_command_line_has_types(tmp_path: Path) -> None:
    """Snakemake hands over what follows --config as text."""
    folder = copy_project(tmp_path / "project")
    (folder / "params.yaml").write_text("tier: smoke\noverrides: {figures.samples: null}\n")
    without = "overrides={experiments.cls-mixing: null, figures.cls-mixing: null, sampling.keep: true, seeds: 2}"
    planned = jobs(snakemake(folder, "--dry-run", "--config", without, "encoders=null"))
    assert planned["train"] == 10, "two seeds of the five cells that are left"
    assert planned["figure"] == 4, "what params.yaml takes out is out as well"
    for wrong, message in (
        ("overrides={seeds:2}", "write a space after the colon, seeds: 2"),
        ("overrides={seeds: 2", "brackets do not match"),
        ("overrides={seeds: two}", 'seeds = "two"'),
    ):
        done = call(folder, "snakemake", "--dry-run", "--config", wrong)
        assert done.returncode != 0
        assert message in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = copy_project(tmp_path / "project")
    (folder / "params.yaml").write_text("tier: smoke\n")
    (folder / ".snakemake").mkdir()
    (folder / ".snakemake" / "irepa").write_text("in the way")
    done = call(folder, "snakemake", "--dry-run")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "cannot write .snakemake/irepa" in said
    assert "Traceback" not in said


def test_results_of_a_clock_that_ran_ahead_are_made_again(workdir: Path) -> None:
    ahead = time.time() + 1e7
    for path in (workdir / "results").rglob("*"):
        os.utime(path, (ahead, ahead))
    assert "Nothing to be done" in snakemake(workdir, "--dry-run")
    source = workdir / "src" / "irepa" / "figures" / "ablation.py"
    source.write_text(source.read_text() + "\n[].append('edited')\n")
    assert jobs(snakemake(workdir)) == {"figure": 1, "report": 1}
    assert "Nothing to be done" in snakemake(workdir)


def test_a_run_that_leaves_stale_results_fails_and_names_them(workdir: Path) -> None:
    """Here because they are touched, and not made again."""
    source = workdir / "src" / "irepa" / "figures" / "ablation.py"
    source.write_text(source.read_text() + "\n[].append('edited')\n")
    done = call(workdir, "snakemake", "--cores", "1", "--touch")
    assert done.returncode != 0
    assert "2 of its results are not up to date: figure ablation, report" in done.stdout + done.stderr


def test_a_missing_dataset_stops_a_real_run_and_not_a_dry_one(tmp_path: Path) -> None:
    folder = copy_project(tmp_path / "project")
    tier = ("--config", "tier=cifar10")
    assert jobs(snakemake(folder, "--dry-run", *tier))["data"] == 1
    done = call(folder, "snakemake", "--cores", "1", *tier)
    assert done.returncode != 0
    assert "dataset.train = data/cifar10/train.parquet: there is no such file or folder" in done.stdout + done.stderr
    assert not (folder / "results").exists()


def test_dvc_repeats_nothing_moves_results_and_redraws_figures_elsewhere(workdir: Path, tmp_path: Path) -> None:
    """The life of results under DVC: made in one clone, pushed, pulled into another, figures redrawn there."""
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")

    shutil.copy(Path(__file__).parent.parent / ".gitignore", workdir)
    succeed(workdir, *git, "init", "--quiet")
    assert "Running stage 'train'" in succeed(workdir, "dvc", "repro")
    said = succeed(workdir, "dvc", "repro")
    assert re.findall(r"Running stage '(\w+)'", said) == ["outside"], (
        "whether files outside have changed is asked each time"
    )
    metrics = json.loads(succeed(workdir, "dvc", "metrics", "show", "--json").splitlines()[0])
    (by_case,) = metrics[""]["data"][f"{RESULTS}/metrics.json"]["data"].values()
    assert set(by_case) >= {"sit/nano-32/none", "sit/nano-32/repa", "sit/nano-32/irepa"}
    assert all(distance > 0 for distance in by_case.values())
    succeed(workdir, *git, "add", ".")
    succeed(workdir, *git, "commit", "--quiet", "-m", "results")
    succeed(workdir, "dvc", "push")
    clone = tmp_path / "clone"
    succeed(tmp_path, *git, "clone", "--quiet", str(workdir), str(clone))
    assert not (clone / "results").exists()
    succeed(clone, "dvc", "pull")
    succeed(clone, "dvc", "repro")
    assert (clone / RESULTS / "figures" / "correlation.png").exists()
    assert not (clone / RESULTS / "logs").exists(), "no job has run"
    source = clone / "src" / "irepa" / "figures" / "ablation.py"
    text = source.read_text()
    source.write_text(text + "\n# reworded\n")
    succeed(clone, "dvc", "repro")
    assert not (clone / RESULTS / "logs").exists(), "words are free"
    source.write_text(text + "\n[].append('edited')\n")
    said = succeed(clone, "dvc", "repro")
    ran = {path.parts[0].removesuffix(".log") for path in
           (p.relative_to(clone / RESULTS / "logs") for p in (clone / RESULTS / "logs").rglob("*.log"))}  # fmt: skip
    assert ran == {"figure", "report"}, said


def test_the_workflow_is_clean_of_snakemakes_lints() -> None:
    done = call(REPOSITORY, "snakemake", "--lint")
    assert done.returncode == 0, done.stdout + done.stderr
