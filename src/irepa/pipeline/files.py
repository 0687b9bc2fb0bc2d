"""Files between stages: written whole or not at all, read with shape, dtype and checksum verified.

A stage writes its files and then its record, a JSON that lists every file with size and SHA-256. The record is the
commit: without it the files do not exist for anybody else.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from irepa.errors import CacheError, DataError, IrepaError, translated

Json = dict[str, Any]
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # no room, or no right


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; it takes the place of ``path`` if the block succeeds, and goes if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in UNWRITABLE:
            raise IrepaError(f"cannot write {path}: {error.strerror}") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """JSON with sorted keys; NaN and infinity become null, because JSON has neither."""
    write_text(path, json.dumps(_finite(value), indent=2, sort_keys=True, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, (np.floating, np.integer, np.bool_)):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def read_json(path: Path) -> Json:
    if not path.exists():
        raise CacheError(f"{path} is missing")
    with translated(CacheError, f"{path} is damaged, it is not JSON", "delete it and run again"):
        value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise CacheError(f"{path} is damaged, it holds no JSON object; delete it and run again")
    return value


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_array(path: Path, array: NDArray[Any]) -> None:
    with whole(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)


def write_array_in_parts(path: Path, shape: tuple[int, ...], dtype: DTypeLike, parts: Iterable[NDArray[Any]]) -> None:
    """Write an array larger than memory: ``parts`` follow each other along the first axis and must fill it exactly."""
    with whole(path) as temporary:
        target = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.dtype(dtype), shape=shape)
        filled = 0
        for part in parts:
            target[filled : filled + len(part)] = part
            filled += len(part)
        if filled != shape[0]:
            raise DataError(f"{path}: expected {shape[0]} rows, got {filled}")
        target.flush()
        del target


def write_array_in_shards(
    path: Path, shape: tuple[int, ...], dtype: DTypeLike, stamp: str, shard: int, make: Callable[[range], NDArray[Any]]
) -> None:
    """As :func:`write_array_in_parts`, of ``shard`` rows each, which outlast an interruption in a folder beside ``path``.

    ``make(rows)`` is asked only for what is not there. ``stamp`` says what the rows are made from: shards of another one are
    thrown away. Raises CacheError for a damaged shard.
    """
    folder = path.parent / f".{path.name}.shards"
    mark = folder / "stamp"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != stamp:
        shutil.rmtree(folder, ignore_errors=True)
        write_text(mark, stamp)

    def parts() -> Iterator[NDArray[Any]]:
        for start in range(0, shape[0], shard):
            rows = range(start, min(start + shard, shape[0]))
            file = folder / f"{start:09d}.npy"
            if not file.exists():
                write_array(file, make(rows))
            try:
                part = np.load(file, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise CacheError(f"{file} is damaged ({error}); delete it and run again") from None
            if part.shape != (len(rows), *shape[1:]) or part.dtype != np.dtype(dtype):
                raise CacheError(f"{file} is damaged: it holds {part.dtype} {part.shape}; delete it and run again")
            yield part

    write_array_in_parts(path, shape, dtype, parts())
    shutil.rmtree(folder)


def describe_file(path: Path) -> Json:
    """Size and checksum of one file, with shape and dtype for arrays: an entry of a record's ``files``."""
    entry: Json = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    if path.suffix == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        entry |= {"shape": list(array.shape), "dtype": str(array.dtype)}
    return entry


class Record:
    """The JSON of one finished job, and access to its files.

    Attributes:
        path: where the JSON lies; its files are beside it.
        content: ``stage``, ``key``, ``fingerprint``, ``inputs``, ``settings``, ``metrics``, ``files``, ``provenance``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = read_json(path)
        for key in ("fingerprint", "metrics", "files"):
            if key not in self.content:
                raise CacheError(f"{path} is damaged, it has no {key!r}; delete it and run again")
        for key in ("metrics", "files"):
            if not isinstance(self.content[key], dict):
                raise CacheError(f"{path} is damaged, its {key!r} is no object; delete it and run again")

    @property
    def metrics(self) -> Json:
        return dict(self.content["metrics"])

    @property
    def fingerprint(self) -> str:
        return str(self.content["fingerprint"])

    @property
    def failed(self) -> str | None:
        """Why the job has no result, where it ended in a failure that is itself a finding; else None."""
        message = self.content.get("failed")
        return None if message is None else str(message)

    def has(self, name: str) -> bool:
        return name in self.content["files"]

    def file(self, name: str) -> Path:
        """Path of one of the record's files, verified. Raises CacheError where it is missing, truncated or edited."""
        path = self.path.parent / name
        if self.failed is not None:
            raise CacheError(f"{self.path} has no {name}: {self.failed}")
        if name not in self.content["files"]:
            raise CacheError(f"{self.path} lists no file {name}")
        expected = self.content["files"][name]
        cure = f"delete {self.path} and run again"
        if not isinstance(expected, dict) or not {"bytes", "sha256"} <= set(expected):
            raise CacheError(f"{self.path} is damaged, it does not say what {name} is; {cure}")
        if not path.is_file():
            raise CacheError(f"{path} is missing though {self.path.name} lists it; {cure}")
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise CacheError(f"{path} is damaged: {size} bytes, {expected['bytes']} were written; {cure}")
        if sha256(path) != expected["sha256"]:
            raise CacheError(f"{path} is damaged: its content is not what was written (SHA-256 differs); {cure}")
        return path

    def array(self, name: str) -> NDArray[Any]:
        """One of the record's arrays, memory-mapped read-only, verified as :meth:`file`."""
        path = self.file(name)
        with translated(CacheError, f"{path} cannot be read as an array", f"delete {self.path} and run again"):
            array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return array
