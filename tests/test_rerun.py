"""The cheap part of the rerun matrix (tests/rerun_matrix.py): one column of the rows that run little."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.rerun_matrix import ROWS, build, matrix

CHEAP = ("outside: image and checkpoint touched", "code reworded", "copied, code changed")


def test_what_has_to_run_runs_and_nothing_else(tmp_path: Path) -> None:
    rows = [replace(row, columns=row.columns[-1:]) for row in ROWS if row.name in CHEAP]
    planned = [
        replace(row, columns=("future",), real=(), name=f"{row.name}, planned")
        for row in ROWS
        if row.name == "outside: the checkpoint replaced, same size"
    ]
    assert len(rows) == len(CHEAP)
    assert matrix(build(tmp_path), rows + planned)
