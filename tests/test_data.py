"""Datasets: photographs split without overlap, the hub's Parquet layout, image folders, foreground masks."""

from __future__ import annotations

import hashlib
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

from irepa.data import Split, Splits, check_splits, checked_batches, image_folder, parquet, photos
from irepa.errors import DataError
from irepa.images import center_crop, decode, decode_all
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
    with pytest.raises(DataError, match=r"a\.parquet, row 0: label is -1; .* a split without labels cannot be used"):
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


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("shape", "digest"),
    [
        ((90, 150, 3), "6934a6871a2508b9d016643d2cf4896347596eb1937ab19132eaeb5e541b04c5"),
        ((90, 150), "d4f5f497c992e3cb87b014e748c3bce415430e70f13d32345a9bd835ceabe922"),
    ],
)
def test_ordinary_images_keep_their_bytes(shape: tuple[int, ...], digest: str) -> None:
    """The sums are of the crops that were made before other modes had rules."""
    rng = np.random.default_rng(0)
    if len(shape) == 2:
        rng.integers(0, 256, (90, 150, 3), dtype=np.uint8)  # the colour image was drawn first
    image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
    assert hashlib.sha256(decode(saved(image, "PNG"), 32, "x").tobytes()).hexdigest() == digest


CLEAR = np.zeros((8, 8, 4), np.uint8)  # the upper half is transparent and hides red, the lower half is opaque red
CLEAR[..., 0], CLEAR[4:, :, 3] = 200, 255
HALF = np.full((8, 8), 32768, np.uint16)  # the middle of 16 bits
PALETTE = Image.fromarray(np.uint8([[0] * 8] * 4 + [[1] * 8] * 4), "P")
PALETTE.putpalette([10, 20, 30, 40, 50, 60])
WHITE, RED = (255, 255, 255), (200, 0, 0)


@pytest.mark.parametrize(
    ("content", "mode", "top", "bottom"),
    [
        (saved(Image.fromarray(HALF), "PNG"), "I;16", (128,) * 3, (128,) * 3),
        (saved(Image.fromarray(HALF), "TIFF"), "I;16", (128,) * 3, (128,) * 3),
        (saved(Image.fromarray(HALF.astype(np.int32)), "PPM"), "I", (128,) * 3, (128,) * 3),
        (saved(Image.fromarray(HALF // 32768 * 65535), "PNG"), "I;16", WHITE, WHITE),
        (saved(Image.fromarray(HALF // 32768 * 300), "PNG"), "I;16", (1,) * 3, (1,) * 3),
        (saved(Image.fromarray(HALF), "PNG", transparency=32768), "I;16", WHITE, WHITE),
        (saved(Image.fromarray(CLEAR), "PNG"), "RGBA", WHITE, RED),
        (saved(Image.fromarray(CLEAR), "WEBP", lossless=True), "RGBA", WHITE, RED),
        (saved(Image.fromarray(CLEAR).convert("LA"), "PNG"), "LA", WHITE, (60,) * 3),
        (saved(PALETTE, "PNG"), "P", (10, 20, 30), (40, 50, 60)),
        (saved(PALETTE, "PNG", transparency=0), "P", WHITE, (40, 50, 60)),
        (saved(PALETTE, "PNG", transparency=b"\x00\x80"), "P", WHITE, (147, 152, 157)),
        (saved(PALETTE, "GIF", transparency=0), "P", WHITE, (40, 50, 60)),
        (saved(Image.new("RGB", (8, 8), (1, 2, 3)), "PNG", transparency=(1, 2, 3)), "RGB", WHITE, WHITE),
        (saved(Image.new("L", (8, 8), 7), "PNG", transparency=7), "L", WHITE, WHITE),
        (saved(Image.new("L", (8, 8), 7), "PNG"), "L", (7,) * 3, (7,) * 3),
        (saved(Image.new("1", (8, 8), 1), "PNG"), "1", WHITE, WHITE),
        (saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"), "CMYK", (255, 0, 0), (255, 0, 0)),
        (saved(Image.new("YCbCr", (8, 8), (90, 128, 128)), "TIFF"), "YCbCr", (90,) * 3, (90,) * 3),
    ],
)  # fmt: skip
def test_every_mode_of_an_image_has_its_rule(
    content: bytes, mode: str, top: tuple[int, ...], bottom: tuple[int, ...], tmp_path: Path
) -> None:
    assert Image.open(io.BytesIO(content)).mode == mode
    (tmp_path / "image").write_bytes(content)
    (pixels,) = decode_all([(tmp_path / "image", "image")], 8)
    assert (pixels[0] == top).all()
    assert (pixels[-1] == bottom).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_stands_as_its_camera_was_held(orientation: int) -> None:
    """Against the definition in EXIF 2.32: where row 0 and column 0 of the stored pixels lie in the picture."""
    row_0, column_0 = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }[orientation]  # fmt: skip
    stored = np.zeros((8, 8, 3), np.uint8)
    stored[0, :, 0], stored[:, 0, 1] = 255, 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = decode(saved(Image.fromarray(stored), "PNG", exif=exif), 8, "x")
    edges = {"top": seen[0], "bottom": seen[-1], "left": seen[:, 0], "right": seen[:, -1]}
    assert (edges[row_0][:, 0] == 255).all()
    assert (edges[column_0][:, 1] == 255).all()


def test_a_damaged_exif_block_beside_good_pixels_is_passed_over() -> None:
    content = saved(
        Image.new("RGB", (8, 8), (90, 90, 90)), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff", quality=100
    )
    assert (decode(content, 8, "x") == 90).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (saved(Image.fromarray(HALF.astype(np.int32)), "TIFF"), "pixels of mode I have no known white"),
        (saved(Image.fromarray(HALF.astype(np.float32)), "TIFF"), "pixels of mode F have no known white"),
        (saved(Image.new("LAB", (8, 8)), "TIFF"), "pixels of mode LAB have no known white"),
        (saved(Image.new("RGB", (1, 400)), "PNG"), "1x400 pixels are a strip"),
        (b"", r"no format that Pillow knows, 0 bytes"),
        (b"GIF89a", "cannot be decoded as an image"),
    ],
)  # fmt: skip
def test_pixels_without_a_meaning_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"a\.img.*{message}.*; replace the file, or save it anew as 8-bit RGB"):
        decode(content, 8, "a.img")


IMAGE = {"bytes": png((1, 2, 3)), "path": "a.png"}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (pa.array([0, 1, -1]), r"b\.parquet, row 2: label is -1; labels count the classes from 0.*leave the row out"),
        (pa.array([0, None, 1]), r"b\.parquet, row 1: label is null; leave the row out"),
        (pa.array([0, 1.5, 1]), r"b\.parquet, row 1: the label is 1\.5 \(double\); .*write the column anew as int64"),
        (pa.array(["cat", "dog", "cat"]), r"b\.parquet, row 0: the label is 'cat' \(string\)"),
        (pa.array([True, False, True]), r"b\.parquet holds labels of bool; .*write the column anew"),
        (pa.array([None, None, None]), r"b\.parquet, row 0: the label is None \(null\)"),
        (pa.array([0, 1, 2**63], pa.uint64()), r"b\.parquet, row 2: label is 9223372036854775808"),
        (pa.array([0, 3, 1]), r"dataset\.train: 1 of 4 classes have no training image: 2 \(2\)"),
    ],
)  # fmt: skip
def test_labels_that_name_no_class_are_refused_with_file_row_and_cure(
    labels: pa.Array, message: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"image": [IMAGE] * 3, "label": [0, 1, 1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": [IMAGE] * 3, "label": labels}), tmp_path / "b.parquet")
    options = parquet.Options(train=tmp_path, test=tmp_path / "a.parquet")
    with pytest.raises(DataError, match=message):
        check_splits(parquet.load(options, 8))
    if "no training image" not in message:
        with pytest.raises(DataError, match=message):  # and before anything runs
            parquet.check(options)


def test_labels_of_a_split_must_be_classes_that_are_trained(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [IMAGE] * 2, "label": [0, 1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": [IMAGE] * 2, "label": [1, 2]}), tmp_path / "b.parquet")
    options = parquet.Options(train=tmp_path / "a.parquet", test=tmp_path / "b.parquet")
    with pytest.raises(
        DataError, match=r"b\.parquet, row 1: label is 2, but the training images have 2 classes, 0 to 1"
    ):
        parquet.load(options, 8)
    named = options.model_copy(update={"train": options.test, "test": options.train, "class_names": ["cat", "dog"]})
    with pytest.raises(DataError, match=r"b\.parquet, row 1: label is 2, but dataset\.class_names has 2 classes"):
        parquet.load(named, 8)
    with pytest.raises(DataError, match="1 of 3 classes have no training image: bird"):
        check_splits(
            parquet.load(named.model_copy(update={"test": options.test, "class_names": ["bird", "cat", "dog"]}), 8)
        )


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([IMAGE, {"bytes": None, "path": "dogs/1.jpg"}], r"a\.parquet, row 1: image is without bytes \(path: dogs/1\.jpg\)"),
        ([IMAGE, None], r"a\.parquet, row 1: image is null; the file must hold the images themselves"),
        ([{"path": "x"}, {"path": "y"}], r"a\.parquet holds struct<path: string>, not bytes and path"),
        ([{"inner": IMAGE}, {"inner": IMAGE}], r"a\.parquet holds struct<inner: .*, not bytes and path"),
        ([{"bytes": "text", "path": "y"}] * 2, r"a\.parquet holds struct<bytes: string.*, not bytes and path"),
        ([[IMAGE], [IMAGE]], r"a\.parquet holds list<.*, not bytes and path"),
    ],
)  # fmt: skip
def test_cells_without_an_image_are_refused_with_their_row(cells: list[object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table, options = pa.table({"image": cells, "label": [0, 0]}), parquet.Options(train=path, test=path)
    pq.write_table(table, path, write_statistics=False)
    with pytest.raises(DataError, match=message):
        images_of(parquet.load(options, 8))
    pq.write_table(table, path, row_group_size=1)  # with statistics: known before any job
    with pytest.raises(DataError, match=message):
        parquet.check(options)


def test_an_image_that_is_not_used_may_be_null(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [IMAGE, None], "label": [0, 0]}), path, row_group_size=1)
    parquet.check(parquet.Options(train=path, test=path, train_images=1, test_images=1))
    with pytest.raises(DataError, match=r"a\.parquet, row 1: image is null"):
        parquet.check(parquet.Options(train=path, test=path, train_images=1))


def folder_of(tmp_path: Path, *files: str) -> image_folder.Options:
    for split in ("train", "val"):
        for name in files:
            path = tmp_path / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png((1, 2, 3)))
    return image_folder.Options(train=tmp_path / "train", test=tmp_path / "val")


def test_what_programs_leave_in_a_folder_is_no_class_and_no_image(tmp_path: Path) -> None:
    options = folder_of(
        tmp_path, "cat/a.png", "cat/deeper/b.PNG", "cat/._a.png", "cat/.ipynb_checkpoints/a.png", ".ipynb_checkpoints/a.png"
    )  # fmt: skip
    (tmp_path / "train" / "cat" / "folder.png").mkdir()
    image_folder.check(options)
    dataset = image_folder.load(options, 8)
    assert dataset.class_names == ["cat"]
    assert images_of(dataset)[0].shape == (2, 8, 8, 3)


def test_a_class_folder_without_an_image_is_named_with_what_it_has(tmp_path: Path) -> None:
    options = folder_of(tmp_path, "cat/a.png", "dog/a.heic", "dog/notes.txt")
    refused = (
        r"dataset\.train: the class folder .*train/dog has no image: files of \.heic, \.txt, none of \.avif, \.bmp"
    )
    for call in (image_folder.check, lambda options: image_folder.load(options, 8)):
        with pytest.raises(DataError, match=refused):
            call(options)


def test_images_behind_links_and_of_every_format_are_read(tmp_path: Path) -> None:
    options = folder_of(tmp_path, "cat/a.png", "cat/b.TIF", "dog/c.gif")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "d.png").write_bytes(png((1, 2, 3)))
    (tmp_path / "train" / "cat" / "linked").symlink_to(tmp_path / "more")
    (tmp_path / "train" / "cat" / "circle").symlink_to(tmp_path / "train")
    assert image_folder.load(options, 8).train.labels.tolist() == [0, 0, 0, 1]


def test_class_folders_of_one_split_alone_are_named(tmp_path: Path) -> None:
    options = folder_of(tmp_path, "cat/a.png")
    (tmp_path / "val" / "bird").mkdir()
    (tmp_path / "val" / "bird" / "a.png").write_bytes(png((1, 2, 3)))
    with pytest.raises(DataError, match=r"different class folders: .*val alone has bird"):
        image_folder.check(options)


def test_no_reader_may_give_labels_or_pixels_without_meaning() -> None:
    """What the stage holds every dataset's reader to, those of others too."""
    pixels = np.zeros((2, 8, 8, 3), np.uint8)

    def splits(labels: object = (0, 1), images: np.ndarray = pixels) -> Splits:
        split = Split(np.array(labels), lambda: iter([images]))
        return Splits(split, Split(np.array([0, 1]), lambda: iter([images])), ["cat", "dog"])

    check_splits(splits())
    assert len(list(checked_batches(splits().train, "train", 8))) == 1
    for labels, message in (
        ([0, 2], "image 1 has the label 2; allowed are 0 to 1"),
        ([-1, 1], "image 0 has the label -1"),
        ([0.0, 1.0], "labels of train are float64"),
        ([0, 0], r"1 of 2 classes have no training image: dog \(1\)"),
        (np.zeros(0, np.int64), "no images"),
    ):
        with pytest.raises(DataError, match=message):
            check_splits(splits(labels))
    for images in (pixels.astype(np.float32), pixels.transpose(0, 3, 1, 2), pixels[0]):
        with pytest.raises(DataError, match=r"\(m, 8, 8, 3\) uint8 is needed"):
            list(checked_batches(splits(images=images).train, "train", 8))


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
