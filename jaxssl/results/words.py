"""Names, numbers and intervals of results as plain text, for the report, the terminal and the study."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jaxssl.results.names import display_arm, display_name
from jaxssl.results.schema import Estimate, Evaluation, Pretraining, Results

METRIC_NAMES = {
    "auc_macro": "macro AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1_macro": "macro F1",
    "average_precision": "average precision",
    "quadratic_kappa": "quadratic kappa",
    "mae": "mean absolute error",
    "r2": "R²",
    "spearman": "Spearman's ρ",
    "dice": "Dice",
    "iou": "IoU",
    "dice_present": "Dice where present",
    "pixel_average_precision": "average precision of pixels",
    "hausdorff95": "95 % Hausdorff distance",
}
LOWER_IS_BETTER = frozenset({"mae", "hausdorff95"})
CHANCE = {"auc_macro": 0.5, "r2": 0.0}  # Scores of predictions that know nothing of the image.
# What a network predicts, by task.
PREDICTED = {"single": "class", "ordinal": "class", "multi": "set of labels", "value": "value", "masks": "mask"}
PROTOCOL_NAMES = {
    "probe": "linear probing",
    "knn": "nearest neighbors",
    "finetune": "fine-tuning",
    "attentive": "attentive probing",
    "segment_linear": "linear segmentation",
    "segment": "segmentation",
}
# For readers who know no machine learning, beside the names.
PROTOCOL_HINTS = {
    "probe": "frozen network, simple classifier",
    "knn": "frozen network, similar images",
    "finetune": "whole network trained",
    "attentive": "frozen network, classifier with attention",
    "segment_linear": "frozen network, one layer",
    "segment": "whole network trained",
}
METRIC_HINTS = {
    "auc_macro": "Macro AUC: .5 is chance, 1 is perfect.",
    "quadratic_kappa": "Quadratic kappa: 0 is chance, 1 is perfect.",
    "mae": "Of errors, lower is better.",
    "dice": "Dice: overlap with the true mask, 0 is none, 1 is perfect.",
}
SEGMENTATION_PROTOCOLS = ("segment_linear", "segment")
TRAINED_PROTOCOLS = ("finetune", "attentive", *SEGMENTATION_PROTOCOLS)
UNDEFINED = "undefined"
WIDE = 0.1  # Of scores with a wider interval, two decimals are shown, or one if it is wider than 1,
NARROW = 0.001  # and of those with a narrower one as many as it supports.
MAX_NAME = 48  # Characters of a class name; results.json has the rest.
MAX_CLASSES = 12  # Classes with figures and a row of the confusion matrix of their own.
MIN_GROUPS = 10  # With fewer, two classes do not have the groups that an interval needs.
FEW_GROUPS = 50  # Fewer test groups are called few.


def protocol_name(protocol: str) -> str:
    """Return the name of a protocol in words, such as "linear probing"."""
    return PROTOCOL_NAMES.get(protocol, protocol)


def is_segmentation(e: Evaluation) -> bool:
    """Return whether an evaluation is of masks."""
    return e["protocol"] in SEGMENTATION_PROTOCOLS


def evaluation_name(e: Evaluation, results: Results) -> str:
    """Return the name of an evaluation, such as "fine-tuning, pretrained by BYOL" for "finetune_ssl"."""
    return f"{protocol_name(e['protocol'])}, {init_name(e['init'], results)}"


def phase_name(phase: str, results: Results) -> str:
    """Return the name of a training phase, such as "fine-tuning, random weights" for "finetune_random"."""
    names = {"pretrain": "pretraining"}
    for e in results["evaluations"]:
        if e["protocol"] not in TRAINED_PROTOCOLS:
            continue
        names[e.get("phase", e["name"])] = evaluation_name(e, results)
        tried = e.get("tried", [])
        if len(tried) > 1:
            names |= {t["phase"]: f"{evaluation_name(e, results)}, rate {t['learning_rate']:g}" for t in tried}
    return names.get(phase, phase)


def describe_start(init: str) -> str:
    """Return an initialization in a word or two: "random", "pretrained", "ImageNet" or "ImageNet, then pretrained"."""
    names = {"ssl": "pretrained", "supervised": "pretrained", "random": "random"}
    return ", then ".join(names.get(part, display_name(part)) for part in init.split("+"))


def describe_phase(phase: str) -> str:
    """Return a training phase in words, such as "fine-tuning, random, rate 2" for "finetune_random_2"."""
    found = re.fullmatch(rf"({'|'.join(TRAINED_PROTOCOLS)})_(.+?)(?:_(\d+))?", phase)
    if not found:
        return "pretraining" if phase == "pretrain" else phase
    protocol, init, rate = found.groups()
    return f"{protocol_name(protocol)}, {describe_start(init)}" + (f", rate {rate}" if rate else "")


def method_name(results: Results) -> str:
    """Return the pretraining objective, marked as supervised where it read labels."""
    pretraining = results["pretrain"]
    assert pretraining
    return f"{display_name(pretraining['objective'])}{' with labels (supervised)' if pretraining['supervised'] else ''}"


def given_weights(init: str) -> str:
    """Return the name of the weights that an initialization starts from, such as "dinov2" for "dinov2+ssl"; else ""."""
    first = init.partition("+")[0]
    return "" if first in ("random", "ssl", "supervised") else display_name(first)


def has_own_pretraining(init: str) -> bool:
    """Return whether an initialization comes from the run's own pretraining, such as "ssl" or "imagenet+ssl"."""
    return init.rpartition("+")[2] in ("ssl", "supervised")


def init_name(init: str, results: Results) -> str:
    """Return the name of an initialization, such as "pretrained by BYOL" for "ssl"."""
    by = method_name(results) if results["pretrain"] else "an earlier run"
    if not has_own_pretraining(init):
        return given_weights(init) or display_name(init)
    given = given_weights(init)
    return f"{given}, then {by}" if given else f"pretrained by {by}"


def init_as_subject(init: str, results: Results, start: str = "random") -> str:
    """Return what was done to the weights of `start`, which became those of `init`, as the subject of a sentence."""
    by = f"pretraining by {method_name(results)}" if results["pretrain"] else "pretraining"
    given = given_weights(init)
    if not given:
        return by
    if start != "random":
        return f"{by} from {given} weights"
    return f"starting from {given} weights" + (f" and {by}" if "+" in init else "")


def start_name(start: str) -> str:
    """Return the name of the weights that others are compared with: "random weights" or "ImageNet weights alone"."""
    return display_name(start) if start == "random" else f"{given_weights(start)} weights alone"


def describe_collapse(pretraining: Pretraining) -> str:
    """Return the collapse verdict and its measurements in two sentences."""
    state = pretraining["collapse"]
    verdict = {
        "healthy": "The encoder did not collapse.",
        "weak": "The encoder is weak: its features, or the embedding that the loss sees, vary less than they should.",
        "collapsed": "The encoder collapsed: it gives nearly the same features for every image.",
    }.get(state["verdict"], f"The collapse verdict is {state['verdict']}.")
    return (
        f"{verdict} The standard deviation of the features is {format_number(state['feature_std'])} (0: identical for "
        f"all images, 1: equal in all directions), their effective rank {format_value(state['effective_rank'])}."
    )


def describe_test_groups(results: Results) -> str:
    """Return "test images are of only 2 groups", or where they are more "a class has too few test groups"."""
    groups = results["dataset"]["splits"]["test"]["groups"]
    few = f"test images are of only {format_count(groups, 'group')}"
    return few if groups < MIN_GROUPS else "a class has too few test groups"


def lacks_intervals(results: Results) -> bool:
    """Return whether scores are known and none has an interval: there are too few test groups."""
    scores = [get_score(e) for e in results["evaluations"]]
    return any(score["value"] is not None for score in scores) and not any(map(has_interval, scores))


def describe_test_images(results: Results) -> str:
    """Return "1,200 test images of 700 groups", or "20 test images (with no image of 1 of the 3 classes)"."""
    dataset, first = results["dataset"], results["evaluations"][0]
    images, groups = first["images"], dataset["splits"]["test"]["groups"]
    of = f" of {groups:,} groups" if dataset["groups_known"] and groups != images else ""
    counts = [sum(row) for row in first.get("confusion") or []]
    missing = counts.count(0) if any(counts) else 0
    without = f" (with no image of {missing} of the {len(counts)} classes)" if missing else ""
    return f"{images:,} test images{of}{without}"


def name_groups(text: str) -> str:
    """Return text that says what groups are where it first names them."""
    return re.sub(r"\bgroups?\b", r"\g<0> (patients or series)", text, count=1)


def group_by_protocol(evaluations: Iterable[Evaluation]) -> dict[str, list[Evaluation]]:
    """Return the evaluations of each protocol; protocols and evaluations keep their order."""
    groups: dict[str, list[Evaluation]] = {}
    for e in evaluations:
        groups.setdefault(e["protocol"], []).append(e)
    return groups


def group_by_metric(evaluations: Iterable[Evaluation]) -> dict[str, list[Evaluation]]:
    """Return the evaluations of each primary metric: classes and masks have scores of their own."""
    groups: dict[str, list[Evaluation]] = {}
    for e in evaluations:
        groups.setdefault(primary_metric(e), []).append(e)
    return groups


def find_start(results: Results, e: Evaluation) -> Evaluation | None:
    """Return the evaluation of the weights that `e` started from; None if there is none.

    Pretraining from given weights is compared with these, since it did not bring what they know already; given weights,
    and pretraining without any, are compared with random ones.
    """
    if e["init"] == "random":
        return None
    same = ("protocol", "label_fraction", "fold", "seed", "split", "images")
    alike = {o["init"]: o for o in results["evaluations"] if all(o[k] == e[k] for k in same)}
    return alike.get(e["init"].rpartition("+")[0] or "random") or alike.get("random")


def primary_metric(e: Evaluation) -> str:
    """Return the metric by which an evaluation is judged: the first of `METRIC_NAMES` that it has."""
    return next((metric for metric in METRIC_NAMES if metric in e["metrics"]), "auc_macro")


def chance_metric(e: Evaluation) -> str:
    """Return the metric of an evaluation whose value for chance is known."""
    return next((metric for metric in CHANCE if metric in e["metrics"]), "auc_macro")


def shown_metrics(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return the metrics that any of the evaluations has, in the order of `METRIC_NAMES`."""
    return [metric for metric in METRIC_NAMES if any(metric in e["metrics"] for e in evaluations)]


def headline_metrics(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return the two metrics of a short table; of ordered classes, the second is kappa."""
    shown = shown_metrics(evaluations)
    return [shown[0], "quadratic_kappa"] if "quadratic_kappa" in shown else shown[:2]


def predicted_noun(results: Results) -> str:
    """Return what a network predicts: "class", "set of labels" or "value"."""
    masks = all(map(is_segmentation, results["evaluations"])) and results["evaluations"]
    return PREDICTED["masks" if masks else results["dataset"].get("task", "single")]


def get_score(e: Evaluation, metric: str = "") -> Estimate:
    """Return a score, by default the primary one, and its interval; all None where the evaluation does not have it."""
    return e["metrics"].get(metric or primary_metric(e)) or {"value": None, "low": None, "high": None}


def has_interval(estimate: Any) -> bool:
    """Return whether both ends of the 95 % interval are defined."""
    return estimate["low"] is not None and estimate["high"] is not None


def count_digits(ends: Any) -> int:
    """Return how many decimals an interval supports: 3, or fewer where it is wider than `WIDE`, more where narrow."""
    width = ends["high"] - ends["low"] if has_interval(ends) else WIDE
    if width > WIDE:
        return 1 if width > 1 else 2
    return 3 if width >= NARROW or width <= 0 else 1 - math.floor(math.log10(width))


def count_common_digits(estimates: Iterable[Estimate]) -> int:
    """Return how many decimals all of these intervals support, for a column of a table or a comparison."""
    return min(map(count_digits, estimates), default=3)


def format_number(value: float | None, digits: int = 3) -> str:
    """Return ".553", "1.000" or "undefined"."""
    if value is None:
        return UNDEFINED
    text = f"{value:.{digits}f}".replace("-", "−" if round(value, digits) else "")
    return text.replace("0.", ".", 1) if text.lstrip("−").startswith("0.") else text


def format_signed(value: float | None, digits: int = 3) -> str:
    """Return "+.059", "−.010", ".000" or "undefined"."""
    text = format_number(value, digits)
    return f"+{text}" if value is not None and round(value, digits) > 0 else text


def format_value(value: float | None) -> str:
    """Return four significant digits, or "undefined"."""
    return UNDEFINED if value is None else f"{value:.4g}"


def format_ends(estimate: Estimate, digits: int | None = None) -> str:
    """Return "(.528–.577)", or "" without an interval."""
    low, high = (format_number(estimate[end], digits or count_digits(estimate)) for end in ("low", "high"))
    return f"({low}–{high})" if has_interval(estimate) else ""


def format_estimate(estimate: Estimate, digits: int | None = None) -> str:
    """Return ".553 (.528–.577)"."""
    return f"{format_value_of(estimate, digits)} {format_ends(estimate, digits)}".strip()


def format_value_of(estimate: Estimate, digits: int | None = None) -> str:
    """Return ".553", with as many decimals as its interval supports if `digits` is None."""
    return format_number(estimate["value"], digits or count_digits(estimate))


def format_range(ends: Any, form: Callable[[float | None, int], str] = format_signed, digits: int | None = None) -> str:
    """Return "+.031 to +.087" from a mapping with "low" and "high", with the decimals that this interval supports."""
    return " to ".join(form(ends[end], digits or count_digits(ends)) for end in ("low", "high"))


def format_p(p: float) -> str:
    """Return "p = .012", or "p < .001"."""
    return "p < .001" if p < 0.001 else f"p = {format_number(p)}"


def format_count(count: int, noun: str) -> str:
    """Return "1 run", "2 runs"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_labels(labels: str) -> str:
    """Return "10 % of the labels" from "10 %", "labels of 5 images per class" from "5 a class"."""
    return f"{labels} of the labels" if labels.endswith("%") else f"labels of {labels.replace(' a class', '')} a class"


def join_words(texts: Sequence[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def shorten(name: str) -> str:
    """Return a name of at most `MAX_NAME` characters."""
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def dataset_title(dataset: Any) -> str:
    """Return the name of the dataset of results.json or compare.json for a title."""
    return shorten(dataset.get("title") or dataset["name"].replace("_", " "))


def arm_title(name: str) -> str:
    """Return the name of an arm of a study as pages and tables show it."""
    return shorten(display_arm(name))


def effect_title(d: Mapping[str, Any]) -> str:
    """Return what a difference from the start of an arm is the effect of, such as "NT-Xent after ImageNet"."""
    further = d["a"].removeprefix(f"{d['b']}+")
    return arm_title(d["a"]) if further == d["a"] else f"{arm_title(further)} after {arm_title(d['b'])}"


def shorten_list(names: Sequence[str]) -> list[str]:
    """Return at most `MAX_CLASSES` shortened names, then "7 more"."""
    more = [f"{len(names) - MAX_CLASSES} more"] if len(names) > MAX_CLASSES else []
    return [shorten(name) for name in names[:MAX_CLASSES]] + more


def clean_text(value: Any) -> str:
    """Return text that is valid in UTF-8 and HTML, without marks that change the direction of the text around it."""
    text = str(value).encode("utf-8", "replace").decode()
    text = re.sub("[\u200e\u200f\u202a-\u202e\u2066-\u2069]", "", text)
    return re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]", "\ufffd", text)
