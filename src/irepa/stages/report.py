"""Execute the report notebook and write it twice: as one page that works offline, and as plain Markdown."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from traitlets.config import Config

from irepa.errors import IrepaError
from irepa.pipeline.files import Json, write_text
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import Context
from irepa.report.tier import hand_over
from irepa.report.verdicts import COLOURS

NOTEBOOK = "reports/report.py"
LONGEST = 80  # characters: the path of a socket may have little more than a hundred
ASIDE = "remove-cell"  # the tag, known from Jupyter Book, of cells that the page leaves out

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{css}
</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def run(context: Context) -> Json:
    # Read the records first: a damaged figure is named here, not somewhere inside the notebook.
    figures = {name: context.plan.record(Job("figure", name)) for name in context.tier.figures}
    for name, record in figures.items():
        if record.failed is None:
            record.file(f"{name}.png")
    context.input("audit").file("verdicts.json")
    notebook = executed(context.plan)
    css = (context.plan.root / "reports" / "style.css").read_text(encoding="utf-8")
    page = PAGE.format(title=context.tier.title, css=css, body=body(notebook, context.plan.results))
    write_text(context.output("report.html"), page)
    write_text(context.output("report.md"), markdown(notebook))
    return {"figures": sorted(figures), "bytes": len(page.encode())}


def executed(plan: Plan) -> NotebookNode:
    """The notebook of a finished tier, with its outputs and without the cells that are for its own reader alone.

    Raises IrepaError where a cell fails.
    """
    notebook: NotebookNode = jupytext.read(plan.root / NOTEBOOK)
    for number, cell in enumerate(notebook.cells):  # random otherwise, and in the page
        cell["id"] = f"cell-{number}"
    with tempfile.TemporaryDirectory(prefix="irepa-") as folder:
        client = NotebookClient(notebook, timeout=600, kernel_name="python3", config=sockets(folder))
        try:
            client.execute(env=os.environ | hand_over(plan, Path(folder) / "tier.json"))
        except CellExecutionError as error:  # its own text is the whole of the notebook's traceback
            raise IrepaError(f"{NOTEBOOK} failed: {error.ename}: {error.evalue}") from error
        except Exception as error:
            raise IrepaError(f"{NOTEBOOK} failed: {error}") from error
    notebook.cells = [cell for cell in notebook.cells if ASIDE not in cell.metadata.get("tags", [])]
    return notebook


def sockets(folder: str) -> Config:
    """Have the kernel talk through sockets in a folder instead of network ports, which it would warn of."""
    short = len(folder) <= LONGEST
    return Config(KernelManager={"transport": "ipc", "connection_file": f"{folder}/kernel.json"}) if short else Config()


def body(notebook: NotebookNode, results: Path) -> str:
    """The page's content as HTML: text and outputs without code; images, whose paths are below ``results``, inside."""
    exporter = HTMLExporter(template_name="basic", exclude_input=True, embed_images=True)
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = exporter.exclude_anchor_links = True
    html, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"path": str(results)}})
    return marked(html)


def markdown(notebook: NotebookNode) -> str:
    """Text cells and the Markdown that code cells show, one after another."""
    parts: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        else:
            shown = [output.get("data", {}).get("text/markdown") for output in cell.outputs]
            parts += [text for text in shown if text]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def marked(html: str) -> str:
    """Cells of tables that hold a verdict, or what an interval reads as, get their colour; folds hold what they fold away."""
    # nbconvert closes every HTML block where it ends, before the Markdown that follows it.
    html = re.sub(r"</summary>\s*</details>\s*(<(table|p)>.*?</\2>)", r"</summary>\1</details>", html, flags=re.DOTALL)
    for word, colour in COLOURS.items():
        html = re.sub(rf"<td([^>]*)>{word}</td>", rf'<td\1 class="{colour}">{word}</td>', html)
    return html
