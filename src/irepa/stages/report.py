"""Execute the report notebook and write it as one page that needs nothing else: no network, no other file."""

from __future__ import annotations

import os

import jupytext
import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from irepa.errors import IrepaError
from irepa.files import Json, whole
from irepa.plan import Job
from irepa.runner import Context

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
    notebook = jupytext.read(context.plan.root / "reports" / "report.py")
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
    exporter = HTMLExporter(template_name="basic", exclude_input=True, embed_images=True)
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    body, _ = exporter.from_notebook_node(nbformat.from_dict(notebook))
    css = (context.plan.root / "reports" / "style.css").read_text(encoding="utf-8")
    page = PAGE.format(title=context.tier.title, css=css, body=body)
    with whole(context.output("report.html")) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return {"figures": sorted(figures), "bytes": len(page.encode())}
