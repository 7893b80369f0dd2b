"""The report of one run: what was found, how sure that is, and all that it rests on, in one HTML file without network.

The page is a function of the files in the workdir: written again, it has the same bytes.
"""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from jaxssl import files
from jaxssl.errors import UserError
from jaxssl.evaluation import calibration, curves, scores
from jaxssl.report import audited, figures, pictures
from jaxssl.report.figures import Line
from jaxssl.report.markup import (
    bdi,
    definitions,
    escape,
    grid,
    legend,
    panel,
    scrolling,
    stated,
    swatch,
    table_head,
    table_row,
    whole,
)
from jaxssl.report.words import (
    CHANCE_AUC,
    METRICS,
    MOST_CLASSES,
    ONE_RUN,
    PROTOCOLS,
    UNDEFINED,
    Differences,
    Estimate,
    answer,
    between,
    bounded,
    by_protocol,
    cautions,
    clean,
    collapse_in_words,
    initialisation,
    number,
    partner,
    plain,
    protocol_name,
    score,
    short,
    shortened,
    signed,
    tested,
)
from jaxssl.training import metrics

COMPARED = ("auc_macro", "accuracy", "balanced_accuracy")
# Fields of metrics.jsonl and their titles.
PRETRAINING_CURVES = {
    "loss": "Loss",
    "online_probe_accuracy": "Online probe accuracy",
    "embedding_std": "Spread of the embedding",
    "feature_std": "Spread of the features",
    "effective_rank": "Effective rank of the features",
}
FINETUNING_CURVES = {
    "loss": "Loss",
    "accuracy": "Accuracy on training batches",
    "validation": "Score on validation",
}
BANDS = "Bands hold 95 % of the curves when the groups of the test images are drawn anew."
ROC = f"Each class against all others; on the diagonal, guessing. {BANDS}"
PRECISION = (
    "Of the images that are called a class at some threshold, the share that are of it (precision), over the share of "
    f"the class that is found (recall); the thin line is guessing. {BANDS}"
)
# A bootstrap of so many images x classes x resamples takes about a second; larger tests take fewer resamples.
MOST_WORK = 10**9
NEEDED = "a report needs the workdir of a run that ended"


class Predictions(NamedTuple):
    """One evaluation of predictions.csv."""

    ids: list[str]
    groups: np.ndarray  # [N] str
    labels: np.ndarray  # [N] int
    probabilities: np.ndarray  # [N, C] float64


Bins = list[dict[str, float | int | None]]  # Of `calibration.reliability_bins`.


# Reading a workdir.


def write(workdir: Path, found: Differences | None = None) -> Path:
    """Writes `workdir`/report.html from the other files there, and returns where it is.

    Args:
      workdir: of a run that ended.
      found: from `differences`, where they are at hand: to find them is most of the work.

    Raises:
      UserError: a file is missing or cannot be read.
    """
    workdir = Path(workdir)
    names = ("results", "config", "splits")
    results, config, splits = (files.read_json(workdir / f"{name}.json", NEEDED) for name in names)
    predictions = read_predictions(workdir, results)
    found = differences(results, predictions) if found is None else found
    file = workdir / "report.html"
    audit = files.read_json(workdir / "audit.json", NEEDED) if (workdir / "audit.json").exists() else {}
    rows, gallery = metrics.read(workdir), pictures.read(workdir)
    files.write_text(file, document(results, config, splits, rows, predictions, found, gallery, audit))
    return file


def read_predictions(workdir: Path, results: dict[str, Any]) -> dict[str, Predictions]:
    """The evaluations of `results` by name, from predictions.csv.

    Raises:
      UserError: they are not there, not whole, or of other images than those of the test split.
    """
    workdir = Path(workdir)
    file = workdir / "predictions.csv"
    if not results["evaluations"]:
        return {}
    class_of = {name: i for i, name in enumerate(results["dataset"]["classes"])}
    rows: dict[str, list[list[str]]] = {}
    try:
        with open(file, newline="", encoding="utf-8") as stream:
            lines = csv.reader(stream)
            next(lines, None)
            for row in lines:
                rows.setdefault(row[0], []).append(row)
        found = {
            name: Predictions(
                [row[1] for row in of],
                np.array([row[2] for row in of]),
                np.array([class_of[row[3]] for row in of]),
                np.array([row[5:] for row in of], np.float64).reshape(len(of), len(class_of)),
            )
            for name, of in rows.items()
        }
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}; the run's command writes it again") from error
    except (KeyError, IndexError, ValueError, csv.Error) as error:
        raise UserError(f"{file} does not fit results.json ({error}); the run's command writes both again") from error
    for e in results["evaluations"]:
        has = len(found[e["name"]].ids) if e["name"] in found else 0
        if has != e["images"]:
            raise UserError(f"{file} has {has} rows of {e['name']} and results.json {e['images']}: run it again")
        if e["split"] != "test":
            raise UserError(f"{file}: {e['name']} is of the {e['split']} split: scores are those of test images alone")
    if (workdir / "splits.json").exists():
        tested = set(files.read_json(workdir / "splits.json", NEEDED).get("test", ()))
        for name, of in found.items():
            if other := set(of.ids) - tested:
                raise UserError(
                    f"{file}: {name} has {len(other)} images that are not of the test split of splits.json, such as "
                    f"{min(other)}: scores are those of test images alone"
                )
    return {e["name"]: found[e["name"]] for e in results["evaluations"] if e["images"]}


def differences(results: dict[str, Any], predictions: dict[str, Predictions]) -> Differences:
    """Each evaluation less that of random weights by the same protocol: {evaluation name: {metric: difference}}.

    Both see the same resamples of the groups of the test images. Left out are evaluations of other images.
    """
    found = {}
    for e in results["evaluations"]:
        other = partner(results, e)
        if other is None or not {e["name"], other["name"]} <= predictions.keys():
            continue
        a, b = predictions[e["name"]], predictions[other["name"]]
        if a.ids != b.ids:
            continue
        resamples = int(np.clip(MOST_WORK // a.probabilities.size, 200, 2000))
        found[e["name"]] = {
            metric: scores.paired_difference(
                a.probabilities, b.probabilities, a.labels, a.groups, metric, seed=e["seed"], resamples=resamples
            )
            for metric in COMPARED
        }
    return found


# Sections.


def document(
    results: dict[str, Any],
    config: dict[str, Any],
    splits: dict[str, Any],
    rows: list[dict[str, Any]],
    predictions: dict[str, Predictions],
    found: Differences,
    gallery: pictures.Gallery,
    audit: audited.Audit,
) -> str:
    """The page from the contents of the files of a workdir; `gallery` and `audit` may be empty."""
    dataset, pretraining = results["dataset"], results["pretrain"]
    subject = f"{pretraining['objective'] if pretraining else 'No pretraining'} on {dataset['name']}"
    sections = [
        ("Scores on the test images", score_table(results)),
        ("Against random weights, image by image", difference_section(results, found)),
        ("ROC by class", curve_section(results, predictions, roc_panel, ROC)),
        ("Precision and recall by class", curve_section(results, predictions, precision_panel, PRECISION)),
        ("What is taken for what", confusion_section(results)),
        ("What a threshold finds", threshold_section(results)),
        ("Do the probabilities mean what they say?", reliability_section(results, predictions)),
        ("Learning", learning_section(results, rows)),
        *picture_sections(results, predictions, gallery),
        ("The images", audited.section(dataset, audit)),
        ("Where this comes from", provenance_section(results, config, splits, rows)),
    ]
    said, _, rest = answer(results, found).partition(f" {ONE_RUN}")
    limits = "".join(f"<li>{escape(text)}</li>" for text in cautions(results))
    header = f"<h1>{bdi(subject)}</h1>{stated(said + rest)}" + (
        f'<h2 class="minor">What may not be concluded</h2><ul class="limits">{limits}</ul>' if limits else ""
    )
    return whole(subject, header, sections)


def picture_sections(
    results: dict[str, Any], predictions: dict[str, Predictions], gallery: pictures.Gallery
) -> list[tuple[str, str]]:
    if not gallery:
        return []
    init = pictures.about(gallery)["init"]
    # Of the features themselves, where it can be.
    evaluation = next((p for p in ("probe", "knn", "finetune") if f"{p}_{init}" in predictions), "")
    judged = judgements(results, predictions, f"{evaluation}_{init}")
    wrong = judgements(results, predictions, str(gallery.get("wrong_evaluation", "")))
    return [
        ("A map of the features", pictures.embedding(gallery, results, evaluation, judged)),
        ("What pretraining saw", pictures.pretraining(gallery)),
        ("Nearest neighbours", pictures.neighbours(gallery, results)),
        ("The surest mistakes", pictures.mistakes(gallery, wrong)),
        ("Where the network looks", pictures.heat(gallery)),
    ]


def judgements(results: dict[str, Any], predictions: dict[str, Predictions], evaluation: str) -> pictures.Judged:
    """What one evaluation says of each of its images; nothing where it is not there."""
    if evaluation not in predictions:
        return {}
    classes, of = results["dataset"]["classes"], predictions[evaluation]
    said, sure = of.probabilities.argmax(axis=1), of.probabilities.max(axis=1)
    return {
        image: (classes[truth], classes[predicted], float(p))
        for image, truth, predicted, p in zip(of.ids, of.labels, said, sure, strict=True)
    }


def score_table(results: dict[str, Any]) -> str:
    evaluations = results["evaluations"]
    if not evaluations:
        why = "no evaluation was asked for" if results["dataset"]["classes"] else "the images have no labels"
        return f"<p>There are none: {why}.</p>"

    def row(e: dict[str, Any]) -> str:
        flag = " <strong>always one class</strong>" if e["constant_predictor"] else ""
        return score_row(
            f"{keyed_init(e, results)}{flag}", {metric: with_interval(score(e, metric)) for metric in METRICS}
        )

    guess = score_row("always the commonest class", majority(evaluations[0]))
    bodies = table_bodies(evaluations, row, len(METRICS)) + table_body("Without looking", [guess], len(METRICS))
    labels = evaluations[0]["label_fraction"]
    share = "" if labels == 1 else f" Transfer uses the labels of {100 * labels:.3g} % of the training groups."
    caption = (
        f"{tested(results)}, with 95 % intervals. Fine-tuning from random weights is supervised training alone.{share}"
    )
    table = f"{table_head('Initialisation', METRICS.values())}{bodies}"
    return scrolling(f'<table class="scores"><caption>{escape(caption)}</caption>{table}</table>', "Scores")


def table_bodies(evaluations: list[dict[str, Any]], row: Callable[[dict[str, Any]], str], columns: int) -> str:
    """A row of `columns` for each evaluation, under the name of its protocol."""
    return "".join(
        table_body(protocol_name(protocol).capitalize(), [row(e) for e in of], columns)
        for protocol, of in by_protocol(evaluations).items()
    )


def table_body(title: str, lines: list[str], columns: int) -> str:
    """Lines of `columns` beside their names, under a title of their own."""
    of = f'<tr class="of"><th scope="rowgroup" colspan="{columns + 1}">{escape(title)}</th></tr>'
    return f"<tbody>{of}{''.join(lines)}</tbody>"


def keyed_init(e: dict[str, Any], results: dict[str, Any]) -> str:
    return f"{swatch(e['init'])}{escape(initialisation(e['init'], results))}"


def score_row(name: str, cells: dict[str, str]) -> str:
    return table_row(name, [cells.get(metric, "") for metric in METRICS])


def majority(e: dict[str, Any]) -> dict[str, str]:
    """The scores of a model that gives every image of `e` its commonest class; without those that say nothing of it."""
    present = np.count_nonzero(np.array(e["confusion"]).sum(axis=1))
    return {
        "auc_macro": number(CHANCE_AUC) if present > 1 else UNDEFINED,
        "accuracy": number(e["majority_accuracy"]),
        "balanced_accuracy": number(1 / present) if present else UNDEFINED,
    }


def with_interval(score: Estimate) -> str:
    ends = f" <span>{between(score)}</span>" if bounded(score) else ""
    return f"{number(score['value'])}{ends}"


def difference_section(results: dict[str, Any], found: Differences) -> str:
    compared = [e for e in results["evaluations"] if e["name"] in found]
    if not compared:
        return ""
    several = len({e["init"] for e in compared}) > 1
    lines = []
    for e in compared:
        start = f", {initialisation(e['init'], results)}" if several else ""
        name = protocol_name(e["protocol"]).capitalize() + start
        lines.append(table_row(escape(name), [signed_interval(found[e["name"]][metric]) for metric in COMPARED]))
    caption = (
        "Score of pretrained weights less that of random weights by the same protocol. Both are scored on the same "
        "resamples of the test groups. An interval on one side of 0 is a difference; one that holds 0 leaves it open."
    )
    table = (
        f'<table class="scores"><caption>{caption}</caption>'
        f"{table_head('Protocol', [METRICS[metric] for metric in COMPARED])}<tbody>{''.join(lines)}</tbody></table>"
    )
    return f'<div class="beside">{difference_figure(compared, found)}{scrolling(table, "Paired differences")}</div>'


def difference_figure(compared: list[dict[str, Any]], found: Differences) -> str:
    dots, said = [], []
    for e in compared:
        auc, protocol = found[e["name"]]["auc_macro"], protocol_name(e["protocol"])
        if auc["value"] is None:
            continue
        dots.append((protocol, e["init"], auc["value"], auc["low"], auc["high"]))
        ends = f", {signed(auc['low'])} to {signed(auc['high'])}" if bounded(auc) else ""
        said.append(f"{protocol} {signed(auc['value'])}{ends}")
    if not dots:
        return ""
    drawn = figures.intervals("paired", f"Differences in macro AUC: {'; '.join(said)}", dots, "random weights")
    return panel("Difference in macro AUC", drawn)


def signed_interval(d: Estimate) -> str:
    if d["value"] is None:
        return UNDEFINED
    ends = f" <span>({signed(d['low'])} to {signed(d['high'])})</span>" if bounded(d) else ""
    return f"{signed(d['value'])}{ends}"


def predicted(
    results: dict[str, Any], predictions: dict[str, Predictions]
) -> Iterator[tuple[str, dict[str, Predictions]]]:
    """(protocol, {initialisation: its predictions}), for protocols with predictions."""
    for protocol, evaluations in by_protocol(results["evaluations"]).items():
        of = {e["init"]: predictions[e["name"]] for e in evaluations if e["name"] in predictions}
        if of:
            yield protocol, of


def curve_section(
    results: dict[str, Any], predictions: dict[str, Predictions], draw: Callable[..., str], text: str
) -> str:
    """A panel for each protocol and class, as `draw` makes it of (protocol, class, its name, predictions)."""
    classes = results["dataset"]["classes"]
    parts, inits = [], {}
    for protocol, of in predicted(results, predictions):
        if protocol == "knn":
            continue
        inits |= of
        labels = next(iter(of.values())).labels
        shown = [c for c in commonest(np.bincount(labels, minlength=len(classes))) if not (labels == c).all()]
        panels = [draw(protocol, c, classes[c], of) for c in shown]
        if panels:
            parts.append(f"<h3>{escape(protocol_name(protocol).capitalize())}</h3>{grid(panels, 'square')}")
    if not parts:
        return ""
    return f"<p>{text}</p>{legend(results, inits)}{only_commonest(classes)}{''.join(parts)}"


def roc_panel(protocol: str, c: int, name: str, of: dict[str, Predictions]) -> str:
    """The curves of class `c` against all others, one an initialisation."""
    lines, areas = [], {}
    for init, p in of.items():
        truth, scored = p.labels == c, p.probabilities[:, c]
        curve = curves.roc(truth, scored, p.groups)
        lines.append(Line(init, curve.x, curve.y, (curves.GRID, curve.low, curve.high)))
        areas[init] = number(float(roc_auc_score(truth, scored)))
    label = f"ROC of {short(name)}, {protocol}: AUC {spoken(areas)}"
    caption = f"{bdi(short(name))} <small>{of_class(truth)}<br>AUC {'  '.join(keyed(areas))}</small>"
    return panel(caption, figures.roc(f"roc-{protocol}-{c}", clean(label), lines), escaped=True)


def precision_panel(protocol: str, c: int, name: str, of: dict[str, Predictions]) -> str:
    """Precision and recall of class `c` against all others, one curve an initialisation."""
    lines, areas = [], {}
    for init, p in of.items():
        truth, scored = p.labels == c, p.probabilities[:, c]
        curve = curves.precision_recall(truth, scored, p.groups)
        lines.append(Line(init, curve.x, curve.y, (curves.GRID, curve.low, curve.high)))
        areas[init] = number(float(average_precision_score(truth, scored)))
    label = f"Precision and recall of {short(name)}, {protocol}: average precision {spoken(areas)}"
    caption = f"{bdi(short(name))} <small>{of_class(truth)}<br>average precision {'  '.join(keyed(areas))}</small>"
    drawn = figures.precision_recall(f"precision-{protocol}-{c}", clean(label), lines, float(truth.mean()))
    return panel(caption, drawn, escaped=True)


def of_class(truth: np.ndarray) -> str:
    return f"{np.count_nonzero(truth):,} of {len(truth):,} images"


def spoken(values: dict[str, str]) -> str:
    """A value each initialisation, for a screen reader."""
    return ", ".join(f"{value} {init}" for init, value in values.items())


def keyed(values: dict[str, str]) -> list[str]:
    """A value each initialisation, with its swatch."""
    return [f'<span class="nowrap">{swatch(init)}{value}</span>' for init, value in values.items()]


def commonest(counts: np.ndarray) -> list[int]:
    """The classes that have images, in their order; where they are too many, those with most."""
    most = np.argsort(-counts, kind="stable")[:MOST_CLASSES]
    return sorted(int(c) for c in most if counts[c])


def only_commonest(classes: list[str]) -> str:
    if len(classes) <= MOST_CLASSES:
        return ""
    return f"<p>The {MOST_CLASSES} commonest of {len(classes)} classes are shown.</p>"


def confusion_section(results: dict[str, Any]) -> str:
    shown = [e for e in results["evaluations"] if e["protocol"] != "knn" and e["images"]]
    shown.sort(key=lambda e: list(PROTOCOLS).index(e["protocol"]) if e["protocol"] in PROTOCOLS else len(PROTOCOLS))
    if not shown:
        return ""
    tables = [scrolling(confusion_table(results, e), f"Confusion, {e['name']}") for e in shown]
    text = "Rows are the true class, columns the predicted one, and cells count images. Shade is the share of the row."
    return f"<p>{text}</p>{only_commonest(results['dataset']['classes'])}{grid(tables, 'wide')}"


def pooled(matrix: np.ndarray, classes: list[str]) -> tuple[np.ndarray, list[str]]:
    """A confusion matrix and its classes, with all but the commonest in one last row and column."""
    if len(classes) <= MOST_CLASSES:
        return matrix, classes
    most = commonest(matrix.sum(axis=1))
    rest = np.setdiff1d(np.arange(len(classes)), most)
    matrix = np.block(
        [
            [matrix[np.ix_(most, most)], matrix[np.ix_(most, rest)].sum(axis=1, keepdims=True)],
            [matrix[np.ix_(rest, most)].sum(axis=0, keepdims=True), matrix[np.ix_(rest, rest)].sum(keepdims=True)],
        ]
    )
    return matrix, [*(classes[c] for c in most), f"{len(rest)} others"]


def confusion_table(results: dict[str, Any], e: dict[str, Any]) -> str:
    matrix, classes = pooled(np.array(e["confusion"]), [short(name) for name in results["dataset"]["classes"]])
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    head = "".join(f'<th scope="col" title="{escape(name)}">{bdi(name)}</th>' for name in classes)
    lines = []
    for i, name in enumerate(classes):
        cells = "".join(
            f'<td style="--share:{share[i, j]:.3f}"{" class=hit" if i == j else ""}>{count:,}</td>'
            for j, count in enumerate(matrix[i].tolist())
        )
        lines.append(f'<tr><th scope="row" title="{escape(name)}">{bdi(name)}</th>{cells}</tr>')
    name = f"{protocol_name(e['protocol']).capitalize()}, {initialisation(e['init'], results)}"
    return (
        f'<table class="confusion"><caption>{swatch(e["init"])}{escape(name)}</caption>'
        f'<thead><tr><th scope="col">true \\ predicted</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    )


def threshold_section(results: dict[str, Any]) -> str:
    """A table for each class that stands against all others, of sensitivity and specificity by each evaluation."""
    shown = [e for e in results["evaluations"] if e["images"] and e.get("operating_point") and e["protocol"] != "knn"]
    if not shown:
        return ""
    classes, points = results["dataset"]["classes"], shown[0]["operating_point"]
    counts = np.array(shown[0]["confusion"]).sum(axis=1)
    told_apart = {classes[c] for c in commonest(counts) if counts[c] < counts.sum()}
    places = {point["class"]: k for k, point in enumerate(points) if point["class"] in told_apart}
    if not places:
        return ""
    tables = [scrolling(threshold_table(results, shown, k), f"Thresholds, {short(c)}") for c, k in places.items()]
    wanted = f"{100 * points[0]['specificity_wanted']:.3g} %"
    text = (
        f"An image counts as found where the probability of the class lies above a threshold, which is chosen so that "
        f"{wanted} of the validation images of other classes lie below it. Sensitivity is the share of the class's "
        "test images that are found, specificity the share of the others that are not, which need not come out at "
        f"{wanted} again. The 95 % intervals take the threshold as given."
    )
    return f"<p>{text}</p>{only_commonest(classes) if len(points) > 1 else ''}{grid(tables, 'wide')}"


def threshold_table(results: dict[str, Any], shown: list[dict[str, Any]], k: int) -> str:
    """Of the `k`-th class that has operating points."""
    head = ("Threshold", "Sensitivity", "Specificity")

    def row(e: dict[str, Any]) -> str:
        point = e["operating_point"][k]
        cells = [number(point["threshold"]), *(with_interval(point[name.lower()]) for name in head[1:])]
        return table_row(keyed_init(e, results), cells)

    name = bdi(short(shown[0]["operating_point"][k]["class"]))
    return (
        f'<table class="scores thresholds"><caption>{name}</caption>{table_head("Initialisation", head)}'
        f"{table_bodies(shown, row, len(head))}</table>"
    )


def reliability_section(results: dict[str, Any], predictions: dict[str, Predictions]) -> str:
    """Confidence against accuracy as predicted and, where validation gave a temperature, scaled by it."""
    shown = [e for e in results["evaluations"] if e.get("reliability") and e["name"] in predictions]
    if not shown:
        return ""
    before = {e["name"]: e["reliability"] for e in shown}
    after = {e["name"]: scaled_bins(predictions[e["name"]], e["temperature"]) for e in shown if e["temperature"]}
    text = (
        f"Images in {scores.ECE_BINS} bins of the probability of the predicted class: on the diagonal, those predicted "
        "with .8 are right eight times in ten; below it the model is too sure. A larger dot holds more images. The "
        "calibration error is the mean distance from the diagonal, over images. It is found again after the "
        "probabilities are softened (a temperature above 1) or sharpened (below 1) as validation wants it; which class "
        "is predicted stays the same."
    )
    parts = [
        f"<h3>{title}</h3>{grid(reliability_panels(shown, bins, error), 'square')}"
        for title, bins, error in (("As predicted", before, "ece"), ("With the temperature", after, "ece_calibrated"))
        if bins
    ]
    return f"<p>{text}</p>{calibration_table(results, shown)}{''.join(parts)}"


def scaled_bins(p: Predictions, temperature: float) -> Bins:
    return calibration.reliability_bins(calibration.apply_temperature(p.probabilities, temperature), p.labels)


def reliability_panels(shown: list[dict[str, Any]], bins: dict[str, Bins], error: str) -> list[str]:
    """A panel each protocol, of the evaluations that have bins; `error` is the metric of how far off these are."""
    panels = []
    for protocol, of in by_protocol(e for e in shown if e["name"] in bins).items():
        lines, images, errors = [], [], {}
        for e in of:
            full = [(b["confidence"], b["accuracy"], b["images"]) for b in bins[e["name"]] if b["images"]]
            confidence, accuracy, counts = np.array(full).T
            lines.append(Line(e["init"], confidence, accuracy))
            images.append(counts)
            errors[e["init"]] = number(score(e, error)["value"])
        name = protocol_name(protocol)
        label = f"Reliability of {name}: calibration error {spoken(errors)}"
        drawn = figures.reliability(f"{error}-{protocol}".replace("_", "-"), clean(label), lines, images)
        panels.append(panel(name.capitalize(), drawn))
    return panels


def calibration_table(results: dict[str, Any], shown: list[dict[str, Any]]) -> str:
    head = ("Calibration error", "Temperature", "Calibration error with it")

    def row(e: dict[str, Any]) -> str:
        before, after = (with_interval(score(e, error)) for error in ("ece", "ece_calibrated"))
        found = UNDEFINED if e["temperature"] is None else f"{e['temperature']:.2f}"
        return table_row(keyed_init(e, results), [before, found, after])

    caption = (
        "Lower is better, with 95 % intervals. Chance alone makes the error larger, in the resamples of the interval "
        "more so, which is why an interval may lie above its value."
    )
    table = f"<caption>{caption}</caption>{table_head('Initialisation', head)}{table_bodies(shown, row, len(head))}"
    return scrolling(f'<table class="scores">{table}</table>', "Calibration")


def learning_section(results: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    pretraining, parts = results["pretrain"], []
    phases = list(dict.fromkeys(row["phase"] for row in rows))
    if pretraining and "pretrain" in phases:
        expected = {"loss": pretraining["expected_first_loss"]}
        panels = [
            learning_panel(results, rows, {"ssl": "pretrain"}, field, title, expected.get(field))
            for field, title in PRETRAINING_CURVES.items()
        ]
        parts.append(f"<h3>Pretraining</h3><p>{escape(collapse_in_words(pretraining))}</p>{grid(panels)}")
    tuned = {e["init"]: e.get("phase", e["name"]) for e in results["evaluations"] if e["protocol"] == "finetune"}
    fine = {init: phase for init, phase in tuned.items() if phase in phases}
    if fine:
        panels = [learning_panel(results, rows, fine, field, title) for field, title in FINETUNING_CURVES.items()]
        chosen = any(row.get("validation") is not None for row in rows)
        text = (
            "The circle marks the epoch that was kept: the first with the best validation score after training began."
            if chosen
            else "Without a score on validation, the last epoch was kept."
        )
        parts.append(f"<h3>Fine-tuning</h3><p>{text}</p>{legend(results, fine)}{grid(panels)}")
    return "".join(parts)


def learning_panel(
    results: dict[str, Any],
    rows: list[dict[str, Any]],
    phases: dict[str, str],
    field: str,
    title: str,
    expected: float | None = None,
) -> str:
    """One quantity over the epochs of these phases; nothing where no row has it."""
    lines, best, said = [], [], []
    for init, phase in phases.items():
        of = [row for row in rows if row["phase"] == phase]
        per_epoch = max((row["step"] / row["epoch"] for row in of if row["epoch"] and "loss" not in row), default=1)
        points = [(row["step"] / per_epoch, row[field]) for row in of if row.get(field) is not None]
        if not points:
            continue
        x, y = np.array(points, float).T
        lines.append(Line(init, x, y))
        said.append(f"{initialisation(init, results)} {plain(y[0])} at first, {plain(y[-1])} at last")
        if field == "validation" and len(x) > 1:
            kept = 1 + int(y[1:].argmax())
            best.append((x[kept], y[kept]))
    if not lines:
        return ""
    name = f"{'-'.join(phases.values())}-{field}".replace("_", "-").replace("+", "-")
    ends = "" if expected is None else f"; expected at first {plain(expected)}"
    label = f"{title} over epochs: {'; '.join(said)}{ends}"
    return panel(title, figures.curves(name, clean(label), lines, expected=expected, best=best))


def provenance_section(
    results: dict[str, Any], config: dict[str, Any], splits: dict[str, Any], rows: list[dict[str, Any]]
) -> str:
    dataset, settings = results["dataset"], config["config"]
    facts = {
        "Dataset": dataset["name"],
        "Classes": ", ".join(shortened(dataset["classes"])) or "no labels",
        "Data fingerprint": splits.get("fingerprint", dataset["fingerprint"]),
        "Encoder": settings.get("model", {}).get("name", ""),
        "Seed": settings.get("seed", ""),
        "Code": config.get("git") or "git revision unknown",
        "Devices": ", ".join(config.get("devices", ())),
        "Time in training steps": times(results, rows),
        "Packages": ", ".join(f"{name} {version}" for name, version in config.get("versions", {}).items()),
    }
    known = ((name, fact) for name, fact in facts.items() if fact != "")
    command = config.get("command")
    repeat = (
        f"<pre>{escape(command if isinstance(command, str) else ' '.join(command))}</pre>"
        if command
        else "<p>The command was not recorded; every field of its config is below.</p>"
    )
    written = ((name, json.dumps(value, ensure_ascii=False)) for name, value in files.flatten(settings))
    return (
        f"{definitions(known, 'facts')}{scrolling(split_table(dataset), 'Splits')}"
        f"<h3>To repeat it</h3>{repeat}"
        f"<details><summary>The whole config</summary>{definitions(written, 'facts config')}</details>"
    )


def split_table(dataset: dict[str, Any]) -> str:
    groups = (
        "Images of one group are all in one split."
        if dataset["groups_known"]
        else "Grouping is unknown, and each image counts as a group of its own: that is not the same as no leakage."
    )
    lines = (
        table_row(escape(name), [f"{of['images']:,}", f"{of['groups']:,}"]) for name, of in dataset["splits"].items()
    )
    return (
        f"<table><caption>{escape(groups)} Their names are in splits.json.</caption>"
        f"{table_head('Split', ['images', 'groups'])}<tbody>{''.join(lines)}</tbody></table>"
    )


def times(results: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """How long the steps of each phase took, and how fast they were in pretraining."""
    seconds: dict[str, float] = {}
    for record in rows:
        seconds[record["phase"]] = seconds.get(record["phase"], 0) + (record.get("seconds") or 0)
    pretraining = results["pretrain"]
    speed = f" at {pretraining['images_per_second']:,.0f} images/s" if pretraining else ""
    return ", ".join(f"{phase} {duration(t)}{speed if phase == 'pretrain' else ''}" for phase, t in seconds.items())


def duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{hours:.1f} h" if hours >= 1 else f"{minutes:.1f} min" if minutes >= 1 else f"{seconds:.1f} s"
