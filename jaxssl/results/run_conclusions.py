"""What the results of one run show, and what they do not, as plain sentences."""

import numpy as np

from jaxssl.results.cautions import (
    beats_chance,
    describe_copies,
    describe_few_groups,
    find_obstacle,
    score_cautions,
    training_cautions,
)
from jaxssl.results.predictions import Differences
from jaxssl.results.schema import Estimate, Evaluation, Results, TestedDifference
from jaxssl.results.words import (
    CHANCE,
    FEW_GROUPS,
    LOWER_IS_BETTER,
    METRIC_NAMES,
    TRAINED_PROTOCOLS,
    UNDEFINED,
    chance_metric,
    count_common_digits,
    count_digits,
    describe_collapse,
    describe_test_images,
    evaluation_name,
    find_start,
    format_estimate,
    format_number,
    format_p,
    format_range,
    format_signed,
    format_value,
    format_value_of,
    get_score,
    init_as_subject,
    init_name,
    join_words,
    lacks_intervals,
    method_name,
    predicted_noun,
    primary_metric,
    protocol_name,
    shorten_list,
    start_name,
)
from jaxssl.training.metrics import is_far

ONE_RUN = "One run with one seed: another seed may give another result, and the intervals do not cover that."


def answer(results: Results, differences: Differences | None = None) -> str:
    """Return the effect of pretraining on the primary score with each protocol, in one sentence, then its limits.

    Args:
      results: the content of results.json.
      differences: from `predictions.compute_differences`. Without them an effect is claimed where the intervals of the
        two scores do not overlap.
    """
    evaluations, pretraining = results["evaluations"], results["pretrain"]
    if not evaluations:
        trained = f"An encoder was pretrained by {method_name(results)}" if pretraining else "Nothing was pretrained"
        return f"{trained} and nothing was evaluated, so nothing can be concluded about its use."
    pairs = [(e, partner) for e in evaluations if (partner := find_start(results, e))]
    if not pairs:
        scores: dict[str, list[str]] = {}
        for e in evaluations:
            score = f"{protocol_name(e['protocol'])} {format_estimate(get_score(e))}"
            scores.setdefault(name_metric(e), []).append(score)
        on = f" on {describe_test_images(results)}"
        found = "; ".join(f"{metric}{on}: {', '.join(of)}" for metric, of in scores.items())
        leak = f"{obstacle}. " if (obstacle := find_obstacle(results)) else ""
        return f"{leak}This run has nothing to compare; {found}. {ONE_RUN}"
    clauses, reasons, obstacles = [], {}, {}
    # Classes and masks have scores of their own.
    for init, start, primary in dict.fromkeys((e["init"], of["init"], primary_metric(e)) for e, of in pairs):
        protocols: dict[str, list[str]] = {"raises": [], "lowers": [], "none": [], UNDEFINED: []}
        for e, partner in pairs:
            if (e["init"], partner["init"], primary_metric(e)) == (init, start, primary):
                difference = (differences or {}).get(e["name"], {}).get(primary)
                kind, numbers = judge_pair(results, e, partner, difference)
                reasons[(difference or {}).get("without")] = None
                obstacles[find_obstacle(results, init)] = None
                name = protocol_name(e["protocol"])
                protocols[kind].append(f"{name} ({numbers})" if numbers else name)
        subject, metric = init_as_subject(init, results, start), METRIC_NAMES[primary]
        better = " (lower is better)" if primary in LOWER_IS_BETTER else ""
        starts = {
            "raises": f"{subject} raises {metric}{better} with ",
            "lowers": f"{subject} lowers {metric}{better} with ",
            "none": f"no difference in {metric} between {subject} and {start_name(start)} can be concluded with ",
            UNDEFINED: f"after {subject} {metric} is undefined with ",
        }
        clauses += [starts[kind] + join_words(texts) for kind, texts in protocols.items() if texts]
    why = "".join(f" There is no interval: {reason}." for reason in reasons if reason)
    first = "".join(f"{obstacle}. " for obstacle in obstacles if obstacle)
    intervals = "" if lacks_intervals(results) else " and with 95 % intervals"
    return f"{first}On {describe_test_images(results)}{intervals}, {'; '.join(clauses)}.{why} {ONE_RUN}"


def name_metric(e: Evaluation) -> str:
    """Return the primary metric of an evaluation in words."""
    return METRIC_NAMES[primary_metric(e)]


def judge_pair(
    results: Results, e: Evaluation, partner: Evaluation, difference: TestedDifference | None
) -> tuple[str, str]:
    """Return the same as `compare_scores`, but "none" where no answer is possible or neither score beats chance."""
    kind, numbers = compare_scores(get_score(e), get_score(partner), difference)
    answers = beats_chance(e) or beats_chance(partner)
    if kind != UNDEFINED and (find_obstacle(results, e["init"]) or not answers):
        return "none", numbers
    return kind, numbers


def compare_scores(a: Estimate, b: Estimate, difference: TestedDifference | None) -> tuple[str, str]:
    """Return "raises", "lowers", "none" or "undefined", for score `a` against score `b`, and the numbers in words."""
    if a["value"] is None or b["value"] is None:
        return UNDEFINED, ""
    if difference and difference["low"] is not None and difference["high"] is not None:
        kind = "raises" if difference["low"] > 0 else "lowers" if difference["high"] < 0 else "none"
        digits = count_common_digits((a, b))
        values = [format_value_of(a, digits), format_value_of(b, digits)]
        numbers = " against ".join(values) if kind == "none" else f"from {values[1]} to {values[0]}"
        mean = format_signed(difference["value"], count_digits(difference))
        p = difference.get("p")
        tested = "" if p is None else f", {format_p(p)}"
        return kind, f"{numbers}, difference {mean} [{format_range(difference)}]{tested}"
    if difference:
        return "none", f"{format_number(a['value'])} against {format_number(b['value'])}, without interval"
    if a["low"] is None or a["high"] is None or b["low"] is None or b["high"] is None:
        return "none", f"{format_number(a['value'])} against {format_number(b['value'])}, without intervals"
    if a["low"] > b["high"] or a["high"] < b["low"]:
        kind = "raises" if a["low"] > b["high"] else "lowers"
        return kind, f"from {format_estimate(b)} to {format_estimate(a)}, and the two intervals do not overlap"
    return "none", f"{format_estimate(a)} against {format_estimate(b)}, and the two intervals overlap"


def cautions(results: Results) -> list[str]:
    """Return what may not be concluded from this run, one sentence each, the gravest first."""
    dataset, evaluated = results["dataset"], bool(results["evaluations"])
    sentences = describe_copies(dataset) + training_cautions(results) + _pretraining_cautions(results)
    if evaluated:
        sentences += _score_cautions(results) + score_cautions(results) + _test_image_cautions(results)
    if not dataset["groups_known"]:
        sentences.append(
            "It is not known which images are of the same patient, object or series, so the same patient may be in "
            "training and in test: unknown groups do not exclude leakage"
            + (", scores may be too high and intervals too narrow." if evaluated else ".")
        )
    if evaluated:
        sentences.append(
            "This is one run with one seed"
            + (
                "."
                if lacks_intervals(results)
                else ". The intervals are 95 % intervals over the groups of the test images: they cover the choice of "
                "test images, not the seed of training."
            )
        )
    if (
        not lacks_intervals(results)
        and (compared := sum(find_start(results, e) is not None for e in results["evaluations"])) > 1
    ):
        sentences.append(
            f"{compared} comparisons share these test images, each at its own 95 % level: the chance that at least one "
            "of them misleads is larger than 5 %."
        )
    if unread := dataset.get("unread"):
        sentences.append(f"Of the input, this was not used: {'; '.join(unread)}.")
    return sentences


def _pretraining_cautions(results: Results) -> list[str]:
    pretraining, sentences = results["pretrain"], []
    if not pretraining:
        return []
    if pretraining["supervised"]:
        sentences.append("Pretraining used the labels of the training images: no result here is self-supervised.")
    first, expected = pretraining["first_loss"], pretraining["expected_first_loss"]
    if expected is not None and is_far(first, expected):
        sentences.append(
            f"The first loss of pretraining, {format_value(first)}, was far from the {format_value(expected)} expected "
            "of an untrained network: check the images, the labels and the augmentation."
        )
    if pretraining["collapse"]["verdict"] != "healthy":
        sentences.append(f"{describe_collapse(pretraining)} Scores of these weights say little about the method.")
    return sentences


def _score_cautions(results: Results) -> list[str]:
    evaluations, sentences = results["evaluations"], []
    constant = [evaluation_name(e, results) for e in evaluations if e["constant_predictor"]]
    if constant:
        by = "every network" if len(constant) == len(evaluations) > 1 else "; by ".join(constant)
        sentences.append(f"The same {predicted_noun(results)} is predicted for every image by {by}.")
    pairs = [(e, start) for e in evaluations if (start := find_start(results, e)) and _is_near_chance(start)]
    at_chance = [protocol_name(e["protocol"]) for e, _ in pairs if _is_near_chance(e)]
    if at_chance:
        sentences.append(
            f"With {join_words(at_chance)}, no score of the weights that are compared differs from chance "
            f"({describe_chance(evaluations[0])})."
        )
    slow = {
        f"with {protocol_name(start['protocol'])}, {init_name(start['init'], results)}": None
        for e, start in pairs
        if e["protocol"] in TRAINED_PROTOCOLS and not _is_near_chance(e)
    }
    if slow:
        sentences.append(
            f"W{join_words([*slow])[1:]} stay at chance: so few steps do not train them, and the difference says "
            "how fast weights learn, not how good they become. Try more of transfer.epochs."
        )
    return sentences


def _test_image_cautions(results: Results) -> list[str]:
    evaluations, dataset, sentences = results["evaluations"], results["dataset"], []
    empty = np.array(evaluations[0].get("confusion") or [[1]]).sum(axis=1) == 0
    if empty.any() and "missing_classes" not in dataset["splits"]["test"]:
        missing = [name for name, none in zip(dataset["classes"], empty, strict=True) if none]
        sentences.append(
            f"There is no test image of {join_words(shorten_list(missing))}: the scores say nothing about that."
        )
    groups = dataset["splits"]["test"]["groups"]
    if groups < 2:
        sentences.append("The test images are of fewer than two groups, so there are no intervals.")
    elif groups < FEW_GROUPS and not lacks_intervals(results):
        sentences.append(describe_few_groups(groups, dataset["groups_known"]))
    return sentences


def describe_chance(e: Evaluation) -> str:
    """Return "macro AUC .5", or "R² 0"."""
    metric = chance_metric(e)
    return f"{METRIC_NAMES[metric]} {f'{CHANCE[metric]:g}'.removeprefix('0') or 0}"


def _is_near_chance(e: Evaluation) -> bool:
    metric = chance_metric(e)
    low, high = (get_score(e, metric)[end] for end in ("low", "high"))
    return low is not None and high is not None and low <= CHANCE[metric] <= high
