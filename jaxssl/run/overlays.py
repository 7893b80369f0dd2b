"""True and predicted masks for the report: of the test images with the best, the median and the worst Dice."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxssl.data.pipeline import masks_of
from jaxssl.results.schema import Results
from jaxssl.results.segmentations import Segmentations, read_segmentations
from jaxssl.run.setup import Setup

PER_CASE = 2
CASES = ("best", "median", "worst")


class Cases(NamedTuple):
    """K test images and the masks that A evaluations predict for them.

    Attributes:
      ids: [K] str.
      cases: [K] str, one of `CASES`.
      evaluations: [A] str, their names.
      predicted: [A, K, S, S] uint8.
      dice: [A, K] float, the mean Dice of the classes that the image has.
    """

    ids: np.ndarray
    cases: np.ndarray
    evaluations: list[str]
    predicted: np.ndarray
    dice: np.ndarray


def make_overlays(setup: Setup, results: Results, draw: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of gallery.npz that begin with "mask_", {} if there is no segmentation.

    Args:
      setup: of a run whose segmentations.csv is written.
      results: its results.
      draw: from rows of the source to pictures [K, S, S, 1 or 3] uint8.
    """
    cases = choose_cases(setup.workdir, results)
    if cases is None:
        return {}
    row_of = {name: row for row, name in enumerate(setup.source.ids.tolist())}
    rows = np.array([row_of[name] for name in cases.ids.tolist()])
    images = draw(rows)
    side = images.shape[2]
    return {
        "mask_ids": cases.ids,
        "mask_cases": cases.cases,
        "mask_images": images,
        "mask_true": resize_nearest(masks_of(setup.source)[rows], side),
        "mask_evaluations": np.array(cases.evaluations),
        "mask_predicted": resize_nearest(cases.predicted, side),
        "mask_dice": cases.dice,
    }


def resize_nearest(masks: np.ndarray, side: int) -> np.ndarray:
    """Resize masks [..., S, S] to [..., side, side] by the nearest pixel."""
    index = ((np.arange(side) + 0.5) * masks.shape[-1] / side).astype(int)
    return masks[..., index[:, None], index]


def choose_cases(workdir: Path, results: Results) -> Cases | None:
    """Choose images by their Dice, averaged over all evaluations; those without any class do not count.

    Returns:
      None if there is no segmentation, or no test image with a class.
    """
    found = read_segmentations(workdir, results)
    if not found:
        return None
    dice = np.array([dice_present(of) for of in found.values()])
    order = np.argsort(-dice.mean(axis=0), kind="stable")
    order = order[np.isfinite(dice[:, order]).all(axis=0)]
    chosen = rank_cases(len(order))
    if not chosen:
        return None
    rows, first = order[list(chosen)], next(iter(found.values()))
    masks = []
    for name in found:
        with np.load(workdir / "evaluations" / f"{name}.npz", allow_pickle=False) as stored:
            masks.append(stored["masks"][rows])
    ids = np.array([first.ids[row] for row in rows])
    return Cases(ids, np.array([*chosen.values()]), [*found], np.array(masks), dice[:, rows])


def dice_present(of: Segmentations) -> np.ndarray:
    """Return the mean Dice [N] of the classes that each image has; NaN for one without any."""
    present = of.scores["true_pixels"] > 0
    total = np.where(present, of.scores["dice"], 0).sum(axis=1)
    return np.divide(total, present.sum(axis=1), out=np.full(len(total), np.nan), where=present.any(axis=1))


def rank_cases(count: int) -> dict[int, str]:
    """Return the case of each rank that is shown, from the best of `count` images to the worst; each only once.

    >>> rank_cases(9)
    {0: 'best', 1: 'best', 3: 'median', 4: 'median', 7: 'worst', 8: 'worst'}
    >>> rank_cases(2)
    {0: 'best', 1: 'worst'}
    """
    size = min(PER_CASE, -(-count // len(CASES)))
    starts = (0, (count - size) // 2, count - size)
    ranks: dict[int, str] = {}
    for case, start in sorted(zip(CASES, starts, strict=True), key=lambda pair: pair[0] == "median"):
        ranks |= {rank: case for rank in range(start, start + size) if rank >= 0 and rank not in ranks}
    return dict(sorted(ranks.items()))
