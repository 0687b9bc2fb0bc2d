"""Pieces of Markdown. All that the report shows is Markdown, so that the page and its plain twin are one text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from irepa.audit.summary import table


def show(*texts: str) -> None:
    """Show texts in the notebook, one after another; empty ones are left out."""
    from IPython.display import Markdown, display

    for text in filter(None, texts):
        display(Markdown(text))  # type: ignore[no-untyped-call]


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def grid(rows: pd.DataFrame | Sequence[Mapping[str, object]], digits: int = 3) -> str:
    """A table: text to the left, numbers to the right, whole ones without decimals, nothing for NaN. Empty without rows."""
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    if frame.empty:
        return ""
    numbers = {column for column, name in enumerate(frame) if pd.api.types.is_numeric_dtype(frame[name])}
    cells = [[_cell(value, digits) for value in row] for row in frame.itertuples(index=False)]
    return table([str(name) for name in frame], cells, numbers)


def _cell(value: object, digits: int) -> str:
    if value is None or value is pd.NA or value != value:  # NaN alone differs from itself
        return ""
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def folded(title: str, text: str) -> str:
    """Text that the reader unfolds."""
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>"


def titled(title: str, anchor: str) -> str:
    """A heading of the third level that links may lead to."""
    return f'<a id="{anchor}"></a>\n\n### {title}'


def paragraphs(*texts: str) -> str:
    """Texts one below another; empty ones are left out."""
    return "\n\n".join(filter(None, texts))
