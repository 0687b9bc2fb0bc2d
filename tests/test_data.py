"""Datasets: photographs split without overlap, the hub's Parquet layout, image folders, foreground masks."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from irepa.data import Splits, image_folder, parquet, photos
from irepa.errors import DataError
from irepa.images import center_crop, decode
from irepa.masks import boundary_contrast_mask, token_masks, usable


def images_of(dataset: Splits) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.concatenate(list(split.batches())) for split in (dataset.train, dataset.test))


def test_photographs_are_at_least_twelve_of_scikit_image_and_both_of_scikit_learn() -> None:
    assert len(photos.SKIMAGE_PHOTOGRAPHS) >= 12
    pictures = photos.photographs()
    assert {"china", "flower"} <= set(pictures)
    assert all(picture.shape[2] == 3 and picture.dtype == np.uint8 for picture in pictures.values())


def test_the_demo_has_the_sizes_it_promises_and_every_class_in_both_splits() -> None:
    dataset = photos.load(photos.Options(), 32)
    assert len(dataset.train.labels) >= 4000
    assert len(dataset.test.labels) >= 2000
    assert set(dataset.train.labels) == set(dataset.test.labels) == set(range(len(dataset.class_names)))


def test_crops_are_deterministic_and_follow_the_seed() -> None:
    options = photos.Options(train_per_class=3, test_per_class=2)
    first, again = images_of(photos.load(options, 32)), images_of(photos.load(options, 32))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    other = images_of(photos.load(options.model_copy(update={"seed": 1}), 32))
    assert not np.array_equal(first[0], other[0])
    assert first[0].shape == (3 * 16, 32, 32, 3)


@given(st.integers(40, 900), st.integers(40, 900), st.floats(0.2, 0.8))
def test_regions_share_no_pixel_and_cover_the_photograph(height: int, width: int, share: float) -> None:
    covered = np.zeros((height, width), int)
    for region in photos.regions((height, width), share):
        covered[region] += 1
    assert bool((covered == 1).all())


def test_held_out_crops_never_show_the_training_region() -> None:
    """A picture that is red where training may look and blue elsewhere gives purely blue held-out crops."""
    picture = np.zeros((100, 300, 3), np.uint8)
    (train, test) = photos.regions(picture.shape, 0.65)
    picture[train], picture[test] = (255, 0, 0), (0, 0, 255)
    rng = np.random.default_rng(0)
    for region, colour in ((train, [255, 0, 0]), (test, [0, 0, 255])):
        crops = photos.random_crops(picture[region], 50, 32, 0.3, rng)
        assert bool((crops == np.array(colour)).all())


def png(colour: tuple[int, int, int], size: tuple[int, int] = (40, 60)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path: Path, contents: list[bytes], labels: list[int]) -> None:
    rows = [{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(contents)]
    pq.write_table(pa.table({"img": rows, "label": labels}), path)


def test_parquet_in_the_hubs_layout_is_read_in_order_and_cropped(tmp_path: Path) -> None:
    colours = [(10 * i, 0, 0) for i in range(5)]
    write_parquet(tmp_path / "train.parquet", [png(c) for c in colours], [0, 1, 2, 1, 0])
    options = parquet.Options(train=tmp_path / "train.parquet", test=tmp_path / "train.parquet", image_column="img",
                              test_images=2)  # fmt: skip
    dataset = parquet.load(options, 32)
    train, test = images_of(dataset)
    assert train.shape == (5, 32, 32, 3)
    assert train[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40]
    assert dataset.train.labels.tolist() == [0, 1, 2, 1, 0]
    assert len(test) == 2
    assert dataset.class_names == ["0", "1", "2"]


def test_an_image_that_cannot_be_decoded_is_named_by_file_and_row(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [png((1, 2, 3)), b"not an image"], [0, 0])
    options = parquet.Options(train=tmp_path / "a.parquet", test=tmp_path / "a.parquet", image_column="img")
    with pytest.raises(DataError, match=r"a\.parquet, row 1 \(1\.png\): cannot be decoded as an image"):
        images_of(parquet.load(options, 32))
    truncated = png((1, 2, 3))[:-30]
    with pytest.raises(DataError, match=r"x\.png: cannot be decoded"):
        decode(truncated, 32, "x.png")


def test_columns_that_are_missing_or_hold_something_else_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, [png((1, 2, 3))], [0])
    for changed, message in (
        ({}, r"dataset\.image_column = image: .*a\.parquet has the columns img, label"),
        (
            {"image_column": "img", "label_column": "y"},
            r"dataset\.label_column = y: .*a\.parquet has the columns img, label",
        ),
        ({"image_column": "label"}, r"dataset\.image_column = label: .*a\.parquet holds int64, not bytes and path"),
    ):
        with pytest.raises(DataError, match=message):
            parquet.load(parquet.Options(train=path, test=path, **changed), 32)
    write_parquet(path, [png((1, 2, 3))], [-1])
    with pytest.raises(DataError, match="labels go down to -1: a split without labels cannot be used"):
        parquet.load(parquet.Options(train=path, test=path, image_column="img"), 32)


def test_a_photograph_that_is_too_small_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"dataset\.image_size = 4000: a photograph's region of \d+x\d+ pixels is smaller"
    ):
        images_of(photos.load(photos.Options(), 4000))


def test_image_folders_are_read_by_class_and_their_mistakes_named(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name, colour in (("cat", (9, 9, 9)), ("dog", (200, 0, 0))):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "a.png").write_bytes(png(colour))
    options = image_folder.Options(train=tmp_path / "train", test=tmp_path / "val")
    dataset = image_folder.load(options, 16)
    assert dataset.class_names == ["cat", "dog"]
    assert images_of(dataset)[0][:, 0, 0, 0].tolist() == [9, 200]
    (tmp_path / "val" / "dog" / "b.jpg").write_bytes(b"oops")
    with pytest.raises(DataError, match=r"b\.jpg: cannot be decoded"):
        images_of(image_folder.load(options, 16))
    (tmp_path / "val" / "bird").mkdir()
    with pytest.raises(DataError, match="different class folders"):
        image_folder.load(options, 16)


def test_centre_crop_halves_then_scales_then_crops() -> None:
    picture = Image.fromarray(np.arange(100 * 260 * 3, dtype=np.uint32).astype(np.uint8).reshape(100, 260, 3))
    assert center_crop(picture, 32).size == (32, 32)
    same = Image.new("RGB", (32, 32), (5, 6, 7))
    assert np.array_equal(np.asarray(center_crop(same, 32)), np.asarray(same))


def test_masks_find_a_bright_square_on_a_dark_ground_and_nothing_in_one_colour() -> None:
    image = np.full((32, 32, 3), 20, np.uint8)
    image[10:22, 10:22] = (240, 200, 40)
    mask = boundary_contrast_mask(image)
    truth = np.zeros((32, 32), bool)
    truth[10:22, 10:22] = True
    assert (mask & truth).sum() / (mask | truth).sum() > 0.8
    assert not boundary_contrast_mask(np.full((32, 32, 3), 90, np.uint8)).any()


def test_token_masks_are_max_pooled_and_images_need_a_quarter_of_each() -> None:
    masks = torch.zeros(3, 8, 8, dtype=torch.bool)
    masks[0, 3, 5] = True
    masks[1, :4] = True
    masks[2] = True
    tokens = token_masks(masks, (4, 4))
    assert tokens[0].nonzero().flatten().tolist() == [1 * 4 + 2]
    assert usable(tokens).tolist() == [False, True, False]
    with pytest.raises(ValueError, match="cannot be pooled to a 3x3 grid"):
        token_masks(masks, (3, 3))


@pytest.mark.skipif("IREPA_TEST_CIFAR10" not in os.environ, reason="IREPA_TEST_CIFAR10 names no folder of CIFAR-10")
def test_cifar10_in_the_hubs_layout() -> None:
    folder = Path(os.environ["IREPA_TEST_CIFAR10"])
    options = parquet.Options(train=folder / "train.parquet", test=folder / "test.parquet", image_column="img",
                              train_images=1000, test_images=500)  # fmt: skip
    dataset = parquet.load(options, 32)
    train, _ = images_of(dataset)
    assert train.shape == (1000, 32, 32, 3)
    assert len(dataset.class_names) == 10
