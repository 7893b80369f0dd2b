"""Predicts masks of images and writes them to a folder: what `jaxssl predict --masks` does.

An image `a/b.jpg` becomes `a/b.png`, an indexed PNG of its size whose indices are the classes, 0 the background; 255
marks pixels that the network does not see, since the run crops images to squares. A NIfTI volume becomes a NIfTI volume
in its orientation. `annotations.json` has the connected components of all masks, each with its box and score, in the
format of COCO.
"""

import gzip
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxssl import files
from jaxssl.config.stored import read_config
from jaxssl.data.io import arrays, nifti, resize
from jaxssl.data.io import images as image_files
from jaxssl.data.io import masks as mask_files
from jaxssl.data.listing.masks import image_shape
from jaxssl.errors import UserError, did_you_mean
from jaxssl.evaluation import detection
from jaxssl.inference import network as networks
from jaxssl.inference.inputs import Inputs, apply_to_images, find_images, format_count
from jaxssl.inference.predict import count_seen
from jaxssl.report.pictures import MASK_COLORS
from jaxssl.results.schema import Results
from jaxssl.results.words import is_segmentation
from jaxssl.results.workdir import read_results

ANNOTATIONS = "annotations.json"


class Mask(NamedTuple):
    """A predicted mask.

    Attributes:
      mask: [H, W] uint8, in the size of the image.
      lesions: its connected components, with the highest probability of each as score.
      outlines: their pixels as run lengths of COCO.
    """

    mask: np.ndarray
    lesions: detection.Lesions
    outlines: list[list[int]]


def write_masks(workdir: str | Path, images: Sequence[str], to: str | Path, evaluation: str = "") -> str:
    """Write the masks of images to the folder `to`, see this module.

    Args:
      workdir: of a finished run.
      images: folders, files or archives, as of `inputs.find_images`; also NIfTI volumes.
      to: a folder; files of the same name are overwritten.
      evaluation: name of a segmentation in results.json; see `find_evaluation` for "".

    Returns:
      One line that says what was written, and how many of the images the run was trained or selected on.

    Raises:
      UserError: as `network.load`, `find_evaluation` and `find_images`; two images would have the same mask file; no
        image that can be used; a file that cannot be written.
    """
    workdir, to = files.expand_user(workdir), files.expand_user(to)
    if to.exists() and not to.is_dir():
        raise UserError(f"--to={to} is a file: with --masks it is a folder", code="conflict", field="--to")
    network = networks.load(workdir, find_evaluation(read_results(workdir), workdir, evaluation))
    inputs = find_images(images)
    names = name_outputs(inputs.ids)
    found: dict[str, Any] = {"images": [], "annotations": [], "categories": list_categories(network)}
    done = 0
    with files.output_errors(to):
        plane, volumes = split_volumes(inputs)
        for i, mask in predict_masks(network, plane) if plane.ids else ():
            name = plane.ids[i]
            files.write_bytes(to / f"{names[name]}.png", encode_png(mask.mask))
            add_annotations(found, name, mask)
            done += 1
        for name, path in zip(volumes.ids, volumes.sources, strict=True):
            write_volume(network, name, Path(str(path)), to / names[name], found)
            done += 1
        files.write_json(to / ANNOTATIONS, found)
    line = f"{to}: masks of {format_count(done, len(inputs.ids))}, by {network.evaluation}"
    seen = count_seen(workdir, list(zip(inputs.ids, inputs.sources, strict=True)))
    return line + f"; {seen} of them are training or validation images of the run: do not score it on them" * bool(seen)


def find_evaluation(results: Results, workdir: Path, name: str = "") -> str:
    """Return the name of a segmentation: by default the first with a decoder, else the first linear one.

    Raises:
      UserError: there is none, or none of this name.
    """
    names = [e["name"] for e in sorted(filter(is_segmentation, results["evaluations"]), key=lambda e: e["protocol"])]
    if not names:
        message = f"{workdir} predicts no masks: that needs 'segment' or 'segment_linear' among transfer.protocols"
        raise UserError(message, code="missing", field="--masks")
    if name and name not in names:
        raise UserError(
            f"--evaluation={name} is no segmentation: {did_you_mean(name, names)}valid: {', '.join(names)}",
            code="unknown-name",
            field="--evaluation",
        )
    return name or names[0]


def name_outputs(ids: Sequence[str]) -> dict[str, str]:
    """Return the path below the output folder for each id, without ending. UserError if two would be the same."""
    found = {}
    for name in ids:
        path = Path(name)
        relative = Path(path.name) if path.is_absolute() or ".." in path.parts else path
        ending = next((end for end in image_files.EXTENSIONS[::-1] if name.lower().endswith(end)), "")
        found[name] = relative.as_posix()[: -len(ending) or None]
    twice = next((name for name, count in Counter(found.values()).items() if count > 1), None)
    if twice is not None:
        message = f"two images would have the mask {twice}: predict them in two calls"
        raise UserError(message, code="conflict", field="IMAGES")
    return found


def split_volumes(inputs: Inputs) -> tuple[Inputs, Inputs]:
    """Return the images, and the NIfTI volumes."""
    is_volume = [isinstance(of, Path) and of.name.lower().endswith(nifti.EXTENSIONS) for of in inputs.sources]

    def choose(volumes: bool) -> Inputs:
        rows = [i for i, volume in enumerate(is_volume) if volume == volumes]
        return Inputs([inputs.ids[i] for i in rows], [inputs.sources[i] for i in rows])

    return choose(False), choose(True)


def predict_masks(network: networks.Network, inputs: Inputs) -> Iterator[tuple[int, Mask]]:
    """Yield (index, mask) of each image that can be read, in its size; the others are reported on stderr."""
    for i, p, _ in apply_to_images(network, network.masks, inputs):
        source = inputs.sources[i]
        shape = image_shape(source) if isinstance(source, Path) else arrays.as_image(np.asarray(source)).shape[:2]
        p = restore(p, (shape[0], shape[1]), network.fit)
        mask = np.where(np.isnan(p[..., 0]), mask_files.IGNORE, p.argmax(-1)).astype(np.uint8)
        outlines = []
        for _, box, inside in detection.iter_components(mask, p.shape[-1]):
            whole = np.zeros(mask.shape, bool)
            whole[box] = inside
            outlines.append(mask_files.encode_rle(whole))
        yield i, Mask(mask, detection.find_lesions(mask, p.shape[-1], p[..., 1:]), outlines)


def restore(p: np.ndarray, shape: tuple[int, int], fit: str) -> np.ndarray:
    """Return probabilities [S, S, K] float32 in the size of the image, [H, W, K]; NaN where it was cropped.

    Args:
      p: of the square that `resize.fit` makes of the image.
      shape: height and width of the image.
      fit: "pad", "crop" or "squash".
    """
    height, width = shape
    if fit == "crop" and height != width:
        short = min(shape)
        top, left = (height - short) // 2, (width - short) // 2
        found = np.full((height, width, p.shape[-1]), np.nan, np.float32)
        found[top : top + short, left : left + short] = resize.resample(p, short, short)
        return found
    if fit == "pad" and height != width:
        top, left, inner_height, inner_width = resize.place(height, width, len(p))
        p = p[top : top + inner_height, left : left + inner_width]
    return p if p.shape[:2] == shape else resize.resample(p, height, width)


def write_volume(network: networks.Network, name: str, path: Path, to: Path, found: dict[str, Any]) -> None:
    """Write the masks of the slices of a NIfTI volume as a volume."""
    axis = (read_config(network.workdir)["config"]["data"].get("options") or {}).get("slice_axis", 2)
    try:
        slices = nifti.load_slices(path, axis)
    except (OSError, ValueError) as error:
        message = f"{path} cannot be read: {error}: correct it, or leave it out"
        raise UserError(message, code="unreadable", field=str(path)) from error
    masks = np.zeros(slices.shape[:3], np.uint8)
    for i, mask in predict_masks(network, Inputs([f"{name}:{i:03d}" for i in range(len(slices))], list(slices))):
        masks[i] = mask.mask
        add_annotations(found, f"{name}:{i:03d}", mask)
    content = nifti.encode_slices(masks, axis, path)
    files.write_bytes(to.with_name(f"{to.name}.nii.gz"), gzip.compress(content, mtime=0))


def encode_png(mask: np.ndarray) -> bytes:
    """Return a mask [H, W] uint8 as indexed PNG, in the colors of the report."""
    image = Image.frombytes("P", mask.shape[::-1], mask.tobytes())
    colors = [*MASK_COLORS.values()]
    palette = [(0, 0, 0), *(colors[i % len(colors)] for i in range(254)), (255, 255, 255)]
    image.putpalette([value for color in palette for value in color])
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def list_categories(network: networks.Network) -> list[dict[str, Any]]:
    return [{"id": i, "name": name} for i, name in enumerate(network.encoder.mask_classes[1:], 1)]


def add_annotations(found: dict[str, Any], name: str, mask: Mask) -> None:
    """Add an image and its components to the content of a file of COCO."""
    height, width = mask.mask.shape
    image_id = len(found["images"]) + 1
    found["images"].append({"id": image_id, "file_name": name, "height": height, "width": width})
    for box, label, score, outline in zip(*mask.lesions, mask.outlines, strict=True):
        left, top, right, bottom = box.tolist()
        annotation = {
            "id": len(found["annotations"]) + 1,
            "image_id": image_id,
            "category_id": int(label),
            "segmentation": {"size": [height, width], "counts": outline},
            "area": sum(outline[1::2]),
            "bbox": [left, top, right - left, bottom - top],
            "iscrowd": 0,
            "score": round(float(score), 4),
        }
        found["annotations"].append(annotation)
