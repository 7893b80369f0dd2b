"""Folders of images of every kind that `jaxssl.data.io.images` names, and `jaxssl.data.load`."""

import inspect
import io
import os
import re
import sys
import warnings

import jax
import numpy as np
import pytest
import tifffile
from PIL import Image

import jaxssl.data
from jaxssl.data.datasets import folder
from jaxssl.data.io import arrays, images, loading, resize
from jaxssl.data.source import UNLABELLED
from jaxssl.errors import UserError
from tests.refusals import refuses

RNG = np.random.default_rng(0)


def save(path, array, **kw):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, array, **kw)
    else:
        Image.fromarray(array).save(path, **kw)
    return path


def noise(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


def two_classes(root, make=lambda: noise(8, 8, 3), suffix=".png"):
    for name in ("a/0", "a/1", "b/0"):
        save(root / (name + suffix), make())
    return root


def call_load(name, **kw):
    given = {"seed": 0, "dir": "", "manual_dir": "", "cache_dir": "", "size": 8, "on_bad_file": "stop", "nan": "refuse"}
    return jaxssl.data.load(name, **(given | {"options": {}} | kw))


# Layouts


def test_class_folders_give_labels_ids_and_pixels(tmp_path):
    deep = save(tmp_path / "b/patient/x.PNG", noise(8, 8, 3))
    two_classes(tmp_path)
    got = folder.load(dir=str(tmp_path), size=8)
    assert got.classes == ("a", "b")
    assert got.ids.tolist() == ["a/0.png", "a/1.png", "b/0.png", "b/patient/x.PNG"]
    assert got.labels.tolist() == [0, 0, 1, 1]
    assert (got.images[3] == np.asarray(Image.open(deep))).all()
    assert not got.groups_known and got.official is None


def test_flat_folder_is_unlabelled(tmp_path):
    for i in range(3):
        save(tmp_path / f"{i}.png", noise(8, 8))
    got = folder.load(dir=str(tmp_path), size=8)
    assert got.classes == () and (got.labels == UNLABELLED).all() and got.images.shape == (3, 8, 8, 1)


@pytest.mark.parametrize(("train", "val"), [("train", "val"), ("Train", "validation")])
def test_split_folders_are_the_official_split(tmp_path, train, val):
    for side in (train, val, "test"):
        two_classes(tmp_path / side)
    got = folder.load(dir=str(tmp_path), size=8)
    by_id = dict(zip(got.ids.tolist(), got.official.tolist(), strict=True))
    assert by_id[f"{train}/a/0.png"] == "train" and by_id[f"{val}/b/0.png"] == "validation"
    assert by_id["test/a/1.png"] == "test" and len(by_id) == 9 and got.classes == ("a", "b")


def test_class_that_is_called_test_is_a_class(tmp_path):
    save(tmp_path / "test/0.png", noise(8, 8))
    save(tmp_path / "control/0.png", noise(8, 8))
    got = folder.load(dir=str(tmp_path), size=8)
    assert got.classes == ("control", "test") and got.official is None


def test_train_alone_is_a_split_that_lacks_the_rest(tmp_path):
    two_classes(tmp_path / "train")
    got = folder.load(dir=str(tmp_path), size=8)
    assert got.classes == ("a", "b") and set(got.official) == {"train"}


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("train", "val", "test", "extra"), "test, train, val of a split, and also 'extra'"),
        (("Training", "Testing", ""), "Testing, Training of a split, and also '0.png'"),
        (("val", "test"), "test, val of a split, and none called 'train'"),
    ],
)
def test_half_a_split_is_not_taken_for_classes(tmp_path, folders, said):
    for name in folders:
        save(tmp_path / name / ("a/0.png" if name else "0.png"), noise(8, 8))
    with pytest.raises(UserError, match=re.escape(said)):
        folder.load(dir=str(tmp_path), size=8)


@pytest.mark.parametrize("name", [b"J\xf6rg.png", b"a\rb.png"])
def test_a_name_that_no_table_can_hold_is_refused(tmp_path, name):
    two_classes(tmp_path)
    try:
        os.rename(tmp_path / "a" / "0.png", os.fsencode(tmp_path / "a") + b"/" + name)
    except OSError:
        pytest.skip("the file system takes no such name")
    with pytest.raises(
        UserError, match=r"the name 'a/.*png' is not UTF-8 text in one line without control characters: rename the file"
    ):
        folder.load(dir=str(tmp_path), size=8)


def test_other_files_are_left_alone_and_counted(tmp_path, caplog):
    two_classes(tmp_path)
    for name in ("__MACOSX/a/._0.png", "a/.DS_Store", "a/._1.png", ".cache/z.png", "labels.csv", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert len(folder.load(dir=str(tmp_path), size=8).ids) == 3
    assert "ignored 2 files that are not images" in caplog.text and "1 .csv" in caplog.text


def test_linked_folder_is_followed_and_a_loop_is_not(tmp_path):
    two_classes(tmp_path / "real")
    root = tmp_path / "root"
    root.mkdir()
    for name in "ab":
        (root / name).symlink_to(tmp_path / "real" / name, target_is_directory=True)
    (tmp_path / "real" / "a" / "loop").symlink_to(root, target_is_directory=True)
    assert folder.load(dir=str(root), size=8).ids.tolist() == ["a/0.png", "a/1.png", "b/0.png"]


def test_group_pattern_gives_groups(tmp_path):
    for name in ("a/p1_0.png", "a/p1_1.png", "b/p2_0.png"):
        save(tmp_path / name, noise(8, 8))
    got = folder.load(dir=str(tmp_path), size=8, group_pattern=r"(p\d+)_")
    assert got.groups.tolist() == ["p1", "p1", "p2"] and got.groups_known


@pytest.mark.parametrize(
    ("pattern", "says"),
    [("(", "not a regular"), ("p", "0 groups"), (r"(p1)_", "does not match 1 of 3 paths, such as b")],
)
def test_group_pattern_that_does_not_fit(tmp_path, pattern, says):
    for name in ("a/p1_0.png", "a/p1_1.png", "b/p2_0.png"):
        save(tmp_path / name, noise(8, 8))
    with pytest.raises(UserError, match=says):
        folder.load(dir=str(tmp_path), size=8, group_pattern=pattern)


def test_folders_that_cannot_be_a_dataset(tmp_path):
    with pytest.raises(UserError, match="is empty"):
        folder.load(dir="", size=8)
    with pytest.raises(UserError, match="not a folder"):
        folder.load(dir=str(tmp_path / "nowhere"), size=8)
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(UserError, match=r"holds no image .* among 1 files"):
        folder.load(dir=str(tmp_path), size=8)
    save(tmp_path / "a/0.png", noise(8, 8))
    with pytest.raises(UserError, match="one class only, 'a': add classes"):
        folder.load(dir=str(tmp_path), size=8)
    save(tmp_path / "stray.png", noise(8, 8))
    with pytest.raises(UserError, match=r"stray\.png is in no class folder"):
        folder.load(dir=str(tmp_path), size=8)


def test_one_image_is_no_folder_and_one_number_is_a_name(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "x.png")
    with refuses("unsupported", "data.dir", "x.png is one image"):
        folder.load(dir=str(tmp_path / "x.png"), size=4)
    with refuses("unknown-name", "data.options.label_columns", "'5'"):
        (tmp_path / "t.csv").write_text("path,a,b\nx.png,1,0\n")
        folder.load(dir=str(tmp_path / "t.csv"), size=4, label_columns=5)  # pyright: ignore


def test_labels_can_be_left_out(tmp_path):
    save(tmp_path / "a/0.png", noise(8, 8))
    got = folder.load(dir=str(tmp_path), size=8, use_labels=False)
    assert got.classes == () and got.ids.tolist() == ["a/0.png"]


def test_wrapper_folder_is_named(tmp_path):
    two_classes(tmp_path / "archive")
    with pytest.raises(UserError, match=r"did you mean data\.dir=.*archive\?"):
        folder.load(dir=str(tmp_path), size=8)


# Kinds of files


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_keeps_its_bits(tmp_path, suffix, dtype):
    array = RNG.integers(0, np.iinfo(dtype).max, (8, 8)).astype(dtype)
    got = images.read(save(tmp_path / f"x{suffix}", array))
    assert got.dtype == dtype and (got[..., 0] == array).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int16])
@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 2), (20, 30, 3), (20, 30, 5)])
@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_channels_and_dtypes(tmp_path, dtype, shape, suffix):
    array = RNG.integers(0, 200, shape).astype(dtype)
    layout = {} if len(shape) == 2 else {"photometric": "minisblack", "planarconfig": "contig"}
    got = images.read(save(tmp_path / f"x{suffix}", array, **layout))
    assert got.dtype == (dtype if dtype in (np.uint8, np.uint16) else np.float32)
    assert (got == array.reshape(20, 30, -1)).all()


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_channels_first_or_pages(tmp_path, suffix):
    array = noise(5, 20, 30)
    layout = {"photometric": "minisblack"}
    assert (images.read(save(tmp_path / f"x{suffix}", array, **layout)) == np.moveaxis(array, 0, -1)).all()


def test_colour_tiff_of_16_bits_is_not_cut(tmp_path):
    array = RNG.integers(0, 65536, (9, 8, 3)).astype(np.uint16)
    assert (images.read(save(tmp_path / "x.tif", array, photometric="rgb")) == array).all()


def test_compressed_tiff(tmp_path):
    for array in (noise(9, 8, 3), noise(9, 8).astype(np.uint16) * 200):
        Image.fromarray(array).save(tmp_path / "x.tif", compression="tiff_lzw")
        assert (np.squeeze(images.read(tmp_path / "x.tif")) == array).all()


@pytest.mark.parametrize("mode", ["P", "CMYK", "1", "L", "RGBA"])
def test_modes(tmp_path, mode):
    rgb = Image.fromarray(np.where(noise(8, 8, 3) > 127, 255, 0).astype(np.uint8))
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    rgb.convert(mode).save(path)
    want = np.asarray(rgb.convert("L" if mode in "1L" else "RGB"))
    got = images.read(path)
    if mode == "1":
        want = np.asarray(rgb.convert("1")).astype(np.uint8) * 255
    assert got.shape == (8, 8, 1 if mode in "1L" else 3)
    assert (np.squeeze(got) == want).all()


def test_alpha_is_composited_on_black():
    opened = io.BytesIO()
    Image.fromarray(np.array([[[200, 100, 50, 255], [200, 100, 50, 51], [9, 9, 9, 0]]], np.uint8)).save(opened, "PNG")
    assert images.read(opened.getvalue()).tolist() == [[[200, 100, 50], [40, 20, 10], [0, 0, 0]]]
    opened = io.BytesIO()
    Image.fromarray(np.array([[[200, 255], [200, 51]]], np.uint8)).save(opened, "PNG")
    assert images.read(opened.getvalue()).tolist() == [[[200], [40]]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_what_pillow_does_not_read(tmp_path, orientation):
    array = noise(4, 6)
    tag = {"photometric": "minisblack", "extratags": [(274, "H", 1, orientation, True)]}
    byte, long = (images.read(save(tmp_path / f"{t}.tif", array.astype(t), **tag)) for t in ("u1", "u4"))
    assert (byte == long).all()


def test_white_is_high_in_every_tiff(tmp_path):
    for t, highest in (("u1", 255), ("u2", 65535), ("u4", 0)):
        array = noise(4, 6).astype(t)
        read = images.read(save(tmp_path / f"{t}.tif", array, photometric="miniswhite"))
        assert (read[..., 0] == highest - array.astype(float)).all(), t


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr", "L"])
def test_thumbnail_of_a_tiff_changes_nothing(tmp_path, mode):
    image = Image.fromarray(noise(40, 40, 3)).convert(mode)
    image.save(tmp_path / "alone.tif")
    image.save(tmp_path / "two.tif", save_all=True, append_images=[image.resize((10, 10))])
    alone, two = (images.read(tmp_path / f"{name}.tif") for name in ("alone", "two"))
    assert alone.shape == two.shape and (alone == two).all()


def test_orientation_is_applied(tmp_path):
    array = np.zeros((16, 32, 3), np.uint8)
    array[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    got = images.read(save(tmp_path / "x.jpg", array, exif=exif))
    assert got.shape == (32, 16, 3) and got[:12].mean() > 250 and got[20:].mean() < 5


def test_content_and_not_the_name_tells_the_kind(tmp_path):
    array = noise(8, 8)
    save(tmp_path / "x.png", array).rename(tmp_path / "x.jpg")
    assert (images.read(tmp_path / "x.jpg")[..., 0] == array).all()


def test_grey_among_colour_becomes_colour(tmp_path):
    grey = noise(8, 8)
    save(tmp_path / "a/0.png", grey)
    save(tmp_path / "b/0.png", noise(8, 8, 3))
    got = folder.load(dir=str(tmp_path), size=8)
    assert got.images.shape == (2, 8, 8, 3) and (got.images[0] == grey[..., None]).all()


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (noise(8, 8).astype(np.uint16), r"dtype: uint8 \(1, such as a/0.npy\), uint16 \(1, such as b/0.npy\)"),
        (noise(8, 8, 5), "channels"),
    ],
)
def test_mixtures_that_mean_nothing_are_refused(tmp_path, other, says):
    save(tmp_path / "a/0.npy", noise(8, 8))
    save(tmp_path / "b/0.npy", other)
    with pytest.raises(UserError, match=f"differ in {says}"):
        folder.load(dir=str(tmp_path), size=8)


# Files that cannot be read


def png_header(width, height, bits=8, colour=2):
    import struct
    import zlib

    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + b"\0\0\0\0IDAT"


def object_npy():
    opened = io.BytesIO()
    np.save(opened, np.array([np.zeros((4, 4)), 1.0], object), allow_pickle=True)
    return opened.getvalue()


def truncated_jpeg():
    opened = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(opened, "JPEG")
    return opened.getvalue()[:-500]


BAD = {
    "text": (b"not an image", "neither PNG, JPEG"),
    "empty": (b"", "an empty file"),
    "objects": (object_npy(), "Object arrays cannot be loaded"),
    "truncated": (truncated_jpeg(), "truncated"),
    "large": (png_header(9_700, 9_700), "decompression bomb"),
    "bomb": (png_header(60_000, 60_000), "decompression bomb"),
    "deep": (png_header(8, 8, bits=16), "16-bit PNG in colour"),
    "volume": (None, "no axis of shape"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_file_stops_or_is_skipped(tmp_path, caplog, kind):
    content, reason = BAD[kind]
    two_classes(tmp_path)
    bad = tmp_path / "b/bad.png"
    if content is None:
        np.save(tmp_path / "b/bad.npy", np.zeros((32, 32, 32), np.uint8))
        bad = tmp_path / "b/bad.npy"
    else:
        bad.write_bytes(content)
    with pytest.raises(UserError) as stopped:
        folder.load(dir=str(tmp_path), size=8)
    message = str(stopped.value)
    assert "1 of 4 files cannot be read: b/bad." in message and reason in message and "\n" not in message
    assert "data.on_bad_file" in message
    got = folder.load(dir=str(tmp_path), size=8, on_bad_file="skip")
    assert got.ids.tolist() == ["a/0.png", "a/1.png", "b/0.png"] and got.labels.tolist() == [0, 0, 1]
    assert bad.name in caplog.text


def test_many_bad_files_are_counted(tmp_path):
    two_classes(tmp_path)
    for i in range(15):
        (tmp_path / f"a/bad{i:02d}.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"15 of 18 files .*bad09\.png \([^)]*\); and 5 more: repair"):
        folder.load(dir=str(tmp_path), size=8)


def test_nothing_left_after_skipping(tmp_path):
    (tmp_path / "0.png").write_bytes(b"x")
    with pytest.raises(UserError, match="1 of 1 files cannot be read"):
        folder.load(dir=str(tmp_path), size=8, on_bad_file="skip")


def test_size_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(arrays, "MAX_PIXELS", 63)
    for suffix in (".png", ".tif", ".npy"):
        with pytest.raises(ValueError, match="8 x 8 pixels"):
            images.read(save(tmp_path / f"x{suffix}", noise(8, 8)))


# Values that are not finite


@pytest.fixture
def holed(tmp_path):
    array = np.arange(64, dtype=np.float32).reshape(8, 8)
    array[0, :3] = np.nan, np.inf, -np.inf
    save(tmp_path / "a/0.npy", np.ones((8, 8), np.float32))
    save(tmp_path / "b/0.npy", array)
    save(tmp_path / "b/1.npy", array)
    return tmp_path, array


def test_nan_is_refused(holed):
    with pytest.raises(UserError, match=r"b/0\.npy: 3 of its values .* 2 of 3 images: set data\.nan"):
        folder.load(dir=str(holed[0]), size=8)


@pytest.mark.parametrize(("nan", "value"), [("zero", 0), ("median", 33)])
def test_nan_is_filled(holed, nan, value):
    got = folder.load(dir=str(holed[0]), size=8, nan=nan).images[1, ..., 0]
    assert got[0, :3].tolist() == [value] * 3 and (got.ravel()[3:] == holed[1].ravel()[3:]).all()


def test_nan_is_filled_before_resizing(holed):
    got = folder.load(dir=str(holed[0]), size=4, nan="median").images
    filled = np.where(np.isfinite(holed[1]), holed[1], 33)
    assert np.allclose(got[1], resize.fit(filled[..., None], 4, "crop"))


def test_image_without_a_finite_value_is_a_bad_file(holed):
    save(holed[0] / "b/2.npy", np.full((8, 8), np.nan))
    with pytest.raises(UserError, match=r"b/2\.npy \(holds no finite value\)"):
        folder.load(dir=str(holed[0]), size=8, nan="zero")


# Resizing


@pytest.mark.parametrize(("dtype", "within"), [(np.uint8, 1.5), (np.uint16, 2), (np.float32, 1e-3)])
@pytest.mark.parametrize("shape", [(40, 61, 1), (61, 40, 3), (40, 40, 5)])
@pytest.mark.parametrize("size", [16, 64])
def test_fit_is_the_antialiased_lanczos_of_the_centre_square(dtype, within, shape, size):
    top = {np.uint8: 255, np.uint16: 65535, np.float32: 100}[dtype]
    image = np.random.default_rng(0).uniform(0.2 * top, 0.8 * top, shape).astype(dtype)
    y, x = (shape[0] - 40) // 2, (shape[1] - 40) // 2
    square = image[y : y + 40, x : x + 40].astype(np.float32)
    want = jax.image.resize(square, (size, size, shape[2]), "lanczos3", antialias=True)
    got = resize.fit(image, size, "crop")
    assert got.dtype == dtype and got.shape == (size, size, shape[2])
    # Floats may overshoot.
    want = np.asarray(want) if dtype == np.float32 else np.asarray(want).clip(0, top)
    assert np.abs(got.astype(np.float32) - want).max() <= within


def test_pad_keeps_all_and_squash_the_whole_width():
    image = np.full((20, 60, 1), 100, np.uint8)
    image[:, :5] = 250
    padded, cropped, squashed = (resize.fit(image, 30, how)[..., 0] for how in resize.FITS)
    assert padded.shape == cropped.shape == squashed.shape == (30, 30)
    assert padded.max() >= 245 and squashed.max() >= 245 and cropped.max() == 100
    assert not padded[:9].any() and not padded[-9:].any() and padded[12:18].min() >= 85
    floats = resize.fit(image.astype(np.float32) - 200, 30, "pad")[..., 0]
    assert (floats[:9] == -100).all()
    assert (resize.fit(image.swapaxes(0, 1), 30, "pad")[..., 0] == padded.T).all()
    assert resize.fit(np.zeros((1, 500, 3), np.uint8), 8, "pad").shape == (8, 8, 3)


@pytest.mark.parametrize("how", resize.FITS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_square_images_are_the_same_however_they_are_fitted(how, dtype):
    image = noise(20, 20, 3).astype(dtype)
    assert (resize.fit(image, 8, how) == resize.fit(image, 8, "crop")).all()


def test_what_crop_leaves_out_is_said(tmp_path):
    for i, shape in enumerate([(8, 8), (10, 40), (16, 10)]):
        save(tmp_path / f"{'ab'[i % 2]}/{i}.png", noise(*shape))
    got = folder.load(dir=str(tmp_path), size=8, fit="crop")
    assert "the rims of 2 of 3 images that are not square, up to 75% of the pixels" in got.unread[0]
    assert folder.load(dir=str(tmp_path), size=8).unread == ()
    again = [
        folder.load(dir=str(tmp_path), size=8, fit="crop", cache_dir=str(tmp_path / ".c"), memory_mib=0) for _ in "12"
    ]
    assert all(one.unread == got.unread and one.fingerprint == got.fingerprint for one in again)


def test_16_bits_do_not_wrap_at_sharp_edges():
    image = np.zeros((40, 40, 1), np.uint16)
    image[:, 20:] = 65535
    got = resize.fit(image, 30, "pad")[..., 0].astype(int)
    assert (got[:, :13] < 5000).all() and (got[:, 17:] > 60000).all()


def test_large_jpeg_is_decoded_at_a_fraction_and_looks_the_same(tmp_path):
    y, x = np.mgrid[:512, :512] / 40
    smooth = np.stack([127 + 100 * np.sin(x), 127 + 100 * np.cos(y), 127 + 100 * np.sin(x + y)], -1).astype(np.uint8)
    path = save(tmp_path / "x.jpg", smooth, quality=95)
    drafted = images.read(path, 32)
    assert drafted.shape == (64, 64, 3)
    difference = resize.fit(drafted, 32, "pad").astype(int) - resize.fit(images.read(path), 32, "pad")
    assert np.abs(difference).max() <= 6


# Loading by name


def test_load_passes_what_the_loader_takes(tmp_path):
    two_classes(tmp_path)
    got = call_load("folder", dir=str(tmp_path), size=4, options={"group_pattern": "/(.)"})
    assert got.images.shape == (3, 4, 4, 3) and got.groups_known


def test_unknown_name_and_keyword(tmp_path):
    with refuses("unknown-name", "data.name", "did you mean 'ham10000'", "folder", "lenses", "npz"):
        call_load("ham1000")
    with refuses("unknown-name", "data.name", "prepared"):
        call_load("prepared")
    with refuses("unknown-name", "data.options.grup_pattern", "did you mean 'group_pattern'", "'folder'"):
        call_load("folder", dir=str(tmp_path), options={"grup_pattern": "x"})
    with refuses("unknown-name", "data.options.size"):
        call_load("folder", dir=str(tmp_path), options={"size": 9})


@pytest.mark.parametrize(("field", "value"), [("nan", "ignore"), ("on_bad_file", "maybe"), ("fit", "stretch")])
def test_unknown_policy(tmp_path, field, value):
    two_classes(tmp_path)
    with pytest.raises(UserError, match=rf"data\.{field} is '{value}'"):
        call_load("folder", dir=str(tmp_path), **{field: value})


def test_every_named_dataset_has_a_loader():
    import importlib

    for name in jaxssl.data.names():
        loader = importlib.import_module(f"jaxssl.data.datasets.{name}").load
        kinds = {p.kind for p in inspect.signature(loader).parameters.values()}
        assert kinds <= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}, name


def test_filters_of_warnings_are_as_before(tmp_path):
    two_classes(tmp_path)
    before = list(warnings.filters)
    folder.load(dir=str(tmp_path), size=8)
    assert warnings.filters == before


@pytest.mark.parametrize("count", [1000, 1001])
def test_bar_of_many_images_on_a_terminal(monkeypatch, count):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    loading.stack(lambda i: np.zeros((1, 1, 1), np.uint8), [str(i) for i in range(count)], 1)
    assert ("images" in sys.stderr.getvalue()) == (count > 1000)


# Real files


def test_cifar10(shared_data):
    got = folder.load(dir=str(shared_data / "cifar10"), size=32)
    assert got.images.shape == (6000, 32, 32, 3) and len(got.classes) == 10
    assert (got.official == "train").sum() == 5000 and (np.bincount(got.labels) == 600).all()
    one = np.asarray(Image.open(shared_data / "cifar10" / got.ids[4321]))
    assert (got.images[4321] == one).all()


def test_isic9(shared_data):
    (root,) = (path for path in (shared_data / "isic9").iterdir() if path.is_dir())
    got = folder.load(dir=str(root), size=16)
    assert len(got.classes) == 9 and (got.official == "train").sum() == 2239 and (got.official == "test").sum() == 118
    assert np.bincount(got.labels)[got.classes.index("melanoma")] == 438 + 16


def test_real_images_of_mixed_modes_and_sizes(shared_data):
    got = folder.load(dir=str(shared_data / "head_ct_hemorrhage/head_ct/head_ct"), size=24)
    assert got.images.shape == (200, 24, 24, 3) and got.classes == ()


def test_real_floats(shared_data):
    got = folder.load(dir=str(shared_data / "lensing/hst_cosmos_unlabelled/npy_168_source_normalised"), size=42)
    assert got.images.shape == (50, 42, 42, 1) and got.images.dtype == np.float32 and np.isfinite(got.images).all()


def test_the_folder_may_be_a_table_or_an_archive(tmp_path):
    """`data.dir` is what the user has."""
    for name in ("a0", "a1", "b0", "b1"):
        save(tmp_path / "images" / f"{name}.png", noise(20, 20))
    rows = "".join(f"images/{name}.png,{name[0]},{name}\n" for name in ("a0", "a1", "b0", "b1"))
    (tmp_path / "labels.csv").write_text("path,label,group\n" + rows)
    by_table = folder.load(dir=str(tmp_path / "labels.csv"), size=20)
    as_option = folder.load(dir=str(tmp_path), table="labels.csv", size=20)
    assert by_table.fingerprint == as_option.fingerprint and by_table.groups_known
    archive = tmp_path / "mine.NPZ"
    with open(archive, "wb") as file:
        np.savez(file, images=noise(6, 20, 20), labels=np.arange(6) % 2)
    source = folder.load(dir=str(archive), size=20)
    assert source.classes == ("0", "1") and len(source.images) == 6
    with refuses("conflict", "data.options", "mine.NPZ"):
        folder.load(dir=str(archive), size=20, group_pattern="(.)")
