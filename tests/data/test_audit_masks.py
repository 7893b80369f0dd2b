"""What the audit finds in masks whose faults are known."""

import typing

import numpy as np

from jaxssl.data import source
from jaxssl.data.audit.report import audit_source
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
