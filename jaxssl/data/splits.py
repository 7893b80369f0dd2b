"""Splits by group, stratified as far as groups allow, and independent of the order of the images.

All randomness is the order of sha256(seed, group), so that the place of a group depends on nothing else.
"""

import hashlib
from collections.abc import Callable, Mapping

import numpy as np

from jaxssl.data.source import Source
from jaxssl.errors import UserError

SIDES = ("train", "validation", "test")
_LISTED = 10


def split(source: Source, *, seed: int, validation: float, test: float, official: bool = True) -> dict[str, np.ndarray]:
    """Split the images into train, validation and test, so that no group is on two sides.

    An official split is kept; if it has no labelled images for validation or test, they are taken from its train
    images. Without labels all images are for training, except for those of an official split.

    Args:
      source: the dataset of N images.
      seed: seed of the order of the groups.
      validation: share of the images that are divided, in (0, 1).
      test: likewise; `validation + test` is below 1.
      official: whether to keep the official split, if there is one.

    Returns:
      "train", "validation" and "test": sorted int64 indices, which together are 0 to N - 1, each once; except that an
      image without a label whose group is in validation or test is in none: it can neither be scored nor trained on.

    Raises:
      UserError: a class is in too few groups, or the official split has no train images or a group on two sides.
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
    requested = {"validation": validation, "test": test}
    known = source.known
    shares = {side: share for side, share in requested.items() if share > 0 and not known[splits[side]].any()}
    if shares and known[splits["train"]].any():
        splits |= _divide(source, splits["train"], {"train": 1 - sum(shares.values())} | shares, seed)
    check(source, splits)
    return _scored(source, splits)


def cross_validation(source: Source, *, seed: int, folds: int, fold: int, validation: float) -> dict[str, np.ndarray]:
    """Return one split of a cross-validation, in which each fold is the test split once; an official one is not kept.

    The folds are the dataset's own if it has as many, otherwise groups are assigned, stratified as far as they allow.

    Args:
      source: the dataset of N images.
      seed: seed of the order of the groups.
      folds: number of folds.
      fold: from 0, the fold that is the test split.
      validation: share of all images, taken from the other parts.

    Returns:
      As `split`.

    Raises:
      UserError: a class is in too few groups, or the dataset's own folds have a group on two sides.
    """
    everything = np.arange(len(source.ids))
    scored = np.isin(source.groups, source.groups[source.known])
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
    """Remove images of validation and test that have no label, if any image has one. UserError if train is empty."""
    if not len(splits["train"]):
        raise UserError(
            f"data.validation and data.test leave none of {len(source.ids)} images to train on: reduce them",
            code="too-few",
            field="data.validation",
        )
    known = source.known
    if not known.any():
        return splits
    return {side: rows if side == "train" else rows[known[rows]] for side, rows in splits.items()}


def label_fraction(source: Source, indices: np.ndarray, fraction: float, *, seed: int) -> np.ndarray:
    """Return a share of the labelled images, by group and stratified; a smaller share is a subset of a larger one.

    Each group belongs to the class of which it holds the largest share; of each class the first groups are taken until
    their images are nearest to `fraction`, and at least one group that has the class.

    Args:
      source: the dataset.
      indices: the images to take from; those without a label are never taken.
      fraction: in (0, 1].
      seed: seed of the order of the groups.

    Returns:
      Sorted int64 indices, at least one group of each class among `indices`.
    """
    return _take(source, indices, seed, lambda sizes: sizes.cumsum() - sizes / 2 <= fraction * sizes.sum())


def labels_per_class(source: Source, indices: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Like `label_fraction`, but take the first groups of each class until they have `count` images, or all.

    A group is never divided, so that a class may have some more. A smaller count is a subset of a larger one.
    """
    return _take(source, indices, seed, lambda sizes: sizes.cumsum() - sizes < count)


def _take(source: Source, indices: np.ndarray, seed: int, enough: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the images of the groups that `enough` selects, given the sizes of a class' groups in random order."""
    labelled = np.asarray(indices)[source.known[indices]]
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
    """Check that no group is on two sides; if groups are unknown, that no image is.

    Raises:
      UserError: names the groups that are.
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
    """Return the names of the groups [G] in the order of their hashes, and their images of each class [G, K].

    The classes are those of `Source.strata`.
    """
    names, member = np.unique(source.groups[indices], return_inverse=True)
    strata = source.strata[indices]
    counts = np.zeros((len(names), strata.shape[1]), np.int64)
    np.add.at(counts, member, strata)
    order = sorted(range(len(names)), key=lambda g: _order(salt, seed, str(names[g])))
    return names[order], counts[order]


def _divide(source: Source, indices: np.ndarray, shares: Mapping[str, float], seed: int) -> dict[str, np.ndarray]:
    """Give each group in turn to the side that lacks its classes most, after one group of each class for each side."""
    names, counts = _count(source, indices, seed, "split")
    sides = list(shares)
    wanted = np.array(list(shares.values()))[:, None] * counts.sum(0)
    place = _one_of_each(source, counts, wanted, sides)
    deficit = wanted - np.stack([counts[place == s].sum(0) for s in range(len(sides))])
    # Deficits are relative to the class, so that a frequent class does not outweigh a rare one.
    weight = 1 / np.maximum(counts.sum(0), 1) ** 2
    for g in np.flatnonzero(place < 0):
        place[g] = ((deficit * counts[g]) @ weight).argmax()
        deficit[place[g]] -= counts[g]
    return {side: np.sort(indices[np.isin(source.groups[indices], names[place == s])]) for s, side in enumerate(sides)}


def _one_of_each(source: Source, counts: np.ndarray, wanted: np.ndarray, sides: list[str]) -> np.ndarray:
    """Return [G] the side of the groups that are needed for every side to have every class, -1 for the others.

    The class in the fewest groups goes first. Groups that do not exceed what the side needs are preferred.
    """
    place = np.full(len(counts), -1)
    holders = (counts > 0).sum(0)
    for c in np.argsort(holders, kind="stable"):
        # An image counts for several labels, or for a range of values: these are stratified as far as they go.
        optional = source.task in ("multi", "value")
        if not holders[c] or (optional and holders[c] < len(sides)):
            continue
        for s in reversed(range(len(sides))):
            if counts[place == s, c].any():
                continue
            free = np.flatnonzero((place < 0) & (counts[:, c] > 0))
            if not len(free) and optional:
                continue
            if not len(free):
                raise _too_few(source.classes[c], counts[:, c], sides)
            excess = np.maximum(counts[free, c] - np.ceil(wanted[s, c]), 0)
            place[free[excess.argmin()]] = s
    return place


def _too_few(name: str, images: np.ndarray, sides: list[str]) -> UserError:
    """Return the error for a class with so many images in each group, which are fewer than the sides."""
    total, groups = int(images.sum()), int((images > 0).sum())
    divided = ", ".join(sides) if len(sides) <= len(SIDES) else f"{len(sides)} folds"
    held = f"{total} images" if total > 1 else "1 image"
    if groups < total:
        held += f" in {groups} group{'s' * (groups > 1)} (those of a patient, or exact copies, are one group)"
    return UserError(
        f"class '{name}' has {held}, too few for {divided} to have one each: add images of it, or leave the class out",
        code="too-few",
        field="data.validation",
    )
