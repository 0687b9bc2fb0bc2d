"""Arrays on disk that hold one row per image: read in any order, by any process, and held to sums taken when they were written.

A row's sum is x_0 w_0 + x_1 w_1 + ... modulo 2^64, with x_k the row's bytes in words of 64 bits, filled up with zeros, and
w_k = 2k + 1. Every change within one word is noticed, because w_k is odd; and so are words that changed places, unless they
differ by a multiple of a large power of two. It is worked out at the speed of memory, where SHA-256 would take a core.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from irepa.errors import CacheError, translated

Indices = NDArray[np.int64]
Sums = NDArray[np.uint64]


def row_sums(rows: NDArray[Any]) -> Sums:
    """The sum of each row of a contiguous array (n, ...): (n,)."""
    count = len(rows)
    width = rows.nbytes // count if count else 0
    content = rows.reshape(count, -1).view(np.uint8) if width else np.zeros((count, 0), np.uint8)
    if width % 8:
        content = np.pad(content, ((0, 0), (0, -width % 8)))
    words = content.view("<u8")
    weights = np.arange(1, 2 * words.shape[1], 2, dtype=np.uint64)
    return np.array([np.dot(row, weights) for row in words], np.uint64)


def check_sums(rows: NDArray[Any], sums: Sums, indices: Indices, file: OnDisk) -> None:
    """Raises CacheError for the first of the rows (n, ...) of the images ``indices`` (n,) that has another sum."""
    wrong = np.flatnonzero(row_sums(rows) != sums)
    if len(wrong):
        raise CacheError(f"{file.path} is damaged: row {indices[wrong[0]]} is not what was written; {file.cure}")


class Stored(ABC):
    """Rows of one kind, one per image.

    Attributes:
        shape: (images, ...).
        dtype: of a row.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def read(self, indices: Indices, out: NDArray[Any]) -> None:
        """Write the rows of these images into ``out``, (len(indices), *shape[1:]) of ``dtype``."""

    def __getitem__(self, indices: Indices | slice) -> NDArray[Any]:
        if isinstance(indices, slice):
            indices = np.arange(*indices.indices(len(self)))
        out = np.empty((len(indices), *self.shape[1:]), self.dtype)
        self.read(indices, out)
        return out


class Some(Stored):
    """Rows of another, in the order of ``indices`` (n,)."""

    def __init__(self, stored: Stored, indices: Indices) -> None:
        self.stored, self.indices = stored, indices
        self.shape, self.dtype = (len(indices), *stored.shape[1:]), stored.dtype

    def read(self, indices: Indices, out: NDArray[Any]) -> None:
        self.stored.read(self.indices[indices], out)


class Mirrored(Stored):
    """Images (n, height, width, channels) twice: row i is image i, row n + i the same as a mirror shows it, left for right."""

    def __init__(self, images: Stored) -> None:
        self.images, self.dtype = images, images.dtype
        self.shape = (2 * len(images), *images.shape[1:])

    def read(self, indices: Indices, out: NDArray[Any]) -> None:
        self.images.read(indices % len(self.images), out)
        turned = indices >= len(self.images)
        out[turned] = out[turned, :, ::-1]


class Packed(Stored):
    """Rows that are stored as texts of any length, one after another in one file, and unpacked as they are read.

    Args:
        content: (bytes,) uint8.
        index: (images, 3) uint64: of each, where it begins, how long it is, and the sum of the row (:func:`row_sums`).
        unpack: bytes -> row.

    Raises CacheError in :meth:`read` for a row that is not what was written.
    """

    def __init__(self, content: OnDisk, index: NDArray[np.uint64], unpack: Callable[[bytes], NDArray[Any]]) -> None:
        self.content, self.index, self.unpack = content, index, unpack
        first = unpack(self._packed(0))
        self.shape, self.dtype = (len(index), *first.shape), first.dtype

    def _packed(self, row: int) -> bytes:
        start, length = self.index[row, :2].tolist()
        content = np.empty((length, 1), np.uint8)
        self.content.read_range(start, content)
        return content.tobytes()

    def read(self, indices: Indices, out: NDArray[Any]) -> None:
        for place, row in enumerate(indices.tolist()):
            with translated(
                CacheError, f"{self.content.path} is damaged: image {row} cannot be unpacked", self.content.cure
            ):
                out[place] = self.unpack(self._packed(row))
        check_sums(out, self.index[indices, 2], indices, self.content)


class InMemory(Stored):
    """Rows of an array in memory, (images, ...)."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def read(self, indices: Indices, out: NDArray[Any]) -> None:
        out[...] = self.array[indices]


class OnDisk(Stored):
    """Rows of a .npy file, which each process opens for itself.

    Args:
        cure: what a user can do about a damaged row.
        sums: (images,), what :func:`row_sums` gave when the file was whole; None: rows are not checked.

    Raises CacheError for what is no array, and in :meth:`read` for a row that is not what was written.
    """

    def __init__(self, path: Path, cure: str, sums: Sums | None = None) -> None:
        self.path, self.cure, self.sums = path, cure, sums
        self._array: NDArray[Any] | None = None
        self._opened: tuple[int, BinaryIO] | None = None
        self.shape, self.dtype = self.array.shape, self.array.dtype

    @property
    def array(self) -> NDArray[Any]:
        """The whole of it, memory-mapped read-only; its rows are not checked."""
        if self._array is None:
            with translated(CacheError, f"{self.path} cannot be read as an array", self.cure):
                self._array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return self._array

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_array": None, "_opened": None}  # neither can be sent to another process

    def read(self, indices: Indices, out: NDArray[Any]) -> None:
        array = self.array
        if isinstance(array, np.memmap) and array.flags.c_contiguous and out.flags.c_contiguous:
            self._fill(indices, out)
        else:
            out[...] = array[indices]
        if self.sums is not None:
            check_sums(out, self.sums[indices], indices, self)

    def _fill(self, indices: Indices, out: NDArray[Any]) -> None:
        """Each row by one call to the system: a map would fault page by page, and wait for the disk at each stretch of it."""
        for place, index in enumerate(indices.tolist()):
            self.read_range(index, out[place : place + 1])

    def read_range(self, start: int, out: NDArray[Any]) -> None:
        """Rows that follow each other, into all of ``out``, (n, ...); they are not checked."""
        width = out.nbytes // max(1, len(out))
        content: Any = out.reshape(-1).view(np.uint8)
        left, array = memoryview(content), self.array
        if not 0 <= start <= len(self) - len(out):
            raise IndexError(f"{self.path}: rows {start} to {start + len(out)} of {len(self)}")
        assert isinstance(array, np.memmap)
        with translated(CacheError, f"{self.path} cannot be read", self.cure):
            stream = self._stream()
            stream.seek(array.offset + start * width)
            while left and (count := stream.readinto(left)):  # type: ignore[attr-defined]
                left = left[count:]
            if left:
                raise CacheError(f"{self.path} is damaged: it ends within row {start}; {self.cure}")

    def _stream(self) -> BinaryIO:
        """The file, opened by this process: one that was forked shares the place in a file that its parent has opened."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), self.path.open("rb", buffering=0)
        return self._opened[1]
