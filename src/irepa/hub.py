"""The model hub, as error messages speak of it."""

from __future__ import annotations


def download_command(repository: str, revision: str | None) -> str:
    """What fetches a repository of the hub, pinned where a revision is known."""
    return f"hf download {repository}" + (f" --revision {revision}" if revision else "")
