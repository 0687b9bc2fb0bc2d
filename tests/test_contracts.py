"""The guides in the docstrings of rules, evidence and figures: their complete examples run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from irepa import figures
from irepa.audit import evidence, rules
from irepa.audit.evidence import NotTestable
from irepa.commands.archive import Archive
from irepa.config import plugins
from irepa.figures._drawing import save
from irepa.pipeline.graph import Job
from irepa.pipeline.runner import Context
from tests.conftest import REPOSITORY, guide_of

ARCHIVE = Archive(REPOSITORY / "reports" / "cifar10", REPOSITORY)


def example(package: ModuleType) -> ModuleType:
    """The example of a package's guide, as a module."""
    module = ModuleType("example")
    sys.modules["example"] = module  # where pydantic looks up the names in annotations
    exec(compile(guide_of(package), "example", "exec"), module.__dict__)
    return module


def test_the_example_of_a_figure_is_one(tmp_path: Path) -> None:
    module = example(figures)
    settings = ARCHIVE.settings
    assert module.needs(settings, "ablation") == [Job("table")]
    context = Context(ARCHIVE, Job("figure", "ablation"))
    experiment = context.tier.figures["ablation"].experiment
    frame = module.collect(context, experiment)
    cells = figures.cells_of(settings, experiment)
    records = [json.loads(ARCHIVE.record_path(Job("evaluate", str(cell))).read_text()) for cell in cells]
    assert sorted(frame["fd"]) == pytest.approx(
        sorted(record["metrics"]["FD-EffLite2"] for record in records), rel=1e-6
    )
    save(module.draw(frame), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert f"{frame['fd'].min():.1f}" in module.caption(frame)


def test_the_examples_of_evidence_and_of_a_rule_fit_together() -> None:
    source, module = example(evidence).evidence, example(rules)
    options = module.Options(relation="below", threshold=30, minimum=2)
    finding = module.decide(source, "E4", options)
    assert finding.estimate.value == 30
    assert finding.sufficient
    assert finding.decided is False, "30 is not below 30"
    assert module.rule(options) == "The smallest distance over encoders is below 30, over at least 2 encoders."
    assert not module.decide(source, "E4", module.Options(relation="below")).sufficient
    with pytest.raises(NotTestable, match="no run of experiment E1"):
        module.decide(source, "E1", options)


def test_every_rule_and_figure_keeps_the_contract() -> None:
    for name in plugins.names("figures"):
        module = plugins.load("figures", name, "test")
        assert all(callable(getattr(module, part)) for part in ("needs", "collect", "draw", "caption")), name
    for name in plugins.names("audit.rules"):
        module = plugins.load("audit.rules", name, "test")
        assert callable(module.rule)
        assert callable(module.decide)
        assert issubclass(module.Options, rules.Rule)
