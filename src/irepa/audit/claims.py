"""The paper's claims, and the differences between its text and its code, as ``workflow`` holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from irepa.audit.rules import Rule
from irepa.config import plugins
from irepa.config.options import Plugged, Strict
from irepa.config.plugins import plugin_options
from irepa.config.read import read_yaml, validated
from irepa.errors import ConfigError

ANY = "any"
Measure = Literal["lds-variants", "shared-fid", "repeated-fid"]  # functions of irepa.audit.discrepancies


class Claim(Strict):
    """One claim of the paper, and the rule that decides it."""

    statement: str = Field(description="What is claimed, in a sentence.")
    where: str = Field(description="Where the paper says so.")
    reported: str = Field(description="The numbers that the paper prints for it.")
    experiment: str = Field(description="The paper's experiment that bears on it, E1 to E7, I (interventions) or any.")
    decision: Plugged = Field(description="The rule that decides it, a module of irepa/audit/rules, with its options.")
    decided_at: list[str] | Literal["any"] = Field(
        description="Tiers whose results may decide it, or any; what others have printed always may."
    )
    asked: Literal["paper", "here"] = Field(
        "paper", description="Who asks: the paper, or this project, where the paper leaves something open."
    )


class Discrepancy(Strict):
    """One difference between the paper's text and its released code."""

    about: str = Field(description="What differs.")
    text: str = Field(description="What the paper's text says.")
    code: str = Field(description="What its released code does.")
    meaning: str = Field(description="What follows from it, and which of the two this project does.")
    compare: tuple[tuple[str, str], ...] = Field(
        (), description="Pairs [variant, base] of methods whose distances measure the effect."
    )
    measure: Measure | None = Field(None, description="Another number that shows the effect; null: none.")


def read_claims(workflow: Path) -> dict[str, Claim]:
    """``workflow/claims.yaml``, with the options of every rule. Raises ConfigError."""
    path = workflow / "claims.yaml"
    claims = {name: validated(Claim, row, f"{path}: {name}") for name, row in read_yaml(path).items()}
    for name, claim in claims.items():
        options_of(claim, f"{path}: {name}")
    return claims


def read_discrepancies(workflow: Path) -> dict[str, Discrepancy]:
    """``workflow/discrepancies.yaml``. Raises ConfigError."""
    path = workflow / "discrepancies.yaml"
    return {name: validated(Discrepancy, row, f"{path}: {name}") for name, row in read_yaml(path).items()}


def options_of(claim: Claim, where: str) -> Rule:
    """The validated options of a claim's rule. Raises ConfigError, naming ``where`` the claim stands."""
    options = plugin_options("audit.rules", claim.decision, f"{where}: decision")
    if not isinstance(options, Rule):
        raise ConfigError(f"{where}: decision {claim.decision.name} is no rule")
    return options


def rule_of(claim: Claim) -> str:
    """A claim's rule, with its numbers, in one or two sentences."""
    module = plugins.load("audit.rules", claim.decision.name, "decision")
    return str(module.rule(options_of(claim, "claim")))
