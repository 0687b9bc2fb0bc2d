"""How numbers are written: the same words wherever an estimate is shown."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from irepa.audit import words
from irepa.audit.changes import estimate_of
from irepa.audit.pairs import to_percent
from irepa.audit.statistics import Estimate
from irepa.audit.verdicts import shown
from irepa.commands import verdicts
from irepa.pipeline.files import read_json
from tests.conftest import REPOSITORY

NONE = math.nan


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.42, 0.31, 0.553, 9), "0.42 [0.31, 0.553]"),
        (Estimate(0.42, NONE, NONE, 1), "0.42"),
        (Estimate(3.0, 3.0, 3.0, 1), "3"),
        (Estimate(NONE, NONE, NONE, 0), "nan"),
    ],
)
def test_an_estimate_has_its_interval_where_there_is_one(estimate: Estimate, text: str) -> None:
    assert words.estimate(estimate) == text


def test_log_ratios_read_as_changes_in_percent() -> None:
    """A tenth lower, between an eighth lower and 8% lower."""
    ratio = Estimate(math.log(0.9), math.log(0.875), math.log(0.92), 3)
    assert words.percentages(ratio.map(to_percent)) == "-10.0% [-12.5%, -8.0%]"
    assert words.percent_of_log(ratio.value) == words.percent(-10.0) == "-10.0%"
    row = {"change": 5.04, "low": NONE, "high": NONE, "n": 1, "verdict": "inconclusive"}
    assert words.percentages(estimate_of(row)) == "+5.0%"


def test_ranges_p_values_correlations_and_plurals() -> None:
    assert words.span([-0.2, -0.913, 0.4]) == "-0.91 to 0.40"
    assert words.p_value(0.03125) == "0.0312"
    assert words.correlation(Estimate(-0.8515, -0.93, -0.7, 27)) == "r = -0.85 [-0.93, -0.70]"
    assert (words.plural("seed", 1), words.plural("seed", 3)) == ("seed", "seeds")


def test_the_screen_shows_every_estimate_in_the_words_of_the_report() -> None:
    audit = read_json(REPOSITORY / "reports" / "cifar10" / "audit" / "verdicts.json")
    report = (REPOSITORY / "reports" / "cifar10" / "report.md").read_text()
    screen = io.StringIO()
    Console(file=screen, width=400).print(verdicts.claims_table(audit))
    estimates = [shown(said) for claim in audit["claims"] for said in claim["sources"].values()]
    assert sum(bool(estimate) for estimate in estimates) > 20
    for estimate in estimates:
        assert estimate in screen.getvalue()
        assert estimate in report
