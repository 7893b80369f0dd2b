"""Images that occur more than once: equal once decoded, or nearly equal.

Two images are near duplicates if their perceptual hashes differ in at most `DISTANCE` bits and their details correlate
with at least `SIMILARITY`. Measured on small copies of seven medical datasets: of 150 images of each, 97 to 100 % are
found again at JPEG quality 50, at half and 0.8 of the size and at 1.2 times the brightness. At 32 pixels a side hardly
any is, except brighter ones; copies that are cropped by 2 %, turned or mirrored are not found at any size.

The hash alone would join 174 pairs of chest x-rays that are not copies, and 1,095 of the 103,285 pairs of idrid. With
the details, chest_xray has none; 30 of the 31 clusters of ham10000 are within one lesion; and the one of idrid is
false: different eyes in the frame of one camera reach 0.961, which a lower threshold would join by the dozen (40 pairs
at 0.93). Simulated lenses that differ in nothing but substructure count as near, too.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jaxssl.data import splits
from jaxssl.data.audit.inspect import Row

DISTANCE = 6
SIMILARITY = 0.96
_BLOCK = 1024


def find_exact(rows: list[Row]) -> dict[str, Any]:
    """Return the clusters of images that are equal once decoded. See `describe_clusters`."""
    same: dict[str, list[Row]] = {}
    for row in rows:
        same.setdefault(row["pixels"], []).append(row)
    found = [members for members in same.values() if len(members) > 1]
    return describe_clusters(
        [(members, {"same_bytes": len({row["sha256"] for row in members}) == 1}) for members in found]
    )


def find_near(rows: list[Row], details: np.ndarray) -> dict[str, Any]:
    """Return the clusters of images that are nearly equal. See `describe_clusters`.

    An image with a near copy is in a cluster together with its exact copies, and `leaked` counts both kinds.

    Args:
      rows: the images, see `inspect.inspect_image`.
      details: [N, 1024] float16 of norm 1 or 0, see `inspect.perceive`.
    """
    same: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        same.setdefault(row["pixels"], []).append(i)
    # One image of each set of equal ones is enough: a thousand black ones would make half a million pairs.
    members = list(same.values())
    first = [equal[0] for equal in members]
    hashes = np.array([int(rows[i]["phash"], 16) for i in first], np.uint64)
    i, j, distance, similarity = near_pairs(hashes, details[first])
    _, component = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(len(first),) * 2), directed=False)
    joined: dict[int, list[Row]] = {}
    for equal, of in zip(members, component.tolist(), strict=True):
        joined.setdefault(of, []).extend(rows[k] for k in equal)
    worst = {of: {"distance": 0, "similarity": 1.0} for of in component[i].tolist()}
    for of, bits, r in zip(component[i].tolist(), distance.tolist(), similarity.tolist(), strict=True):
        worst[of]["distance"] = max(worst[of]["distance"], bits)
        worst[of]["similarity"] = min(worst[of]["similarity"], round(r, 4))
    found = describe_clusters([(joined[of], how) for of, how in worst.items()])
    return found | {"leaked": _count_leaked(joined.values())}


def near_pairs(hashes: np.ndarray, details: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return all pairs i < j within `DISTANCE` and `SIMILARITY`, by brute force: 0.3 s for 10,000 images.

    Args:
      hashes: [N] uint64.
      details: [N, 1024] float16, of norm 1 or 0.

    Returns:
      i, j [M] int64, the differing bits [M] uint8, the correlations [M] float32.
    """
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.float32))]
    for start in range(0, len(hashes), _BLOCK):
        distance = np.bitwise_count(hashes[start : start + _BLOCK, None] ^ hashes[None, start:])
        rows, columns = np.nonzero(np.triu(distance <= DISTANCE, 1))
        for part in range(0, len(rows), _BLOCK):
            i, j = rows[part : part + _BLOCK], columns[part : part + _BLOCK]
            similarity = np.einsum("nd,nd->n", *(details[start + k].astype(np.float32) for k in (i, j)))
            keep = similarity >= SIMILARITY
            i, j = i[keep], j[keep]
            found.append((start + i, start + j, distance[i, j], similarity[keep]))
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))


def describe_clusters(found: list[tuple[list[Row], dict[str, Any]]]) -> dict[str, Any]:
    """Return the section of the report on these clusters, those of the most splits and classes first, then by path.

    Args:
      found: the rows of each cluster, and what else its entry in the report holds.
    """
    clusters = []
    for members, how in found:
        listed = [{key: row[key] for key in ("path", "split", "class", "group")} for row in members]
        listed.sort(key=lambda row: row["path"])
        inside = {key: {row[key] for row in members} - {None} for key in ("split", "class", "group")}
        clusters.append(
            {
                "splits": [split for split in splits.SIDES if split in inside["split"]],
                "classes": sorted(inside["class"]),
                "groups": sorted(inside["group"]),
                **how,
                "files": listed,
            }
        )
    clusters.sort(key=lambda c: (-len(c["splits"]), -len(c["classes"]), -len(c["groups"]), c["files"][0]["path"]))
    across = {f"across_{key}": sum(len(c[key]) > 1 for c in clusters) for key in ("splits", "classes", "groups")}
    extra = sum(len(cluster["files"]) - 1 for cluster in clusters)
    return {**across, "extra": extra, "leaked": _count_leaked(members for members, _ in found), "clusters": clusters}


def _count_leaked(found: Iterable[list[Row]]) -> dict[str, int]:
    leaked = {"validation": 0, "test": 0}
    for members in found:
        where = Counter(row["split"] for row in members)
        for split in leaked:
            leaked[split] += where[split] if where["train"] else 0
    return leaked
