"""A comparison as tables for the terminal, at most 80 columns wide, and as CSV."""

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, cast

from rich import box
from rich.table import Table
from rich.text import Text

from jaxssl.results import words
from jaxssl.results.cells import escape_cell
from jaxssl.results.study_conclusions import headline_metrics, split_by_metric
from jaxssl.results.study_schema import Arm, Curve, Study

COMPUTE = ("pretrain_seconds", "transfer_seconds", "trained_images")
MAX_SENTENCES = 5  # Sentences of a conclusion that are printed.


def score_tables(study: Study) -> list[Table]:
    """Return the scores of the arms with their largest share of the labels, and the majority class."""
    return [_score_table(study, arms) for arms in split_by_metric(_with_most_labels(study["arms"]))]


def _score_table(study: Study, arms: Sequence[Arm]) -> Table:
    metrics = headline_metrics(arms)
    first, second = (words.METRIC_NAMES[metric] for metric in metrics)
    table = _make_table("arm", ("runs", first, "over runs", "over groups", second))
    for arm in _in_sections(table, arms):
        auc, accuracy = (arm["metrics"][metric] for metric in metrics)
        intervals = [words.format_ends(cast(Any, auc[kind]))[1:-1] for kind in ("over_runs", "over_groups")]
        mark = "*" if arm["constant_runs"] else ""
        numbers = [words.format_number(auc["mean"]), *intervals, words.format_number(accuracy["mean"])]
        table.add_row(Text(words.arm_title(arm["name"]) + mark), str(arm["runs"]), *numbers)
    if arms[0]["majority_accuracy"] is not None:
        table.add_section()
        table.add_row("majority class", "", "", "", "", words.format_number(arms[0]["majority_accuracy"]))
    caption = Text(f"Means; 95 % intervals of the {first} over runs, and over groups of the test images.")
    if any(arm["constant_runs"] for arm in arms):
        masks = arms[0]["protocol"] in words.SEGMENTATION_PROTOCOLS
        one = words.PREDICTED["masks" if masks else study["dataset"]["task"]]
        caption.append(f"\n* predicts one {one} for every image, in one run or more", style="bold yellow")
    table.caption = caption
    return table


def label_tables(study: Study) -> list[Table]:
    """Return the primary scores by share of the labels; none if each arm has one share."""
    primary = dict.fromkeys(headline_metrics(arms)[0] for arms in split_by_metric(study["arms"]))
    curves = {metric: [curve for curve in study["curves"] if curve["metric"] == metric] for metric in primary}
    return [_label_table(metric, of) for metric, of in curves.items() if of]


def _label_table(primary: str, curves: Sequence[Curve]) -> Table:
    shares = {point["label_fraction"]: point["labels"] for curve in curves for point in curve["points"]}
    table = _make_table(f"{words.METRIC_NAMES[primary]} by labels", [shares[share] for share in sorted(shares)])
    for protocol, of in itertools.groupby(curves, lambda curve: curve["protocol"]):
        table.add_section()
        table.add_row(Text(words.protocol_name(protocol).capitalize(), style="bold"))
        for curve in of:
            means = {point["label_fraction"]: point["mean"] for point in curve["points"]}
            cells = [words.format_number(means[share]) if share in means else "" for share in sorted(shares)]
            table.add_row(Text(words.arm_title(curve["name"])), *cells)
    return table


def compute_table(study: Study) -> Table:
    """Return the compute of the arms."""
    table = _make_table("compute, mean over runs", ("pretraining s", "transfer s", "images trained on"))
    for arm in _in_sections(table, _with_most_labels(study["arms"])):
        cells = ["unknown" if arm[field] is None else f"{arm[field]:,.0f}" for field in COMPUTE]
        table.add_row(Text(words.arm_title(arm["name"])), *cells)
    if any(words.given_weights(arm["init"]) for arm in study["arms"]):
        table.caption = Text("Without the training of the weights that were given.")
    return table


def list_sentences(texts: Sequence[str]) -> str:
    """Return the first `MAX_SENTENCES` sentences as a list, and how many more there are."""
    lines = [f"- {text}" for text in texts[:MAX_SENTENCES] or ["Nothing."]]
    more = len(texts) - MAX_SENTENCES
    return "\n".join(lines + [f"- {more} more, in compare.json and report.html."] * (more > 0)) + "\n"


def _make_table(first: str, columns: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _in_sections(table: Table, arms: Sequence[Arm]) -> Iterator[Arm]:
    """Yield the arms; add a heading to the table before the first of each protocol and share of the labels."""
    for (protocol, labels), of in itertools.groupby(arms, lambda arm: (arm["protocol"], arm["labels"])):
        table.add_section()
        table.add_row(Text(f"{words.protocol_name(protocol).capitalize()}, {labels}", style="bold"))
        yield from of


def _with_most_labels(arms: Sequence[Arm]) -> list[Arm]:
    most: dict[tuple[str, str], float] = {}
    for arm in arms:
        key = arm["name"], arm["protocol"]
        most[key] = max(most.get(key, 0.0), arm["label_fraction"])
    return [arm for arm in arms if arm["label_fraction"] == most[arm["name"], arm["protocol"]]]


# CSV.


def arms_csv(study: Study) -> str:
    """Return compare_arms.csv: a row per arm and metric."""
    names = ("name", "method", "init", "protocol", "labels", "label_fraction", "runs", "images", "groups", *COMPUTE)
    return _to_csv(
        {name: arm[name] for name in names} | {"metric": metric} | _intervals(of)
        for arm in study["arms"]
        for metric, of in arm["metrics"].items()
    )


def differences_csv(study: Study) -> str:
    """Return compare_differences.csv: a row per difference and metric."""
    names = ("a", "b", "protocol", "labels", "label_fraction", "metric", "runs", "seeds")
    rows = []
    for d in study["differences"]:
        mcnemar = d["mcnemar"] or {}
        tests = {f"{kind}_p": d[kind]["p"] for kind in ("over_runs", "over_groups")}
        tests |= {"p": d["p"], "p_holm": d["p_holm"]}
        tests |= {f"mcnemar_{name}": mcnemar.get(name) for name in ("only_a", "only_b", "p", "p_holm")}
        verdict = {name: d[name] for name in ("verdict", "without")}
        rows.append({name: d[name] for name in names} | _intervals(d) | tests | verdict)
    return _to_csv(rows)


def _intervals(of: Any) -> dict[str, Any]:
    """Return the columns of a mean and its intervals."""
    ends = {f"{kind}_{end}": of[kind][end] for kind in ("over_runs", "over_groups") for end in ("low", "high")}
    return {"mean": of["mean"], "std": of["std"]} | ends


def _to_csv(rows: Iterator[dict[str, Any]] | Sequence[dict[str, Any]]) -> str:
    rows = list(rows)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: escape_cell(value) for name, value in row.items()} for row in rows)
    return stream.getvalue()
