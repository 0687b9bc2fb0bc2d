"""The report as a reader's browser sees it: nothing missing, nothing from elsewhere, nothing that fails."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from irepa.audit.claims import read_claims
from irepa.audit.verdicts import VERDICTS
from irepa.stages.report import marked
from tests.conftest import WORKFLOW

RESULTS = Path("results") / "smoke"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

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
    assert html.count('class="inconclusive"') >= sum("| inconclusive |" in row for row in rows)


def test_what_is_folded_away_is_inside_its_fold() -> None:
    body = "<details><summary>More</summary>\n</details>\n<table><tr><td>supported</td></tr></table><p>after</p>"
    assert marked(body) == (
        '<details><summary>More</summary><table><tr><td class="supported">supported</td></tr></table></details><p>after</p>'
    )


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_shows_every_image_and_reports_no_error(finished: Path, tmp_path: Path, width: int) -> None:
    results = tmp_path / "results"
    shutil.copytree(finished / RESULTS, results)
    page = results / "report.html"
    page.write_text(page.read_text().replace("</head>", PROBE + "</head>"))
    assert BROWSER is not None
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
         f"--window-size={width},1000", "--virtual-time-budget=5000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    body = re.search(r"<body([^>]*)>", done.stdout)
    assert body is not None
    assert 'data-broken="0"' in body[1], body[1]
    assert 'data-images="6"' in body[1], body[1]
    assert 'data-wide="false"' in body[1], "the page scrolls sideways"
    assert "CONSOLE" not in done.stderr, done.stderr
