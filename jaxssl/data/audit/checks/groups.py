"""Groups, such as patients: on two sides of the split, only one, or unknown."""

from collections.abc import Mapping
from typing import Any

from jaxssl.data.audit.checks import lines


def across_splits(report: Mapping[str, Any]) -> list[str]:
    """Groups with images in several splits."""
    return lines.listed("groups on two sides of the split", report["groups"]["across_splits"], "group")


def single(report: Mapping[str, Any]) -> list[str]:
    """All images in one group."""
    if report["groups"]["count"] == 1 and report["images"] > 1:
        return ["all images are of one group, so that no split by group can be made"]
    return []


def unknown(report: Mapping[str, Any]) -> list[str]:
    """Labelled images without groups."""
    if report["classes"] and not report["groups"]["known"]:
        return ["groups are unknown: nothing tells whether a patient is on two sides of a split"]
    return []
