"""Images of different scale, and whether the scale goes with the class."""

from collections.abc import Mapping
from typing import Any


def scales(report: Mapping[str, Any]) -> list[str]:
    """Groups of images whose highest values are far apart."""
    found = report.get("scales", [])
    if len(found) < 2:
        return []
    groups = ", ".join(f"{scale['highest']:,g} ({scale['images']:,}, such as {scale['path']})" for scale in found)
    classes = [set(scale["classes"]) for scale in found]
    together = all(classes) and all(a.isdisjoint(b) for i, a in enumerate(classes) for b in classes[:i])
    by_class = "; the scale goes with the class, so that it alone tells the classes apart" if together else ""
    return [f"images differ in scale, by their highest values: {groups}{by_class}: bring them to one scale"]


def crop(report: Mapping[str, Any]) -> list[str]:
    """Images that are not square: the share of pixels that `data.fit="crop"` would lose."""
    found = report.get("not_square")
    if not found or not found["images"]:
        return []
    return [
        f"images that are not square: {found['images']:,} of {report['images']:,}; data.fit='crop' would lose more "
        f"than 10 % of the pixels of {found['over_tenth']:,} of them, {found['mean_share']:.0%} on average; 'pad' and "
        "'squash' lose none"
    ]
