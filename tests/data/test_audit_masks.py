"""What the audit finds in masks whose faults are known."""

import typing

import numpy as np
from PIL import Image

from jaxssl.data import source
from jaxssl.data.audit import items
from jaxssl.data.audit.report import audit_files, audit_source
from jaxssl.results import audit_schema, description

RNG = np.random.default_rng(0)


def test_faults_of_masks():
    images, masks = RNG.integers(0, 256, (6, 8, 8, 3)).astype(np.uint8), np.zeros((6, 8, 8), np.uint8)
    masks[0, :5] = 1  # 40 pixels.
    masks[1, :2] = masks[2, :2] = 1  # 16 each, and equal.
    masks[3, 0, :4] = 2
    masks[4] = source.UNKNOWN  # None.
    plain = source.make(images, [-1] * 6, [f"{i}.png" for i in range(6)], ())
    report = audit_source(source.with_masks(plain, masks, ("background", "a", "b", "c")))
    got = report["masks"]
    assert (got["images"], got["missing"], got["empty"]) == (
        5,
        {"images": 1, "first": "4.png"},
        {"images": 1, "first": "5.png"},
    )
    assert got["equal"] == {"images": 2, "first": "1.png"}
    pixels = 5 * 64
    assert [(one["name"], one["images"], one["median_pixels"]) for one in got["classes"]] == [
        ("background", 5, 60.0 - 12.0),
        ("a", 3, 16.0),
        ("b", 1, 4.0),
        ("c", 0, None),
    ]
    np.testing.assert_allclose([one["share"] for one in got["classes"]], np.array([pixels - 76, 72, 4, 0]) / pixels)
    found = "\n".join(report["findings"])
    for part in ("images without a mask: 1 of 6 (4.png)", "background only: 1 of 5 (5.png)", "2 of 5 (1.png, ...)"):
        assert part in found
    assert "no mask has the class 'c'" in found and "'b' has 4 pixels" in found and "'a'" not in found
    assert not description.check(got, typing.get_type_hints(audit_schema.Audit)["masks"])
    assert "masks" not in audit_source(plain)


def test_faults_of_files_of_masks(tmp_path):
    """Image k has the mask k: a square, but 1 is empty, 2 wider, 3 of a value that is no class, 4 missing, 5 as 0."""
    for i in range(6):
        mask = np.zeros((20, 30 if i == 2 else 24), np.uint8)
        mask[2:6, 3 : 9 if i in (0, 5) else 4 + i] = 0 if i == 1 else 9 if i == 3 else 2
        for kind, pixels in (("images", RNG.integers(0, 256, (20, 24)).astype(np.uint8)), ("masks", mask)):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / kind / f"{i}.png")
    (tmp_path / "masks" / "4.png").rename(tmp_path / "masks" / "other.png")
    report = audit_files(items.list_folder(str(tmp_path), masks="auto", mask_classes=("a", "b")))
    got = report["masks"]
    assert report["images"] == 6 and report["classes"] == [] and report["counts"] == {"all": {"unlabelled": 6}}
    assert got["images"] == 3 and got["equal"] == {"images": 2, "first": "0.png"}
    assert (got["missing"]["first"], got["empty"]["first"]) == ("4.png", "1.png")
    assert [one["path"] for one in got["unreadable"]] == ["2.png", "3.png"]
    assert "20 x 30" in got["unreadable"][0]["why"] and "value 9" in got["unreadable"][1]["why"]
    assert [(one["images"], one["median_pixels"]) for one in got["classes"]] == [(3, 456.0), (0, None), (2, 24.0)]
    found = "\n".join(report["findings"])
    for part in ("cannot be used: 2 (2.png: ", "without a mask: 1 of 4 (4.png)", "masks/other.png", "class 'a'"):
        assert part in found
    assert not description.check(got, typing.get_type_hints(audit_schema.Audit)["masks"])
    plain = audit_files(items.list_folder(str(tmp_path)))
    assert "masks" not in plain and "set data.options.masks=auto" in plain["findings"][0]


def test_masks_and_groups_of_an_archive(tmp_path):
    masks = np.zeros((3, 8, 8), np.uint8)
    masks[0, :2], masks[1, 0, 0] = 1, 7  # 7 is no class.
    arrays = {"images": RNG.integers(0, 256, (3, 8, 8)).astype(np.uint8), "masks": masks, "groups": ["a", "a", "b"]}
    np.savez(tmp_path / "x.npz", **arrays)
    report = audit_files(items.list_archive(str(tmp_path / "x.npz"), masks=True))
    got = report["masks"]
    assert (got["images"], got["empty"]["first"]) == (2, "images/0002") and "value 7" in got["unreadable"][0]["why"]
    assert report["groups"]["known"] and report["groups"]["count"] == 2
    assert "masks" not in audit_files(items.list_archive(str(tmp_path / "x.npz")))
