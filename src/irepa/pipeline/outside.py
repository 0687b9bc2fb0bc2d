"""What lies outside the repository: which files a user's dataset, checkpoint or weights are, told by content where that is cheap.

The identity of a path is a short text that stands in fingerprints and records:

- ``content <files> files <SHA-256>``: of the names and contents of all files, where there are few and small ones. Copying or
  touching them changes nothing.
- ``listing <files> files <SHA-256>``: of the names, sizes and modification times (in ns) of all files otherwise, because reading
  gigabytes at every start takes too long. A million files take some seconds.

Names are relative to the path. Hidden folders (``.cache``, ``.ipynb_checkpoints``) do not count, links are followed, and each
file is asked for once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from irepa.errors import DataError
from irepa.pipeline.files import read_json, sha256, write_text

HASHED_BYTES = 256 * 2**20  # in all: CIFAR-10 is hashed (0.2 s), ImageNet and a checkpoint of a large network are not
HASHED_FILES = 10_000
IDENTITIES = "IREPA_OUTSIDE"  # the environment variable that tells jobs where the run's identities are

Entry = tuple[str, os.stat_result]  # the path of a file, and what the system says of it


def below(folder: str, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[os.DirEntry[str]]:
    """All that is no folder below a folder, in order of their names; links are followed, hidden folders are not looked at.

    ``above``: the folders that it is in, against links in a circle. Raises OSError.
    """
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        if entry.is_dir():
            if not entry.name.startswith("."):
                yield from below(entry.path, above | {here})
        else:
            yield entry


def identity(path: Path) -> str | None:
    """Which file, or which files of a folder, a path names now; None where there is none.

    Raises DataError where it cannot be read.
    """
    try:
        return _identity(str(path))
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {error.strerror}") from None


def _identity(path: str) -> str | None:
    entries: Iterator[Entry]
    if os.path.isdir(path):
        # no link to nowhere
        entries, start = ((entry.path, entry.stat()) for entry in below(path) if entry.is_file()), len(path) + 1
    elif os.path.isfile(path):
        entries, start = iter([(path, os.stat(path))]), len(path)
    else:
        return None
    listing, count, size = hashlib.sha256(), 0, 0
    small: list[str] | None = []  # None once there is too much to read
    for name, status in entries:
        count, size = count + 1, size + status.st_size
        listing.update(f"{name[start:]!r} {status.st_size} {status.st_mtime_ns}\n".encode())
        if size > HASHED_BYTES or count > HASHED_FILES:
            small = None
        if small is not None:
            small.append(name)
    if count == 0:
        return None
    if small is None:
        return f"listing {count} files {listing.hexdigest()}"
    content = hashlib.sha256()
    for name in small:
        content.update(f"{name[start:]!r} {sha256(Path(name))}\n".encode())
    return f"content {count} files {content.hexdigest()}"


class Outside:
    """Identities of paths, each worked out once.

    A run works them out when it starts and hands them to its jobs (:meth:`hand_over`, :meth:`handed_over`), so that a dataset of
    a million files is not listed again by each of a thousand jobs.
    """

    def __init__(self, known: dict[str, str | None] | None = None) -> None:
        self._known = dict(known or {})

    @classmethod
    def handed_over(cls) -> Outside:
        """What the run that started this process has worked out; nothing where none has."""
        file = os.environ.get(IDENTITIES)
        return cls() if not file else cls.read(Path(file))

    @classmethod
    def read(cls, file: Path) -> Outside:
        """What :meth:`hand_over` wrote; nothing where it has not."""
        return cls(read_json(file) if file.is_file() else None)

    def hand_over(self, file: Path) -> None:
        """Write what has been worked out, for :data:`IDENTITIES` to name."""
        write_text(file, json.dumps(self._known, indent=2, sort_keys=True) + "\n")

    def __getitem__(self, path: Path) -> str | None:
        if str(path) not in self._known:
            self._known[str(path)] = identity(path)
        return self._known[str(path)]
