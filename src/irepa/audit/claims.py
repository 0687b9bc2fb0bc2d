"""The paper's claims, and the differences between its text and its code, as ``workflow`` holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from irepa.audit.rules import Rule
from irepa.config import plugins
from irepa.config.options import Plugged, Strict
from irepa.config.plugins import plugin_options
from irepa.config.read import read_yaml, validated
from irepa.errors import ConfigError

ANY = "any"


class Claim(Strict):
    """One claim. ``decided_at``: tiers whose results may decide it; what others have printed always may.

    ``asked``: by the paper, or here, where the paper leaves something open.
    """

    statement: str
    where: str
    reported: str
    experiment: str
    decision: Plugged
    decided_at: list[str] | Literal["any"]
    asked: Literal["paper", "here"] = "paper"


class Discrepancy(Strict):
    """One difference between the paper's text and its released code."""

    about: str
    text: str
    code: str
    meaning: str
    compare: tuple[tuple[str, str], ...] = ()
    measure: str | None = None


def read_claims(workflow: Path) -> dict[str, Claim]:
    """``workflow/claims.yaml``, with the options of every rule. Raises ConfigError."""
    path = workflow / "claims.yaml"
    claims = {name: validated(Claim, row, f"{path}: {name}") for name, row in read_yaml(path).items()}
    for name, claim in claims.items():
        options_of(claim, f"{path}: {name}")
    return claims


def read_discrepancies(workflow: Path) -> dict[str, Discrepancy]:
    path = workflow / "discrepancies.yaml"
    return {name: validated(Discrepancy, row, f"{path}: {name}") for name, row in read_yaml(path).items()}


def options_of(claim: Claim, where: str) -> Rule:
    options = plugin_options("audit.rules", claim.decision, f"{where}: decision")
    if not isinstance(options, Rule):
        raise ConfigError(f"{where}: decision {claim.decision.name} is no rule")
    return options


def rule_of(claim: Claim) -> str:
    """The rule in a sentence."""
    module = plugins.load("audit.rules", claim.decision.name, "decision")
    return str(module.rule(options_of(claim, "claim")))
