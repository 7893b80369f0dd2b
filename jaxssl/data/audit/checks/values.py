"""Values of the pixels: not finite, all equal, or of different kinds."""

from collections.abc import Mapping
from typing import Any

from jaxssl.data.audit.checks import lines


def nonfinite(report: Mapping[str, Any]) -> list[str]:
    """Images with values that are not finite."""
    remedy = "set data.nan to 'zero' or 'median', or repair them"
    return lines.listed("images with NaN or infinities", report["nonfinite"], "path", report["images"], remedy)


def constant(report: Mapping[str, Any]) -> list[str]:
    """Images in which each channel has one value."""
    remedy = "look at them, and remove what is no image"
    return lines.listed("images with one value throughout", report["constant"], "path", report["images"], remedy)


def kinds(report: Mapping[str, Any]) -> list[str]:
    """Images of several dtypes or numbers of channels; grey among RGB is converted by every loader."""
    found = []
    for key in ("dtypes", "channels"):
        if len(report[key]) > 1 and not (key == "channels" and set(report[key]) == {"1", "3"}):
            counted = ", ".join(f"{kind} ({n:,})" for kind, n in report[key].items())
            found.append(f"images differ in {key}, which cannot be mixed: {counted}: convert them to one kind")
    return found
