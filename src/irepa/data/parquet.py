"""Datasets in the public hub's Parquet layout: an image column of {bytes, path} and an integer label column.

CIFAR-10 and ImageNet-1k are published in this form; ``train`` and ``test`` are files or folders of ``*.parquet``.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.data import Split, Splits
from irepa.errors import DataError, gather, refuse, translated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from irepa.images import Images

BATCH = 256
MOST = 2**31 - 1  # the largest label that is believed


class Place(NamedTuple):
    """A file of a split, and the number of its first image in the split."""

    file: Path
    start: int


class Options(Strict):
    train: Path = Field(description="File, or folder of *.parquet files, with the training images.")
    test: Path = Field(description="File, or folder of *.parquet files, with the held-out images.")
    image_column: str = Field("image", description="Name of the column of images.")
    label_column: str = Field("label", description="Name of the column of labels, which count from 0.")
    class_names: list[str] | None = Field(None, min_length=1, description="In label order; null: the numbers.")
    train_images: Positive | None = Field(None, description="Use only the first so many; null: all.")
    test_images: Positive | None = Field(None, description="Use only the first so many; null: all.")


def at_most(options: Options) -> tuple[int | None, int | None]:
    """The most training and held-out images; None where there is no limit."""
    return options.train_images, options.test_images


def paths(options: Options) -> list[Path]:
    """What is read: both splits."""
    return [options.train, options.test]


def check(options: Options) -> None:
    """Raises DataError where a path is missing, holds no Parquet file, or has other columns or labels than it should.

    Without pyarrow, as where jobs run in an environment of their own, only the paths are looked at.
    """
    splits = {"train": options.train, "test": options.test}
    refuse(gather(functools.partial(_has_columns, path, key, options) for key, path in splits.items()))
    if importlib.util.find_spec("pyarrow") is not None:
        _labels(options)


def _has_columns(path: Path, key: str, options: Options) -> None:
    files = _files(path, key)
    if importlib.util.find_spec("pyarrow") is not None:
        for file in files:
            _check_columns(file, options)


def _files(path: Path, key: str) -> list[Path]:
    where = f"dataset.{key} = {path}"
    with translated(DataError, f"{where} cannot be read", "see that it may be read"):
        if not path.exists():
            raise DataError(
                f"{where}: there is no such file or folder; set dataset.{key} under overrides in params.yaml"
            )
        # Path.glob would pass over a folder that may not be read.
        files = [path]
        if path.is_dir():
            files = [path / name for name in sorted(os.listdir(path)) if fnmatch(name, "[!.]*.parquet")]
        if not files:
            raise DataError(f"{where}: the folder holds no *.parquet file")
        for file in files:
            if not file.is_file():
                raise DataError(f"{file}: it is a folder, a pipe or a link to nowhere and no file; move it away")
    return files


def _reading(file: Path) -> AbstractContextManager[None]:
    return translated(
        DataError, f"{file} cannot be read as Parquet", "fetch it again, or set dataset.* to the right file"
    )


def _check_columns(file: Path, options: Options) -> None:
    """Raises DataError where a column is missing, is not one of images, or is not one of whole numbers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _reading(file):
        schema = pq.read_schema(file)
        for key, column in (("image_column", options.image_column), ("label_column", options.label_column)):
            if schema.names.count(column) != 1:
                raise DataError(f"dataset.{key} = {column}: {file} has the columns {', '.join(schema.names)}")
        content = schema.field(options.image_column).type
        parts = {part.name: part.type for part in content} if pa.types.is_struct(content) else {}
        if "path" not in parts or parts.get("bytes") not in (pa.binary(), pa.large_binary()):
            raise DataError(
                f"dataset.image_column = {options.image_column}: {file} holds {content}, not bytes and path; write it anew with "
                "each image's file as its bytes"
            )
        kind = schema.field(options.label_column).type
        if not pa.types.is_integer(kind):
            rows = enumerate(_rows(file, options.label_column))
            odd = ((row, label) for row, label in rows if not isinstance(label, (float, int)) or label % 1)
            seen = next(
                (f", row {row}: the label is {label!r} ({kind})" for row, label in odd), f" holds labels of {kind}"
            )
            raise DataError(
                f"dataset.label_column = {options.label_column}: {file}{seen}; labels are whole numbers from 0: write the column "
                "anew as int64"
            )


def _tells_of_null(metadata: Any, column: str, count: int) -> bool:
    """Whether a file's own statistics say that among its first images, or beside them in a row group, one is null."""
    start = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        chunks = map(group.column, range(group.num_columns))
        told = next(chunk.statistics for chunk in chunks if chunk.path_in_schema == f"{column}.bytes")
        if start < count and told and told.null_count:
            return True
        start += group.num_rows
    return False


def _rows(file: Path, column: str) -> Iterator[Any]:
    """The cells of a column, in order. Raises DataError."""
    import pyarrow.parquet as pq

    with _reading(file):
        for batch in pq.ParquetFile(file).iter_batches(BATCH, columns=[column]):
            yield from batch.column(0).to_pylist()


def _labels_of(options: Options, key: str, path: Path, limit: int | None) -> tuple[NDArray[np.int64], list[Place]]:
    """The labels of a split, and where each file's begin.

    Raises DataError for a label that is null or negative, and for an image that is known to be null, with its row.
    """
    import pyarrow.parquet as pq

    parts: list[NDArray[np.int64]] = []
    places: list[Place] = []
    total = 0
    for file in _files(path, key):
        _check_columns(file, options)
        if limit is not None and total >= limit:
            break
        with _reading(file):
            content = pq.ParquetFile(file)
            column = content.read(columns=[options.label_column]).column(0)
            column = column.slice(0, None if limit is None else limit - total)
            if column.null_count:
                row = column.is_null().to_numpy().argmax()
                raise DataError(
                    f"{file}, row {row}: {options.label_column} is null; leave the row out, or set dataset.{key} to a split "
                    "with labels"
                )
            labels = column.to_numpy()
            wrong = np.flatnonzero((labels < 0) | (labels > MOST))
            doubted = _tells_of_null(content.metadata, options.image_column, len(labels))
        if len(wrong):
            raise DataError(
                f"{file}, row {wrong[0]}: {options.label_column} is {labels[wrong[0]]}; labels count the classes from 0, and a "
                f"split without labels cannot be used: leave the row out, or set dataset.{key} to another split"
            )
        if doubted:  # read the images, for the row
            for row, cell in enumerate(itertools.islice(_rows(file, options.image_column), len(labels))):
                _image(cell, file, row, options.image_column)
        parts.append(labels.astype(np.int64))
        places.append(Place(file, total))
        total += len(labels)
    if not total:
        raise DataError(f"dataset.{key} = {path}: no images")
    return np.concatenate(parts), places


def _labels(options: Options) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Labels of the training and held-out images, and the names of the classes.

    Raises DataError for a label without a name or without training images, with its file and row.
    """
    train, train_places = _labels_of(options, "train", options.train, options.train_images)
    test, test_places = _labels_of(options, "test", options.test, options.test_images)
    names = options.class_names or [str(number) for number in range(int(train.max()) + 1)]
    for labels, places in ((train, train_places), (test, test_places)):
        wrong = np.flatnonzero(labels >= len(names))
        if len(wrong):
            place = max((place for place in places if place.start <= wrong[0]), key=lambda place: place.start)
            source = "dataset.class_names has" if options.class_names else "the training images have"
            raise DataError(
                f"{place.file}, row {wrong[0] - place.start}: {options.label_column} is {labels[wrong[0]]}, but {source} "
                f"{len(names)} classes, 0 to {len(names) - 1}: mend the label or leave the row out"
            )
    return train, test, names


def _split(options: Options, key: str, path: Path, labels: NDArray[np.int64], size: int) -> Split:
    def batches() -> Iterator[Images]:
        from irepa.images import decode_all

        left = len(labels)
        for file in _files(path, key):
            cells = enumerate(itertools.islice(_rows(file, options.image_column), left))
            while some := list(itertools.islice(cells, BATCH)):
                yield decode_all([_image(cell, file, row, options.image_column) for row, cell in some], size)
                left -= len(some)
            if left == 0:
                return

    return Split(labels, batches)


def _image(cell: Any, file: Path, row: int, column: str) -> tuple[bytes, str]:
    """The bytes of an image's cell, and what an error calls it. Raises DataError where it has none."""
    if cell is None or cell["bytes"] is None:
        what = "null" if cell is None else f"without bytes (path: {cell['path']})"
        raise DataError(
            f"{file}, row {row}: {column} is {what}; the file must hold the images themselves: write it anew with each image's "
            "file as its bytes, or leave the row out"
        )
    return cell["bytes"], f"{file}, row {row} ({cell['path']})"


def load(options: Options, image_size: int) -> Splits:
    """Both splits, centre-cropped to ``image_size`` pixels. Raises DataError for a file, label or image that cannot be read."""
    train, test, names = _labels(options)
    return Splits(
        _split(options, "train", options.train, train, image_size),
        _split(options, "test", options.test, test, image_size),
        names,
    )
