"""Score a trained network on a labelled test set from elsewhere.

    jaxssl score runs/mine data/other_hospital
    jaxssl score runs/mine data/other.csv --options='group_pattern=(patient\\d+)' --to=score.json

IMAGES is a folder with a sub-folder for each class of the run, a table of paths and labels, or an .npz archive. Prints
each score with its 95 % interval over groups, next to that on the test split of the run.
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
from jaxssl.results.words import METRIC_NAMES, PREDICTED, format_ends, format_number
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


def run(options: argparse.Namespace) -> int:
    runtime.configure()
    content = score.score_images(options.workdir, options.images, options.evaluation, parse_options(options.options))
    if options.to:
        with files.output_errors(options.to):
            files.write_json(options.to, content)
    Console(markup=False, emoji=False, highlight=False).print(make_table(content))
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
            f"{content['seen']:,} of these images have the name of a training or validation image of the run: if they "
            "are the same, the scores are too good."
        )
    if not content["groups_known"]:
        lines.append("Groups are unknown: intervals are too narrow if a patient has several images.")
    if content["constant_predictor"]:
        lines.append(f"The same {PREDICTED[content['task']]} is predicted for every image.")
    return lines
