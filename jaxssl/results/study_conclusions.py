"""What a comparison of runs shows, and what it does not, as plain sentences."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from jaxssl.evaluation.significance import ALPHA, MIN_SEEDS
from jaxssl.results.cautions import CEILING, FEW_STEPS, describe_copies, describe_few_groups, describe_missing_classes
from jaxssl.results.words import (
    CHANCE,
    FEW_GROUPS,
    LOWER_IS_BETTER,
    METRIC_NAMES,
    arm_title,
    count_common_digits,
    format_count,
    format_labels,
    format_number,
    format_p,
    format_range,
    format_signed,
    has_interval,
    join_words,
    protocol_name,
)

T = TypeVar("T", bound=Mapping[str, Any])  # Arms
ROUGH = 0.095  # Larger differences are told with one decimal.
TOO_FEW_SEEDS = f"fewer than {MIN_SEEDS} seeds"
VERDICTS = ("higher", "lower", "these runs", "open")


def headline_metrics(arms: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the two metrics that tables show of these arms; by the first, the primary one, they are judged."""
    names = arms[0]["metrics"] if arms else ("auc_macro", "accuracy")
    return [metric for metric in METRIC_NAMES if metric in names][:2]


def split_by_metric(arms: Sequence[T]) -> list[list[T]]:
    """Return the arms of each primary metric: classes and masks have scores of their own."""
    found: dict[str, list[T]] = {}
    for arm in arms:
        found.setdefault(headline_metrics([arm])[0], []).append(arm)
    return list(found.values())


def primary_differences(study: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the differences in the primary metric of each protocol, the first of `METRIC_NAMES` that was compared."""
    primary: dict[str, str] = {}
    for d in sorted(study["differences"], key=lambda d: list(METRIC_NAMES).index(d["metric"])):
        primary.setdefault(d["protocol"], d["metric"])
    return [d for d in study["differences"] if d["metric"] == primary[d["protocol"]]]


def judge_difference(d: Mapping[str, Any]) -> tuple[str, str]:
    """Return the verdict on one difference of compare.json, one of `VERDICTS`, and the sentence that states it.

    "higher" and "lower" hold for other seeds and for other test groups: p, the larger of both p-values, is below 5 %
    after Holm's correction, and the interval over the test groups is on the same side of 0. "these runs" hold for other
    test groups: that p-value alone is, and so is the interval. Where d["without"] says why there can be no verdict, it
    is "open".
    """
    groups, mean, p = d["over_groups"], d["mean"], d["p_holm"]
    a, b = arm_title(d["a"]), arm_title(d["b"])
    where = f"in {METRIC_NAMES[d['metric']]} by {protocol_name(d['protocol'])} with {format_labels(d['labels'])}"
    if mean is None:
        return "open", f"{a} and {b} cannot be compared {where}: the difference is undefined."
    one_sided = has_interval(groups) and (groups["low"] > 0 or groups["high"] < 0)
    known = [of for of in (groups, d["over_runs"]) if has_interval(of)]
    numbers = f"{format_signed(mean, count_common_digits(known))} ({format_evidence(d)})"
    if d["without"]:
        return "open", f"No difference between {a} and {b} can be concluded {where}: {numbers}. {d['without']}."
    if one_sided and p is not None and p < ALPHA and (groups["low"] > 0) == (mean > 0):
        kind = "higher" if mean > 0 else "lower"
        comparison = "better" if is_better(d) else "worse"
        return kind, f"{a} is {comparison} than {b} {where}: {numbers}."
    if one_sided and groups["p_holm"] is not None and groups["p_holm"] < ALPHA:
        comparison = "higher" if groups["low"] > 0 else "lower"
        limit = (
            f"this says nothing about other seeds: {_why_untested(d)}"
            if p is None
            else "for other seeds and test groups it is open, given the number of differences tested"
        )
        return (
            "these runs",
            f"The networks trained here score {comparison} with {a} than with {b} {where}: {numbers}; {limit}.",
        )
    return (
        "open",
        f"No difference between {a} and {b} can be concluded {where}: {numbers}, which does not show that "
        f"they are equal: {describe_detectable(d['detectable'], groups['without'])}.",
    )


def find_common_obstacle(differences: Sequence[Mapping[str, Any]]) -> str:
    """Return why none of these differences can have a verdict; "" if one of them can."""
    return differences[0]["without"] if differences and all(d["without"] for d in differences) else ""


def is_better(d: Mapping[str, Any]) -> bool:
    """Return whether the mean of a difference speaks for `a`."""
    return (d["mean"] > 0) != (d["metric"] in LOWER_IS_BETTER)


def describe_detectable(detectable: float | None, without: str = "") -> str:
    """Return which difference could have been shown, or why none could.

    Args:
      detectable: the true difference that is shown with 80 % power; None where none is, or it is unknown.
      without: why there is no interval.
    """
    if without:
        return without
    if detectable is None:
        return "with so few test groups, or scores without variation, it cannot be told whether there is one"
    return f"only true differences above about {format_number(detectable, 1 if detectable >= ROUGH else 2)} would show"


def _why_untested(d: Mapping[str, Any]) -> str:
    """Return why a difference has no p-value over seeds."""
    if d["seeds"] < MIN_SEEDS:
        return f"a p-value needs {MIN_SEEDS} seeds and there {'is' if d['seeds'] == 1 else 'are'} {d['seeds']}"
    return "all seeds gave the same difference"


def format_evidence(d: Mapping[str, Any]) -> str:
    """Return the intervals and p-values of a difference in words."""
    runs, groups, count = d["over_runs"], d["over_groups"], format_count(d["runs"], "run")
    parts = [f"95 % over {count} {format_range(runs)}" if has_interval(runs) else count]
    if has_interval(groups):
        parts.append(f"over test groups {format_range(groups)}")
    if d["p_holm"] is not None:
        parts.append(f"{format_p(d['p_holm'])} after Holm's correction")
    elif groups["p_holm"] is not None:
        parts.append(f"{format_p(groups['p_holm'])} over test groups after Holm's correction")
    if d["mcnemar"] and d["mcnemar"]["p_holm"] is not None:
        parts.append(f"McNemar's test of these networks {format_p(d['mcnemar']['p_holm'])}")
    return "; ".join(parts)


def sort_key(d: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the key that sorts differences: the surest and largest from what an arm started from first."""
    certainty = max(1, VERDICTS.index(d["verdict"]))  # "higher" and "lower" are equally sure.
    metric = list(METRIC_NAMES).index(d["metric"])
    return certainty, metric, not d["effect"], -d["label_fraction"], -abs(d["mean"] or 0)


def answer(study: Mapping[str, Any]) -> str:
    """Return how many differences in the primary metric have each verdict."""
    differences = primary_differences(study)
    if not differences:
        return "No two arms can be compared, so nothing can be concluded."
    name = join_words(list(dict.fromkeys(METRIC_NAMES[d["metric"]] for d in differences)))
    sure, here, undecided = (
        sum(d["verdict"] in kinds for d in differences) for kinds in (("higher", "lower"), ("these runs",), ("open",))
    )
    if undecided == len(differences):
        count = format_count(len(differences), "difference")
        why = find_common_obstacle(differences) or "The arms may or may not be equal"
        return f"None of {count} in {name} can be concluded. {why}."
    return (
        f"Of {format_count(len(differences), 'difference')} in {name}, {sure} hold for other seeds and test groups, "
        f"{here} for the networks trained here only, and {undecided} are open."
    )


def describe_limits(study: Mapping[str, Any], groups: int, repeated: int, fields: list[str] | None) -> list[str]:
    """Return what may not be concluded from a study, one sentence each.

    Args:
      study: the content of compare.json, without the conclusion.
      groups: number of test groups of all runs.
      repeated: evaluations left out because another run has the same arm, seed and fold and another result.
      fields: config fields, other than those of the method, in which arms differ; None where no config is known.
    """
    sentences = _training_cautions(study["arms"])
    sentences += describe_copies(study["dataset"], " of a run")
    sentences += describe_missing_classes(study["dataset"]["missing_classes"])
    sentences += _difference_cautions(study["differences"])
    if study["split"] == "fixed":
        sentences.append("All runs have the same test images: with another split the arms may rank differently.")
    if study["split"] == "resplit":
        sentences.append(
            "The runs split the same images in different ways. Their intervals and p-values are corrected for the "
            "training images that they share (Nadeau and Bengio), which is an approximation."
        )
    if not study["dataset"]["groups_known"]:
        sentences.append(
            "It is not known which images are of the same patient, object or series: unknown groups do not exclude "
            "leakage, and intervals over the test groups and p-values may be too small."
        )
    if groups < FEW_GROUPS:
        sentences.append(describe_few_groups(groups, study["dataset"]["groups_known"]))
    if any(d["mcnemar"] and d["mcnemar"]["without"] not in (None, TOO_FEW_SEEDS) for d in study["differences"]):
        sentences.append(
            "Groups hold several test images, which are not independent: McNemar's test is left out, and the interval "
            "over test groups is used instead."
        )
    sentences += _arm_cautions(study["arms"])
    if study["unfinished"]:
        is_or_are = "is" if study["unfinished"] == 1 else "are"
        sentences.append(f"{format_count(study['unfinished'], 'run')} had not finished and {is_or_are} missing here.")
    if repeated:
        sentences.append(
            f"{format_count(repeated, 'evaluation')} of an arm, seed and fold that another run has too gave another "
            "result: the first is used, the others are left out."
        )
    if fields is None:
        sentences.append("No run has its config.json: it is not known whether arms differ in epochs, batch size, ...")
    if fields:
        sentences.append(f"Arms also differ in {join_words(fields)}: a difference between them may come from that.")
    return sentences


def count_effects(differences: Sequence[Mapping[str, Any]]) -> int:
    """Return how many differences are of an arm from what it started from."""
    return sum(d["effect"] for d in differences)


def _difference_cautions(differences: Sequence[Mapping[str, Any]]) -> list[str]:
    if not differences:
        return ["No two arms share a protocol, a share of the labels, a seed and a fold: nothing was compared."]
    sentences = []
    if min(d["seeds"] for d in differences) < MIN_SEEDS:
        sentences.append(
            f"Where there are {TOO_FEW_SEEDS}, no p-value over seeds is given, and the interval over runs, if any, is "
            "rough: a difference may be due to the seeds."
        )
    sentences.append(
        f"{format_count(len(differences), 'difference')} in all scores were tested, {count_effects(differences)} "
        "of them of an arm from what it started from. p-values are corrected by Holm's method, of these for their "
        "number, of the others for all; intervals are not: each has its own 95 % level."
    )
    return sentences


def _training_cautions(arms: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which arms were pretrained too briefly, are worse than chance, or at the ceiling."""
    sentences = []
    short = [a for a in arms if a["method"] and a["pretrain_steps"] is not None and a["pretrain_steps"] < FEW_STEPS]
    if short:
        steps = {arm_title(arm["name"]): format_count(round(arm["pretrain_steps"]), "step") for arm in short}
        names = join_words([f"{name} ({count})" for name, count in sorted(steps.items())])
        sentences.append(f"Pretraining was too short for a verdict on the method: {names}.")
    for metric, chance in CHANCE.items():
        found = [(arm, arm["metrics"][metric]["over_groups"]) for arm in arms if metric in arm["metrics"]]
        if worse := [_arm_name(arm) for arm, ends in found if has_interval(ends) and ends["high"] < chance]:
            sentences.append(
                f"Worse than chance in {METRIC_NAMES[metric]}: {join_words(worse)}. Labels or splits may be mixed up."
            )
    aucs = [(arm, arm["metrics"]["auc_macro"]) for arm in arms if "auc_macro" in arm["metrics"]]
    if len(aucs) > 1 and all(auc["mean"] is not None and auc["mean"] >= CEILING for _, auc in aucs):
        sentences.append(
            "Every arm is at the ceiling (macro AUC .995 or more): these images cannot show which one is better."
        )
    return sentences


def _arm_cautions(arms: Sequence[Mapping[str, Any]]) -> list[str]:
    sentences = []
    if constant := [arm for arm in arms if arm["constant_runs"]]:
        names = join_words([f"{_arm_name(arm)} ({arm['constant_runs']} of {arm['runs']} runs)" for arm in constant])
        sentences.append(f"The same class is predicted for every image by {names}.")
    above = {
        _arm_name(arm): arm["metrics"]["accuracy"]["mean"] - arm["majority_accuracy"]
        for arm in arms
        if arm["majority_accuracy"] is not None
    }
    if low := [name for name, margin in above.items() if margin <= 0]:
        sentences.append(f"No more accurate than always predicting the majority class: {join_words(low)}.")
    if any(arm["label_fraction"] < 1 for arm in arms):
        sentences.append(
            "A share of the labels is a share of the training images: validation, which chooses epochs, learning rates "
            "and penalties, keeps all of its labels."
        )
    if len({(tuple(arm["seeds"]), tuple(arm["folds"])) for arm in arms}) > 1:
        sentences.append(
            "Not all arms have the same seeds and folds: means of arms are over different runs, differences only over "
            "those that both have."
        )
    return sentences


def _arm_name(arm: Mapping[str, Any]) -> str:
    return f"{arm_title(arm['name'])} by {protocol_name(arm['protocol'])} with {format_labels(arm['labels'])}"
