"""Score a trained network on a labelled test set from elsewhere.

    jaxssl score runs/mine data/other_hospital
    jaxssl score runs/mine data/other.csv --options='group_pattern=(patient\\d+)' --to=score.json
    jaxssl score runs/mine data/other_hospital --corrupt

IMAGES is a folder with a sub-folder for each class of the run, a table of paths and labels, or an .npz archive. Prints
each score with its 95 % interval over groups, next to that on the test split of the run. With --corrupt, noise, blur,
lower contrast, brightness and JPEG are added at severities of ImageNet-C, and the difference is given, paired by image.
"""

import argparse
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from jaxssl import files
from jaxssl.cli.parser import add_workdir_argument
from jaxssl.config.parse import parse_value
from jaxssl.data import options as data_options
from jaxssl.errors import UserError, did_you_mean
from jaxssl.inference import score
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
    parser.add_argument("--evaluation", default="", help="A fine-tuning of results.json; the first by default.")
    parser.add_argument(
        "--to", type=files.expand_user, metavar="FILE", help="Write the scores to this .json file, too."
    )
    parser.add_argument(
        "--options",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="An option of the images, as data.options.KEY of a config; may be repeated.",
    )

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
    severities = parse_severities(options.corrupt)
    content = score.score_images(
        options.workdir, options.images, options.evaluation, parse_options(options.options), severities
    )
    if options.to:
        with files.output_errors(options.to):
            files.write_json(options.to, content)
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(make_table(content))
    if content["corruptions"]:
        console.print(corruption_table(content))
    print("\n".join(remarks(content)))
    return 0


def parse_options(texts: list[str]) -> dict[str, Any]:
    """Return {"table": "labels.csv"} of ["table=labels.csv"]. UserError for an unknown option."""
    known, found = data_options("folder"), {}
    for text in texts:
        key, _, value = text.partition("=")
        if key not in known:
            message = f"--options={text}: {did_you_mean(key, known)}valid: {', '.join(known)}"
            raise UserError(message, code="unknown-name", field="--options")
        found[key] = parse_value(f"data.options.{key}", value, known[key])
    return found


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


def remarks(content: dict[str, Any]) -> list[str]:
    """Return what one must know to read the scores."""
    lines = []
    if content["majority_accuracy"] is not None:
        accuracy = format_number(content["majority_accuracy"])
        lines.append(f"Always predicting the most frequent class has accuracy {accuracy}.")
    if content["seen"]:
        lines.append(
            f"{content['seen']:,} of these images are training or validation images of the run: the scores are too "
            "good."
        )
    if not content["groups_known"]:
        lines.append("Groups are unknown: intervals are too narrow if a patient has several images.")
    if content["constant_predictor"]:
        lines.append(f"The same {PREDICTED[content['task']]} is predicted for every image.")
    return lines
