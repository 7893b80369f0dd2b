"""What an audit finds in folders, downloads, archives and arrays whose faults are known."""

import io
import json
import typing
from collections import defaultdict

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageEnhance

from jaxssl.data import source
from jaxssl.data.audit import duplicates, items
from jaxssl.data.audit import report as report_module
from jaxssl.data.audit.report import audit_files, audit_source
from jaxssl.errors import UserError
from jaxssl.files import write_json
from jaxssl.results import audit_schema

RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


def picture(seed=0, side=96):
    """Smooth shapes with edges, as photographs have them: another one for each seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    image = 60 + 40 * np.sin(6 * rng.random() * x + 6 * rng.random() * y)[..., None] * np.ones(3)
    for _ in range(12):
        inside = (x - rng.random()) ** 2 + (y - rng.random()) ** 2 < (0.05 + 0.15 * rng.random()) ** 2
        image[inside] = rng.integers(20, 236, 3)
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


def save(path, array, **kw):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, array, **kw)
    else:
        (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path, **kw)
    return path


def look(root, **kw):
    return audit_files(items.list_folder(str(root), **kw))


def starts(findings):
    """Without what to do."""
    return [": ".join(line.split(": ")[:2]) for line in findings]


def paths(cluster):
    return [file["path"] for file in cluster["files"]]


# What single files tell


def test_kinds_sizes_modes_and_values(tmp_path):
    save(tmp_path / "a/0.png", np.full((8, 12, 3), 7, np.uint8) + np.arange(3, dtype=np.uint8))
    save(tmp_path / "a/1.png", np.arange(64, dtype=np.uint8).reshape(8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "b/0.jpg", picture(), exif=exif)
    save(tmp_path / "b/1.tif", np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)
    save(tmp_path / "b/2.npy", np.linspace(-1, 2, 64, dtype=np.float32).reshape(8, 8))
    (tmp_path / "b/labels.csv").write_text("x")
    report = look(tmp_path)
    assert report["images"] == 5 and report["ignored"] == {".csv": 1} and report["classes"] == ["a", "b"]
    assert report["counts"] == {"all": {"b": 3, "a": 2}}
    assert report["formats"] == {"PNG": 2, "JPEG": 1, "TIFF": 1, "npy": 1}
    assert report["modes"] == {"RGB": 2, "I;16": 1, "L": 1} and report["orientations"] == {"none": 4, "6": 1}
    assert report["channels"] == {"1": 3, "3": 2} and report["dtypes"] == {"uint8": 3, "float32": 1, "uint16": 1}
    assert report["values"]["uint16"] == [0, 63000] and report["values"]["float32"] == [-1, 2]
    assert report["sizes"]["distinct"] == 3 and report["sizes"]["smallest"] == [8, 8]
    assert report["sizes"]["largest"] == [96, 96] and report["sizes"]["commonest"][0] == [8, 8, 3]
    assert [row["path"] for row in report["constant"]] == ["a/0.png"] and report["constant"][0]["value"] == 7
    assert report["bytes"] == sum(path.stat().st_size for path in tmp_path.rglob("*.*") if path.suffix != ".csv")


def test_holes_are_counted(tmp_path):
    array = np.ones((8, 8), np.float32)
    array[0, :3] = np.nan, np.inf, -np.inf
    save(tmp_path / "a/0.npy", array)
    save(tmp_path / "b/0.npy", np.full((8, 8), np.nan))
    save(tmp_path / "b/1.npy", np.full((8, 8), 3e38))
    report = look(tmp_path)
    assert report["nonfinite"] == [
        {"path": "a/0.npy", "nan": 1, "inf": 2, "values": 64},
        {"path": "b/0.npy", "nan": 64, "inf": 0, "values": 64},
    ]
    assert report["findings"][0].startswith("images with NaN or infinities: 2 of 3 (a/0.npy, b/0.npy): set data.nan")
    assert report["values"]["float32"] == pytest.approx([1, 3e38])


def test_files_that_cannot_be_read_have_a_reason(tmp_path):
    whole = io.BytesIO()
    picture().save(whole, "JPEG")
    save(tmp_path / "a/0.png", noise(8, 8))
    for name, data in (("b/0.jpg", whole.getvalue()[:-900]), ("b/1.png", b""), ("b/2.png", b"text")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    report = look(tmp_path)
    assert [(row["path"], row["kind"]) for row in report["unreadable"]] == [
        ("b/0.jpg", "truncated"),
        ("b/1.png", "empty"),
        ("b/2.png", "corrupt"),
    ]
    assert report["findings"][0].startswith("files that cannot be read: 3 of 4 (b/0.jpg: image file is truncated")
    assert report["images"] == 4 and report["counts"]["all"] == {"b": 3, "a": 1}


def test_extension_of_another_format(tmp_path):
    save(tmp_path / "0.png", noise(8, 8)).rename(tmp_path / "0.jpg")
    assert look(tmp_path)["misnamed"] == [{"path": "0.jpg", "format": "PNG"}]


# Copies


def test_exact_copies_within_and_across_splits_and_classes(tmp_path):
    one, other = noise(8, 8, 3), noise(8, 8, 3)
    for name in ("train/a/0", "train/b/0", "test/a/0"):
        save(tmp_path / f"{name}.png", one)
    for name in ("train/a/1", "train/a/2"):
        save(tmp_path / f"{name}.png", other)
    save(tmp_path / "test/b/0.png", noise(8, 8, 3))
    save(tmp_path / "train/a/3.tif", other, photometric="rgb")
    exact = look(tmp_path)["exact"]
    assert [paths(cluster) for cluster in exact["clusters"]] == [
        ["test/a/0.png", "train/a/0.png", "train/b/0.png"],
        ["train/a/1.png", "train/a/2.png", "train/a/3.tif"],
    ]
    first, second = exact["clusters"]
    assert first["splits"] == ["train", "test"] and first["classes"] == ["a", "b"] and first["same_bytes"]
    assert second["splits"] == ["train"] and second["classes"] == ["a"] and not second["same_bytes"]
    assert (exact["across_splits"], exact["across_classes"], exact["extra"]) == (1, 1, 4)
    assert exact["leaked"] == {"validation": 0, "test": 1}
    lines = starts(look(tmp_path)["findings"])
    assert lines[0] == "test images with a copy in train: 1 of 2"
    assert lines[1] == "images with a copy in another class: 1 (test/a/0.png = train/b/0.png)"


def altered(image):
    """What people do to copies."""
    opened = io.BytesIO()
    image.save(opened, "JPEG", quality=85)
    return {
        "jpeg": Image.open(opened),
        "half": image.resize((48, 48), Image.Resampling.LANCZOS),
        "double": image.resize((192, 192), Image.Resampling.BICUBIC),
        "bright": ImageEnhance.Brightness(image).enhance(1.08),
        "grey": image.convert("L"),
    }


def test_near_copies_are_found_and_others_are_not(tmp_path):
    for seed in range(10):
        save(tmp_path / f"train/{seed}/original.png", picture(seed))
        for name, image in altered(picture(seed)).items():
            save(tmp_path / f"test/{seed}/{name}.png", image)
    report = look(tmp_path)
    near = report["near"]
    assert len(near["clusters"]) == 10 and near["across_splits"] == 10 and near["across_classes"] == 0
    assert all(len(cluster["files"]) == 6 for cluster in near["clusters"]) and near["leaked"]["test"] == 50
    assert all(0.96 <= cluster["similarity"] <= 1 and cluster["distance"] <= 6 for cluster in near["clusters"])
    assert report["exact"]["clusters"] == []
    assert report["findings"][0].startswith("test images with a copy or near copy in train: 50 of 50")


def test_near_copies_come_with_their_exact_ones(tmp_path):
    save(tmp_path / "train/a/0.png", picture())
    save(tmp_path / "train/b/0.png", picture(1))
    save(tmp_path / "test/a/0.png", picture())
    save(tmp_path / "test/b/0.png", altered(picture())["half"])
    near = look(tmp_path)["near"]
    assert [paths(cluster) for cluster in near["clusters"]] == [["test/a/0.png", "test/b/0.png", "train/a/0.png"]]
    assert near["leaked"]["test"] == 2 and near["clusters"][0]["classes"] == ["a", "b"]


def test_flat_images_are_no_copies_of_each_other(tmp_path):
    for value in range(5):
        save(tmp_path / f"{value}.png", np.full((8 + value, 8), 40 * value, np.uint8))
    report = look(tmp_path)
    assert report["near"]["clusters"] == [] and len(report["constant"]) == 5


def test_pairs_are_those_of_two_loops(monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK", 7)
    hashes = RNG.integers(0, 2**63, 40).astype(np.uint64)
    hashes[20:] = hashes[:20] ^ np.uint64(0b1000_0001_1001)
    details = RNG.standard_normal((40, 1024))
    details[25:] = details[5:20] + 0.2 * RNG.standard_normal((15, 1024))
    details = (details / np.linalg.norm(details, axis=1, keepdims=True)).astype(np.float16)
    want = set()
    for i in range(40):
        for j in range(i + 1, 40):
            bits = bin(int(hashes[i]) ^ int(hashes[j])).count("1")
            alike = details[i].astype(np.float32) @ details[j].astype(np.float32)
            if bits <= duplicates.DISTANCE and alike >= duplicates.SIMILARITY:
                want.add((i, j, bits, round(float(alike), 4)))
    i, j, bits, alike = (column.tolist() for column in duplicates.near_pairs(hashes, details))
    assert {(a, b, c, round(d, 4)) for a, b, c, d in zip(i, j, bits, alike, strict=True)} == want and len(want) == 15


# Layouts


def test_outer_folders_are_passed_over(tmp_path):
    for name in ("Train/a/0", "Train/b/0", "Test/a/0"):
        save(tmp_path / f"archive/All [images]/{name}.png", noise(8, 8))
    report = look(tmp_path)
    assert report["place"] == str(tmp_path / "archive/All [images]") and report["files"][0]["path"] == "Test/a/0.png"
    assert report["counts"] == {"train": {"a": 1, "b": 1}, "test": {"a": 1}}
    assert any(line.startswith("classes that test lacks: b: ") for line in report["findings"])


def test_stray_image_is_a_note(tmp_path):
    for name in ("a/0", "b/0", "stray"):
        save(tmp_path / f"{name}.png", noise(8, 8))
    report = look(tmp_path)
    assert report["counts"] == {"all": {"unlabelled": 3}} and report["majority"] == {}
    assert "stray.png is in no class folder" in report["findings"][0]


def test_groups_on_two_sides(tmp_path):
    for name in ("train/a/p1_0", "train/b/p2_0", "test/a/p1_1", "test/b/p3_0"):
        save(tmp_path / f"{name}.png", noise(8, 8))
    save(tmp_path / "train/a/p4_0.png", Image.open(tmp_path / "train/b/p2_0.png"))
    report = look(tmp_path, group_pattern=r"(p\d)_")
    assert (
        report["groups"]
        | {
            "known": True,
            "count": 4,
            "across_splits": [{"group": "p1", "counts": {"test": 1, "train": 1}}],
        }
        == report["groups"]
    )
    assert report["findings"][0].startswith("groups on two sides of the split: 1 (p1)")
    assert report["exact"]["across_groups"] == 1
    assert "groups are unknown" in look(tmp_path)["findings"][-1]


def test_a_table_says_what_each_image_is(tmp_path):
    """Labels, groups and splits come from the table alone, whatever the folders are called."""
    for name in ("train/x/0", "train/x/1", "test/y/2", "test/y/3", "4", "5"):
        save(tmp_path / f"{name}.png", noise(8, 8))
    rows = ["path,label,group,split", "train/x/0.png,b,p1,test", "train/x/1.png,a,p1,train", "test/y/2.png,a,p2,train"]
    rows += ["test/y/3.png,,p3,val", "4.png,b,p2,train", "gone.png,a,p4,train"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    report = look(tmp_path, table="labels.csv")
    assert report["counts"] == {
        "train": {"a": 2, "b": 1},
        "validation": {"unlabelled": 1},
        "test": {"b": 1},
        "unused": {"unlabelled": 1},
    }
    assert report["groups"]["known"] and report["groups"]["count"] == 3 and report["unused"] == 1
    assert report["groups"]["across_splits"] == [{"group": "p1", "counts": {"test": 1, "train": 1}}]
    assert starts(report["findings"][:2]) == [
        "images that the table lists without their files: 1 of 6 (gone.png)",
        "groups on two sides of the split: 1 (p1)",
    ]
    assert report["ignored"] == {".csv": 1} and report["place"] == str(tmp_path)
    # Without its group column, the pattern tells the groups.
    by_name = look(tmp_path, table="labels.csv", group_column="", group_pattern=r"(\d|gone)\.png")
    assert by_name["groups"]["count"] == 5 and not by_name["groups"]["across_splits"]


def test_groups_are_unknown_where_the_table_leaves_some_out(tmp_path):
    for i in range(3):
        save(tmp_path / f"{i}.png", noise(8, 8))
    (tmp_path / "labels.csv").write_text("path,group\n0.png,p\n1.png,p\n2.png,")
    report = look(tmp_path, table="labels.csv")
    assert report["groups"] | {"known": False, "count": None, "across_splits": []} == report["groups"]
    assert report["findings"] == ["images without a group, although others have one: 1 of 3 (2.png)"]


def test_a_table_that_the_loader_would_refuse(tmp_path):
    save(tmp_path / "0.png", noise(8, 8))
    (tmp_path / "labels.csv").write_text("path,label\n1.png,a")
    with pytest.raises(UserError, match=r"holds none of the 1 images of the table, such as 1\.png"):
        look(tmp_path, table="labels.csv")
    with pytest.raises(UserError, match=r"data\.options\.group_column is 'lable': did you mean 'label'"):
        look(tmp_path, table="labels.csv", group_column="lable")
    with pytest.raises(UserError, match=r"data\.options\.group_column='lable' is of a table"):
        look(tmp_path, group_column="lable")
    (tmp_path / "labels.csv").write_text("path,split\n0.png,tset")
    with pytest.raises(UserError, match=r"split is 'tset': did you mean 'test'"):
        look(tmp_path, table="labels.csv")


def test_imbalance_and_majority(tmp_path):
    for i in range(24):
        save(tmp_path / ("a" if i < 22 else "b") / f"{i}.png", noise(8, 8))
    report = look(tmp_path)
    assert report["majority"]["all"] == {"class": "a", "images": 22, "accuracy": 22 / 24, "imbalance": 11}
    assert any("'a' is 11 times as frequent as the rarest class of all" in line for line in report["findings"])


def test_nothing_to_look_at(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        items.list_folder(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="holds no image"):
        items.list_folder(str(tmp_path))


@pytest.fixture
def moles(tmp_path):
    """A download of HAM10000 with one image that the metadata do not list, and one more copy."""
    rows = ["lesion_id,image_id,dx"]
    for i in range(6):
        save(tmp_path / f"HAM10000_images_part_1/ISIC_{i}.jpg", picture(i))
        rows.append(f"HAM_{i // 2},ISIC_{i},{'nv' if i < 4 else 'mel'}")
    save(tmp_path / "HAM10000_images_part_1/ISIC_9.jpg", picture(9))
    save(tmp_path / "other/Test/mel/ISIC_0.jpg", picture(0))
    (tmp_path / "HAM10000_metadata.csv").write_text("\n".join(rows))
    return tmp_path


def test_download_has_the_labels_and_groups_of_its_builder(moles):
    report = audit_files(items.list_download("ham10000", str(moles)))
    assert report["counts"] == {"test": {"mel": 1}, "all": {"nv": 4, "mel": 2}, "unused": {"unlabelled": 1}}
    assert report["groups"]["count"] == 3 and report["unused"] == 2 and report["ignored"] == {".csv": 1}
    (copy,) = report["exact"]["clusters"]
    assert copy["classes"] == ["mel", "nv"] and paths(copy)[1] == "other/Test/mel/ISIC_0.jpg"


def test_download_that_the_builder_cannot_use_is_still_looked_at(moles):
    (moles / "HAM10000_metadata.csv").unlink()
    report = audit_files(items.list_download("ham10000", str(moles)))
    assert report["name"] == "ham10000" and report["images"] == 8
    assert report["findings"][0].startswith("the dataset cannot use this download: HAM10000_metadata.csv not found")
    with pytest.raises(UserError, match=r"nowhere is not a folder: download HAM10000"):
        items.list_download("ham10000", str(moles / "nowhere"))
    with pytest.raises(UserError, match="'ham10000' takes no options"):
        items.list_download("ham10000", str(moles), part=1)


def test_archive(tmp_path):
    images = noise(7, 6, 6)
    images[5] = images[0]
    arrays = {"train_images": images[:4], "test_images": images[4:]}
    np.savez(tmp_path / "x.npz", train_labels=[[0], [1], [1], [0]], test_labels=[[0], [1], [1]], **arrays)
    report = audit_files(items.list_archive(str(tmp_path / "x.npz")))
    assert report["counts"] == {"train": {"0": 2, "1": 2}, "test": {"1": 2, "0": 1}}
    (copy,) = report["exact"]["clusters"]
    assert paths(copy) == ["test/0001", "train/0000"] and copy["classes"] == ["0", "1"]
    assert report["bytes"] == 7 * 36 and report["sizes"]["smallest"] == [6, 6]
    with pytest.raises(UserError, match="not an npz archive"):
        (tmp_path / "y.npz").write_bytes(b"x")
        items.list_archive(str(tmp_path / "y.npz"))
    with pytest.raises(UserError, match="'train_images' or 'images' is missing"):
        np.savez(tmp_path / "z.npz", x=images)
        items.list_archive(str(tmp_path / "z.npz"))


# The report


def test_report_is_strict_json_and_the_same_each_time(tmp_path):
    save(tmp_path / "images/a/0.npy", np.full((4, 4), np.nan))
    save(tmp_path / "images/b/0.png", picture())
    save(tmp_path / "images/b/1.png", altered(picture())["half"])
    texts = []
    for name in ("one.json", "two.json"):
        write_json(tmp_path / "reports" / name, look(tmp_path / "images"))
        texts.append((tmp_path / "reports" / name).read_text())

    def refuse(constant):
        raise AssertionError(constant)

    parsed = json.loads(texts[0], parse_constant=refuse)
    assert texts[0] == texts[1] and parsed["near"]["clusters"] and parsed["files"][0]["low"] is None


def test_the_schema_names_every_key(tmp_path):
    save(tmp_path / "a/0.png", picture())
    save(tmp_path / "b/0.png", altered(picture())["half"])
    report = look(tmp_path)
    # Masks are read by runs alone.
    assert {"schema_version", "masks", *report} == set(typing.get_type_hints(audit_schema.FileAudit))
    assert set(report["near"]) == set(typing.get_type_hints(audit_schema.Duplicates))
    assert set(report["near"]["clusters"][0]) <= set(typing.get_type_hints(audit_schema.Cluster))


# Arrays in memory


def tiny_source(**kw):
    images = noise(12, 8, 8, 3)
    images[7] = images[2]
    images[4] = 9
    labels = [0, 1] * 5 + [source.UNLABELLED] * 2
    return source.make(images, labels, [f"i{k}" for k in range(12)], ("a", "b"), **kw)


def test_source_by_its_splits():
    data = tiny_source(groups=[f"g{k // 2}" for k in range(12)])
    report = audit_source(data, {"train": np.arange(5), "validation": np.arange(5, 7), "test": np.arange(7, 10)})
    assert report["counts"] == {
        "train": {"a": 3, "b": 2},
        "validation": {"a": 1, "b": 1},
        "test": {"b": 2, "a": 1},
        "unused": {"unlabelled": 2},
    }
    assert report["majority"]["train"]["accuracy"] == 0.6 and report["majority"]["train"]["class"] == "a"
    assert [row["path"] for row in report["constant"]] == ["i4"]
    assert [row["group"] for row in report["groups"]["across_splits"]] == ["g2", "g3"]
    assert report["exact"]["leaked"]["test"] == 1 and report["exact"]["across_classes"] == 1
    assert starts(report["findings"][:3]) == [
        "groups on two sides of the split: 2 (g2, g3)",
        "test images with a copy in train: 1 of 3",
        "images with a copy in another class: 1 (i2 = i7)",
    ]
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_source_with_an_official_split_or_none():
    assert audit_source(tiny_source(official=["train"] * 8 + ["test"] * 4))["counts"]["test"] == {
        "unlabelled": 2,
        "a": 1,
        "b": 1,
    }
    assert list(audit_source(tiny_source())["counts"]) == ["all"]


def test_near_copies_across_the_splits_of_a_run_are_found():
    pixels = np.stack([np.asarray(picture(k, 64)) for k in range(12)])
    pixels[10] = np.asarray(ImageEnhance.Brightness(picture(2, 64)).enhance(1.1))
    data = source.make(pixels, np.arange(12) % 2, [f"i{k}" for k in range(12)], ("a", "b"))
    found = audit_source(data, {"train": np.arange(8), "test": np.arange(8, 12), "validation": np.arange(0)})
    assert found["near"]["leaked"] == {"validation": 0, "test": 1} and not found["exact"]["leaked"]["test"]
    assert any(line.startswith("test images with a copy or near copy in train: 1 of 4") for line in found["findings"])


def test_source_says_what_the_files_say(tmp_path, monkeypatch):
    """The two layers agree on what both know."""
    monkeypatch.setattr(report_module, "MIN_NEAR_SIDE", 1)
    pixels = noise(9, 8, 8)
    pixels[8] = pixels[0]
    names = [f"{'train' if k < 6 else 'test'}/{'ab'[k % 2]}/{k}.png" for k in range(9)]
    for name, image in zip(names, pixels, strict=True):
        save(tmp_path / name, image)
    data = source.make(pixels[..., None], np.arange(9) % 2, names, ("a", "b"), official=["train"] * 6 + ["test"] * 3)
    cheap, full = audit_source(data), look(tmp_path)
    for cluster in full["exact"]["clusters"]:
        del cluster["same_bytes"]
    for cluster in cheap["exact"]["clusters"]:
        del cluster["same_bytes"]
    for key in cheap:
        assert cheap[key] == full[key], key


# Real images


def test_isic9_has_155_images_in_two_classes(shared_data):
    report = audit_files(items.list_folder(str(shared_data / "isic9")))
    exact = report["exact"]
    # Independent of decoding and hashing: a file name in two class folders.
    classes, sides = defaultdict(set), defaultdict(set)
    for row in report["files"]:
        side, label, name = row["path"].split("/")
        classes[name].add(label)
        sides[name].add(side)
    twice = {name for name, labels in classes.items() if len(labels) > 1}
    found = [cluster for cluster in exact["clusters"] if len(cluster["classes"]) > 1]
    assert len(twice) == 155 and {paths(cluster)[0].split("/")[-1] for cluster in found} == twice
    assert exact["across_splits"] == exact["leaked"]["test"] == sum(len(of) == 2 for of in sides.values()) == 18


def test_idrid_has_five_pairs(shared_data):
    report = audit_files(items.list_download("idrid_grading", str(shared_data / "idrid")))
    assert report["exact"]["extra"] == 5 and report["exact"]["across_classes"] == 2
    assert report["exact"]["clusters"][0]["splits"] == ["train", "test"]
    assert report["findings"][0].startswith("images that the download lists without their files: 61 (")
