"""README and docs: links lead somewhere, code runs, what they name exists, and tables are those of the archive."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from irepa.audit.claims import read_claims
from irepa.audit.summary import MARKED, SHORT, documents, fill, filled, summary
from irepa.cli import app
from irepa.commands.archive import Archive
from irepa.config.load import load_settings, tier_names
from irepa.config.options import Plugged, Strict
from irepa.config.tier import Tier
from irepa.errors import ConfigError
from irepa.pipeline.plan import Plan
from tests.conftest import REPOSITORY, WORKFLOW

README = REPOSITORY / "README.md"
PAGES = documents(REPOSITORY)
NAMES = [page.relative_to(REPOSITORY).as_posix() for page in PAGES]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
FOLDERS = ("src", "workflow", "docs", "reports", "tests", "benchmarks")
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
TARGETS = set(re.findall(r"^([\w./-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
SNIPPETS = [text for language, text in FENCE.findall(README.read_text()) if language == "python"]

each_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)


def prose(text: str) -> str:
    return FENCE.sub("", text)


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub links to them, and the anchors that it sets itself."""
    text = prose(page.read_text())
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles]
    return {*slugs, *re.findall(r'id="([^"]+)"', text)}


def spoken(text: str) -> Iterator[list[str]]:
    """Every command line that a page shows, in blocks and between backquotes, as words; comments are left out."""
    blocks = [part for language, part in FENCE.findall(text) if language == "sh"]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *re.findall(r"`([^`]+)`", prose(text))]:
        for command in line.replace("\n", " ").split("&&"):
            if command.strip().startswith(("irepa ", "make ", "snakemake ", "dvc ")):
                yield shlex.split(command, comments=True)


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text())):
        if "://" in link:
            continue
        name, _, heading = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link}: no such file"
        assert not heading or heading in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", [page for page in PAGES if page != README], ids=[n for n in NAMES if n != "README.md"])
def test_every_page_is_found_from_the_readme(page: Path) -> None:
    assert f"({page.relative_to(REPOSITORY).as_posix()})" in README.read_text()


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 150
    assert len(SNIPPETS) == 2


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_snippets_run(snippet: str) -> None:
    names: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), names)
    if "loss" in names:
        assert -0.5 <= names["loss"].item() <= 0.5  # type: ignore[attr-defined]


@each_page
def test_commands_exist(page: Path) -> None:
    for program, *words in spoken(page.read_text()):
        if program == "irepa" and not words[0].startswith("<"):
            assert words[0] in COMMANDS, f"irepa {words[0]}"
            options = {name for parameter in COMMANDS[words[0]].params for name in parameter.opts}
            given = {word.partition("=")[0] for word in words if word.startswith("-")}
            assert given <= options, f"irepa {words[0]}: {given - options}"
        if program == "make":
            assert words[0] in TARGETS, f"make {words[0]}"


@each_page
def test_tiers_exist(page: Path) -> None:
    named = re.findall(r"(?:--tier |--config tier=|-S tier=|TIER=)([\w-]+)", page.read_text())
    assert set(named) - {"TIER", "NAME"} <= set(tier_names(WORKFLOW))


def test_every_tier_is_described() -> None:
    described = re.findall(r"^\| `([\w-]+)`", (REPOSITORY / "docs" / "tiers.md").read_text(), flags=re.MULTILINE)
    assert sorted(described) == sorted(tier_names(WORKFLOW))


@each_page
def test_files_and_modules_that_it_names_exist(page: Path) -> None:
    for name in re.findall(r"`([\w./-]+)`", prose(page.read_text())):
        if name.partition("/")[0] in FOLDERS and "/" in name and "NAME" not in name:
            assert (REPOSITORY / name).exists(), name
        if re.fullmatch(r"irepa(\.\w+)+", name):
            assert importlib.util.find_spec(name) is not None, name


@each_page
def test_settings_that_it_names_exist(page: Path) -> None:
    """A dotted key of the tier file, `training.steps: 500`; what a plug-in adds is not looked up."""
    for part, key in re.findall(r"`(?:overrides: )?\{?([a-z_]+)\.(?!py\b)(\w+)", prose(page.read_text())):
        if part in Tier.model_fields:
            kind = Tier.model_fields[part].annotation
            if isinstance(kind, type) and issubclass(kind, Strict) and not issubclass(kind, Plugged):
                assert key in kind.model_fields, f"{part}.{key}"


def test_the_rule_graph_is_that_of_the_demo() -> None:
    drawn = re.findall(r"<text[^>]*>([^<]+)</text>", (REPOSITORY / "docs" / "rulegraph.svg").read_text())
    jobs = Plan(load_settings({"tier": "demo"}, WORKFLOW), REPOSITORY).jobs()
    assert set(drawn) == {job.stage for job in jobs} | {"reproduce"}, "make docs/rulegraph.svg"


def test_every_folder_of_the_package_is_described() -> None:
    text = (REPOSITORY / "docs" / "extending.md").read_text()
    parts = [path for path in (REPOSITORY / "src" / "irepa").iterdir() if not path.name.startswith(("__", "."))]
    named = [f"`{path.name}{'/' if path.is_dir() else ''}`" for path in parts if path.suffix in ("", ".py")]
    assert [name for name in named if name not in text] == []


def tables_of(archive: str) -> dict[str, str]:
    folder = REPOSITORY / archive
    return summary(folder, Archive(folder, REPOSITORY).settings.params.tier)


@each_page
def test_tables_are_those_of_the_archive(page: Path) -> None:
    text = page.read_text()
    assert text.count("<!-- irepa") == text.count("<!-- end -->") == len(MARKED.findall(text))
    for mark in MARKED.finditer(text):
        assert mark["text"].strip() == tables_of(mark["archive"])[mark["table"]], (
            f"irepa summary {mark['archive']} --write"
        )


def test_tables_are_filled_in_where_they_are_marked(tmp_path: Path) -> None:
    for page in PAGES:
        copy = tmp_path / page.relative_to(REPOSITORY)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(MARKED.sub("<!-- irepa summary \\g<archive> \\g<table> -->\n<!-- end -->", page.read_text()))
    archives = sorted({mark["archive"] for page in PAGES for mark in MARKED.finditer(page.read_text())})
    written = [path for archive in archives for path in fill(tmp_path, archive, tables_of(archive))]
    assert {path.relative_to(tmp_path).as_posix() for path in written} == {"README.md", "docs/findings.md"}
    assert [(tmp_path / name).read_text() for name in NAMES] == [page.read_text() for page in PAGES]
    assert [fill(tmp_path, archive, tables_of(archive)) for archive in archives] == [[]] * len(archives)


NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?%|\[[^\]]*\d\]|\d+ of \d+|[-+]?\d+\.\d+|\d+ networks")
SAID = {  # how a sentence says a verdict
    "supported": r"\b(supports|predicts|beats|better|higher|lower)\b",
    "contradicted": r"\bcontradicted\b",
    "inconclusive": r"\bleft (open|undecided)\b",
    "cannot tell": r"\bsays nothing\b",
}


def test_each_sentence_about_results_says_the_verdicts_and_numbers_that_it_rests_on() -> None:
    """A comment behind it names the claims, each by source; what is behind the last one of a paragraph holds no number."""
    verdicts = json.loads((REPOSITORY / "reports" / "cifar10" / "audit" / "verdicts.json").read_text())
    claims = {claim["id"]: claim for claim in verdicts["claims"]}
    section = README.read_text().split("## What it found")[1].split("\n## ")[0].rpartition("<!-- end -->")[2]
    checked = 0
    for paragraph in section.strip().split("\n\n"):
        *marked, rest = re.split(r"<!-- rests on ([^>]+) -->", " ".join(paragraph.split()))
        assert not re.search(r"\d%|\[[-+]?\d", rest), f"rests on no claim: {rest}"
        for sentence, named in zip(marked[::2], marked[1::2], strict=True):
            rows = [(claims[name], source) for source, name in (word.split("/") for word in named.split())]
            evidence = [json.dumps([claim.get("reported"), claim["sources"][source]]) for claim, source in rows]
            found = {claim["sources"][source]["verdict"] for claim, source in rows}
            for verdict, words in SAID.items():
                said = re.search(words, sentence)
                assert said or verdict not in found, f"does not say {verdict}: {sentence}"
                assert not said or verdict in found | {"supported"}, (
                    f"says {verdict}, which none of its claims is: {sentence}"
                )
            for number in NUMBER.findall(sentence):
                assert any(number in text for text in evidence), f"{number} is in no claim of: {sentence}"
                checked += 1
    assert checked >= 4


def test_the_command_prints_every_table() -> None:
    done = CliRunner().invoke(app, ["summary", str(REPOSITORY / "reports" / "cifar10"), "--root", str(REPOSITORY)])
    assert done.exit_code == 0, done.output
    tables = tables_of("reports/cifar10")
    assert {"claims", "counts", "caption-correlation"} <= set(tables)
    assert all(f"{name}\n\n{table}\n" in done.output for name, table in tables.items())


def test_only_known_tables_of_the_archive_are_filled_in() -> None:
    other = "<!-- irepa summary reports/other claims -->\nold\n<!-- end -->"
    assert filled(other, "reports/cifar10", {"claims": "new"}) == other
    assert filled(other, "reports/other", {"claims": "new"}) == other.replace("old", "new")
    with pytest.raises(ConfigError, match="claims"):
        filled(other, "reports/other", {"changes": "new"})


def test_the_short_table_names_claims() -> None:
    assert 0 < len(SHORT) <= 12
    assert set(SHORT) <= set(read_claims(WORKFLOW))
    head, _, *rows = tables_of("reports/cifar10")["claims-short"].splitlines()
    assert head == "| claim | published | here |"
    row = dict(zip(SHORT, rows, strict=True))["srss-predicts"]
    assert row.startswith("| SRSS predicts generation | supported, r = -0.92 [-0.96, -0.81] | cannot tell, r = 0.72")


def test_every_claim_of_the_paper_is_counted_once_for_each_source() -> None:
    first, *sources = tables_of("reports/cifar10")["counts"].splitlines()
    total = int(re.findall(r"\d+", first)[0])
    assert total == sum(claim.asked == "paper" for claim in read_claims(WORKFLOW).values())
    assert [sum(map(int, re.findall(r"\d+", line))) for line in sources] == [total, total]


def test_the_tests_that_the_guides_name_exist() -> None:
    named = {pair for page in PAGES for pair in re.findall(r"(test_\w+)::(test_\w+)", page.read_text())}
    assert len(named) > 20
    for module, name in sorted(named):
        assert f"\ndef {name}(" in (REPOSITORY / "tests" / f"{module}.py").read_text(), f"{module}::{name}"
