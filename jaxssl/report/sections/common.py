"""What several sections share: cells of scores, rows by protocol, and the classes that are shown."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from jaxssl.report.blocks import Body, Cell, Key, Legend, Row, Text
from jaxssl.report.run_data import RunData
from jaxssl.results.predictions import Predictions
from jaxssl.results.schema import Estimate, Evaluation, Results, TestedDifference
from jaxssl.results.words import (
    MAX_CLASSES,
    UNDEFINED,
    count_digits,
    format_ends,
    format_p,
    format_range,
    format_signed,
    format_value_of,
    group_by_protocol,
    has_interval,
    init_name,
    protocol_name,
)

COLLAPSED = "Not drawn: the encoder collapsed, so that all images have nearly the same features."


def estimate_cell(estimate: Estimate, digits: int | None = None) -> Cell:
    """Return ".553" with "(.528–.577)" in small print."""
    return Cell(format_value_of(estimate, digits), format_ends(estimate, digits))


def difference_cell(difference: TestedDifference) -> Cell:
    """Return "+.059" with "(+.031 to +.087), p = .012" in small print."""
    if difference["value"] is None:
        return Cell(UNDEFINED)
    ends = [f"({format_range(difference)})"] if has_interval(difference) else []
    p = [] if difference["p"] is None else [format_p(difference["p"])]
    return Cell(format_signed(difference["value"], count_digits(difference)), ", ".join(ends + p))


def init_cell(e: Evaluation, results: Results, strong: str = "") -> Cell:
    """Return the name of an evaluation's initialization with its swatch."""
    return Cell(init_name(e["init"], results), init=e["init"], strong=strong)


def bodies_by_protocol(evaluations: Iterable[Evaluation], row: Callable[[Evaluation], Row]) -> list[Body]:
    """Return a row for each evaluation, under the name of its protocol."""
    return [
        Body(protocol_name(protocol).capitalize(), [row(e) for e in of])
        for protocol, of in group_by_protocol(evaluations).items()
    ]


def init_legend(results: Results, inits: Iterable[str]) -> Legend:
    """Return the legend of initializations."""
    return Legend([Key(init_name(init, results), init=init) for init in inits])


def iter_predictions(run: RunData) -> Iterator[tuple[str, dict[str, Predictions]]]:
    """Yield each protocol that has predictions, and these by initialization."""
    for protocol, evaluations in group_by_protocol(run.results["evaluations"]).items():
        of = {e["init"]: run.predictions[e["name"]] for e in evaluations if e["name"] in run.predictions}
        if of:
            yield protocol, of


def find_commonest(counts: np.ndarray) -> list[int]:
    """Return the classes that have images, in their order; of too many, those with the most images."""
    most = np.argsort(-counts, kind="stable")[:MAX_CLASSES]
    return sorted(int(c) for c in most if counts[c])


def limit_note(classes: Sequence[str]) -> list[Text]:
    """Return the note that not all classes are shown, [] if they are."""
    if len(classes) <= MAX_CLASSES:
        return []
    return [Text(f"The {MAX_CLASSES} most frequent of {len(classes)} classes are shown.")]


def has_collapsed(run: RunData) -> bool:
    """Return whether pretraining collapsed, so that pictures of its features would show nothing."""
    pretraining = run.results["pretrain"]
    return pretraining is not None and pretraining["collapse"]["verdict"] == "collapsed"


def speak_values(values: Iterable[tuple[str, str]]) -> str:
    """Return a value for each initialization, for a screen reader."""
    return ", ".join(f"{value} {init}" for init, value in values)
