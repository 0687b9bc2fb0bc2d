"""Datasets in the public hub's Parquet layout: an image column of {bytes, path} and an integer label column.

CIFAR-10 and ImageNet-1k are published in this form; ``train`` and ``test`` are files or folders of ``*.parquet``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from irepa.config.options import Positive, Strict
from irepa.data import Split, Splits
from irepa.errors import DataError

if TYPE_CHECKING:
    from irepa.images import Images

BATCH = 256


class Options(Strict):
    train: Path = Field(description="File, or folder of *.parquet files, with the training images.")
    test: Path = Field(description="File, or folder of *.parquet files, with the held-out images.")
    image_column: str = Field("image", description="Name of the column of images.")
    label_column: str = Field("label", description="Name of the column of labels, which count from 0.")
    class_names: list[str] | None = Field(None, description="In label order; null: the numbers.")
    train_images: Positive | None = Field(None, description="Use only the first so many; null: all.")
    test_images: Positive | None = Field(None, description="Use only the first so many; null: all.")


def paths(options: Options) -> list[Path]:
    """What is read: both splits."""
    return [options.train, options.test]


def check(options: Options) -> None:
    """Raises DataError where a path is missing or holds no Parquet file."""
    _files(options.train, "train")
    _files(options.test, "test")


def _files(path: Path, key: str) -> list[Path]:
    if not path.exists():
        raise DataError(
            f"dataset.{key} = {path}: there is no such file or folder; set dataset.{key} under overrides in params.yaml"
        )
    files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    if not files:
        raise DataError(f"dataset.{key} = {path}: the folder holds no *.parquet file")
    return files


def _check_columns(file: Path, schema: Any, options: Options) -> None:
    """Raises DataError where a column is missing, or is not one of images."""
    for key, column in (("image_column", options.image_column), ("label_column", options.label_column)):
        if column not in schema.names:
            raise DataError(f"dataset.{key} = {column}: {file} has the columns {', '.join(schema.names)}")
    content = schema.field(options.image_column).type
    if not {"bytes", "path"} <= {content.field(index).name for index in range(content.num_fields)}:
        raise DataError(f"dataset.image_column = {options.image_column}: {file} holds {content}, not bytes and path")


def _split(options: Options, key: str, path: Path, limit: int | None, size: int) -> Split:
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = _files(path, key)
    try:
        for file in files:
            _check_columns(file, pq.read_schema(file), options)
        labels = np.concatenate([pq.read_table(f, columns=[options.label_column])[0].to_numpy() for f in files])
    except (pa.ArrowException, OSError, KeyError) as error:
        raise DataError(f"dataset.{key}: {files[0]}: {error}") from None
    labels = labels[:limit].astype(np.int64)
    if (labels < 0).any():
        raise DataError(
            f"dataset.{key} = {path}: labels go down to {labels.min()}: a split without labels cannot be used"
        )
    if len(labels) == 0:
        raise DataError(f"dataset.{key} = {path}: no images")

    def batches() -> Iterator[Images]:
        from irepa.images import decode_all

        left = len(labels)
        for file in files:
            row = 0
            for batch in pq.ParquetFile(file).iter_batches(BATCH, columns=[options.image_column]):
                cells = batch.column(0).to_pylist()[:left]
                named = [(cell["bytes"], f"{file}, row {row + i} ({cell['path']})") for i, cell in enumerate(cells)]
                if cells:
                    yield decode_all(named, size)
                row, left = row + len(cells), left - len(cells)
                if left == 0:
                    return

    return Split(labels, batches)


def load(options: Options, image_size: int) -> Splits:
    """Both splits, centre-cropped to ``image_size`` pixels. Raises DataError for a file or an image that cannot be read."""
    train = _split(options, "train", options.train, options.train_images, image_size)
    test = _split(options, "test", options.test, options.test_images, image_size)
    count = int(max(train.labels.max(), test.labels.max())) + 1
    names = options.class_names or [str(number) for number in range(count)]
    if len(names) < count:
        raise DataError(f"dataset.class_names has {len(names)} names, the labels go up to {count - 1}")
    return Splits(train, test, names)
