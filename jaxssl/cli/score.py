"""Score a trained network on a labelled test set from elsewhere.

    jaxssl score runs/mine data/other_hospital
    jaxssl score runs/mine data/other.csv --options='group_pattern=(patient\\d+)' --to=score.json
    jaxssl score runs/mine data/other_hospital --corrupt
    jaxssl score runs/mine data/other --masks
    jaxssl score runs/mine data/other --boxes=annotations.json

IMAGES is a folder with a sub-folder for each class of the run, a table of paths and labels, or an .npz archive. Prints
each score with its 95 % interval over groups, next to that on the test split of the run. With --corrupt, noise, blur,
lower contrast, brightness and JPEG are added at severities of ImageNet-C, and the difference is given, paired by image.

With --masks, a segmentation is scored by the masks of the images, and by the lesions that they hold: `x_mask.png` or
`masks/x.png`, or as --options=masks=... says. With --boxes, lesions are scored by boxes: COCO's JSON, or a table with
the columns image, class, and left, top, right, bottom or x, y, width, height.
"""

import argparse
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from jaxssl import files
from jaxssl.cli.options import add_options_argument, parse_known_options
from jaxssl.cli.parser import add_workdir_argument
from jaxssl.data import options as data_options
from jaxssl.errors import UserError
from jaxssl.inference import score, score_masks
from jaxssl.results.words import (
    METRIC_NAMES,
    PREDICTED,
    format_ends,
    format_number,
    format_range,
    format_signed,
    has_interval,
)
from jaxssl.training import runtime

GROUP = "trained networks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workdir_argument(parser)
    parser.add_argument("images", metavar="IMAGES", help="A folder with class folders, a table, or an archive.")
    parser.add_argument(
        "--evaluation", default="", help="A network of results.json; the best on validation by default."
    )
    parser.add_argument(
        "--to", type=files.expand_user, metavar="FILE", help="Write the scores to this .json file, too."
    )
    add_options_argument(parser)
    parser.add_argument("--masks", action="store_true", help="Score a segmentation by masks.")
    parser.add_argument("--boxes", type=files.expand_user, metavar="FILE", help="Score a segmentation by boxes.")
    parser.add_argument(
        "--corrupt",
        nargs="?",
        const="1,3,5",
        default="",
        metavar="1,3,5",
        help="Score corrupted images, too, at these severities from 1 to 5.",
    )


def run(options: argparse.Namespace) -> int:
    runtime.configure()
    of = parse_known_options(options.options, data_options("folder"), "a folder")
    severities = parse_severities(options.corrupt)
    if options.masks or options.boxes:
        if severities:
            message = "--corrupt is of class labels: leave out --masks and --boxes"
            raise UserError(message, code="conflict", field="--corrupt")
        content = score_masks.score_masks(options.workdir, options.images, options.evaluation, of, options.boxes or "")
    else:
        content = score.score_images(options.workdir, options.images, options.evaluation, of, severities)
    if options.to:
        with files.output_errors(options.to):
            files.write_json(options.to, content)
    console = Console(markup=False, emoji=False, highlight=False)
    if content["metrics"]:
        console.print(make_table(content))
    if "detection" in content:
        console.print(lesion_table(content))
    if content.get("corruptions"):
        console.print(corruption_table(content))
    print("\n".join(remarks(content)))
    return 0


def parse_severities(text: str) -> list[int]:
    """Return [1, 3, 5] of "1,3,5". UserError for anything but numbers."""
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError as error:
        message = f"--corrupt={text}: write severities from 1 to 5, such as 1,3,5"
        raise UserError(message, code="out-of-range", field="--corrupt") from error


def corruption_table(content: dict[str, Any]) -> Table:
    """Return the scores on corrupted images, and their differences from those on the images as they are."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    metrics = list(content["corruptions"][0]["metrics"])[:2]
    table.add_column("corruption")
    for metric in metrics:
        table.add_column(METRIC_NAMES[metric], justify="right")
        table.add_column("difference", justify="right")
    for row in content["corruptions"]:
        cells = [f"{row['corruption']} {row['severity']}"]
        for metric in metrics:
            difference = row["differences"][metric]
            ends = f" [{format_range(difference)}]" if has_interval(difference) else ""
            value = format_number(row["metrics"][metric]["value"])
            cells += [value, f"{format_signed(difference['value'])}{ends}"]
        table.add_row(*cells)
    return table


def make_table(content: dict[str, Any]) -> Table:
    """Return the scores here and on the test split of the run."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    here = f"these {content['images']:,} images"
    for column in (content["evaluation"], here, f"test split, {content['test_split']['images']:,} images"):
        table.add_column(column, justify="left" if column == content["evaluation"] else "right")
    for name, words in METRIC_NAMES.items():
        if name not in content["metrics"]:
            continue
        pair = content["metrics"][name], content["test_split"]["metrics"][name]
        table.add_row(words, *(f"{format_number(e['value'])} {format_ends(e)}".strip() for e in pair))
    return table


def lesion_table(content: dict[str, Any]) -> Table:
    """Return the scores of lesions."""
    of = content["detection"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("lesions of these images")
    table.add_column(f"{sum(of['lesions_by_class']):,} true, {sum(of['predicted_by_class']):,} found", justify="right")
    for name, estimate in of["metrics"].items():
        kind, _, at = name.rpartition("_")
        words = {"": "FROC", "sensitivity": f"sensitivity at {at} false positives an image"}
        text = words.get(kind, f"average precision at IoU {at}")
        table.add_row(text, f"{format_number(estimate['value'])} {format_ends(estimate)}".strip())
    return table


def remarks(content: dict[str, Any]) -> list[str]:
    """Return what one must know to read the scores."""
    lines = []
    if content.get("all_background"):
        dice = format_number(content["all_background"]["dice"])
        lines.append(f"Predicting nothing in every image has Dice {dice}.")
    if content.get("majority_accuracy") is not None:
        accuracy = format_number(content["majority_accuracy"])
        lines.append(f"Always predicting the most frequent class has accuracy {accuracy}.")
    if content["seen"]:
        lines.append(
            f"{content['seen']:,} of these images are training or validation images of the run: the scores are too "
            "good."
        )
    if not content["groups_known"]:
        lines.append(
            "Groups are unknown: intervals are too narrow if a patient has several images. "
            "--options='group_pattern=(patient\\d+)' takes the patient from the file names."
        )
    if content["constant_predictor"]:
        predicted = PREDICTED[content["task"]] if "task" in content else "mask"
        lines.append(f"The same {predicted} is predicted for every image.")
    return lines
