"""Execute the report notebook and write it twice: as one page that works offline, and as plain Markdown."""

from __future__ import annotations

import os
import re
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from irepa.audit.changes import READINGS
from irepa.audit.verdicts import VERDICTS
from irepa.errors import IrepaError
from irepa.pipeline.files import Json, whole, write_text
from irepa.pipeline.graph import Job
from irepa.pipeline.runner import Context

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
    notebook = executed(context)
    exporter = HTMLExporter(template_name="basic", exclude_input=True, embed_images=True)
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = exporter.exclude_anchor_links = True
    where = {"metadata": {"path": str(context.plan.results)}}  # where images are looked for
    body, _ = exporter.from_notebook_node(nbformat.from_dict(notebook), resources=where)
    css = (context.plan.root / "reports" / "style.css").read_text(encoding="utf-8")
    page = PAGE.format(title=context.tier.title, css=css, body=marked(body))
    with whole(context.output("report.html")) as temporary:
        temporary.write_text(page, encoding="utf-8")
    write_text(context.output("report.md"), markdown(notebook))
    return {"figures": sorted(figures), "bytes": len(page.encode())}


def executed(context: Context) -> Any:
    """The notebook with its outputs. Raises IrepaError where a cell fails."""
    notebook = jupytext.read(context.plan.root / "reports" / "report.py")
    for number, cell in enumerate(notebook.cells):  # random otherwise, and in the page
        cell["id"] = f"cell-{number}"
    environment = {
        "IREPA_RESULTS": str(context.plan.results.resolve()),
        "IREPA_SETTINGS": context.settings.model_dump_json(),
        "IREPA_ROOT": str(context.plan.root.resolve()),
    }
    client = NotebookClient(notebook, timeout=600, kernel_name="python3")
    before = {key: os.environ.get(key) for key in environment}
    os.environ.update(environment)
    try:
        client.execute()
    except Exception as error:
        raise IrepaError(f"reports/report.py failed: {error}") from error
    finally:
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.__setitem__(key, value)
    return notebook


def markdown(notebook: Any) -> str:
    """Text cells and the Markdown that code cells show, one after another."""
    parts: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        else:
            shown = [output.get("data", {}).get("text/markdown") for output in cell.outputs]
            parts += [text for text in shown if text]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def marked(body: str) -> str:
    """Cells that hold a verdict, or what an interval reads as, get a class of that name, for colour; what is to be folded away
    stands inside its fold."""
    # nbconvert closes every HTML block where it ends, before the Markdown that follows it.
    body = re.sub(r"</summary>\s*</details>\s*(<(table|p)>.*?</\2>)", r"</summary>\1</details>", body, flags=re.DOTALL)
    for verdict in (*VERDICTS, *READINGS):
        body = re.sub(rf"<td([^>]*)>{verdict}</td>", rf'<td\1 class="{verdict.replace(" ", "-")}">{verdict}</td>', body)
    return body
