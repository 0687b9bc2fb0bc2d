"""Files are written whole or not at all, and damage is noticed and named."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irepa.errors import CacheError, DataError, IrepaError
from irepa.pipeline import files
from irepa.pipeline.files import (
    HOST,
    Compressed,
    Record,
    Shards,
    describe_file,
    read_json,
    remove_orphans,
    sha256,
    size_of,
    whole,
    write_array,
    write_array_in_parts,
    write_compressed,
    write_json,
)
from irepa.stored import row_sums


def record_of(folder: Path) -> Record:
    write_array(folder / "a.npy", np.arange(12, dtype=np.float32).reshape(3, 4))
    files = {"a.npy": describe_file(folder / "a.npy")}
    write_json(folder / "r.json", {"fingerprint": "f", "metrics": {"x": 1}, "files": files})
    return Record(folder / "r.json")


@pytest.mark.parametrize("umask", [0o077, 0o002])
def test_a_file_is_for_whom_the_user_lets_read_it(tmp_path: Path, umask: int) -> None:
    write = "from pathlib import Path; from irepa.pipeline.files import write_text; write_text(Path('a'), 'x')"
    subprocess.run([sys.executable, "-c", write], cwd=tmp_path, umask=umask, check=True)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask


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


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 400), min_size=1, max_size=4))
def test_a_compressed_array_is_its_parts_row_by_row_and_byte_by_byte(seed: int, sizes: list[int]) -> None:
    """However it is cut: numpy alone reads the same rows, any slice is the array's, and the bytes depend on the rows alone."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 9, (max(sum(sizes), 1), 3, 2)).astype(np.uint8)
    parts = np.split(rows, np.cumsum(sizes)[:-1])  # the last has what is left
    with tempfile.TemporaryDirectory() as folder:
        path, other = Path(folder) / "a.npz", Path(folder) / "b.npz"
        write_compressed(path, rows.shape, np.uint8, parts)
        write_compressed(other, rows.shape, np.uint8, [rows])
        assert path.read_bytes() == other.read_bytes()
        found = Compressed(path)
        assert (found.shape, found.dtype, len(found)) == (rows.shape, np.uint8, len(rows))
        np.testing.assert_array_equal(np.concatenate(list(np.load(path).values())), rows)
        for first, end in rng.integers(-5, len(rows) + 5, (6, 2)):
            np.testing.assert_array_equal(found[first:end], rows[first:end])
        np.testing.assert_array_equal(found[:], rows)


def test_a_compressed_array_of_other_rows_or_damaged_is_refused(tmp_path: Path) -> None:
    parts = [np.zeros((2, 3), np.uint8)]
    for shape in ((3, 3), (1, 3), (2, 4)):
        with pytest.raises(DataError, match=r"a\.npz: expected"):
            write_compressed(tmp_path / "a.npz", shape, np.uint8, parts)
    assert not list(tmp_path.iterdir())
    write_compressed(tmp_path / "a.npz", (2, 3), np.uint8, parts)
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-30])
    with pytest.raises(CacheError, match=r"a\.npz cannot be read as an array"):
        Compressed(tmp_path / "a.npz")


def test_arrays_in_parts_are_the_parts_and_a_short_or_long_stream_is_refused(tmp_path: Path) -> None:
    parts = [np.full((2, 3), 1, np.uint8), np.full((1, 3), 2, np.uint8)]
    write_array_in_parts(tmp_path / "a.npy", (3, 3), np.uint8, parts)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.concatenate(parts))
    for total, message in ((4, "expected 4 rows, got 3"), (2, "expected 2 rows, got 3 or more")):
        with pytest.raises(DataError, match=message):
            write_array_in_parts(tmp_path / "b.npy", (total, 3), np.uint8, parts)
    with pytest.raises(DataError, match=r"expected rows of shape \(1,\), got \(3,\)"):
        write_array_in_parts(tmp_path / "b.npy", (3, 1), np.uint8, parts)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "int64", "bool"])
@pytest.mark.parametrize("shape", [(5,), (0, 3), (7, 2, 3)])
def test_arrays_are_byte_for_byte_what_numpy_saves(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    np.save(tmp_path / "numpy.npy", array)
    write_array(tmp_path / "whole.npy", array)
    # Parts may have another type, which is converted, and any layout in memory.
    parts = [np.asfortranarray(part.astype(np.int64)) for part in np.array_split(array, 3)]
    write_array_in_parts(tmp_path / "parts.npy", shape, dtype, parts)
    expected = (tmp_path / "numpy.npy").read_bytes()
    assert (tmp_path / "whole.npy").read_bytes() == expected
    assert (tmp_path / "parts.npy").read_bytes() == expected


def write_large(folder: Path) -> None:
    """2 MB in parts of 100 kB; says so if a part is asked for, and ends with the project's message, or a traceback."""
    code = f"""
import logging, sys
from pathlib import Path
import numpy as np
from irepa.errors import IrepaError
from irepa.pipeline.files import Shards, write_array, write_array_in_parts
def parts():
    for _ in range(20):
        print("a part was made", flush=True)
        yield np.ones(100_000, np.uint8)
large = np.ones(2_000_000, np.uint8)
writers = {{
    "parts": lambda path: write_array_in_parts(path, (2_000_000,), np.uint8, parts()),
    "array": lambda path: write_array(path, large),
    "shards": lambda path: Shards(path.with_name("shards"), "s").write(range(2_000_000), {{"a": large}}),
}}
for name, write in writers.items():
    try:
        write(Path({str(folder)!r}) / f"{{name}}.npy")
    except IrepaError as error:
        print(name, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr  # and not -7, which is SIGBUS
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["parts", "array", "shards"], done.stdout
    for line in lines:
        assert "cannot write" in line
        assert "2.0 MB are needed" in line
        assert "are free on the file system of" in line
        assert "make room there" in line
    assert [path for path in folder.rglob("*") if path.is_file() and path.name != "stamp"] == []


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no right to mount a file system; the test with a limit on the size of files is run instead")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_too_small_is_told_before_any_work_with_what_is_needed_and_free(full_disk: Path) -> None:
    write_large(full_disk)


def test_a_limit_on_the_size_of_files_is_told_as_a_full_disk_is(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        write_large(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("unsupported", [OSError(errno.EOPNOTSUPP, "Operation not supported"), AttributeError()])
def test_where_space_cannot_be_reserved_the_log_says_so_and_a_disk_that_fills_is_still_a_message(
    full_disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, unsupported: Exception
) -> None:
    def refuse(*arguments: object) -> None:
        raise unsupported

    monkeypatch.setattr(files.os, "posix_fallocate", refuse)
    write_array_in_parts(full_disk / "small.npy", (3,), np.uint8, [np.arange(3, dtype=np.uint8)])
    assert np.load(full_disk / "small.npy").tolist() == [0, 1, 2]
    assert "small.npy: this file system cannot reserve space" in caplog.text

    def parts() -> Iterator[np.ndarray]:
        yield np.ones(400_000, np.uint8)
        (full_disk / "other").write_bytes(b"x" * 600_000)  # somebody else takes the room that was free
        yield np.ones(400_000, np.uint8)

    with pytest.raises(IrepaError, match=r"cannot write .*a\.npy: No space left on device: .* are free"):
        write_array_in_parts(full_disk / "a.npy", (800_000,), np.uint8, parts())
    with pytest.raises(IrepaError, match=r"cannot write .*a\.npy: No space left on device: 2\.0 MB are needed"):
        write_array_in_parts(full_disk / "a.npy", (2_000_000,), np.uint8, [])
    assert sorted(path.name for path in full_disk.iterdir()) == ["other", "small.npy"]


def test_a_library_that_finds_the_disk_full_is_told_as_a_full_disk(full_disk: Path) -> None:
    """safetensors has an error class of its own for it."""
    from safetensors.numpy import save_file

    with (
        pytest.raises(IrepaError, match=r"cannot write .*model: No space left on device: .* are free"),
        whole(full_disk / "model") as temporary,
    ):
        save_file({"x": np.ones(2_000_000, np.uint8)}, temporary)
    assert list(full_disk.iterdir()) == []


def writer(path: Path) -> subprocess.Popen[str]:
    """A process that has written half of a file, and waits."""
    code = f"""
import time
from pathlib import Path
import numpy as np
from irepa.pipeline.files import write_array_in_parts
def parts():
    yield np.ones(10, np.uint8)
    print("half", flush=True)
    time.sleep(600)
write_array_in_parts(Path({str(path)!r}), (20,), np.uint8, parts())
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    return process


def test_what_a_killed_writer_left_goes_at_the_next_write_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    process = writer(path)
    try:
        (temporary,) = tmp_path.iterdir()
        assert f".a.npy.{HOST}-{process.pid}." in temporary.name
        write_array(path, np.zeros(3))  # another writer of the same file, at the same time
        assert remove_orphans(tmp_path) == []
        assert temporary.exists()
    finally:
        process.kill()
        process.wait()
    assert temporary.exists()
    write_array(tmp_path / "b.npy", np.zeros(3))  # another file
    assert temporary.exists()
    write_array(path, np.zeros(3))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.npy", "b.npy"]


def test_only_temporaries_of_dead_processes_of_this_machine_are_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (dead := tmp_path / f".a.npy.{HOST}-{gone.pid}.abcd1234.npy").touch()
    kept = [
        tmp_path / f".a.npy.elsewhere-{gone.pid}.abcd1234.npy",
        tmp_path / f".a.npy.{HOST}-{os.getpid()}.abcd1234.npy",
        tmp_path / ".hidden",
        tmp_path / ".a.npy.shards",
        tmp_path / "a.npy",
    ]
    for path in kept:
        path.touch()
    assert remove_orphans(tmp_path) == [dead]
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert remove_orphans(tmp_path / "nowhere") == []


def test_the_number_of_a_dead_writer_may_be_that_of_another_process_inside_a_container(tmp_path: Path) -> None:
    """The lock on its file says that it lives, though its number, known to its container alone, names nobody here."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    process = writer(tmp_path / "a.npy")
    try:
        (temporary,) = tmp_path.iterdir()
        disguised = temporary.with_name(temporary.name.replace(str(process.pid), str(gone.pid)))
        temporary.rename(disguised)
        assert remove_orphans(tmp_path) == []
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert remove_orphans(tmp_path) == [disguised]


def test_a_folder_without_the_right_to_write_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    with pytest.raises(IrepaError, match=r"cannot write .*a\.json: Permission denied$"):
        write_json(tmp_path / "a.json", {})


def test_sizes_are_told_in_powers_of_a_thousand() -> None:
    assert [size_of(n) for n in (0, 999, 1000, 2_000_000, 252e9, 3e15)] == [
        "0 bytes", "999 bytes", "1.0 kB", "2.0 MB", "252.0 GB", "3000.0 TB",
    ]  # fmt: skip


def parts_of(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def test_parts_outlast_an_interruption_and_are_read_as_they_were_written(tmp_path: Path) -> None:
    parts = parts_of(7, 2)
    first = Shards(tmp_path / "shards", "stamp")
    for rows in parts[:2]:
        first.write(rows, {"a": np.array(rows), "b": np.ones((2, 3), np.float16)})
    again = Shards(tmp_path / "shards", "stamp")
    assert again.missing(parts) == [range(4, 6), range(6, 7)]
    found = again.read(parts[1])
    assert found["a"].tolist() == [2, 3]
    assert found["b"].dtype == np.float16
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_parts_of_something_else_are_thrown_away_and_damaged_ones_named(tmp_path: Path) -> None:
    parts = parts_of(4, 2)
    Shards(tmp_path / "shards", "one").write(parts[0], {"a": np.zeros(2)})
    other = Shards(tmp_path / "shards", "two")
    assert other.missing(parts) == parts
    other.write(parts[0], {"a": np.zeros(3)})
    with pytest.raises(
        CacheError, match=r"000000000\.npz is damaged: it does not hold 2 rows; delete it and run again"
    ):
        other.read(parts[0])
    other.write(parts[0], {"a": np.zeros(2)})
    path = other.path(parts[0])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CacheError, match=r"000000000\.npz is damaged"):
        other.read(parts[0])


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


def sealed(folder: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...] = (50, 7, 3)) -> Record:
    """The record of an array that counts as large, written long enough ago, with the seal that its first reading left."""
    monkeypatch.setattr(files, "SEALED", 1000)
    monkeypatch.setattr(files, "READ", 100)
    monkeypatch.setattr(files, "CLOCK", -1)
    write_array(folder / "a.npy", np.random.default_rng(0).integers(0, 2**32, shape, dtype=np.uint32))
    described = {"a.npy": describe_file(folder / "a.npy")}
    assert described["a.npy"]["sha256"] == sha256(folder / "a.npy")
    write_json(folder / "r.json", {"fingerprint": "f", "metrics": {}, "files": described})
    return Record(folder / "r.json")


def damage(path: Path, place: int, keep_time: bool) -> None:
    """Change a byte where it stands: as an editor does, or as a disk does that fails, which leaves the time alone."""
    status = path.stat()
    with path.open("r+b") as stream:
        stream.seek(place)
        (byte,) = stream.read(1)
        stream.seek(place)
        stream.write(bytes([byte ^ 4]))
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def count_hashing(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    hashed: list[Path] = []
    make = files.Seal.make
    monkeypatch.setattr(files.Seal, "make", lambda path: (hashed.append(path), make(path))[1])
    return hashed


def test_a_large_file_is_hashed_when_it_is_recorded_and_not_by_those_who_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = sealed(tmp_path, monkeypatch)
    hashed = count_hashing(monkeypatch)
    expected = np.load(tmp_path / "a.npy")
    for _ in range(3):
        np.testing.assert_array_equal(record.array("a.npy"), expected)
        np.testing.assert_array_equal(record.rows("a.npy")[np.array([3, 3, 49, 0])], expected[[3, 3, 49, 0]])
    assert hashed == []
    record.file("a.npy", anew=True)
    assert hashed == [tmp_path / "a.npy"]


@pytest.mark.parametrize("change", ["copied", "touched", "seal deleted", "seal cut off"])
def test_a_file_that_may_be_another_one_is_hashed_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    record = sealed(tmp_path, monkeypatch)
    path, seal = tmp_path / "a.npy", files.Seal.path(tmp_path / "a.npy")
    if change == "copied":
        shutil.copy2(path, tmp_path / "b.npy")  # with its time
        os.replace(tmp_path / "b.npy", path)
    elif change == "touched":
        path.touch()
    elif change == "seal deleted":
        seal.unlink()
    else:
        seal.write_bytes(seal.read_bytes()[:100])
    hashed = count_hashing(monkeypatch)
    for _ in range(2):
        assert record.rows("a.npy").sums is not None
    assert hashed == [path]


def test_an_edit_of_a_large_file_is_noticed_when_it_is_opened_and_decay_when_the_row_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = sealed(tmp_path, monkeypatch)
    path = tmp_path / "a.npy"
    start, width = path.stat().st_size - 50 * 84, 84
    damage(path, start + 7 * width + 83, keep_time=True)  # the last byte of row 7
    rows = record.rows("a.npy")
    rows[np.array([6, 8])]
    with pytest.raises(CacheError, match=r"a\.npy is damaged: row 7 is not what was written; delete .*r\.json and run"):
        rows[np.array([6, 7])]
    with pytest.raises(CacheError, match=r"a\.npy is damaged: its content is not what was written"):
        record.file("a.npy", anew=True)
    damage(path, start + 9 * width, keep_time=False)
    with pytest.raises(CacheError, match=r"a\.npy is damaged: its content is not what was written"):
        record.rows("a.npy")


def test_a_file_just_written_is_not_trusted_by_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another change might get the same time from a coarse clock."""
    sealed(tmp_path, monkeypatch)
    files.Seal.path(tmp_path / "a.npy").unlink()
    monkeypatch.setattr(files, "CLOCK", 2 * 10**9)
    describe_file(tmp_path / "a.npy")
    assert files.Seal.read(tmp_path / "a.npy") is None
    os.utime(tmp_path / "a.npy", (1, 1))
    describe_file(tmp_path / "a.npy")
    assert files.Seal.read(tmp_path / "a.npy") is not None


@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**32), st.data())
def test_any_change_of_a_word_and_any_exchange_of_two_changes_the_sum(
    width: int, count: int, seed: int, data: st.DataObject
) -> None:
    rows = np.random.default_rng(seed).integers(0, 256, (count, width)).astype(np.uint8)
    sums, changed = row_sums(rows), rows.copy()
    row, place = data.draw(st.integers(0, count - 1)), data.draw(st.integers(0, width - 1))
    changed[row, place] ^= data.draw(st.integers(1, 255))
    assert (row_sums(changed) != sums).tolist() == [other == row for other in range(count)]
    # The definition, with whole numbers of any size.
    for content, found in zip(rows, sums, strict=True):
        padded = content.tobytes() + bytes(-width % 8)
        words = [int.from_bytes(padded[k : k + 8], "little") for k in range(0, len(padded), 8)]
        assert int(found) == sum((2 * k + 1) * word for k, word in enumerate(words)) % 2**64
    if width >= 16 and rows[0, :8].tobytes() != rows[0, 8:16].tobytes():
        exchanged = rows.copy()
        exchanged[0, :8], exchanged[0, 8:16] = rows[0, 8:16], rows[0, :8]
        assert row_sums(exchanged)[0] != sums[0]


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


def test_json_of_few_digits_is_the_same_where_the_last_ones_differ(tmp_path: Path) -> None:
    for name, p in (("a", 0.4367871241090329), ("b", 0.43678712410903303)):
        write_json(tmp_path / name, {"p": [p, np.float64(p) / 1e7, 3, True, "0.4367871241090329", math.inf]}, digits=9)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_json(tmp_path / "a")["p"] == [0.436787124, 4.36787124e-8, 3, True, "0.4367871241090329", None]
