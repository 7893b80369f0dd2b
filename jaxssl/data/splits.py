"""Splits by group, stratified as far as groups allow, and the same for any order of the images.

Whatever looks random here is the order of sha256(seed, group), so that a group's place depends on nothing else.
"""

import hashlib
from collections.abc import Callable, Mapping

import numpy as np

from jaxssl.data.source import UNLABELLED, Source
from jaxssl.errors import UserError

SIDES = ("train", "validation", "test")
_LISTED = 10


def split(source: Source, *, seed: int, validation: float, test: float, official: bool = True) -> dict[str, np.ndarray]:
    """Splits the images into train, validation and test, no group being on two sides.

    An official split is kept, and what it lacks of labelled images for validation and test is taken from its train
    images. Without labels all images are for training, but for those of an official split.

    Args:
      source: of N images.
      seed: of the order of the groups.
      validation: share of the images that are divided, in (0, 1).
      test: likewise; `validation + test` is below 1.
      official: whether to keep the official split where there is one.

    Returns:
      "train", "validation" and "test": sorted int64 indices, which together are 0 to N - 1, each once; but an image
      without a label whose group is in validation or test, there or officially, is in none: it can neither be scored
      nor trained on.

    Raises:
      UserError: a class in too few groups, an official split without train images or with a group on two sides.
    """
    everything = np.arange(len(source.ids))
    if official and source.official is not None:
        splits = {side: np.flatnonzero(source.official == side) for side in SIDES}
        if not len(splits["train"]):
            raise UserError(
                "the official split has no train images; data.use_official_split=False splits by group",
                code="too-few",
                field="data.use_official_split",
            )
    else:
        splits = {"train": everything, "validation": everything[:0], "test": everything[:0]}
    check(source, splits)
    asked = {"validation": validation, "test": test}
    known = source.labels != UNLABELLED
    shares = {side: share for side, share in asked.items() if share > 0 and not known[splits[side]].any()}
    if shares and known[splits["train"]].any():
        splits |= _divide(source, splits["train"], {"train": 1 - sum(shares.values())} | shares, seed)
    check(source, splits)
    return _scored(source, splits)


def cross_validation(source: Source, *, seed: int, folds: int, fold: int, validation: float) -> dict[str, np.ndarray]:
    """One of the `folds` splits of which each has another part of the images for its test; an official one is not kept.

    The parts are those of the dataset where it has as many, else groups are dealt out, stratified as far as they allow.

    Args:
      source: of N images.
      seed: of the order of the groups.
      folds: how many parts.
      fold: from 0 on, the part that is the test split.
      validation: share of all images, taken from the other parts.

    Returns:
      As `split`.

    Raises:
      UserError: a class in too few groups, parts of the dataset's own that tear a group.
    """
    everything = np.arange(len(source.ids))
    scored = np.isin(source.groups, source.groups[source.labels != UNLABELLED])
    if not scored.any():
        raise UserError(
            f"data.folds={folds}: the images have no labels to be divided by; set it to 0",
            code="missing",
            field="data.folds",
        )
    if source.folds is not None and len(np.unique(source.folds)) == folds:
        parts = [np.flatnonzero(source.folds == k) for k in np.unique(source.folds)]
    else:
        shares = {f"fold {k}": 1 / folds for k in range(folds)}
        parts = list(_divide(source, everything[scored], shares, seed).values())
    rest = np.setdiff1d(everything, parts[fold])
    splits = {"train": rest, "validation": rest[:0], "test": parts[fold]}
    if validation > 0:
        share = validation * folds / (folds - 1)
        splits |= _divide(source, rest, {"train": 1 - share, "validation": share}, seed)
    check(source, splits)
    return _scored(source, splits)


def _scored(source: Source, splits: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same without images of validation and test that have no label, where any image has one."""
    known = source.labels != UNLABELLED
    if not known.any():
        return splits
    return {side: rows if side == "train" else rows[known[rows]] for side, rows in splits.items()}


def label_fraction(source: Source, indices: np.ndarray, fraction: float, *, seed: int) -> np.ndarray:
    """A share of the labels, by group and stratified; a smaller fraction is always part of a larger one.

    Each group belongs to that class of its images of which it holds the largest share; of each class the first groups
    are taken until their images are nearest to `fraction`, and for each class the first group that shows it.

    Args:
      source: the dataset.
      indices: of the images to take from; those without a label are never taken.
      fraction: in (0, 1].
      seed: of the order of the groups.

    Returns:
      Sorted int64 indices, at least one group of each class among `indices`.
    """
    return _take(source, indices, seed, lambda sizes: sizes.cumsum() - sizes / 2 <= fraction * sizes.sum())


def labels_per_class(source: Source, indices: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """As `label_fraction`, but of each class the first groups until they have `count` images, or all there are.

    A group is never parted, so that a class may have some more; the order is that of `label_fraction`, in which a
    smaller count is always part of a larger one.
    """
    return _take(source, indices, seed, lambda sizes: sizes.cumsum() - sizes < count)


def _take(source: Source, indices: np.ndarray, seed: int, enough: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The images of those groups that `enough` picks by the sizes of a class' groups, which stand in a random order."""
    labelled = np.asarray(indices)[source.labels[indices] != UNLABELLED]
    if not len(labelled):
        return labelled.astype(np.int64)
    names, counts = _count(source, labelled, seed, "label_fraction")
    of_class = counts.sum(0)
    home = (counts / np.maximum(of_class, 1)).argmax(1)
    chosen = np.zeros(len(names), bool)
    for c in np.flatnonzero(of_class):
        mine = np.flatnonzero(home == c)
        chosen[mine] |= enough(counts[mine].sum(1))
        chosen[np.flatnonzero(counts[:, c])[0]] = True
    return np.sort(labelled[np.isin(source.groups[labelled], names[chosen])])


def check(source: Source, splits: Mapping[str, np.ndarray]) -> None:
    """Makes sure that no group is on two sides; where groups are unknown, that no image is.

    Raises:
      UserError: the groups that are.
    """
    sides: dict[str, set[str]] = {}
    for side, indices in splits.items():
        for group in np.unique(source.groups[indices]):
            sides.setdefault(str(group), set()).add(side)
    torn = sorted(group for group, where in sides.items() if len(where) > 1)
    if torn:
        some = ", ".join(f"{group} ({', '.join(sorted(sides[group]))})" for group in torn[:_LISTED])
        more = f" and {len(torn) - _LISTED} more" if len(torn) > _LISTED else ""
        raise UserError(
            f"{len(torn)} groups on two sides of the split: {some}{more}: data.use_official_split=False splits by "
            "group",
            code="leakage",
            field="data.use_official_split",
        )


def _order(salt: str, seed: int, group: str) -> bytes:
    return hashlib.sha256(f"{salt}\0{seed}\0{group}".encode()).digest()


def _count(source: Source, indices: np.ndarray, seed: int, salt: str) -> tuple[np.ndarray, np.ndarray]:
    """The groups' names [G] in the order of their hashes, and how many images of each class they have [G, classes]."""
    names, member = np.unique(source.groups[indices], return_inverse=True)
    counts = np.zeros((len(names), len(source.classes)), np.int64)
    labels = source.labels[indices]
    np.add.at(counts, (member[labels != UNLABELLED], labels[labels != UNLABELLED]), 1)
    order = sorted(range(len(names)), key=lambda g: _order(salt, seed, str(names[g])))
    return names[order], counts[order]


def _divide(source: Source, indices: np.ndarray, shares: Mapping[str, float], seed: int) -> dict[str, np.ndarray]:
    """Gives each group in turn to the side that lacks its classes most, after one group of each class for each side."""
    names, counts = _count(source, indices, seed, "split")
    sides = list(shares)
    wanted = np.array(list(shares.values()))[:, None] * counts.sum(0)
    place = _one_of_each(source, counts, wanted, sides)
    deficit = wanted - np.stack([counts[place == s].sum(0) for s in range(len(sides))])
    # A class is weighed by its relative deficit, so that a rare one is not drowned by a frequent one.
    weight = 1 / np.maximum(counts.sum(0), 1) ** 2
    for g in np.flatnonzero(place < 0):
        place[g] = ((deficit * counts[g]) @ weight).argmax()
        deficit[place[g]] -= counts[g]
    return {side: np.sort(indices[np.isin(source.groups[indices], names[place == s])]) for s, side in enumerate(sides)}


def _one_of_each(source: Source, counts: np.ndarray, wanted: np.ndarray, sides: list[str]) -> np.ndarray:
    """[G] the side of the groups that must be somewhere for every side to show every class, -1 for the others.

    The class in the fewest groups goes first. A group that is not more than a side wants is taken before one that is.
    """
    place = np.full(len(counts), -1)
    holders = (counts > 0).sum(0)
    for c in np.argsort(holders, kind="stable"):
        if not holders[c]:
            continue
        for s in reversed(range(len(sides))):
            if counts[place == s, c].any():
                continue
            free = np.flatnonzero((place < 0) & (counts[:, c] > 0))
            if not len(free):
                raise UserError(
                    f"class '{source.classes[c]}' is in {holders[c]} groups, too few for {', '.join(sides)} to have "
                    "one each: add images of it, or leave it out",
                    code="too-few",
                    field="data.validation",
                )
            excess = np.maximum(counts[free, c] - np.ceil(wanted[s, c]), 0)
            place[free[excess.argmin()]] = s
    return place
