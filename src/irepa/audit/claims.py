"""The paper's claims, and the differences between its text and its code, as ``workflow`` holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from irepa.audit.discrepancies import MEASURES
from irepa.audit.rules import Rule
from irepa.config import plugins
from irepa.config.options import Plugged, Strict
from irepa.config.plugins import plugin_options
from irepa.config.read import read_yaml, validated
from irepa.errors import ConfigError

ANY = "any"


class Decision(Plugged):
    """How a claim is decided: a module of `irepa/audit/rules`, and its options."""

    name: str = Field(description="The rule: a module of irepa/audit/rules. Its options stand beside this key.")


class Claim(Strict):
    """One row of `workflow/claims.yaml`: what the paper says, and the rule that decides it."""

    statement: str = Field(description="The claim, in a sentence.")
    where: str = Field(description="Where the paper makes it.")
    reported: str = Field(description="The numbers that the paper prints for it.")
    experiment: str = Field(
        description="The paper's experiment that bears on it: E1 to E7, D, H or I, as a tier's experiments say."
    )
    decision: Decision = Field(description="The rule, fixed before any result was looked at.")
    decided_at: list[str] | Literal["any"] = Field(
        description="Tiers whose results may decide it; elsewhere what they say is shown and the verdict is inconclusive. "
        "any: every tier. What others have printed may always decide."
    )
    asked: Literal["paper", "here"] = Field(
        "paper", description="Who makes it: the paper, or this project, where the paper leaves something open."
    )


class Discrepancy(Strict):
    """One row of `workflow/discrepancies.yaml`: a difference between the paper's text and its released code."""

    about: str = Field(description="What differs.")
    text: str = Field(description="What the paper's text says.")
    code: str = Field(description="What the released code does.")
    meaning: str = Field(description="What that means for a reader, and which of the two this project follows.")
    compare: tuple[tuple[str, str], ...] = Field(
        (), description="Pairs [variant, what it is compared with] of methods, whose distances measure the effect."
    )
    encoders: tuple[tuple[str, str], ...] = Field(
        (), description="The same for pairs of encoders, whose spatial metrics measure it too."
    )
    measure: str | None = Field(
        None,
        description="Another number that shows the effect, by its name in irepa/audit/discrepancies.py; null: none.",
    )


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
    rows = {name: validated(Discrepancy, row, f"{path}: {name}") for name, row in read_yaml(path).items()}
    for name, row in rows.items():
        if row.measure is not None and row.measure not in MEASURES:
            raise ConfigError.unknown(f"{path}: {name}: measure", row.measure, MEASURES)
    return rows


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
