"""What enters from outside is thrown at its reader damaged: only the project's own errors come out, each with the file's name.

Every reader gets whole input, which it must take, and the same input cut off, with bits flipped, with bytes put in, at random
and empty, as well as well-formed files that hold something odd. `pytest -s` prints how many of each.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import pickle
import struct
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from irepa.config.read import read_yaml
from irepa.data import check_splits, image_folder, parquet
from irepa.encoders.timm_vit import moco_v3_state
from irepa.errors import IrepaError
from irepa.images import decode_all
from irepa.models.sit import SiT, load_public_state_dict, public_state_dict
from irepa.pipeline.files import Record, read_json, sha256
from irepa.references import check_reference, read_statistics
from irepa.weights import load_in_order, read_state

EXAMPLES = 150
COUNTS: Counter[tuple[str, str]] = Counter()


@pytest.fixture(scope="module", autouse=True)
def tell() -> Iterator[None]:
    """At the end, how many inputs each reader was given, and what became of them."""
    COUNTS.clear()
    yield
    print("\nreader                 inputs  refused  taken")
    for reader in dict.fromkeys(name for name, _ in COUNTS):
        refused, taken = COUNTS[reader, "refused"], COUNTS[reader, "taken"]
        print(f"{reader:<22} {refused + taken:>6}  {refused:>7}  {taken:>5}")


def throw(reader: str, read: Callable[[], object], named: str = "") -> bool:
    """Whether the reader takes it. Fails where anything but an error of the project comes out, or one without ``named``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read()
        except IrepaError as error:
            refusal = str(error)
        else:
            COUNTS[reader, "taken"] += 1
            return True
    assert named in refusal, f"{refusal} does not name {named}"
    COUNTS[reader, "refused"] += 1
    return False


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """The bytes cut off, with up to eight bits flipped, with others put in, and bytes of no format."""
    place = st.integers(0, len(whole) - 1)

    def flipped(bits: list[tuple[int, int]]) -> bytes:
        content = bytearray(whole)
        for where, bit in bits:
            content[where] ^= 1 << bit
        return bytes(content)

    return st.one_of(
        place.map(lambda end: whole[:end]),
        st.lists(st.tuples(place, st.integers(0, 7)), min_size=1, max_size=8).map(flipped),
        st.tuples(place, st.binary(min_size=1, max_size=40)).map(lambda p: whole[: p[0]] + p[1] + whole[p[0] :]),
        st.tuples(place, st.binary(min_size=1, max_size=40)).map(lambda p: whole[: p[0]] + p[1] + whole[p[0] + len(p[1]) :]),
        st.binary(max_size=200),
        st.just(b""),
    )  # fmt: skip


def given_damaged(whole: bytes) -> Callable[[Callable[..., None]], Callable[..., None]]:
    quiet = settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    return lambda test: quiet(given(content=damaged(whole))(test))


# Images


def picture(form: str, mode: str = "RGB", **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    image = (
        Image.fromarray(pixels).convert(mode)
        if mode != "I;16"
        else Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    )
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


EXIF = Image.Exif()
EXIF[0x0112] = 6
PICTURES = {
    "jpeg": picture("JPEG", exif=EXIF), "png": picture("PNG", "RGBA"), "png16": picture("PNG", "I;16"),
    "png-p": picture("PNG", "P"), "webp": picture("WEBP"), "bmp": picture("BMP"), "gif": picture("GIF", "P"),
    "tiff": picture("TIFF"),
}  # fmt: skip


@pytest.mark.parametrize("form", PICTURES)
def test_images(form: str, tmp_path: Path) -> None:
    path = tmp_path / "x.img"

    def read() -> None:
        (image,) = decode_all([(path, str(path))], 8)
        assert image.shape == (8, 8, 3)
        assert image.dtype == np.uint8

    path.write_bytes(PICTURES[form])
    assert throw("image", read)

    @given_damaged(PICTURES[form])
    def check(content: bytes) -> None:
        path.write_bytes(content)
        throw("image", read, str(path))

    check()


def test_image_folders(tmp_path: Path) -> None:
    """Odd trees: links to nowhere and to themselves, pipes and folders called as images, files in place of class folders."""
    (tmp_path / "a" / "cat").mkdir(parents=True)
    (tmp_path / "a" / "cat" / "x.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "cat").write_bytes(b"")
    (tmp_path / "c" / "cat" / "x.png").mkdir(parents=True)
    (tmp_path / "d" / "cat").mkdir(parents=True)
    os.mkfifo(tmp_path / "d" / "cat" / "x.png")
    (tmp_path / "e" / "cat").mkdir(parents=True)
    (tmp_path / "e" / "cat" / "x.png").symlink_to(tmp_path / "e" / "cat" / "x.png")
    (tmp_path / "file").write_bytes(b"")
    for name in ("a", "b", "c", "d", "e", "file", "none", "n" * 300):
        options = image_folder.Options(train=tmp_path / name, test=tmp_path / name)
        assert not throw("image folder", lambda: list(image_folder.load(options, 8).train.batches()), str(tmp_path))  # noqa: B023
        throw("image folder", lambda: image_folder.check(options), str(tmp_path))  # noqa: B023


# Parquet

ROWS = {"image": [{"bytes": PICTURES["png"], "path": f"{i}.png"} for i in range(3)], "label": [0, 1, 0]}


def parquet_bytes(table: Any, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def test_parquet_folders(tmp_path: Path) -> None:
    """What is no file is refused, and what is hidden is no part of the dataset."""
    (tmp_path / "a.parquet").write_bytes(parquet_bytes(pa.table(ROWS)))
    (tmp_path / "._a.parquet").write_bytes(b"left by a program")
    assert throw("parquet", lambda: read_parquet(tmp_path))
    (tmp_path / "b.parquet").symlink_to(tmp_path / "b.parquet")
    assert not throw("parquet", lambda: read_parquet(tmp_path), "b.parquet")
    (tmp_path / "b.parquet").unlink()
    os.mkfifo(tmp_path / "b.parquet")
    for path in (tmp_path, tmp_path / "b.parquet"):
        assert not throw("parquet", lambda: read_parquet(path), "b.parquet: it is a folder, a pipe")  # noqa: B023
    assert not throw("parquet", lambda: read_parquet(tmp_path / ("n" * 300)), "nnn")


def read_parquet(path: Path) -> None:
    options = parquet.Options(train=path, test=path)
    parquet.check(options)
    dataset = parquet.load(options, 8)
    check_splits(dataset)
    assert len(np.concatenate(list(dataset.train.batches()))) == len(dataset.train.labels)


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_parquet_files(compression: str, tmp_path: Path) -> None:
    path, whole = tmp_path / "x.parquet", parquet_bytes(pa.table(ROWS), compression=compression)
    path.write_bytes(whole)
    assert throw("parquet", lambda: read_parquet(path))

    @given_damaged(whole)
    def check(content: bytes) -> None:
        path.write_bytes(content)
        throw("parquet", lambda: read_parquet(path))

    check()


ODD_CELLS = [
    None,
    {"bytes": None, "path": "x"},
    {"bytes": b"", "path": None},
    {"bytes": b"x", "path": "y"},
    "text",
    7,
    [1],
    {"inner": {}},
]
ODD_LABELS = [None, -1, 1.5, "cat", True, b"x", [0], {"label": 0}, 2**62, float("nan")]


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(
    cells=st.lists(st.sampled_from([*ROWS["image"], *ODD_CELLS]), max_size=3),
    labels=st.lists(st.sampled_from([0, 1, *ODD_LABELS]), max_size=3),
    names=st.sampled_from([("image", "label"), ("image", "y"), ("img", "label"), ("image", "image")]),
)
def test_parquet_tables(
    tmp_path_factory: pytest.TempPathFactory, cells: list[Any], labels: list[Any], names: tuple[str, str]
) -> None:
    try:
        count = min(len(cells), len(labels))
        table = pa.Table.from_arrays([pa.array(cells[:count]), pa.array(labels[:count])], names=list(names))
        content = parquet_bytes(table)
    except (pa.ArrowException, TypeError, OverflowError):
        return  # no table can hold these
    path = tmp_path_factory.getbasetemp() / "odd.parquet"
    path.write_bytes(content)
    throw("parquet", lambda: read_parquet(path))


# Reference statistics


def npz(**arrays: Any) -> bytes:
    sink = io.BytesIO()
    np.savez(sink, **arrays)
    return sink.getvalue()


MOMENTS = {"mu": np.zeros(4), "sigma": np.eye(4)}
PIXELS = np.zeros((2, 8, 8, 3), np.uint8)


def test_reference_files(tmp_path: Path) -> None:
    path, whole = tmp_path / "x.npz", npz(**MOMENTS, arr_0=PIXELS)

    def read() -> None:
        check_reference(path, 4)
        moments, _images = read_statistics(path, 4)
        assert np.isfinite(moments["sigma"]).all()

    path.write_bytes(whole)
    assert throw("statistics", read)

    @given_damaged(whole)
    def check(content: bytes) -> None:
        path.write_bytes(content)
        throw("statistics", read, str(path))

    check()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"arr_0": PIXELS.astype(np.float32)}, r"arr_0 is float32 \(2, 8, 8, 3\); images are uint8 \(n, H, W, 3\)"),
        ({"arr_0": PIXELS.transpose(0, 3, 1, 2)}, r"arr_0 is uint8 \(2, 3, 8, 8\); .*transpose it to"),
        ({"arr_0": PIXELS[0]}, r"arr_0 is uint8 \(8, 8, 3\)"),
        ({"arr_0": PIXELS[:0]}, r"arr_0 is uint8 \(0, 8, 8, 3\)"),
        ({"arr_0": np.array([{}], object)}, r"arr_0 is object|cannot be read"),
        ({"mu": np.full(4, np.nan)}, "mu has 4 of 4 values that are NaN or infinite"),
        ({"sigma": np.diag([1, 1, 1, np.inf])}, "sigma has 1 of 16 values that are NaN or infinite"),
        ({"mu": np.zeros(3), "sigma": np.eye(3)}, "statistics of 3 dimensions, the judge's features have 4"),
        ({"sigma": np.triu(np.ones((4, 4)))}, "sigma is no covariance: it must be symmetric"),
        ({"sigma": -np.eye(4)}, "sigma is no covariance"),
        ({"sigma": np.ones((4, 4)) - np.eye(4)}, "nothing beyond the product of two standard deviations"),
        ({"sigma": np.eye(3)}, r"mu \(4,\) and sigma \(3, 3\)"),
        ({"mu": np.zeros(4, np.int64)}, "mu is int64; floating-point numbers are needed"),
        ({"mu": np.zeros(4, np.complex64)}, "mu is complex64"),
        ({"mu": np.array(["a"] * 4)}, "mu is <U1"),
        ({"mu": np.float64(0), "sigma": np.float64(1)}, r"mu \(\) and sigma \(\)"),
        ({"mu": np.array([None] * 4)}, "cannot be read as statistics"),
    ],
)  # fmt: skip
def test_odd_reference_statistics(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(npz(**MOMENTS | arrays))
    for read in (lambda: check_reference(path, 4), lambda: read_statistics(path, 4)):
        assert not throw("statistics", read, str(path))
        with pytest.raises(IrepaError, match=message):
            read()
    without = {name: array for name, array in MOMENTS.items() if name not in arrays}
    path.write_bytes(npz(**without))
    throw("statistics", lambda: check_reference(path, 4), str(path))


def test_files_that_are_no_statistics_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(npz(arr_0=PIXELS))
    with pytest.raises(IrepaError, match=r"x\.npz has arr_0; mu and sigma are needed"):
        check_reference(path, 4)
    for content in (npy(np.zeros(4)), npz(**MOMENTS)[:-30], b"<html>"):
        path.write_bytes(content)
        with pytest.raises(IrepaError, match=r"x\.npz: it is no whole \.npz"):
            check_reference(path, 4)


# Records and their arrays


def record(folder: Path, content: bytes, **changes: object) -> Path:
    (folder / "a.npy").write_bytes(content)
    entry = {"bytes": len(content), "sha256": sha256(folder / "a.npy")}
    value = {"fingerprint": "x", "metrics": {}, "files": {"a.npy": entry}} | changes
    (folder / "job.json").write_text(json.dumps(value))
    return folder / "job.json"


def npy(array: Any) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def test_arrays_of_records(tmp_path: Path) -> None:
    """With the checksum of what was written, every damage is seen; with a checksum of its own, numpy's words are translated."""
    whole = npy(np.arange(12.0).reshape(3, 4))
    path = record(tmp_path, whole)
    assert throw("array of a record", lambda: Record(path).array("a.npy"))

    @given_damaged(whole)
    def check(content: bytes) -> None:
        record(tmp_path, whole)
        (tmp_path / "a.npy").write_bytes(content)
        if content != whole:
            assert not throw("array of a record", lambda: Record(path).array("a.npy"), "a.npy")
        record(tmp_path, content)
        throw("array of a record", lambda: Record(path).array("a.npy"), "a.npy")

    check()
    record(tmp_path, npy(np.array([{}, None], object)))
    assert not throw("array of a record", lambda: Record(path).array("a.npy"), "a.npy")


ODD_NAMES = st.sampled_from(["bytes", "sha256", "a.npy", "x"])
ODD_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD_NAMES, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def test_records(tmp_path: Path) -> None:
    path = record(tmp_path, npy(np.zeros(3)))
    whole = path.read_bytes()

    def read() -> None:
        done = Record(path)
        assert isinstance(done.metrics, dict)
        done.array("a.npy")

    assert throw("record", read)

    @given_damaged(whole)
    def check(content: bytes) -> None:
        path.write_bytes(content)
        throw("record", read, str(tmp_path))

    check()

    @settings(max_examples=EXAMPLES)
    @given(key=st.sampled_from(["fingerprint", "metrics", "files", "failed"]), value=ODD_JSON)
    def odd(key: str, value: object) -> None:
        record(tmp_path, npy(np.zeros(3)), **{key: value})
        throw("record", read, str(tmp_path))

    odd()
    for text in ("[" * 100_000, '{"a":' * 100_000, "[]", "null", "1e999", '"\\ud800"', "\ufeff{}"):
        path.write_text(text, encoding="utf-8")
        assert not throw("record", lambda: Record(path), str(path))
    path.unlink()
    assert not throw("record", lambda: read_json(path), str(path))
    path.mkdir()
    assert not throw("record", lambda: read_json(path), str(path))


# Configuration

YAML = b"tier: demo\noverrides: {training.steps: 500, list: [1, 2.5, null], date: 2020-01-01}\nseed: &a 1\nother: *a\n"


def test_yaml(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(YAML)
    assert throw("yaml", lambda: read_yaml(path))

    @given_damaged(YAML)
    def check(content: bytes) -> None:
        path.write_bytes(content)
        throw("yaml", lambda: read_yaml(path), str(path))

    check()
    odd = (
        "a: 2001-99-99", "[a]: b", "? {a: b}\n: c", "a: !!python/object:os.system {}", "a: &x [*x]", "a: 0b", "a: !!int x",
        "a: !!float x", "a: !!binary '&'", "a: !!timestamp x", "<<: 1", "<<: [1]", "a: 1\na: 2", "- a", "a: \x00",
        "%YAML 9.9\n---\na: 1", "a: !!set x", "? []\n: 1", "a: " + "[" * 5000, "a: 1:99999999999999999999:99", "\t- a",
    )  # fmt: skip
    for text in odd:
        path.write_text(text, encoding="utf-8")
        throw("yaml", lambda: read_yaml(path), str(path))
    path.unlink()
    with pytest.raises(IrepaError, match="does not exist"):
        read_yaml(path)
    path.mkdir()
    assert not throw("yaml", lambda: read_yaml(path), str(path))


# Checkpoints


def tiny() -> SiT:
    return SiT((4, 4), 1, 2, depth=1, width=8, heads=2, patch=2, align_depth=1)


STATE = tiny().state_dict()


def adopt(path: Path) -> str:
    public = public_state_dict(path)
    load_public_state_dict(tiny(), public.state)
    return public.entry


def checkpoint(content: object, path: Path, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("form", ["pt", "legacy.pt", "safetensors"])
def test_checkpoint_files(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{form}"
    if form == "safetensors":
        save_file(STATE, path)
    else:
        checkpoint({"ema": STATE, "args": argparse.Namespace(model="SiT-XL/2")}, path, legacy=form == "legacy.pt")
    whole = path.read_bytes()
    if form != "legacy.pt":  # a file of before torch 1.6 cannot be mapped into memory, and is refused
        assert throw("checkpoint", lambda: adopt(path))
    # A command line beside the weights is known of SiT's checkpoints alone.
    assert throw("weights", lambda: read_state(str(path), "x", "fetch")) == (form == "safetensors")

    @given_damaged(whole)
    def check(content: bytes) -> None:
        path.write_bytes(content)
        throw("checkpoint", lambda: adopt(path))
        throw("weights", lambda: load_in_order(tiny(), moco_v3_state(read_state(str(path), "x", "fetch")), "x"))

    check()


def prefixed(*prefixes: str) -> dict[str, torch.Tensor]:
    return {"".join(prefixes) + name: tensor for name, tensor in STATE.items()}


@pytest.mark.parametrize(
    ("content", "entry"),
    [
        (STATE, "(the whole file)"),
        (prefixed("_orig_mod."), "(the whole file)"),
        ({"ema": prefixed("_orig_mod.")}, "ema"),
        ({"model": STATE, "ema": prefixed("module."), "opt": {"state": {}}}, "ema"),
        ({"model": prefixed("module.", "_orig_mod.")}, "model"),
        ({"model": prefixed("_orig_mod.", "module.", "module.", "_orig_mod.")}, "model"),
        ({"model_ema": STATE, "model": STATE}, "model_ema"),
        ({"state_dict": STATE, "epoch": 3}, "state_dict"),
        ({"ema": prefixed("module.") | {"n_averaged": torch.tensor(3)}}, "ema"),
        ({"ema": STATE | {"projectors.0.0.weight": torch.zeros(3)}}, "ema"),
    ],
)  # fmt: skip
def test_which_entry_of_a_checkpoint_is_taken(content: object, entry: str, tmp_path: Path) -> None:
    assert adopt(checkpoint(content, tmp_path / "x.pt")) == entry


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"ema": STATE, "model_ema": STATE, "model": STATE}, "several SiT, ema, model_ema, .*are ema, model_ema, model"),
        ({"model": STATE, "state_dict": STATE}, "several SiT, model, state_dict, and which is meant"),
        ({"ema_0.999": STATE, "ema_0.9999": STATE}, "several SiT, ema_0.999, ema_0.9999"),
        ({"ema": STATE | prefixed("module.")}, r"ema: .* stands there twice, under names with and without prefixes"),
        ({"weights": {"a": torch.zeros(1)}}, "holds no SiT: .*; its entries are weights"),
        ({}, "holds no SiT: .*; its entries are none"),
        ([1, 2], "holds a list, no weights by name"),
        (torch.zeros(3), "holds a Tensor, no weights by name"),
        ({"ema": None, "model": 3}, "holds no SiT"),
        ({"ema": STATE | {"pos_embed": 3}}, "pos_embed is no tensor of floating-point numbers"),
        ({"ema": STATE | {5: torch.zeros(1)}}, "ema: 5 is no tensor"),
        ({"ema": STATE | {"pos_embed": STATE["pos_embed"].to(torch.int64)}}, "pos_embed is no tensor of floating-point"),
        ({"ema": STATE | {"y_embedder.embedding_table.weight": torch.tensor(1.0)}}, r"must be \(classes \+ 1, width\)"),
        ({"ema": {k: v for k, v in STATE.items() if k != "pos_embed"}}, r"do not fit \(.*Missing key.*pos_embed"),
        ({"ema": STATE | {"pos_embed": torch.zeros(2, 2)}}, r"do not fit \(.*size mismatch for pos_embed"),
        ({"ema": STATE | {"final_layer.linear.bias": torch.tensor(1.0)}}, r"do not fit \(.*size mismatch"),
        ({"ema": STATE | {"final_layer.linear.weight": torch.zeros(8)}}, r"do not fit \("),
    ],
)  # fmt: skip
def test_odd_checkpoints_are_refused_with_the_reason(content: object, message: str, tmp_path: Path) -> None:
    path = checkpoint(content, tmp_path / "x.pt")
    assert not throw("checkpoint", lambda: adopt(path))
    with pytest.raises(IrepaError, match=message):
        adopt(path)


ODD_VALUES = st.sampled_from([
    None, 3, "x", b"x", [1], {}, {"a": {}}, STATE, prefixed("module."), torch.zeros(()), torch.zeros(0), torch.zeros(2, 3),
    torch.ones(3).bool(), torch.zeros(3, 8).to_sparse(), torch.full((3, 8), float("nan")),
])  # fmt: skip
ODD_KEYS = st.sampled_from(
    ["ema", "model", "model_ema", "state_dict", "module.", "_orig_mod.", "", "args", 3, *list(STATE)[:4]]
)


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(top=st.dictionaries(ODD_KEYS, ODD_VALUES, max_size=4), inner=st.dictionaries(ODD_KEYS, ODD_VALUES, max_size=3))
def test_odd_state_dicts(tmp_path_factory: pytest.TempPathFactory, top: dict[Any, Any], inner: dict[Any, Any]) -> None:
    folder = tmp_path_factory.getbasetemp()
    for content in (top, {"ema": STATE | inner}, STATE | inner):
        path = checkpoint(content, folder / "odd.pt")
        throw("checkpoint", lambda: adopt(path))  # noqa: B023
        throw("weights", lambda: load_in_order(tiny(), read_state(str(path), "x", "fetch"), "x"))  # noqa: B023


def test_files_that_are_no_checkpoints_are_told_apart(tmp_path: Path) -> None:
    path = checkpoint({"ema": STATE}, tmp_path / "x.pt")
    for content in (b"<html>", path.read_bytes()[:-300], gzip.compress(path.read_bytes())):
        path.write_bytes(content)
        with pytest.raises(
            IrepaError, match=r"x\.pt is no file of torch\.save, or is cut off, .*save its tensors anew"
        ):
            adopt(path)
    checkpoint({"ema": {name: tensor.numpy() for name, tensor in STATE.items()}}, path)
    with pytest.raises(
        IrepaError, match=r"Weights only load failed.*; fetch it again, or save its tensors anew"
    ) as refusal:
        adopt(path)
    assert "\x1b" not in str(refusal.value), "torch colours its words"


def test_pickles_that_would_run_code_are_refused(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "touched",))

    (tmp_path / "x.pt").write_bytes(pickle.dumps({"ema": Harm()}))
    assert not throw("checkpoint", lambda: adopt(tmp_path / "x.pt"), "x.pt")
    (tmp_path / "y.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    assert not throw("checkpoint", lambda: adopt(tmp_path / "y.safetensors"), "y.safetensors")
    assert not (tmp_path / "touched").exists()
