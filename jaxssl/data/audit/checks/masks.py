"""Masks: missing, empty or equal ones, and classes that have none or few pixels."""

from collections.abc import Mapping
from typing import Any

from jaxssl.data.audit.checks import lines

FEW_PIXELS = 12  # Of an object: below that, its outline cannot be told.


def unreadable(report: Mapping[str, Any]) -> list[str]:
    """Masks that cannot be read, have a value that is no class, or another shape than their image."""
    found = (report.get("masks") or {}).get("unreadable", [])
    return lines.listed("masks that cannot be used", found, "path", remedy="correct the files, or mask_classes")


def incomplete(report: Mapping[str, Any]) -> list[str]:
    """Images without a mask, empty masks, and masks that several images share."""
    masks = report.get("masks")
    if not masks:
        return []
    total = masks["images"] + masks["missing"]["images"]
    kinds = {
        "missing": (total, "images without a mask", "they are for pretraining alone: add their masks if they have any"),
        "empty": (masks["images"], "masks with background only", "right if nothing is there; else correct the files"),
        "equal": (masks["images"], "masks that equal that of another image", "look at them: one may be of the other"),
    }
    return [
        f"{what}: {found['images']:,} of {of:,} ({found['first']}{', ...' if found['images'] > 1 else ''}): {remedy}"
        for kind, (of, what, remedy) in kinds.items()
        if (found := masks[kind])["images"]
    ]


def classes(report: Mapping[str, Any]) -> list[str]:
    """Classes that no mask has, and, of a run, those whose objects have few pixels at the size of its images."""
    masks = report.get("masks")
    found = []
    for one in masks["classes"][1:] if masks else ():
        if not one["images"]:
            found.append(f"no mask has the class '{one['name']}': correct the names and values of the classes")
        elif one["median_pixels"] < FEW_PIXELS and "place" not in report:
            found.append(
                f"the class '{one['name']}' has {one['median_pixels']:g} pixels in the median mask: increase "
                "data.image_size or data.stored_size"
            )
    return found
