"""The report: as a reader's browser sees it, and as a notebook that is opened by hand."""

from __future__ import annotations

import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from irepa.audit.changes import READINGS
from irepa.audit.claims import read_claims
from irepa.audit.verdicts import VERDICTS
from irepa.commands.archive import environment
from irepa.pipeline.files import Record, write_json
from irepa.report import verdicts
from irepa.report.cost import Cost, costs
from irepa.report.figures import title
from irepa.report.markdown import grid
from irepa.stages.report import ASIDE, NOTEBOOK, markdown, marked
from tests.conftest import BROWSER, REPOSITORY, WORKFLOW, browse, call, copy_project, succeed

RESULTS = Path("results") / "smoke"

# Written into a copy of the page: what the browser made of it, once everything has loaded.
PROBE = """
<script>
window.addEventListener("load", () => {
  const images = [...document.images].filter((image) => !(image.complete && image.naturalWidth > 0)).length;
  const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
  document.body.dataset.broken = images;
  document.body.dataset.images = document.images.length;
  document.body.dataset.wide = wide;
});
</script>
"""


class Page(HTMLParser):
    """Links, anchors and the headings in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))
        if values.get("id"):
            self.anchors.add(str(values["id"]))


def test_every_link_of_the_page_and_of_its_plain_twin_leads_somewhere(finished: Path) -> None:
    results = finished / RESULTS
    page = Page((results / "report.html").read_text())
    plain = (results / "report.md").read_text()
    anchors = page.anchors | set(re.findall(r'<a id="([^"]+)">', plain))
    links = page.links + re.findall(r"\]\(([^)\s]+)\)", plain)
    assert len(links) > 100
    for link in links:
        assert not link.startswith(("http:", "https:", "//")), "the page must work offline"
        target, _, anchor = unquote(link).partition("#")
        assert (results / target).exists() if target else anchor in anchors, link
    assert set(read_claims(WORKFLOW)) <= page.anchors


def test_verdicts_come_first_and_the_twin_says_the_same(finished: Path) -> None:
    html, plain = ((finished / RESULTS / f"report.{kind}").read_text() for kind in ("html", "md"))
    order = ["Verdicts", "Changes and their intervals", "Evidence, claim by claim"]
    order += ["Training recipes, beside Tables 2a and 2b", "Where text and released code differ", "Figures"]
    for titles in (re.findall(r"<h2[^>]*>([^<]+)", html), re.findall(r"^## (.+)$", plain, flags=re.MULTILINE)):
        assert titles[:6] == order
        assert titles[-1] == "Methods and environment"
    head = plain.index("## Verdicts"), plain.index("## Changes")
    rows = [line for line in plain[slice(*head)].splitlines() if line.startswith("| [")]
    assert len(rows) == len(read_claims(WORKFLOW))
    assert all(row.split(" | ")[1] in VERDICTS and row.split(" | ")[2] in VERDICTS for row in rows)
    assert html.count('class="amber">inconclusive<') >= sum("| inconclusive |" in row for row in rows)


def test_what_is_folded_away_is_inside_its_fold() -> None:
    body = "<details><summary>More</summary>\n</details>\n<table><tr><td>supported</td></tr></table><p>after</p>"
    assert marked(body) == (
        '<details><summary>More</summary><table><tr><td class="green">supported</td></tr></table></details><p>after</p>'
    )


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_shows_every_image_and_reports_no_error(finished: Path, tmp_path: Path, width: int) -> None:
    results = tmp_path / "results"
    shutil.copytree(finished / RESULTS, results)
    page = results / "report.html"
    page.write_text(page.read_text().replace("</head>", PROBE + "</head>"))
    done = browse(
        page, tmp_path, "--enable-logging=stderr", f"--window-size={width},1000", "--virtual-time-budget=5000"
    )
    assert done.returncode == 0, done.stderr
    body = re.search(r"<body([^>]*)>", done.stdout)
    assert body is not None
    assert 'data-broken="0"' in body[1], body[1]
    assert 'data-images="6"' in body[1], body[1]
    assert 'data-wide="false"' in body[1], "the page scrolls sideways"
    assert "CONSOLE" not in done.stderr, done.stderr


def opened_by_hand(project: Path, folder: Path, scratch: Path) -> nbformat.NotebookNode:
    """The notebook converted for Jupyter and run in a folder, as Jupyter would: no environment variable says what to show."""
    succeed(project, "jupytext", "--to", "notebook", "--output", str(scratch / "report.ipynb"), NOTEBOOK)
    notebook: nbformat.NotebookNode = nbformat.read(scratch / "report.ipynb", as_version=4)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IREPA")}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment | {"PYTHONPATH": str(project / "src")})
    notebook.cells = [cell for cell in notebook.cells if ASIDE not in cell.metadata.get("tags", [])]
    return notebook


@pytest.mark.parametrize("place", [".", "reports"])
def test_the_notebook_runs_by_hand_and_shows_what_the_page_shows(finished: Path, tmp_path: Path, place: str) -> None:
    shown = markdown(opened_by_hand(finished, finished / place, tmp_path))
    base = "../results/smoke/"  # Jupyter follows links from where the notebook lies
    assert f"]({base}table.csv)" in shown
    for target in re.findall(r"\]\(([^)#\s]+)\)", shown):
        assert (finished / "reports" / target).exists(), target
    assert shown.replace(base, "") == (finished / RESULTS / "report.md").read_text()


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of the project with the finished tier, to change."""
    copy = copy_project(tmp_path / "project")
    shutil.copytree(finished / RESULTS, copy / RESULTS)
    shutil.copy(finished / "params.yaml", copy)
    return copy


def test_opened_by_hand_it_says_which_results_are_out_of_date(project: Path, tmp_path: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("overrides: {}", "overrides: {title: Another}"))
    shown = markdown(opened_by_hand(project, project, tmp_path))
    assert "Made from other settings or code than the present ones: `audit`." in shown
    assert shown.startswith("# Another\n")


def test_opened_by_hand_on_a_tier_that_has_not_run_it_says_what_to_run(tmp_path: Path) -> None:
    fresh = copy_project(tmp_path / "project")
    with pytest.raises(CellExecutionError, match=r"names the tier demo, which has not run to its end; run `snakemake"):
        opened_by_hand(fresh, fresh, tmp_path)


def test_every_cell_is_short_and_introduced() -> None:
    cells = jupytext.read(REPOSITORY / NOTEBOOK).cells
    for before, cell in zip([None, *cells], cells, strict=False):
        assert len(cell.source.splitlines()) <= 12, cell.source
        if cell.cell_type == "code":
            assert before is not None, cell.source
            assert before.cell_type == "markdown", cell.source


def test_the_kernel_warns_of_nothing(project: Path) -> None:
    done = call(project, "irepa", "report")
    assert done.returncode == 0, done.stderr
    told = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ (report: (started|finished)|Executing notebook)")
    assert [line for line in done.stderr.splitlines() if not told.match(line)] == []


def test_a_cell_that_fails_is_an_error_and_leaves_no_page(project: Path) -> None:
    notebook = project / NOTEBOOK
    notebook.write_text(notebook.read_text().replace("finished = open_tier()", "finished = open_tier().nothing"))
    done = call(project, "irepa", "report")
    assert done.returncode == 1
    assert "error: reports/report.py failed" in done.stderr
    assert "has no attribute 'nothing'" in done.stderr
    assert not list((project / RESULTS).glob("report.*"))


def test_every_verdict_and_reading_has_a_meaning_and_a_colour_of_the_style_sheet() -> None:
    assert tuple(verdicts.MEANINGS) == VERDICTS
    assert set(verdicts.READINGS) == {*READINGS, "inconclusive"}
    assert set(verdicts.COLOURS) == {*VERDICTS, *READINGS}
    css = (REPOSITORY / "reports" / "style.css").read_text()
    for colour in set(verdicts.COLOURS.values()):
        assert re.search(rf"^\.{colour} {{.*background", css, flags=re.MULTILINE), colour


def test_costs_are_summed_by_stage(tmp_path: Path) -> None:
    jobs = [("data", 36.0, None, 100.0), ("train", 1800.0, 2, 700.0), ("train", 900.0, 4, 300.0)]
    records = []
    for number, (stage, seconds, threads, memory) in enumerate(jobs):
        made = {"seconds": seconds, "threads": threads, "peak_memory_mib": memory, "platform": "p", "gpu": None}
        made |= {"git_revision": None, "started": f"2026-01-0{number + 1}"}
        content = {"stage": stage, "fingerprint": "", "metrics": {}, "files": {}, "provenance": made}
        write_json(tmp_path / f"{number}.json", content)
        records.append(Record(tmp_path / f"{number}.json"))
    assert costs(records) == {"data": Cost(1, 36.0, 0.01, 100.0), "train": Cost(2, 2700.0, 2.0, 700.0)}
    assert environment(records)["core_hours"] == {"data": 0.01, "train": 2.0}


def test_a_grid_sets_numbers_to_the_right_and_leaves_out_what_is_missing() -> None:
    rows = [{"name": "a|b", "count": 3, "value": 0.12345}, {"name": "c", "count": 4, "value": float("nan")}]
    assert grid(rows, 2).splitlines() == [
        "| name | count | value |", "| :-- | --: | --: |", r"| a\|b | 3 | 0.12 |", "| c | 4 |  |",
    ]  # fmt: skip
    assert grid([]) == ""
    assert title("lds-sensitivity") == "LDS sensitivity"
