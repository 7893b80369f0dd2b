"""The parts of a report that are counted over the rows of all images."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxssl.data import splits
from jaxssl.data.audit import duplicates, scale
from jaxssl.data.audit.inspect import ALL, UNUSED, Row


def summarize(rows: list[Row], groups_known: bool) -> dict[str, Any]:
    """Return the keys that the reports of files and of loaded images share, except for the findings."""
    readable = [row for row in rows if row["unreadable"] is None]
    counts, several = _count_classes(rows), any("classes" in row for row in rows)
    return {
        "images": len(rows),
        "classes": sorted({name for row in rows for name in _classes_of(row) if name is not None}),
        "counts": counts,
        "majority": {} if several else {split: found for split in counts if (found := _majority(counts[split]))},
        "groups": _summarize_groups(rows, groups_known),
        "channels": count_values(row["channels"] for row in readable),
        "dtypes": count_values(row["dtype"] for row in readable),
        "sizes": _summarize_sizes(readable),
        "values": _value_ranges(readable),
        "scales": scale.find_scales(readable),
        "not_square": _summarize_shapes(readable),
        "nonfinite": [
            {key: row[key] for key in ("path", "nan", "inf")}
            | {"values": row["width"] * row["height"] * row["channels"]}
            for row in readable
            if row["nan"] or row["inf"]
        ],
        "constant": [{"path": row["path"], "value": row["low"]} for row in readable if row["constant"]],
        "exact": duplicates.find_exact(readable),
    }


def count_values(values: Iterable[Any]) -> dict[str, int]:
    """Count each value, the most frequent first; None is "none", as keys of JSON are strings."""
    counts = Counter("none" if value is None else str(value) for value in values)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _count_classes(rows: list[Row]) -> dict[str, dict[str, int]]:
    order = {split: i for i, split in enumerate((*splits.SIDES, ALL, UNUSED))}
    names = sorted({row["split"] for row in rows}, key=lambda split: (order.get(split, len(order)), split))
    return {
        split: count_values(
            name or "unlabelled" for row in rows if row["split"] == split for name in _classes_of(row) or [None]
        )
        for split in names
    }


def _classes_of(row: Row) -> list[str | None]:
    """Return the classes in which an image counts: its class, or all of its labels."""
    return row.get("classes", [row["class"]])


def _majority(counts: Mapping[str, int]) -> dict[str, Any] | None:
    labelled = {label: n for label, n in counts.items() if label != "unlabelled"}
    if not labelled:
        return None
    best = max(labelled, key=labelled.__getitem__)
    accuracy, imbalance = labelled[best] / sum(labelled.values()), labelled[best] / min(labelled.values())
    return {"class": best, "images": labelled[best], "accuracy": accuracy, "imbalance": imbalance}


def _summarize_groups(rows: list[Row], known: bool) -> dict[str, Any]:
    where: dict[str, Counter] = {}
    for row in rows:
        if row["group"] is not None:
            where.setdefault(row["group"], Counter())[row["split"]] += 1
    across = [
        {"group": group, "counts": dict(sorted(counts.items()))}
        for group, counts in sorted(where.items())
        if len(set(counts) & set(splits.SIDES)) > 1
    ]
    sizes = {group: counts.total() for group, counts in where.items()} if known else {}
    return {
        "known": known,
        "count": len(where) if known else None,
        "across_splits": across,
        "largest": dict([max(sizes.items(), key=lambda item: item[1])]) if sizes else {},
        "median": float(np.median([*sizes.values()])) if sizes else None,
    }


def _summarize_sizes(rows: list[Row]) -> dict[str, Any]:
    sizes = Counter((row["width"], row["height"]) for row in rows)
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return {
        "distinct": len(sizes),
        "smallest": list(by_area[0]) if sizes else None,
        "largest": list(by_area[-1]) if sizes else None,
        "commonest": [[*size, n] for size, n in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:10]],
    }


def _summarize_shapes(rows: list[Row]) -> dict[str, Any]:
    """Count images that are not square, and the share of their pixels outside of the centre square."""
    shares = [1 - min(row["width"], row["height"]) / max(row["width"], row["height"]) for row in rows]
    lost = [share for share in shares if share > 0]
    mean = float(np.mean(lost)) if lost else 0.0
    return {"images": len(lost), "over_tenth": sum(share > 0.1 for share in lost), "mean_share": round(mean, 4)}


def _value_ranges(rows: list[Row]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for row in rows:
        if row["low"] is not None:
            low, high = values.get(row["dtype"], (row["low"], row["high"]))
            values[row["dtype"]] = [min(low, row["low"]), max(high, row["high"])]
    return dict(sorted(values.items()))
