"""The report of one run: what was found, how sure that is, and all that it rests on, in one HTML file without network.

The page is a function of the files in the workdir: written again, it has the same bytes.
"""

import csv
import html
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

from jaxssl import files, metrics
from jaxssl.errors import UserError
from jaxssl.evaluate import scores
from jaxssl.report import figures
from jaxssl.report.figures import Line

METRICS = {
    "auc_macro": "macro AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1_macro": "macro F1",
    "ece": "calibration error",
}
COMPARED = ("auc_macro", "accuracy", "balanced_accuracy")
PROTOCOLS = {"probe": "linear probing", "knn": "nearest neighbours", "finetune": "fine-tuning"}
CHANCE_AUC = 0.5
LONGEST_NAME = 48  # Of a class, in letters; results.json has the rest.
MOST_CLASSES = 12  # With figures and a row of the confusion matrix of their own.
FEW_GROUPS = 50
UNDEFINED = "undefined"
# A bootstrap of so many images x classes x resamples takes about a second; larger tests take fewer resamples.
MOST_WORK = 10**9

Difference = dict[str, float | None]


class Predictions(NamedTuple):
    """One evaluation of predictions.csv."""

    ids: list[str]
    groups: np.ndarray  # [N] str
    labels: np.ndarray  # [N] int
    probabilities: np.ndarray  # [N, C] float64


# Reading a workdir.


def write(workdir: Path) -> Path:
    """Writes `workdir`/report.html from the other files there, and returns where it is.

    Raises:
      UserError: a file is missing or cannot be read.
    """
    workdir = Path(workdir)
    results, config, splits = (read_json(workdir, f"{name}.json") for name in ("results", "config", "splits"))
    predictions = read_predictions(workdir, results)
    file = workdir / "report.html"
    files.write_text(file, document(results, config, splits, metrics.read(workdir), predictions))
    return file


def read_json(workdir: Path, name: str) -> dict[str, Any]:
    file = Path(workdir) / name
    try:
        return json.loads(file.read_text())
    except OSError as error:
        raise UserError(
            f"{file} cannot be read: {error.strerror}; a report needs the workdir of a run that ended"
        ) from error
    except ValueError as error:
        raise UserError(f"{file} is not JSON: {error}") from error


def read_predictions(workdir: Path, results: dict[str, Any]) -> dict[str, Predictions]:
    """The evaluations of `results` by name, from predictions.csv. UserError where they are not there or not whole."""
    file = Path(workdir) / "predictions.csv"
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
    return {e["name"]: found[e["name"]] for e in results["evaluations"] if e["images"]}


def differences(results: dict[str, Any], predictions: dict[str, Predictions]) -> dict[str, dict[str, Difference]]:
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


def partner(results: dict[str, Any], e: dict[str, Any]) -> dict[str, Any] | None:
    """The evaluation of random weights with which to compare `e`."""
    if e["init"] == "random":
        return None
    same = ("protocol", "label_fraction", "fold", "seed", "split", "images")
    fits = (o for o in results["evaluations"] if o["init"] == "random" and all(o[k] == e[k] for k in same))
    return next(fits, None)


# Words.


def answer(results: dict[str, Any], differences: dict[str, dict[str, Difference]] | None = None) -> str:
    """What pretraining did to the macro AUC, by each protocol, in one sentence; a second says what that rests on.

    Args:
      results: the content of results.json.
      differences: from `differences`. Without them an effect is claimed where two intervals lie apart.
    """
    evaluations, pretraining = results["evaluations"], results["pretrain"]
    if not evaluations:
        trained = (
            f"An encoder was pretrained by {pretraining['objective']}" if pretraining else "Nothing was pretrained"
        )
        return f"{trained} and nothing was evaluated, so nothing can be concluded about its use."
    pairs = [(e, other) for e in evaluations if e["init"] == "ssl" and (other := partner(results, e))]
    if not pairs:
        reached = (f"{protocol_of(e)} {interval(score(e))}" for e in evaluations)
        return f"Nothing to compare in this run; macro AUC on {tested(results)}: {', '.join(reached)}. {ONE_RUN}"
    found: dict[str, list[str]] = {"raises": [], "lowers": [], "none": [], UNDEFINED: []}
    for e, other in pairs:
        kind, text = compare(score(e), score(other), (differences or {}).get(e["name"], {}).get("auc_macro"))
        found[kind].append(f"{protocol_of(e)} ({text})" if text else protocol_of(e))
    by = f"pretraining by {pretraining['objective']}" if pretraining else "pretraining"
    said = {
        "raises": f"{by} raises macro AUC with ",
        "lowers": f"{by} lowers macro AUC with ",
        "none": f"no difference in macro AUC between {by} and random weights can be concluded with ",
        UNDEFINED: "macro AUC is undefined with ",
    }
    clauses = [said[kind] + listed(texts) for kind, texts in found.items() if texts]
    return f"On {tested(results)} and with 95 % intervals, {'; '.join(clauses)}. {ONE_RUN}"


ONE_RUN = "One run, one seed: another seed may end elsewhere, and the intervals do not hold that."


def compare(a: Difference, b: Difference, difference: Difference | None) -> tuple[str, str]:
    """("raises" | "lowers" | "none" | "undefined", the numbers) of score `a` against score `b`."""
    if a["value"] is None or b["value"] is None:
        return UNDEFINED, ""
    if difference and difference["low"] is not None and difference["high"] is not None:
        low, high = difference["low"], difference["high"]
        kind = "raises" if low > 0 else "lowers" if high < 0 else "none"
        values = [number(a["value"]), number(b["value"])]
        said = " against ".join(values) if kind == "none" else f"from {values[1]} to {values[0]}"
        return kind, f"{said}, difference {signed(difference['value'])} [{signed(low)} to {signed(high)}]"
    if None in (a["low"], a["high"], b["low"], b["high"]):
        return "none", f"{number(a['value'])} against {number(b['value'])}, without intervals"
    if a["low"] > b["high"] or a["high"] < b["low"]:
        kind = "raises" if a["low"] > b["high"] else "lowers"
        return kind, f"from {interval(b)} to {interval(a)}, and the two intervals do not overlap"
    return "none", f"{interval(a)} against {interval(b)}, and the two intervals overlap"


def cautions(results: dict[str, Any]) -> list[str]:
    """What may not be concluded from this run, a sentence each."""
    evaluations, dataset, pretraining = results["evaluations"], results["dataset"], results["pretrain"]
    said = []
    if pretraining and pretraining["collapse"]["verdict"] != "healthy":
        said.append(f"{collapse_in_words(pretraining)} Scores from these weights say little about the method.")
    if not dataset["groups_known"]:
        said.append(
            "It is not known which images are of the same patient, object or series. Each counts as a group of its "
            "own, so the same patient may be on both sides of the split: grouping unknown is not no leakage, scores "
            "may be too high and intervals too narrow."
        )
    if not evaluations:
        return said
    said.append(
        "This is one run with one seed. The intervals are 95 % bootstraps over the groups of the test images: they say "
        "how scores vary with these, not with the seed of training."
    )
    pairs = [(e, partner(results, e)) for e in evaluations]
    guessing = [protocol_of(e) for e, other in pairs if other and near_chance(e) and near_chance(other)]
    if guessing:
        said.append(
            f"Neither pretrained nor random weights can be told from guessing (macro AUC .5) with {listed(guessing)}."
        )
    constant = [e["name"] for e in evaluations if e["constant_predictor"]]
    if constant:
        said.append(f"One and the same class is predicted for every image in {listed(constant)}.")
    groups = dataset["splits"]["test"]["groups"]
    if groups < 2:
        said.append("The test images are of fewer than two groups, so that no interval can be given.")
    elif groups < FEW_GROUPS:
        said.append(f"The test images are of {groups} groups: intervals from so few are rough, as a rule too narrow.")
    compared = sum(other is not None for _, other in pairs)
    if compared > 1:
        said.append(
            f"{compared} comparisons share these test images, each with its own 95 %: the chance that one of them "
            "misleads is larger than 5 %."
        )
    empty = np.array(evaluations[0]["confusion"]).sum(axis=1) == 0
    if empty.any():
        missing = [name for name, none in zip(dataset["classes"], empty, strict=True) if none]
        said.append(f"No test image is of {listed(shortened(missing))}: the scores do not speak of that.")
    return said


def protocol_of(e: dict[str, Any]) -> str:
    return PROTOCOLS.get(e["protocol"], e["protocol"])


def near_chance(e: dict[str, Any]) -> bool:
    auc = score(e)
    return auc["low"] is not None and auc["high"] is not None and auc["low"] <= CHANCE_AUC <= auc["high"]


def collapse_in_words(pretraining: dict[str, Any]) -> str:
    state = pretraining["collapse"]
    said = {
        "healthy": "The encoder did not collapse.",
        "weak": "The encoder is weak: its features, or the embedding of the loss, spread less than they should.",
        "collapsed": "The encoder collapsed: it gives nearly the same features for every image.",
    }.get(state["verdict"], f"The verdict on collapse is {state['verdict']}.")
    return (
        f"{said} Features spread {number(state['feature_std'])} (0: all the same, 1: in all directions alike) with an "
        f"effective rank of {plain(state['effective_rank'])}."
    )


def tested(results: dict[str, Any]) -> str:
    dataset = results["dataset"]
    images, groups = results["evaluations"][0]["images"], dataset["splits"]["test"]["groups"]
    return f"{images:,} test images" + (
        f" of {groups:,} groups" if dataset["groups_known"] and groups != images else ""
    )


def score(e: dict[str, Any], metric: str = "auc_macro") -> Difference:
    return e["metrics"].get(metric) or {"value": None, "low": None, "high": None}


def number(value: float | None) -> str:
    """.553, 1.000, or "undefined"."""
    if value is None:
        return UNDEFINED
    text = f"{value:.3f}".replace("-", "−")
    return text.replace("0.", ".", 1) if text.lstrip("−").startswith("0.") else text


def signed(value: float) -> str:
    text = number(value)
    return text if text.startswith("−") else f"+{text}"


def plain(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.4g}"


def between(score: Difference) -> str:
    """(.528–.577), or nothing where there is no interval."""
    if score["low"] is None or score["high"] is None:
        return ""
    return f"({number(score['low'])}–{number(score['high'])})"


def interval(score: Difference) -> str:
    """.553 (.528–.577)."""
    return f"{number(score['value'])} {between(score)}".strip()


def listed(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def shortened(texts: list[str]) -> list[str]:
    more = [f"{len(texts) - MOST_CLASSES} more"] if len(texts) > MOST_CLASSES else []
    return [short(text) for text in texts[:MOST_CLASSES]] + more


def short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def initialisation(init: str, results: dict[str, Any]) -> str:
    by = results["pretrain"]["objective"] if results["pretrain"] else "an earlier run"
    return {"ssl": f"pretrained by {by}", "imagenet+ssl": f"ImageNet, then {by}", "imagenet": "ImageNet"}.get(
        init, init
    )


# HTML.


def document(
    results: dict[str, Any],
    config: dict[str, Any],
    splits: dict[str, Any],
    rows: list[dict[str, Any]],
    predictions: dict[str, Predictions],
) -> str:
    """The page from the contents of results.json, config.json, splits.json, metrics.jsonl and predictions.csv."""
    dataset, pretraining = results["dataset"], results["pretrain"]
    subject = f"{pretraining['objective'] if pretraining else 'No pretraining'} on {dataset['name']}"
    found = differences(results, predictions)
    sections = [
        ("Scores on the test images", score_table(results)),
        ("Against random weights, image by image", difference_section(results, found)),
        ("ROC by class", roc_section(results, predictions)),
        ("What is taken for what", confusion_section(results)),
        ("Do the probabilities mean what they say?", reliability_section(results, predictions)),
        ("Learning", learning_section(results, rows)),
        ("Where this comes from", provenance_section(results, config, splits, rows)),
    ]
    said, _, rest = answer(results, found).partition(f" {ONE_RUN}")
    limits = "".join(f"<li>{escape(text)}</li>" for text in cautions(results))
    main = "\n".join(
        f'<section aria-labelledby="s{i}"><h2 id="s{i}">{escape(title)}</h2>\n{body}</section>'
        for i, (title, body) in enumerate(sections)
        if body
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(subject)} – jaxssl</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{bdi(subject)}</h1>
<p class="answer">{escape(said + rest)}</p>
{f'<h2 class="minor">What may not be concluded</h2><ul class="limits">{limits}</ul>' if limits else ""}
</header>
<main>
{main}
</main>
</body>
</html>
"""


def score_table(results: dict[str, Any]) -> str:
    evaluations = results["evaluations"]
    if not evaluations:
        why = "no evaluation was asked for" if results["dataset"]["classes"] else "the images have no labels"
        return f"<p>There are none: {why}.</p>"
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in METRICS.values())
    bodies = []
    for protocol in dict.fromkeys(e["protocol"] for e in evaluations):
        title = escape(PROTOCOLS.get(protocol, protocol)).capitalize()
        lines = [f'<tr class="of"><th scope="rowgroup" colspan="{len(METRICS) + 1}">{title}</th></tr>']
        for e in (e for e in evaluations if e["protocol"] == protocol):
            flag = " <strong>always one class</strong>" if e["constant_predictor"] else ""
            cells = "".join(f"<td>{with_interval(score(e, metric))}</td>" for metric in METRICS)
            init = f"{swatch(e['init'])}{escape(initialisation(e['init'], results))}{flag}"
            lines.append(f'<tr><th scope="row">{init}</th>{cells}</tr>')
        bodies.append(f"<tbody>{''.join(lines)}</tbody>")
    majority = evaluations[0]["majority_accuracy"]
    present = np.count_nonzero(np.array(evaluations[0]["confusion"]).sum(axis=1))
    cells = {
        "auc_macro": number(CHANCE_AUC) if present > 1 else UNDEFINED,
        "accuracy": number(majority),
        "balanced_accuracy": number(1 / present) if present else UNDEFINED,
    }
    row = "".join(f"<td>{cells.get(metric, '')}</td>" for metric in METRICS)
    bodies.append(
        f'<tbody><tr class="of"><th scope="rowgroup" colspan="{len(METRICS) + 1}">Without looking</th></tr>'
        f'<tr><th scope="row">always the commonest class</th>{row}</tr></tbody>'
    )
    labels = evaluations[0]["label_fraction"]
    share = "" if labels == 1 else f" Transfer uses the labels of {100 * labels:.3g} % of the training groups."
    caption = (
        f"{tested(results)}, with 95 % intervals. Fine-tuning from random weights is supervised training alone. "
        f"A calibration error is better when lower.{share}"
    )
    table = f'<thead><tr><th scope="col">Initialisation</th>{head}</tr></thead>{"".join(bodies)}'
    return scrolling(f'<table class="scores"><caption>{escape(caption)}</caption>{table}</table>', "Scores")


def with_interval(score: Difference) -> str:
    return f"{number(score['value'])} <span>{between(score)}</span>" if between(score) else number(score["value"])


def difference_section(results: dict[str, Any], found: dict[str, dict[str, Difference]]) -> str:
    compared = [e for e in results["evaluations"] if e["name"] in found]
    if not compared:
        return ""
    several = len({e["init"] for e in compared}) > 1
    lines, dots = [], []
    for e in compared:
        of = found[e["name"]]
        cells = "".join(f"<td>{signed_interval(of[metric])}</td>" for metric in COMPARED)
        start = f", {initialisation(e['init'], results)}" if several else ""
        name = protocol_of(e).capitalize() + start
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
        if of["auc_macro"]["value"] is not None:
            auc = of["auc_macro"]
            dots.append((protocol_of(e), e["init"], auc["value"], auc["low"], auc["high"]))
    head = "".join(f'<th scope="col">{escape(METRICS[metric])}</th>' for metric in COMPARED)
    caption = (
        "Score of pretrained weights less that of random weights by the same protocol. Both are scored on the same "
        "resamples of the test groups. An interval on one side of 0 is a difference; one that holds 0 leaves it open."
    )
    table = (
        f'<table class="scores"><caption>{caption}</caption><thead><tr><th scope="col">Protocol</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )
    figure = ""
    if dots:
        said = (
            f"{text} {signed(v)}" + (f", {signed(a)} to {signed(b)}" if a is not None else "")
            for text, _, v, a, b in dots
        )
        drawn = figures.intervals("paired", f"Differences in macro AUC: {'; '.join(said)}", dots, "random weights")
        figure = panel("Difference in macro AUC", drawn)
    return figure + scrolling(table, "Paired differences")


def signed_interval(d: Difference) -> str:
    if d["value"] is None:
        return UNDEFINED
    if d["low"] is None or d["high"] is None:
        return signed(d["value"])
    return f"{signed(d['value'])} <span>({signed(d['low'])} to {signed(d['high'])})</span>"


def by_protocol(results: dict[str, Any], predictions: dict[str, Predictions]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(protocol, {initialisation: its predictions}), for protocols with predictions."""
    for protocol in dict.fromkeys(e["protocol"] for e in results["evaluations"]):
        of = {e["init"]: predictions.get(e["name"]) for e in results["evaluations"] if e["protocol"] == protocol}
        of = {init: p for init, p in of.items() if p}
        if of:
            yield protocol, of


def roc_section(results: dict[str, Any], predictions: dict[str, Predictions]) -> str:
    classes = results["dataset"]["classes"]
    parts, inits = [], {}
    for protocol, of in by_protocol(results, predictions):
        if protocol == "knn":
            continue
        inits |= of
        labels = next(iter(of.values())).labels
        panels = []
        for c in commonest(labels, len(classes)):
            if (labels == c).all():
                continue
            lines, said = [], []
            for init, p in of.items():
                truth, scored = p.labels == c, p.probabilities[:, c]
                x, y, _ = roc_curve(truth, scored)
                lines.append(Line(init, x, y))
                said.append((init, number(float(roc_auc_score(truth, scored)))))
            positive = np.count_nonzero(labels == c)
            label = f"ROC of {short(classes[c])}, {protocol}: AUC " + ", ".join(
                f"{value} {init}" for init, value in said
            )
            values = "  ".join(f'<span class="nowrap">{swatch(init)}{value}</span>' for init, value in said)
            caption = f"{bdi(short(classes[c]))} <small>{positive:,} of {len(labels):,} images<br>AUC {values}</small>"
            panels.append(panel(caption, figures.roc(f"roc-{protocol}-{c}", clean(label), lines), escaped=True))
        if panels:
            parts.append(f"<h3>{escape(PROTOCOLS.get(protocol, protocol)).capitalize()}</h3>{grid(panels, 'square')}")
    if not parts:
        return ""
    return legend(results, inits) + only_commonest(classes) + "".join(parts)


def commonest(labels: np.ndarray, classes: int) -> list[int]:
    """The classes of these labels, in their order; where they are too many, those with most images."""
    counts = np.bincount(labels, minlength=classes)
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
    return f'<p>{text}</p>{only_commonest(results["dataset"]["classes"])}<div class="grid wide">{"".join(tables)}</div>'


def confusion_table(results: dict[str, Any], e: dict[str, Any]) -> str:
    matrix, classes = np.array(e["confusion"]), [short(name) for name in results["dataset"]["classes"]]
    if len(classes) > MOST_CLASSES:
        most = commonest(np.repeat(np.arange(len(classes)), matrix.sum(axis=1)), len(classes))
        rest = np.setdiff1d(np.arange(len(classes)), most)
        matrix = np.block(
            [
                [matrix[np.ix_(most, most)], matrix[np.ix_(most, rest)].sum(axis=1, keepdims=True)],
                [matrix[np.ix_(rest, most)].sum(axis=0, keepdims=True), matrix[np.ix_(rest, rest)].sum(keepdims=True)],
            ]
        )
        classes = [*(classes[c] for c in most), f"{len(rest)} others"]
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    head = "".join(f'<th scope="col" title="{escape(name)}">{bdi(name)}</th>' for name in classes)
    lines = []
    for i, name in enumerate(classes):
        cells = "".join(
            f'<td style="--share:{share[i, j]:.3f}"{" class=hit" if i == j else ""}>{count:,}</td>'
            for j, count in enumerate(matrix[i].tolist())
        )
        lines.append(f'<tr><th scope="row" title="{escape(name)}">{bdi(name)}</th>{cells}</tr>')
    title = f"{swatch(e['init'])}{escape(protocol_of(e)).capitalize()}, {escape(initialisation(e['init'], results))}"
    return (
        f'<table class="confusion"><caption>{title}</caption>'
        f'<thead><tr><th scope="col">true \\ predicted</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    )


def reliability_section(results: dict[str, Any], predictions: dict[str, Predictions]) -> str:
    panels, inits = [], {}
    for protocol, of in by_protocol(results, predictions):
        inits |= of
        binned = {init: calibration(p) for init, p in of.items()}
        lines = [Line(init, confidence, accuracy) for init, (confidence, accuracy, _) in binned.items()]
        errors = [(init, number(scores.ece(p.probabilities, p.labels))) for init, p in of.items()]
        label = f"Reliability of {PROTOCOLS.get(protocol, protocol)}: calibration error " + ", ".join(
            f"{value} {init}" for init, value in errors
        )
        values = " ".join(f'<span class="nowrap">{swatch(init)}{value}</span>' for init, value in errors)
        caption = (
            f"{escape(PROTOCOLS.get(protocol, protocol)).capitalize()} <small>calibration error<br>{values}</small>"
        )
        drawn = figures.reliability(f"reliability-{protocol}", clean(label), lines, [n for _, _, n in binned.values()])
        panels.append(panel(caption, drawn, escaped=True))
    if not panels:
        return ""
    text = (
        "Images in 15 bins of the probability of the predicted class: on the diagonal, those predicted with .8 are "
        "right eight times in ten; below it the model is too sure. A larger dot holds more images."
    )
    return f"<p>{text}</p>{legend(results, inits)}{grid(panels, 'square')}"


def calibration(p: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean confidence, accuracy and number of images of each bin of the expected calibration error that has any."""
    confidence = p.probabilities.max(axis=1)
    hits = p.probabilities.argmax(axis=1) == p.labels
    bins = np.clip(np.ceil(confidence * scores.ECE_BINS).astype(int) - 1, 0, scores.ECE_BINS - 1)
    counts, sure, right = (np.bincount(bins, weights=w, minlength=scores.ECE_BINS) for w in (None, confidence, hits))
    full = counts > 0
    return sure[full] / counts[full], right[full] / counts[full], counts[full]


def learning_section(results: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    pretraining = results["pretrain"]
    phases = list(dict.fromkeys(row["phase"] for row in rows))
    parts = []
    if pretraining and "pretrain" in phases:
        expected = pretraining["expected_first_loss"]
        shown = [
            ("loss", "Loss", expected),
            ("online_probe_accuracy", "Online probe accuracy", None),
            ("embedding_std", "Spread of the embedding", None),
            ("feature_std", "Spread of the features", None),
            ("effective_rank", "Effective rank of the features", None),
        ]
        panels = [learning_panel(results, rows, {"ssl": "pretrain"}, *what) for what in shown]
        parts.append(f"<h3>Pretraining</h3><p>{escape(collapse_in_words(pretraining))}</p>{grid(panels)}")
    fine = {phase.removeprefix("finetune_"): phase for phase in phases if phase.startswith("finetune_")}
    if fine:
        shown = [
            ("loss", "Loss", None),
            ("accuracy", "Accuracy on training batches", None),
            ("validation", "Score on validation", None),
        ]
        panels = [learning_panel(results, rows, fine, *what) for what in shown]
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
    expected: float | None,
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
    groups = (
        "Images of one group are all in one split."
        if dataset["groups_known"]
        else "Grouping is unknown, and each image counts as a group of its own: that is not the same as no leakage."
    )
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{of["images"]:,}</td><td>{of["groups"]:,}</td></tr>'
        for name, of in dataset["splits"].items()
    )
    table = (
        f"<table><caption>{escape(groups)} Their names are in splits.json.</caption><thead><tr>"
        '<th scope="col">Split</th><th scope="col">images</th><th scope="col">groups</th></tr></thead>'
        f"<tbody>{lines}</tbody></table>"
    )
    steps: dict[str, float] = {}
    for row in rows:
        steps[row["phase"]] = steps.get(row["phase"], 0) + (row.get("seconds") or 0)
    pretraining = results["pretrain"]
    speed = f" at {pretraining['images_per_second']:,.0f} images/s" if pretraining else ""
    times = [f"{phase} {duration(t)}{speed if phase == 'pretrain' else ''}" for phase, t in steps.items()]
    facts = {
        "Dataset": dataset["name"],
        "Classes": ", ".join(shortened(dataset["classes"])) or "no labels",
        "Data fingerprint": splits.get("fingerprint", dataset["fingerprint"]),
        "Encoder": settings.get("model", {}).get("name", ""),
        "Seed": settings.get("seed", ""),
        "Code": config.get("git") or "git revision unknown",
        "Devices": ", ".join(config.get("devices", ())),
        "Time in training steps": ", ".join(times),
        "Packages": ", ".join(f"{name} {version}" for name, version in config.get("versions", {}).items()),
    }
    items = "".join(f"<div><dt>{escape(k)}</dt><dd>{bdi(v)}</dd></div>" for k, v in facts.items() if v != "")
    command = config.get("command")
    repeat = (
        f"<h3>To repeat it</h3><pre>{escape(command if isinstance(command, str) else ' '.join(command))}</pre>"
        if command
        else "<h3>To repeat it</h3><p>The command was not recorded; every field of its config is below.</p>"
    )
    fields = "".join(f"<div><dt>{escape(k)}</dt><dd>{bdi(v)}</dd></div>" for k, v in flat(settings))
    return (
        f'<dl class="facts">{items}</dl>{scrolling(table, "Splits")}{repeat}'
        f'<details><summary>The whole config</summary><dl class="facts config">{fields}</dl></details>'
    )


def flat(settings: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", json.dumps(value, ensure_ascii=False)


def duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{hours:.1f} h" if hours >= 1 else f"{minutes:.1f} min" if minutes >= 1 else f"{seconds:.1f} s"


def panel(caption: str, drawn: str, *, escaped: bool = False) -> str:
    return f"<figure><figcaption>{caption if escaped else escape(caption)}</figcaption>{drawn}</figure>"


def grid(panels: Iterable[str], kind: str = "") -> str:
    return f'<div class="grid {kind}">{"".join(panels)}</div>'


def scrolling(table: str, label: str) -> str:
    """A table in a box of its own that scrolls, by keyboard too, where the page is narrow."""
    return f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0">{table}</div>'


def legend(results: dict[str, Any], inits: Iterable[str]) -> str:
    items = "".join(f"<li>{swatch(init)}{escape(initialisation(init, results))}</li>" for init in inits)
    return f'<ul class="legend">{items}</ul>'


def swatch(init: str) -> str:
    """A short stroke in the colour and the pattern of this initialisation."""
    known = re.sub("[^a-z]", "-", init) if init in figures.STYLES else "other"
    return f'<span class="swatch {known}" aria-hidden="true"></span>'


def clean(value: Any) -> str:
    """Text without what no file of UTF-8 and no page may hold; marks that turn the direction of text are taken out."""
    text = str(value).encode("utf-8", "replace").decode()
    text = re.sub("[\u200e\u200f\u202a-\u202e\u2066-\u2069]", "", text)
    return re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]", "\ufffd", text)


def escape(value: Any) -> str:
    return html.escape(clean(value))


def bdi(value: Any) -> str:
    """Text of the user's, whose direction does not spread to what is around it."""
    return f"<bdi>{escape(value)}</bdi>"


STYLE = """
:root {
  color-scheme: light dark;
  --page: #fdfdfb; --ink: #1c2126; --muted: #5b636c; --rule: #dcdfe2; --soft: #f3f4f2;
  --ssl: #0b5cad; --random: #b04a00; --imagenet: #19734f; --both: #96286f;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #15181b; --ink: #e6e4df; --muted: #a2a7ad; --rule: #363b41; --soft: #1e2226;
    --ssl: #74b4f5; --random: #f0a060; --imagenet: #5fcba2; --both: #e48cc8;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: clamp(1.25rem, 4vw, 4rem) clamp(1rem, 4vw, 3rem); max-width: 76rem;
  background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", Arial,
    sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; -webkit-text-size-adjust: 100%;
}
p, li { max-width: 44rem; }
h1, h2, h3 { line-height: 1.25; text-wrap: balance; font-weight: 600; }
h1 { margin: 0; font-size: 1rem; color: var(--muted); letter-spacing: .01em; }
h2 { margin: 0 0 1rem; font-size: 1.35rem; letter-spacing: -.01em; }
h2.minor, h3 { margin: 2rem 0 .5rem; font-size: 1rem; }
.answer {
  margin: .75rem 0 0; max-width: 50rem; text-wrap: pretty;
  font-size: clamp(1.2rem, .95rem + 1.1vw, 1.75rem); line-height: 1.4;
  font-family: Charter, "Bitstream Charter", "Sitka Text", Cambria, "Noto Serif", "Liberation Serif", Georgia, serif;
}
.limits { margin: 0; padding-left: 1.1rem; color: var(--muted); }
.limits li { margin: .35rem 0; }
section { margin-top: 3.5rem; padding-top: 1.75rem; border-top: 1px solid var(--rule); }
.scroll { overflow-x: auto; max-width: 100%; }
.scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--ssl); outline-offset: 3px; }
table { border-collapse: collapse; font-size: .9375rem; overflow-wrap: normal; }
caption {
  position: sticky; left: 0; min-width: 19rem; max-width: min(44rem, calc(100vw - 2rem)); margin-bottom: .75rem;
  text-align: left; color: var(--muted); font-size: .875rem;
}
th, td { padding: .4rem 1.1rem .4rem 0; text-align: right; vertical-align: baseline; font-weight: 400; }
th:first-child { text-align: left; }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--muted); font-size: .8125rem; border-bottom: 1px solid var(--rule); vertical-align: bottom; }
.scores td, .scores tbody th { white-space: nowrap; }
figure + .scroll { margin-top: 1.5rem; }
.scores td span { color: var(--muted); font-size: .8125rem; }
.scores .of th { padding-top: 1rem; font-weight: 600; text-align: left; }
.scores strong { color: var(--random); font-weight: 600; }
.grid { display: grid; gap: 1.75rem 2rem; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); }
.grid.square { grid-template-columns: repeat(auto-fill, minmax(min(14rem, 100%), 1fr)); }
.grid.wide { grid-template-columns: repeat(auto-fill, minmax(min(30rem, 100%), 1fr)); margin-top: 1.5rem; }
figure {
  display: flex; flex-direction: column; justify-content: space-between; margin: 0; min-width: 0; break-inside: avoid;
}
figcaption { margin-bottom: .35rem; font-size: .9375rem; font-weight: 600; }
figcaption small { display: block; font-size: .8125rem; font-weight: 400; color: var(--muted); }
svg { display: block; width: 100%; height: auto; max-width: 24rem; overflow: visible; }
.square svg { max-width: 17rem; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
svg text { font-family: inherit !important; font-variant-numeric: tabular-nums; }
.legend {
  display: flex; flex-wrap: wrap; gap: .25rem 1.75rem; margin: 0 0 1.25rem; padding: 0;
  font-size: .9375rem; list-style: none;
}
.swatch {
  display: inline-block; width: 1.6em; margin-right: .5em; border-top: 3px solid var(--ink); vertical-align: .25em;
}
.swatch.ssl { border-color: var(--ssl); }
.swatch.random { border-top-style: dashed; border-color: var(--random); }
.swatch.imagenet { border-top-style: dotted; border-color: var(--imagenet); }
.swatch.imagenet-ssl { border-top-style: double; border-color: var(--both); }
.nowrap { white-space: nowrap; margin-right: .6em; }
.confusion th, .confusion td { padding: .35rem .6rem; }
.confusion caption { color: var(--ink); font-weight: 600; }
.confusion thead th { text-align: center; }
.confusion th bdi { display: block; max-width: 7.5rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.confusion thead th:first-child { padding-left: 0; text-align: left; }
.confusion tbody th { padding-left: 0; }
.confusion td {
  min-width: 3rem; text-align: center; border: 1px solid var(--page); print-color-adjust: exact;
  background: color-mix(in srgb, var(--ssl) calc(var(--share) * 45%), var(--soft)); -webkit-print-color-adjust: exact;
}
.confusion .hit { font-weight: 600; }
.facts { margin: 0 0 2rem; font-size: .9375rem; }
.facts div { display: grid; grid-template-columns: minmax(8rem, 12rem) 1fr; gap: 0 1.5rem; padding: .3rem 0; }
.facts dt { color: var(--muted); }
.facts dd { margin: 0; }
.config { margin-top: 1rem; font-size: .8125rem; }
.config div { grid-template-columns: minmax(8rem, 20rem) 1fr; padding: .12rem 0; }
details { margin-top: 1.5rem; }
summary { cursor: pointer; font-weight: 600; }
pre { margin: 0; padding: .9rem 1rem; background: var(--soft); white-space: pre-wrap; font-size: .875rem; }
@media (max-width: 40rem) {
  .scores td span { display: block; }
  .scores tbody th { white-space: normal; }
  .scores th, .scores td { padding-right: .9rem; }
}
@media print {
  :root { color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  section { margin-top: 1.5rem; padding-top: 1rem; }
  tr, figure, .confusion { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; }
}
"""
