"""The benchmark scripts run, at small size, and print what they measured."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_steps_are_timed_for_each_precision() -> None:
    said = run(
        "benchmarks/train_step.py", "--tier", "smoke", "--steps", "4", "--warmup", "1", "--dim", "8", "--matrix", "128"
    )
    rows = re.findall(r"^nano-32 +(fp32|bf16) +off +([\d.]+) +([\d.]+) +([\d.]+)%$", said, re.MULTILINE)
    assert [row[0] for row in rows] == ["fp32", "bf16"]
    for _, images, milliseconds, share in rows:
        assert float(images) == pytest.approx(16 * 1000 / float(milliseconds), rel=0.05)
        assert 0 < float(share) < 100


def test_the_metrics_benchmark_compares_speed_and_values() -> None:
    said = run("benchmarks/spatial_metrics.py", "--images", "8", "--dim", "32", "--repetitions", "1")
    assert re.search(r"one pass is [\d.]+ times as fast", said)
    differences = re.findall(r"largest difference in (\w+): (\S+)", said)
    assert {name for name, _ in differences} == {"lds", "cds", "srss", "rmsc"}
    assert all(float(value) < 1e-5 for _, value in differences)


def test_waiting_for_images_is_timed_before_and_after() -> None:
    said = run(
        "benchmarks/input_pipeline.py", "--images", "2000", "--batch", "16", "--steps", "8", "--case", "jit-256",
        "--consumer", "20", "--workers", "0", "1",
    )  # fmt: skip
    rows = re.findall(
        r"^jit-256 +3 +(before|\d) +(?:100|20) +([\d.]+) +[\d.]+ +[\d.]+% +([\d.]+) +([\d.]+)$", said, re.M
    )
    waits = {kind: float(wait) for kind, wait, _, _ in rows}
    assert list(waits) == ["before", "0", "1"]
    assert waits["before"] > waits["0"] > waits["1"] > 0


def test_what_feeding_an_encoder_otherwise_changes_is_measured_setting_by_setting() -> None:
    chosen = ("siglip-b", "pe-core-g", "c-radio-v3-b")
    said = run("benchmarks/encoder_feeding.py", "--limit", "1", "--transformers", *chosen)
    moved = {
        (name, what): float(share)
        for name, what, share in re.findall(r"^(\S+) +(\S.*?) +([\d.]+)% ", said, re.MULTILINE)
    }
    assert 2 < moved["effnet-lite0-s16", "no antialiasing, no clamping"] < 20
    assert moved["siglip-b", "mean, std"] > 10 > moved["c-radio-v3-b", "positions"] > 0
    assert moved["siglip-b", "resize"] == 0, "there is nothing to resize at 256 pixels"
    assert moved["pe-core-g", "rotary"] > 1


def test_the_audits_rules_are_simulated() -> None:
    said = run("benchmarks/audit_simulation.py", "--repeats", "2", "--draws", "200")
    assert len(re.findall(r"^\| (?:12|20|36) \| 0\.[369] \| [24] \|", said, re.MULTILINE)) == 18
    assert all(float(share) <= 100 for share in re.findall(r"([\d.]+)%", said))
    assert len(re.findall(r"^(?:\| --: )+\|$", said, re.MULTILINE)) == 6
    rules = {path.stem for path in (REPOSITORY / "src/irepa/audit/rules").glob("[a-z]*.py")}
    assert set(re.findall(r"^\| `(\w+)`", said, re.MULTILINE)) == rules - {"lines", "normalised"}, "these make no test"
