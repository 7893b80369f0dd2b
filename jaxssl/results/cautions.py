"""What scores and training of one run warn of, one sentence each, the gravest first."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxssl.results.schema import Evaluation, Results
from jaxssl.results.words import (
    CHANCE,
    METRIC_NAMES,
    chance_metric,
    evaluation_name,
    format_count,
    format_estimate,
    get_score,
    has_own_pretraining,
    join_words,
    method_name,
    primary_metric,
    shorten_list,
)

# Far from what any published recipe takes: a difference then says nothing about the method.
FEW_STEPS = 200
CEILING = 0.995  # Of two macro AUCs above this, none can be shown to be better.

MANY_COPIES = 0.05  # Share of the test images above which the scores are no answer.
COLLAPSED = "Pretraining collapsed: its scores say nothing about the method"


def find_obstacle(results: Results, init: str = "random") -> str:
    """Return why scores that start from an initialization are no answer, whatever they are; "" if they may be one.

    Copies of test images rule out every answer; a collapse and too few steps that on pretraining.
    """
    pretraining = results["pretrain"]
    if leak := find_leak(results):
        return leak
    if not pretraining or not has_own_pretraining(init):
        return ""
    if pretraining.get("collapse", {}).get("verdict") == "collapsed":
        return COLLAPSED
    steps = pretraining.get("steps") or FEW_STEPS
    return f"Too early to tell: only {format_count(steps, 'step')} of pretraining" if steps < FEW_STEPS else ""


def find_leak(results: Results) -> str:
    """Return how many test images are in training too, where these are too many for any answer; else ""."""
    dataset = results["dataset"]
    images = dataset["splits"]["test"]["images"]
    for kind, where in (("", "are in training too"), ("nearly_", "have near copies in training")):
        if (copies := dataset.get(f"test_images_{kind}copied_in_train", 0)) > MANY_COPIES * images:
            return f"Not valid: {copies:,} of {images:,} test images {where}"
    return ""


def beats_chance(e: Evaluation) -> bool:
    """Return whether a score is above chance, or may be since it is not known."""
    metric = chance_metric(e)
    low = get_score(e, metric)["low"]
    return low is None or low > CHANCE[metric]


def is_worse_than_chance(e: Evaluation) -> bool:
    """Return whether the interval of a score lies below chance."""
    metric = chance_metric(e)
    high = get_score(e, metric)["high"]
    return high is not None and high < CHANCE[metric]


def training_cautions(results: Results) -> list[str]:
    """Return that pretraining was too short to judge the method."""
    pretraining = results["pretrain"]
    steps = pretraining.get("steps") if pretraining else None
    if not pretraining or steps is None or steps >= FEW_STEPS:
        return []
    return [
        f"Pretraining took {format_count(steps, 'step')} on {pretraining['images']:,} images: too few to judge "
        f"{method_name(results)}, more may give another result."
    ]


def score_cautions(results: Results) -> list[str]:
    """Return which scores are worse than chance, at the ceiling, or averaged over fewer classes than there are."""
    evaluations, sentences = results["evaluations"], []
    worse = []
    for e in evaluations:
        metric = chance_metric(e)
        if is_worse_than_chance(e):
            worse.append(f"{evaluation_name(e, results)} ({format_estimate(get_score(e, metric))})")
    if worse:
        why = (
            "Labels or splits may be mixed up, or a rare class may be ranked the wrong way"
            if "auc_macro" in evaluations[0]["metrics"]
            else "Always predicting the mean would be better"
        )
        name = METRIC_NAMES[chance_metric(evaluations[0])]
        sentences.append(f"Worse than chance: {name} by {'; by '.join(worse)}. {why}.")
    values = [get_score(e, "auc_macro")["value"] for e in evaluations]
    if len(values) > 1 and all(value is not None and value >= CEILING for value in values):
        sentences.append(
            "Every arm is at the ceiling (macro AUC .995 or more): these images cannot show which one is better."
        )
    return sentences + _choice_cautions(results) + _class_cautions(results)


def _choice_cautions(results: Results) -> list[str]:
    """Return that labels of validation images were used, where only a share of the training labels was."""
    used = {e.get("chosen_on", 0) for e in results["evaluations"] if e.get("label_fraction", 1) < 1} - {0}
    if not used:
        return []
    return [
        f"Besides the few labels of training images, those of {max(used):,} validation images were used to choose "
        "settings: with data.validation_labels=few the training labels alone choose."
    ]


def _class_cautions(results: Results) -> list[str]:
    """Return which classes a split lacks, and what validation did not allow."""
    splits = results["dataset"]["splits"]
    sentences = describe_missing_classes({split: size.get("missing_classes", []) for split, size in splits.items()})
    by = {chosen for e in results["evaluations"] if (chosen := e.get("selected_by", "")).startswith("the ")}
    if by:
        sentences.append(
            f"The score that chooses on validation is undefined there: {' and '.join(sorted(by))} was taken instead."
        )
    uncalibrated = {e.get("without_temperature", "") for e in results["evaluations"]} - {""}
    if uncalibrated:
        sentences.append(f"Probabilities are not calibrated: {'; '.join(sorted(uncalibrated))}.")
    reasons = {get_score(e).get("without", "") for e in results["evaluations"]} - {""}
    name = METRIC_NAMES[primary_metric(results["evaluations"][0])] if reasons else ""
    return sentences + [f"The {name} has no interval: {reason}." for reason in sorted(reasons)]


def describe_copies(dataset: Mapping[str, Any], where: str = "") -> list[str]:
    """Return how many test images have a copy, or a near copy, among the training images.

    Args:
      dataset: of results.json or compare.json.
      where: follows "test images", such as " of a run".
    """
    copies, near = (dataset.get(f"test_images_{kind}copied_in_train", 0) for kind in ("", "nearly_"))
    its, sentences = "its" if where else "the", []
    if copies:
        sentences.append(
            f"{copies:,} of the test images{where} are pixel for pixel among {its} training images: scores may be too "
            "high."
        )
    if near > copies:
        sentences.append(
            f"{near:,} of the test images{where} have a copy or a near copy among {its} training images: scores may be "
            "too high."
        )
    return sentences


def describe_few_groups(groups: int, known: bool) -> str:
    """Return that few test groups show large differences only, and what the groups are where no patients are known."""
    what = "" if known else " (copies or series that were found: no patients are given)"
    return f"The test images are of {format_count(groups, 'group')}{what}: so few show large differences only."


def describe_missing_classes(missing: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a sentence for each split that lacks classes.

    Args:
      missing: the classes without an image in each split.
    """
    effects = {
        "train": "no network has learned them",
        "validation": "nothing was chosen by them",
        "test": "the scores say nothing about them, and the macro AUC is the mean over the others",
    }
    return [
        f"The {split} split has no image of {join_words(shorten_list(missing[split]))}: {effect}."
        for split, effect in effects.items()
        if missing.get(split)
    ]
