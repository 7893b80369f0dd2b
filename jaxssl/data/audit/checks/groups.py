"""Groups, such as patients: on two sides of the split, only one, or unknown."""

from collections.abc import Mapping
from typing import Any

from jaxssl.data.audit.checks import lines

_IMPLAUSIBLE = ((0.1, 10), (0.3, 5))  # Share of all images, and times the median group.


def across_splits(report: Mapping[str, Any]) -> list[str]:
    """Groups with images in several splits."""
    remedy = "data.use_official_split=False splits by group"
    return lines.listed("groups on two sides of the split", report["groups"]["across_splits"], "group", remedy=remedy)


def implausible(report: Mapping[str, Any]) -> list[str]:
    """A group with far more images than others, which often is a word for "no value"."""
    groups, total = report["groups"], report["images"]
    return [
        f"the group '{name}' has {count:,} of {total:,} images, {count / groups['median']:.0f} times as many as the "
        "median group: if it stands for unknown, leave these groups empty"
        for name, count in groups["largest"].items()
        if any(count >= share * total and count >= times * groups["median"] for share, times in _IMPLAUSIBLE)
    ]


def single(report: Mapping[str, Any]) -> list[str]:
    """All images in one group."""
    if report["groups"]["count"] == 1 and report["images"] > 1:
        return ["all images are of one group, so that they cannot be split by group: correct the column or the pattern"]
    return []


def unknown(report: Mapping[str, Any]) -> list[str]:
    """Labelled images without groups."""
    if report["classes"] and not report["groups"]["known"]:
        return [
            "groups are unknown, so that a patient may be on two sides of a split: give them by "
            "data.options.group_pattern, a table or the array 'groups' of an archive, if images share one"
        ]
    return []
