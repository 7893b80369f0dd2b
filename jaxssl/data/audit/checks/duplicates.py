"""Exact and near duplicates: across splits, classes and groups."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxssl.data.audit import duplicates
from jaxssl.data.audit.checks import lines

_REMEDY = "remove them, or split anew by data.use_official_split=False"


def leaked(report: Mapping[str, Any]) -> list[str]:
    """Validation and test images with a copy in train."""
    near, found = _near(report), []
    for split, count in report["exact"]["leaked"].items():
        of = sum(report["counts"].get(split, {}).values())
        if count:
            found.append(f"{split} images with a copy in train: {count:,} of {of:,}: {_REMEDY}")
        if near["leaked"][split] > count:
            what = f"{split} images with a copy or near copy in train"
            found.append(f"{what}: {near['leaked'][split]:,} of {of:,}: {_REMEDY}")
    return found


def torn(report: Mapping[str, Any]) -> list[str]:
    """Copies with another class or group."""
    remedies = {"class": "correct the labels", "group": "they may be of one patient: give them one group"}
    return [
        line
        for kind, found in (("copy", report["exact"]), ("near copy", _near(report)))
        for key in ("class", "group")
        for line in lines.listed(
            f"images with a {kind} in another {key}", _pairs(found["clusters"], key), "pair", remedy=remedies[key]
        )
    ]


def extra(report: Mapping[str, Any]) -> list[str]:
    """Images beyond the first of each cluster of exact copies."""
    if not report["exact"]["extra"]:
        return []
    count = f"{report['exact']['extra']:,} of {report['images']:,}"
    return [f"images that are one more copy of another: {count}: remove them; a split keeps them together"]


def _near(report: Mapping[str, Any]) -> Mapping[str, Any]:
    return report.get("near") or duplicates.describe_clusters([])


def _pairs(clusters: Sequence[Mapping[str, Any]], key: str) -> list[dict[str, str]]:
    """Return, of each cluster with several classes or groups, the `pair` of files of two of them."""
    pairs = []
    for cluster in clusters:
        of = {file[key]: file["path"] for file in reversed(cluster["files"]) if file[key] is not None}
        if len(of) > 1:
            pairs.append({"pair": " = ".join(sorted(of.values())[:2])})
    return pairs
