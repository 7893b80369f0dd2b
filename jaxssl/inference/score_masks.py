"""Scores a trained segmentation on images with masks or boxes from elsewhere: `jaxssl score --masks` and `--boxes`."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from jaxssl import files
from jaxssl.data.io import boxes as box_files
from jaxssl.data.io import resize
from jaxssl.data.listing.masks import image_shape
from jaxssl.errors import UserError
from jaxssl.evaluation import detection, segmentation
from jaxssl.evaluation.detection import Lesions
from jaxssl.inference import network as networks
from jaxssl.inference.masks import find_evaluation
from jaxssl.inference.predict import count_seen
from jaxssl.inference.score import hash_as_held, load_images
from jaxssl.results import schema
from jaxssl.results.workdir import read_results

CHUNK = 64  # Images whose probabilities are held at a time.


def score_masks(
    workdir: str | Path,
    folder: str | Path,
    evaluation: str = "",
    options: Mapping[str, Any] | None = None,
    boxes: str | Path = "",
) -> dict[str, Any]:
    """Score a segmentation of a run on images that the run has not seen.

    Args:
      workdir: of a finished run.
      folder: of images, or a table, as `data.dir` of a config.
      evaluation: as of `masks.find_evaluation`.
      options: as `data.options` of a config; by default "masks" is "auto", and "mask_classes" are those of the run.
      boxes: a file of boxes, see `data.io.boxes`, which takes the place of masks: then lesions alone are scored.

    Returns:
      The content of score.json, see `results.score_schema.MaskScore`.

    Raises:
      UserError: as `network.load`, `find_evaluation`, `data.load` and `boxes.read`; no image has a mask, or is in
        `boxes`.
    """
    workdir, folder = files.expand_user(workdir), files.expand_user(folder)
    results = read_results(workdir)
    network = networks.load(workdir, find_evaluation(results, workdir, evaluation))
    classes = network.encoder.mask_classes
    given = dict(options or {})
    if not boxes:
        given = {"masks": "auto", **({"mask_classes": classes[1:]} if len(classes) > 2 else {})} | given
    source = load_images(network, folder, given)
    if boxes:
        rows, truth = read_boxes(network, folder, source.ids, box_files.read(files.expand_user(boxes), classes))
    else:
        rows, truth = np.flatnonzero(np.zeros(0) if source.masked is None else source.masked), None
    if not len(rows):
        what = f"none of the images is in {boxes}" if boxes else "no image has a mask"
        raise UserError(f"{what}: name another folder, or set --options=masks", code="missing", field="IMAGES")
    groups = source.groups[rows]
    masks = None if boxes or source.masks is None else source.masks[rows]
    images = source.images[rows]
    content = score_rows(network, images, masks, truth, groups)
    own = next(e for e in results["evaluations"] if e["name"] == network.evaluation)
    names = source.ids[rows].tolist()
    about = {
        "workdir": str(workdir),
        "data": str(folder),
        "fingerprint": source.fingerprint,
        "evaluation": network.evaluation,
        "mask_classes": list(classes),
        "images": len(rows),
        "groups": len(np.unique(groups)),
        "groups_known": source.groups_known,
        "seen": count_seen(
            workdir, [(name, folder / name) for name in names], [hash_as_held(image, network) for image in images]
        ),
        "test_split": {"images": own["images"], "metrics": own["metrics"]},
    }
    return schema.with_version("score.json", about | content)


def score_rows(
    network: networks.Network,
    images: np.ndarray,
    masks: np.ndarray | None,
    truth: Sequence[Lesions] | None,
    groups: np.ndarray,
) -> dict[str, Any]:
    """Score the masks [N, S, S] of images [N, S, S, C], or the boxes `truth`, and the lesions in both cases."""
    classes, parts, levels, predicted, true = len(network.encoder.mask_classes), [], [], [], [*(truth or ())]
    constant = []
    for start in range(0, len(images), CHUNK):
        at = slice(start, start + CHUNK)
        p = networks.predict_all(network.masks, network, images[at])
        found = p.argmax(-1).astype(np.uint8)
        constant.append(found)
        predicted += [detection.find_lesions(mask, classes, of[..., 1:]) for mask, of in zip(found, p, strict=True)]
        if masks is not None:
            parts.append(segmentation.scores(found, masks[at], classes))
            levels.append(segmentation.count_levels(p[..., 1:], masks[at]))
            true += [detection.find_lesions(mask, classes) for mask in masks[at]]
    content = {"detection": detection.evaluate(predicted, true, classes, groups)}
    if masks is None:
        return {"metrics": {}, **content, "constant_predictor": segmentation.is_constant(np.concatenate(constant))}
    of = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    scored = segmentation.evaluate(of, groups, images.shape[1:3], levels=np.concatenate(levels))
    return scored | content | {"constant_predictor": segmentation.is_constant(np.concatenate(constant))}


def read_boxes(
    network: networks.Network, folder: Path, ids: np.ndarray, found: box_files.Boxes
) -> tuple[np.ndarray, list[Lesions]]:
    """Return the rows of the images that have boxes, and these in pixels of the squares in which a run holds images."""
    of, rows, truth = match_names(ids.tolist(), found), [], []
    for row, name in enumerate(ids.tolist()):
        if name in of:
            corners, labels = found[of[name]]
            moved = to_square(corners, image_shape(folder / name), network.size, network.fit)
            inside = ((moved[:, 2:] - moved[:, :2]) > 0).all(axis=1)
            rows.append(row)
            truth.append(Lesions(moved[inside], labels[inside], np.ones(int(inside.sum()))))
    return np.array(rows, int), truth


def match_names(ids: Sequence[str], found: Iterable[str]) -> dict[str, str]:
    """Return the name in a file for the paths of images below a folder: the same path, else the same last part.

    Raises:
      UserError: several images have the last part of a name.
    """
    of = {name: name for name in ids if name in {*found}}
    others = {PurePosixPath(name).name: name for name in found if name not in of}
    for name in ids:
        entry = others.get(PurePosixPath(name).name)
        if name in of or entry is None:
            continue
        if entry in of.values():
            first = next(other for other, taken in of.items() if taken == entry)
            message = f"--boxes: '{entry}' may be {first} or {name}: write paths below the folder of images"
            raise UserError(message, code="conflict", field="--boxes")
        of[name] = entry
    return of


def to_square(boxes: np.ndarray, shape: tuple[int, int], size: int, fit: str) -> np.ndarray:
    """Return boxes [K, 4] of an image in pixels of the square that `resize.fit` makes of it, cut at its edges."""
    height, width = shape
    top, left, new_height, new_width = 0, 0, size, size
    if fit == "pad":
        top, left, new_height, new_width = resize.place(height, width, size)
    shift = np.zeros(2)
    if fit == "crop":
        short = min(shape)
        shift, (height, width) = np.array([(width - short) // 2, (height - short) // 2]), (short, short)
    scale = np.array([new_width / width, new_height / height])
    corners = (boxes.reshape(-1, 2, 2) - shift) * scale
    return (corners.clip(0, [new_width, new_height]) + np.array([left, top])).reshape(-1, 4)
