"""Files are written whole or not at all, and damage is noticed and named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from irepa.errors import CacheError, DataError
from irepa.pipeline.files import (
    Record,
    describe_file,
    read_json,
    whole,
    write_array,
    write_array_in_parts,
    write_array_in_shards,
    write_json,
)


def record_of(folder: Path) -> Record:
    write_array(folder / "a.npy", np.arange(12, dtype=np.float32).reshape(3, 4))
    files = {"a.npy": describe_file(folder / "a.npy")}
    write_json(folder / "r.json", {"fingerprint": "f", "metrics": {"x": 1}, "files": files})
    return Record(folder / "r.json")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")

    def write_half() -> None:
        with whole(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_arrays_in_parts_are_the_parts_and_a_short_or_long_stream_is_refused(tmp_path: Path) -> None:
    parts = [np.full((2, 3), 1, np.uint8), np.full((1, 3), 2, np.uint8)]
    write_array_in_parts(tmp_path / "a.npy", (3, 3), np.uint8, parts)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.concatenate(parts))
    for total in (4, 2):
        with pytest.raises((DataError, ValueError)):
            write_array_in_parts(tmp_path / "b.npy", (total, 3), np.uint8, parts)
    assert not (tmp_path / "b.npy").exists()


def test_shards_outlast_an_interruption_and_are_made_once(tmp_path: Path) -> None:
    made: list[range] = []

    def write(stop_after: int) -> None:
        def make(rows: range) -> np.ndarray:
            if len(made) == stop_after:
                raise KeyboardInterrupt
            made.append(rows)
            return np.array([[row, 10 * row] for row in rows], np.int32)

        write_array_in_shards(tmp_path / "a.npy", (7, 2), np.int32, "stamp", 2, make)

    with pytest.raises(KeyboardInterrupt):
        write(stop_after=2)
    assert not (tmp_path / "a.npy").exists()
    write(stop_after=99)
    assert made == [range(0, 2), range(2, 4), range(4, 6), range(6, 7)]
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.arange(7)[:, None] * [1, 10])
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_shards_of_something_else_are_thrown_away_and_damaged_ones_named(tmp_path: Path) -> None:
    def write(stamp: str, value: int, stop_at: int = 99) -> None:
        def make(rows: range) -> np.ndarray:
            if rows.start == stop_at:
                raise KeyboardInterrupt
            return np.full(len(rows), value, np.uint8)

        write_array_in_shards(tmp_path / "a.npy", (4,), np.uint8, stamp, 2, make)

    with pytest.raises(KeyboardInterrupt):
        write("one", 1, stop_at=2)
    write("two", 2)
    assert np.load(tmp_path / "a.npy").tolist() == [2, 2, 2, 2]
    with pytest.raises(KeyboardInterrupt):
        write("three", 3, stop_at=2)
    shard = tmp_path / ".a.npy.shards" / "000000000.npy"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(CacheError, match=r"000000000\.npy is damaged"):
        write("three", 3)


def test_a_record_gives_its_arrays_read_only(tmp_path: Path) -> None:
    array = record_of(tmp_path).array("a.npy")
    assert array[2, 3] == 11
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1


def test_truncated_edited_missing_and_unlisted_files_are_named(tmp_path: Path) -> None:
    record = record_of(tmp_path)
    path = tmp_path / "a.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    with pytest.raises(CacheError, match=r"a\.npy is damaged: \d+ bytes, \d+ were written; delete .*r\.json"):
        record.array("a.npy")
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CacheError, match=r"a\.npy is damaged: its content is not what was written"):
        record.array("a.npy")
    path.unlink()
    with pytest.raises(CacheError, match=r"a\.npy is missing though r\.json lists it"):
        record.array("a.npy")
    with pytest.raises(CacheError, match=r"lists no file b\.npy"):
        record.file("b.npy")


@pytest.mark.parametrize("text", ["{", "[1]", '{"metrics": {}}'])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(CacheError, match=r"r\.json is damaged"):
        Record(tmp_path / "r.json")


def test_json_is_the_same_whatever_the_order_and_has_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [np.float32(0.5), float("nan")]})
    write_json(tmp_path / "b.json", {"a": (np.float64(0.5), None), "b": np.int64(1)})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_json(tmp_path / "a.json") == json.loads('{"a": [0.5, null], "b": 1}')
