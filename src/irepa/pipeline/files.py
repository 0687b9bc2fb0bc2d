"""Files between stages: written whole or not at all, read with shape, dtype and checksum verified.

A stage writes its files and then its record, a JSON that lists every file with size and SHA-256. The record is the
commit: without it the files do not exist for anybody else.

A small file is hashed whenever it is read. A large one is hashed when its record is written, and a seal beside it,
``.NAME.seal``, says which file that was: SHA-256, size, modification time and inode, and the sum of each row of an array. While
the seal fits, the file is not hashed again, and its rows are held to their sums as they are read. Where it does not fit, because
the file was copied, pulled, touched or edited, the file is hashed and sealed anew. Seals may be deleted at will.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import math
import os
import re
import shutil
import socket
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from irepa.errors import CacheError, DataError, IrepaError, translated
from irepa.stored import Indices, OnDisk, Stored, Sums, row_sums

Json = dict[str, Any]
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room
UNWRITABLE = (*FULL, errno.EROFS, errno.EACCES, errno.EPERM)  # no room, or no right
CANNOT_RESERVE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV)  # file systems without reservation
SEALED = 64 * 2**20  # bytes: a file smaller than this is hashed in some 50 ms, at every reading
READ = 16 * 2**20  # bytes read at a time
CLOCK = 2 * 10**9  # ns: the coarsest clock of a file system. What is newer may change again without a new time
GROUP, LEVEL = 256, 6  # rows that are compressed together, and how hard: more takes longer than it saves
HEADER = 4096  # bytes: more than the header of any .npy file written here
HOST = re.sub(r"[^\w-]", "_", socket.gethostname())[:60]
UMASK = os.umask(0o077)  # what the user keeps from others; asking means setting it
os.umask(UMASK)
# Temporary files say who writes them: .NAME.HOST-PID.RANDOM and the ending of NAME.
TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<host>[\w-]+)-(?P<pid>\d+)\.\w+(\.\w+)?")

log = logging.getLogger("irepa")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; it takes the place of ``path`` if the block succeeds, and goes if not.

    What an earlier writer of ``path`` has left there, because it was killed, is removed first. Raises IrepaError, saying how much
    room there is, where the disk is full, and where there is no right to write.
    """
    handle: int | None = None
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_orphans(path.parent, path.name)
        prefix = f".{path.name}.{HOST}-{os.getpid()}."
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
        temporary = Path(name)
        _lock(handle)
        yield temporary
        os.chmod(temporary, 0o666 & ~UMASK)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in UNWRITABLE:
            raise unwritable(path, error) from error
        raise
    except IrepaError:
        raise
    except Exception as error:
        if os.strerror(errno.ENOSPC) in str(error):  # a library that has an error class of its own for it
            raise unwritable(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def unwritable(path: Path, error: OSError, needed: int | None = None) -> IrepaError:
    """The error to raise where ``path`` cannot be written: why, how much is ``needed`` (bytes) and free, where, and the cure."""
    if error.errno not in FULL:
        return IrepaError(f"cannot write {path}: {error.strerror}")
    folder = existing(path.parent)
    want = "" if needed is None else f"{size_of(needed)} are needed, "
    return IrepaError(
        f"cannot write {path}: {error.strerror}: {want}{size_of(free_bytes(folder))} are free on the file system of "
        f"{folder.resolve()}; make room there, or set `results` in params.yaml to a folder on another disk"
    )


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def free_bytes(folder: Path) -> int:
    """What a user may still write to the file system of an existing folder."""
    return shutil.disk_usage(folder).free


def size_of(count: float) -> str:
    """Bytes as people read them: ``1.5 GB``, powers of 1000."""
    if count < 1000:
        return f"{count:.0f} bytes"
    power = min(4, int(math.log10(count)) // 3)
    return f"{count / 1000**power:.1f} {('kB', 'MB', 'GB', 'TB')[power - 1]}"


def remove_orphans(folder: Path, name: str | None = None) -> list[Path]:
    """Remove the temporary files in a folder whose writers are dead; returns them.

    Those of a living process stay, and so do those of another machine, of which nothing can be known. name: only those of the
    file of this name; None: of any.
    """
    removed: list[Path] = []
    if not folder.is_dir():
        return removed
    for path in folder.iterdir():
        match = TEMPORARY.fullmatch(path.name)
        if match is None or name not in (None, match["name"]) or match["host"] != HOST:
            continue
        if not _lives(int(match["pid"])) and not _locked(path):
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _lock(handle: int) -> bool:
    """Take the lock of a file for as long as it is open; False where another process has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _locked(path: Path) -> bool:
    """Whether a process has the lock of a file: a number of a process may mean another one inside a container."""
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


def reserve(stream: BinaryIO, size: int, path: Path) -> None:
    """Have the file system set ``size`` bytes aside for a file that will be ``path``, before any work goes into it.

    Where the file system cannot, free space is compared instead, and the log says so. Raises IrepaError where there is no room.
    """
    if size == 0:
        return
    try:
        os.posix_fallocate(stream.fileno(), 0, size)
    except (AttributeError, OSError) as error:  # AttributeError: macOS has no such call
        if isinstance(error, OSError) and error.errno in FULL:
            stream.truncate(0)
            raise unwritable(path, error, size) from error
        if isinstance(error, OSError) and error.errno not in CANNOT_RESERVE:
            raise
        stream.truncate(0)
        log.warning("%s: this file system cannot reserve space; only what is free now was compared", path)
        if free_bytes(path.parent) < size:
            raise unwritable(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), size) from error


def write_text(path: Path, text: str) -> None:
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, digits: int | None = None) -> None:
    """JSON with sorted keys; NaN and infinity become null, because JSON has neither.

    digits: how many significant ones a number keeps; None: all. The last few of sixteen differ from processor to processor.
    """
    write_text(path, json.dumps(_plain(value, digits), indent=2, sort_keys=True, allow_nan=False) + "\n")


def _plain(value: Any, digits: int | None) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item, digits) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, digits) for item in value]
    if isinstance(value, (np.floating, np.integer, np.bool_)):
        value = value.item()
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return value if digits is None else float(f"{value:.{digits}g}")


def read_json(path: Path) -> Json:
    with translated(CacheError, f"{path} is damaged, it is not JSON", "delete it and run again"):
        if not path.exists():
            raise CacheError(f"{path} is missing")
        value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise CacheError(f"{path} is damaged, it holds no JSON object; delete it and run again")
    return value


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as .npy. Raises IrepaError where there is no room for it."""
    with whole(path) as temporary, temporary.open("r+b") as stream:
        reserve(stream, array.nbytes + HEADER, path)
        np.save(stream, array, allow_pickle=False)
        stream.truncate()


def write_array_in_parts(path: Path, shape: tuple[int, ...], dtype: DTypeLike, parts: Iterable[NDArray[Any]]) -> None:
    """Write an array larger than memory: ``parts`` follow each other along the first axis and must fill it exactly.

    Space is reserved before the first part is asked for, and parts are written and not mapped into memory: a disk that fills
    kills a process that has mapped a file. Raises IrepaError, with what is needed and free, where there is no room, and DataError
    for parts that do not fit ``shape``.
    """
    wanted, kind = tuple(shape[1:]), np.dtype(dtype)
    with whole(path) as temporary, temporary.open("r+b") as stream:
        described = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_1_0(stream, described)
        stream.flush()
        reserve(stream, stream.tell() + math.prod(shape) * kind.itemsize, path)
        stream.seek(0)  # a reservation that could not be had has emptied the file
        np.lib.format.write_array_header_1_0(stream, described)
        filled = 0
        for part in parts:
            if part.shape[1:] != wanted:
                raise DataError(f"{path}: expected rows of shape {wanted}, got {part.shape[1:]}")
            filled += len(part)
            if filled > shape[0]:
                break
            stream.write(np.ascontiguousarray(part, kind).data)
        if filled != shape[0]:
            more = "or more" if filled > shape[0] else ""
            raise DataError(f"{path}: expected {shape[0]} rows, got {filled} {more}".rstrip())


def write_bytes_as_array(path: Path, parts: Iterable[bytes]) -> None:
    """Write bytes whose number shows at the end as an array (bytes,) of uint8. Raises IrepaError where there is no room."""
    described = {"descr": "|u1", "fortran_order": False, "shape": (0,)}
    with whole(path) as temporary, temporary.open("r+b") as stream:
        np.lib.format.write_array_header_1_0(stream, described)
        begun = stream.tell()
        count = sum(stream.write(part) for part in parts)
        stream.seek(0)
        np.lib.format.write_array_header_1_0(stream, described | {"shape": (count,)})
        if stream.tell() != begun:  # NumPy leaves room for the digits of a shape that grows
            raise DataError(f"{path}: {count} bytes are too many for the head of their file")


class Shards:
    """Rows made in parts that outlast an interruption, by one process or by several.

    Args:
        folder: holds the finished parts and nothing else.
        stamp: what the rows are made from; parts of another one are thrown away.
    """

    def __init__(self, folder: Path, stamp: str) -> None:
        self.folder = folder
        mark = folder / "stamp"
        if not mark.is_file() or mark.read_text(encoding="utf-8") != stamp:
            self.remove()
            write_text(mark, stamp)

    def path(self, rows: range) -> Path:
        return self.folder / f"{rows.start:09d}.npz"

    def missing(self, parts: Iterable[range]) -> list[range]:
        """Those of the parts that are not there yet."""
        return [rows for rows in parts if not self.path(rows).exists()]

    def write(self, rows: range, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep a part: arrays of ``len(rows)`` rows each, by name. Raises IrepaError where there is no room."""
        with whole(self.path(rows)) as temporary, temporary.open("r+b") as stream:
            reserve(stream, sum(array.nbytes + HEADER for array in arrays.values()), self.path(rows))
            named: dict[str, Any] = dict(arrays)
            np.savez(stream, **named)
            stream.truncate()

    def read(self, rows: range) -> dict[str, NDArray[Any]]:
        """A part. Raises CacheError where it is damaged."""
        path = self.path(rows)
        with translated(CacheError, f"{path} is damaged", "delete it and run again"), np.load(path) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        if any(len(array) != len(rows) for array in found.values()):
            raise CacheError(f"{path} is damaged: it does not hold {len(rows)} rows; delete it and run again")
        return found

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def write_compressed(path: Path, shape: tuple[int, ...], dtype: DTypeLike, parts: Iterable[NDArray[Any]]) -> None:
    """Write an array as .npz of its rows in groups, each named by its first row: the same bytes for the same rows, however cut.

    ``parts`` follow each other along the first axis; numpy reads it as ``concatenate(list(load(path).values()))``, and
    :class:`Compressed` a group at a time. Raises IrepaError where there is no room, and DataError for parts that do not fit
    ``shape``.
    """
    wanted = tuple(shape[1:])
    with (
        whole(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive,
    ):
        filled = 0
        for group in _regrouped(parts, np.zeros((0, *wanted), dtype), path):
            with archive.open(f"{filled:09d}.npy", "w", force_zip64=True) as stream:  # dated 1980, as numpy's own
                np.lib.format.write_array(stream, group, allow_pickle=False)
            filled += len(group)
        if filled != shape[0]:
            raise DataError(f"{path}: expected {shape[0]} rows, got {filled}")


def _regrouped(parts: Iterable[NDArray[Any]], waiting: NDArray[Any], path: Path) -> Iterator[NDArray[Any]]:
    """The rows of ``parts`` in groups of ``GROUP``, the last with what is left; ``waiting``: no rows, of their shape and type."""
    wanted = waiting.shape[1:]
    for part in parts:
        if part.shape[1:] != wanted:
            raise DataError(f"{path}: expected rows of shape {wanted}, got {part.shape[1:]}")
        waiting = np.concatenate([waiting, part.astype(waiting.dtype)])
        full = len(waiting) - len(waiting) % GROUP
        yield from (waiting[start : start + GROUP] for start in range(0, full, GROUP))
        waiting = waiting[full:]
    if len(waiting):
        yield waiting


class Compressed(Stored):
    """An array as :func:`write_compressed` has written it; rows are decompressed as they are asked for, one group is remembered.

    Attributes:
        shape, dtype: of the whole array.
    """

    def __init__(self, path: Path) -> None:
        """Raises CacheError where the file cannot be read."""
        self.path = path
        with self._reading(), np.load(path, allow_pickle=False) as groups:
            self._starts = np.array([int(name) for name in groups.files])
            last = groups[groups.files[-1]]
        self.shape = (int(self._starts[-1]) + len(last), *last.shape[1:])
        self.dtype = last.dtype
        self._remembered: tuple[int, NDArray[Any]] = int(self._starts[-1]), last

    def read(self, indices: Indices, out: NDArray[Any]) -> None:
        """Raises CacheError where they cannot be read."""
        starts = self._starts[np.searchsorted(self._starts, indices, "right") - 1]
        for place, (index, start) in enumerate(zip(indices.tolist(), starts.tolist(), strict=True)):
            out[place] = self._group(start)[index - start]

    def _group(self, start: int) -> NDArray[Any]:
        if self._remembered[0] != start:
            with self._reading(), np.load(self.path, allow_pickle=False) as groups:
                self._remembered = start, groups[f"{start:09d}"]
        return self._remembered[1]

    def _reading(self) -> AbstractContextManager[None]:
        return translated(CacheError, f"{self.path} cannot be read as an array", "delete its record and run again")


@dataclass(frozen=True)
class Seal:
    """What was found when a file was hashed: ``status`` is its size, modification time (ns) and inode.

    ``sums`` (rows,) are those of an array's rows (:func:`irepa.stored.row_sums`), None of other files.
    """

    sha256: str
    status: tuple[int, int, int]
    sums: Sums | None

    @classmethod
    def make(cls, path: Path) -> Seal:
        """Hash a file, reading it once."""
        found, hashed = path.stat(), hashlib.sha256()
        array = _rows_of(path)
        sums: list[Sums] | None = None
        with path.open("rb") as stream:
            if array is not None:
                hashed.update(stream.read(array.offset))
                sums = [np.zeros(0, np.uint64)]
                step = max(1, READ // (array.nbytes // len(array)))
                for start in range(0, len(array), step):
                    part = np.asarray(array[start : start + step])
                    hashed.update(part.data)
                    sums.append(row_sums(part))
                stream.seek(array.offset + array.nbytes)
            while rest := stream.read(READ):
                hashed.update(rest)
        return cls(hashed.hexdigest(), _status(found), None if sums is None else np.concatenate(sums))

    @staticmethod
    def path(file: Path) -> Path:
        return file.with_name(f".{file.name}.seal")

    @classmethod
    def read(cls, file: Path) -> Seal | None:
        """The seal of a file if it has one that fits, else None."""
        try:
            with np.load(cls.path(file), allow_pickle=False) as seal:
                status = tuple(int(number) for number in seal["status"])
                found = cls(str(seal["sha256"]), (status[0], status[1], status[2]), seal.get("sums"))
        except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile):  # not there, or half of it
            return None
        return found if found.status == _status(file.stat()) else None

    def write(self, file: Path) -> None:
        """Leave it beside the file, unless another change could still get the same time, or the folder cannot be written."""
        if time.time_ns() - self.status[1] < CLOCK:
            return
        content: dict[str, Any] = {"sha256": self.sha256, "status": self.status}
        if self.sums is not None:
            content["sums"] = self.sums
        with suppress(IrepaError), whole(self.path(file)) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **content)


def _status(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino


def _rows_of(path: Path) -> np.memmap[Any, Any] | None:
    """The array of an .npy file whose rows lie one after another, memory-mapped; None for what is none, or has no rows."""
    if path.suffix != ".npy":
        return None
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    # Of one dimension a row is a number, or a byte of packed images: a sum each would be as long as the file.
    return (
        array if isinstance(array, np.memmap) and array.ndim > 1 and array.nbytes and array.flags.c_contiguous else None
    )


def digest(path: Path) -> str:
    """SHA-256 of a file; a large one is sealed."""
    if path.stat().st_size < SEALED:
        return sha256(path)
    seal = Seal.make(path)
    seal.write(path)
    return seal.sha256


def describe_file(path: Path) -> Json:
    """Size and checksum of one file, with shape and dtype for arrays: an entry of a record's ``files``."""
    entry: Json = {"bytes": path.stat().st_size, "sha256": digest(path)}
    if path.suffix in (".npy", ".npz"):
        array = Compressed(path) if path.suffix == ".npz" else np.load(path, mmap_mode="r", allow_pickle=False)
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

    @property
    def cure(self) -> str:
        """What a user can do about a damaged file."""
        return f"delete {self.path} and run again"

    def file(self, name: str, anew: bool = False) -> Path:
        """Path of one of the record's files, verified. Raises CacheError where it is missing, truncated or edited.

        anew: hash it whether or not it has a seal that fits.
        """
        path = self.path.parent / name
        if self.failed is not None:
            raise CacheError(f"{self.path} has no {name}: {self.failed}")
        if name not in self.content["files"]:
            raise CacheError(f"{self.path} lists no file {name}")
        expected = self.content["files"][name]
        cure = self.cure
        if not isinstance(expected, dict) or not {"bytes", "sha256"} <= set(expected):
            raise CacheError(f"{self.path} is damaged, it does not say what {name} is; {cure}")
        if not path.is_file():
            raise CacheError(f"{path} is missing though {self.path.name} lists it; {self._made_again()}")
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise CacheError(f"{path} is damaged: {size} bytes, {expected['bytes']} were written; {cure}")
        seal = None if anew or size < SEALED else Seal.read(path)
        if (digest(path) if seal is None else seal.sha256) != expected["sha256"]:
            raise CacheError(f"{path} is damaged: its content is not what was written (SHA-256 differs); {cure}")
        return path

    def files(self) -> list[Path]:
        """Every file that the record lists, each verified as :meth:`file`."""
        return [self.file(name) for name in self.content["files"]]

    def _made_again(self) -> str:
        """What a user can do about a file that is not there: an archive, for one, keeps the record alone."""
        if not {"stage", "key"} <= set(self.content):
            return self.cure
        job = f"{self.content['stage']} {self.content['key']}".strip()
        return f"run `irepa {job}` again, or let snakemake do it"

    def compressed(self, name: str) -> Compressed:
        """One of the record's compressed arrays, verified as :meth:`file`."""
        return Compressed(self.file(name))

    def array(self, name: str) -> NDArray[Any]:
        """One of the record's arrays, memory-mapped read-only, verified as :meth:`file`."""
        return self.rows(name).array

    def rows(self, name: str) -> OnDisk:
        """One of the record's arrays, read row by row: verified as :meth:`file`, and a sealed file's rows as they are read."""
        path = self.file(name)
        seal = Seal.read(path) if path.stat().st_size >= SEALED else None
        return OnDisk(path, self.cure, None if seal is None else seal.sums)
