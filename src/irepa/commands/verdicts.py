"""The verdicts on a terminal, and those that need no results: what the numbers of others say of the claims."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from irepa.audit.verdicts import shown
from irepa.commands.screen import screen
from irepa.pipeline.files import Json, write_json
from irepa.stages.audit import DIGITS, changes_of, document, others

COLOURS = {
    "supported": "green",
    "contradicted": "red",
    "inconclusive": "yellow",
    "cannot tell": "magenta",
    "not testable": "dim",
}


def of_others(workflow: Path, released: Path | None, output: Path | None = None) -> Json:
    """The audit of what others have published, as :func:`irepa.stages.audit.document`; nothing has to be trained.

    workflow: the folder of the claims. released: the authors' released statistics, where they have been downloaded.
    output: where to write the audit as JSON too.
    """
    sources = others(released)
    audit = document(workflow, sources, changes_of(workflow, sources))
    if output is not None:
        write_json(output, audit, DIGITS)
    return audit


def show(audit: Json) -> None:
    """Print an audit: its claims by source, what else the evidence says, and notes on the sources."""
    console = screen(120)
    console.print(claims_table(audit))
    console.print(checks_table(audit))
    for source in audit["sources"]:
        for note in source["notes"]:
            console.print(f"{source['name']}: {note}")


def claims_table(audit: Json) -> Table:
    """A row per claim, a column per source: the verdict, the estimate and why."""
    names = [source["name"] for source in audit["sources"]]
    table = Table("claim", *names, title="The paper's claims", show_lines=True)
    for claim in audit["claims"]:
        said = [_cell(claim["sources"][name]) for name in names]
        table.add_row(Text.assemble((claim["id"], "bold"), "\n", claim["statement"]), *said)
    return table


def checks_table(audit: Json) -> Table:
    """A row per further statistic of a claim and a source."""
    table = Table("claim", "source", "check", "value", "n", title="What else the evidence says")
    for claim in audit["claims"]:
        for source, said in claim["sources"].items():
            for check in said.get("checks", []):
                n = "" if check["n"] is None else str(check["n"])
                table.add_row(claim["id"], source, Text(check["what"]), Text(check["value"]), n)
        table.add_section()
    return table


def _cell(said: Json) -> Text:
    """What one source says of one claim: verdict, estimate and reason."""
    estimate = shown(said)
    value = f"\n{estimate}, n = {said['n']}" if estimate else ""
    return Text.assemble((said["verdict"], COLOURS[said["verdict"]]), value, "\n", (said["reason"], "dim"))
