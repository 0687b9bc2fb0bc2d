"""The README's code runs as it stands."""

from __future__ import annotations

import re

import pytest

from irepa.audit.summary import summary
from irepa.commands.archive import Archive
from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_snippets_run(snippet: str) -> None:
    names: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), names)
    if "loss" in names:
        assert -0.5 <= names["loss"].item() <= 0.5


def test_its_results_are_those_of_the_archive() -> None:
    """What stands between the markers is what `irepa summary` prints of the committed numbers."""
    shown = re.findall(r"<!-- irepa summary (\S+) -->\n(.*?)<!-- end -->", TEXT, flags=re.DOTALL)
    assert shown
    for folder, text in shown:
        path = REPOSITORY / folder
        assert text.strip() == summary(path, Archive(path, REPOSITORY).settings.params.tier).strip()


def test_files_that_it_names_exist() -> None:
    for name in re.findall(r"\]\(((?!http)[^)#]+)\)", TEXT):
        assert (REPOSITORY / name).exists(), name
    assert len(SNIPPETS) >= 2
    assert "@" not in re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL), "a placeholder is left"
