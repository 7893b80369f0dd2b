"""What the report says: the answer, the cautions, verdicts, names and numbers, as plain text.

Pure functions of results.json, for the page and for the terminal alike.
"""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxssl.training.metrics import is_far

METRICS = {
    "auc_macro": "macro AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1_macro": "macro F1",
}
PROTOCOLS = {"probe": "linear probing", "knn": "nearest neighbours", "finetune": "fine-tuning"}
CHANCE_AUC = 0.5
LONGEST_NAME = 48  # Of a class, in letters; results.json has the rest.
MOST_CLASSES = 12  # With figures and a row of the confusion matrix of their own.
FEW_GROUPS = 50
UNDEFINED = "undefined"
ONE_RUN = "One run, one seed: another seed may end elsewhere, and the intervals do not hold that."

# A score or a difference of two: {"value", "low", "high"}, the ends of its 95 % interval or None.
Estimate = dict[str, float | None]
# {evaluation name: {metric: its difference from random weights}}
Differences = dict[str, dict[str, Estimate]]


def answer(results: dict[str, Any], differences: Differences | None = None) -> str:
    """What pretraining did to the macro AUC, by each protocol, in one sentence; a second says what that rests on.

    Args:
      results: the content of results.json.
      differences: from `page.differences`. Without them an effect is claimed where two intervals lie apart.
    """
    evaluations, pretraining = results["evaluations"], results["pretrain"]
    if not evaluations:
        trained = f"An encoder was pretrained by {method(results)}" if pretraining else "Nothing was pretrained"
        return f"{trained} and nothing was evaluated, so nothing can be concluded about its use."
    pairs = [(e, other) for e in evaluations if (other := partner(results, e))]
    if not pairs:
        reached = (f"{protocol_name(e['protocol'])} {interval(score(e))}" for e in evaluations)
        return f"Nothing to compare in this run; macro AUC on {tested(results)}: {', '.join(reached)}. {ONE_RUN}"
    clauses = []
    for init in dict.fromkeys(e["init"] for e, _ in pairs):
        found: dict[str, list[str]] = {"raises": [], "lowers": [], "none": [], UNDEFINED: []}
        for e, other in pairs:
            if e["init"] == init:
                kind, text = compare(score(e), score(other), (differences or {}).get(e["name"], {}).get("auc_macro"))
                found[kind].append(f"{protocol_name(e['protocol'])} ({text})" if text else protocol_name(e["protocol"]))
        by = start(init, results)
        said = {
            "raises": f"{by} raises macro AUC with ",
            "lowers": f"{by} lowers macro AUC with ",
            "none": f"no difference in macro AUC between {by} and random weights can be concluded with ",
            UNDEFINED: f"after {by} macro AUC is undefined with ",
        }
        clauses += [said[kind] + listed(texts) for kind, texts in found.items() if texts]
    return f"On {tested(results)} and with 95 % intervals, {'; '.join(clauses)}. {ONE_RUN}"


def compare(a: Estimate, b: Estimate, difference: Estimate | None) -> tuple[str, str]:
    """("raises" | "lowers" | "none" | "undefined", the numbers) of score `a` against score `b`."""
    if a["value"] is None or b["value"] is None:
        return UNDEFINED, ""
    if difference and bounded(difference):
        low, high = difference["low"], difference["high"]
        kind = "raises" if low > 0 else "lowers" if high < 0 else "none"
        values = [number(a["value"]), number(b["value"])]
        said = " against ".join(values) if kind == "none" else f"from {values[1]} to {values[0]}"
        return kind, f"{said}, difference {signed(difference['value'])} [{signed(low)} to {signed(high)}]"
    if not (bounded(a) and bounded(b)):
        return "none", f"{number(a['value'])} against {number(b['value'])}, without intervals"
    if a["low"] > b["high"] or a["high"] < b["low"]:
        kind = "raises" if a["low"] > b["high"] else "lowers"
        return kind, f"from {interval(b)} to {interval(a)}, and the two intervals do not overlap"
    return "none", f"{interval(a)} against {interval(b)}, and the two intervals overlap"


def cautions(results: dict[str, Any]) -> list[str]:
    """What may not be concluded from this run, a sentence each."""
    pretraining, said = results["pretrain"], []
    if pretraining and pretraining["supervised"]:
        said.append("Pretraining read the labels of the training images: none of this is a self-supervised result.")
    if pretraining and (expected := pretraining["expected_first_loss"]) is not None:
        first = pretraining["first_loss"]
        if is_far(first, expected):
            said.append(
                f"The first loss of pretraining, {plain(first)}, was far from the {plain(expected)} that an untrained "
                "network should have: look at the images, the labels and the augmentation."
            )
    if pretraining and pretraining["collapse"]["verdict"] != "healthy":
        said.append(f"{collapse_in_words(pretraining)} Scores from these weights say little about the method.")
    if not results["dataset"]["groups_known"]:
        said.append(
            "It is not known which images are of the same patient, object or series. Each counts as a group of its "
            "own, so the same patient may be on both sides of the split: grouping unknown is not no leakage, scores "
            "may be too high and intervals too narrow."
        )
    if copied := results["dataset"]["test_images_copied_in_train"]:
        said.append(
            f"{copied:,} of the test images are pixel for pixel among the training images too: scores may be too high."
        )
    if results["evaluations"]:
        said.append(
            "This is one run with one seed. The intervals are 95 % bootstraps over the groups of the test images: they "
            "say how scores vary with these, not with the seed of training."
        )
        said += cautions_of_scores(results) + cautions_of_test_images(results)
    return said


def cautions_of_scores(results: dict[str, Any]) -> list[str]:
    evaluations, said = results["evaluations"], []
    guessing = [
        protocol_name(e["protocol"])
        for e in evaluations
        if (other := partner(results, e)) and near_chance(e) and near_chance(other)
    ]
    if guessing:
        said.append(
            f"Neither pretrained nor random weights can be told from guessing (macro AUC .5) with {listed(guessing)}."
        )
    constant = [e["name"] for e in evaluations if e["constant_predictor"]]
    if constant:
        said.append(f"One and the same class is predicted for every image in {listed(constant)}.")
    return said


def cautions_of_test_images(results: dict[str, Any]) -> list[str]:
    evaluations, dataset, said = results["evaluations"], results["dataset"], []
    groups = dataset["splits"]["test"]["groups"]
    if groups < 2:
        said.append("The test images are of fewer than two groups, so that no interval can be given.")
    elif groups < FEW_GROUPS:
        said.append(f"The test images are of {groups} groups: intervals from so few are rough, as a rule too narrow.")
    compared = sum(partner(results, e) is not None for e in evaluations)
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


def partner(results: dict[str, Any], e: dict[str, Any]) -> dict[str, Any] | None:
    """The evaluation of random weights with which to compare `e`."""
    if e["init"] == "random":
        return None
    same = ("protocol", "label_fraction", "fold", "seed", "split", "images")
    fits = (o for o in results["evaluations"] if o["init"] == "random" and all(o[k] == e[k] for k in same))
    return next(fits, None)


def protocol_name(protocol: str) -> str:
    return PROTOCOLS.get(protocol, protocol)


def by_protocol(evaluations: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """These evaluations of each protocol, both in their order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for e in evaluations:
        found.setdefault(e["protocol"], []).append(e)
    return found


def near_chance(e: dict[str, Any]) -> bool:
    auc = score(e)
    return bounded(auc) and auc["low"] <= CHANCE_AUC <= auc["high"]


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


def score(e: dict[str, Any], metric: str = "auc_macro") -> Estimate:
    return e["metrics"].get(metric) or {"value": None, "low": None, "high": None}


def bounded(score: Estimate) -> bool:
    """Whether it has an interval."""
    return score["low"] is not None and score["high"] is not None


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


def between(score: Estimate) -> str:
    """(.528–.577), or nothing where there is no interval."""
    return f"({number(score['low'])}–{number(score['high'])})" if bounded(score) else ""


def interval(score: Estimate) -> str:
    """.553 (.528–.577)."""
    return f"{number(score['value'])} {between(score)}".strip()


def listed(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def shortened(texts: list[str]) -> list[str]:
    more = [f"{len(texts) - MOST_CLASSES} more"] if len(texts) > MOST_CLASSES else []
    return [short(text) for text in texts[:MOST_CLASSES]] + more


def short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def method(results: dict[str, Any]) -> str:
    """The objective of the pretraining, called supervised where it read labels."""
    pretraining = results["pretrain"]
    return (
        f"{pretraining['objective']} with labels (supervised)"
        if pretraining["supervised"]
        else pretraining["objective"]
    )


def initialisation(init: str, results: dict[str, Any]) -> str:
    by = method(results) if results["pretrain"] else "an earlier run"
    first, _, then = init.rpartition("+")
    if then not in ("ssl", "supervised"):
        return {"imagenet": "ImageNet"}.get(init, init)
    return f"ImageNet, then {by}" if first else f"pretrained by {by}"


def start(init: str, results: dict[str, Any]) -> str:
    """What was done to weights of this kind, as the subject of a sentence."""
    by = f"pretraining by {method(results)}" if results["pretrain"] else "pretraining"
    if init == "imagenet":
        return "starting from ImageNet weights"
    return f"starting from ImageNet weights and {by}" if init.startswith("imagenet+") else by


def clean(value: Any) -> str:
    """Text without what no file of UTF-8 and no page may hold; marks that turn the direction of text are taken out."""
    text = str(value).encode("utf-8", "replace").decode()
    text = re.sub("[\u200e\u200f\u202a-\u202e\u2066-\u2069]", "", text)
    return re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]", "\ufffd", text)
