"""The README's code runs as it stands."""

from __future__ import annotations

import re

import pytest

from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_snippets_run(snippet: str) -> None:
    names: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), names)
    if "loss" in names:
        assert -0.5 <= names["loss"].item() <= 0.5


def test_files_that_it_names_exist() -> None:
    for name in re.findall(r"\]\(((?!http)[^)#]+)\)", TEXT):
        assert (REPOSITORY / name).exists(), name
    assert len(SNIPPETS) >= 2
    assert "@" not in re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL), "a placeholder is left"
