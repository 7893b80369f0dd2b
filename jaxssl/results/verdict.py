"""The answer of one run in a few words: the verdict, what it rests on, what could not be seen, and what to do next."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxssl.results.cautions import COLLAPSED, beats_chance, find_leak, find_obstacle
from jaxssl.results.next_step import NextStep, choose_next_step
from jaxssl.results.predictions import Differences
from jaxssl.results.run_conclusions import judge_pair
from jaxssl.results.schema import Evaluation, Results, RunConfig
from jaxssl.results.words import (
    LOWER_IS_BETTER,
    METRIC_NAMES,
    UNDEFINED,
    dataset_title,
    describe_test_groups,
    describe_test_images,
    find_start,
    format_count,
    format_number,
    given_weights,
    has_own_pretraining,
    join_words,
    lacks_intervals,
    method_name,
    name_groups,
    primary_metric,
    protocol_name,
    shorten,
)

MAX_WORDS = 12
ALIKE = 1.5  # Detectable differences whose ratio is at most this are told as one.
# What happened to weights whose score is compared with that of their start.
OUTCOMES = ("raises", "lowers", "none", UNDEFINED)
EFFECTS = {"raises": "helps", "lowers": "harms"}


class Verdict(NamedTuple):
    """The answer of one run.

    Attributes:
      question: what was asked, such as "lesions: does pretraining by BYOL help?".
      words: the answer in at most twelve words.
      basis: on how many images, groups and seeds it rests.
      unseen: the difference that could not have been seen; "" where nothing was compared.
      next_step: what to do next.
    """

    question: str
    words: str
    basis: str
    unseen: str
    next_step: NextStep


def judge_run(results: Results, differences: Differences, config: RunConfig | None = None) -> Verdict:
    """Return the answer of a run.

    Args:
      results: the content of results.json.
      differences: from `predictions.compute_differences`.
      config: the content of config.json, for the command of the next step.
    """
    return Verdict(
        _ask(results),
        _answer(results, differences),
        _describe_basis(results),
        describe_unseen(results, differences),
        choose_next_step(results, config),
    )


def find_subject(results: Results) -> str | None:
    """Return the initialization that the run is about: its own pretraining if compared, else the first other one."""
    compared = [e["init"] for e in results["evaluations"] if find_start(results, e)]
    own = [init for init in compared if has_own_pretraining(init)]
    return next(iter(own or compared), None)


def name_subject(init: str, results: Results, start: str = "random") -> str:
    """Return what is said to help, such as "BYOL" or "BYOL after ImageNet"."""
    by = method_name(results) if results["pretrain"] else "pretraining"
    given = given_weights(init)
    if not has_own_pretraining(init):
        return shorten(given or init)
    if not given:
        return by
    return f"{shorten(given)}, then {by}" if start == "random" else f"{by} after {shorten(given)}"


def _compared_pairs(results: Results, init: str) -> list[tuple[Evaluation, Evaluation]]:
    """Return the evaluations of an initialization, each with that of what it started from."""
    return [(e, of) for e in results["evaluations"] if e["init"] == init and (of := find_start(results, e))]


def _ask(results: Results) -> str:
    name, init = dataset_title(results["dataset"]), find_subject(results)
    if init is not None:
        start = _compared_pairs(results, init)[0][1]["init"]
        own = results["pretrain"] and (init == "ssl" or (start != "random" and init.endswith("+ssl")))
        return f"{name}: does {'pretraining by ' if own else ''}{name_subject(init, results, start)} help?"
    if results["pretrain"]:
        return f"{name}: what did pretraining by {method_name(results)} learn?"
    value = results["dataset"].get("task") == "value"
    what = f"{shorten(results['dataset']['classes'][0])} predicted" if value else "it classified"
    return f"{name}: how well is {what}?"


def _answer(results: Results, differences: Differences) -> str:
    init, obstacle = find_subject(results), find_obstacle(results, "ssl")
    if obstacle and obstacle in (find_leak(results), COLLAPSED):
        return obstacle
    if not results["evaluations"]:
        return "Nothing was evaluated"
    if init is None:
        return "Nothing to compare in this run"
    pairs = _compared_pairs(results, init)
    if all(of["constant_predictor"] and not beats_chance(of) for pair in pairs for of in pair):
        same = "names one class only" if has_classes(pairs[0][0]) else "predicts the same for all images"
        return f"Not learned: every network {same}"
    if lacks_intervals(results):
        return f"Cannot tell: {describe_test_groups(results)}"
    if obstacle := find_obstacle(results, init):
        return obstacle
    if not any(beats_chance(e) for pair in pairs for e in pair):
        return "No benefit shown: neither start is better than chance"
    outcomes = {outcome: [] for outcome in OUTCOMES}
    for e, partner in pairs:
        outcomes[_compare(results, e, partner, differences)].append(protocol_name(e["protocol"]))
    effects = [f"{verb} {join_words(of)}" for kind, verb in EFFECTS.items() if (of := outcomes[kind])]
    if not effects:
        return "No benefit shown" if outcomes["none"] else "Not measurable: the scores are undefined"
    # The use that matters most in practice.
    unclear = [f"; {use}: unclear" for use in ("fine-tuning", "segmentation") if use in outcomes["none"]]
    subject = name_subject(init, results, pairs[0][1]["init"])
    words = f"{subject} {', '.join(effects)}"
    counts = [f"{verb} {len(of)}" for kind, verb in EFFECTS.items() if (of := outcomes[kind])]
    short = f"In this run {subject} {counts[0]} of {len(pairs)} uses{''.join(f', {more}' for more in counts[1:])}"
    texts = [f"In this run {words}{''.join(unclear)}", f"In this run {words}", words, short]
    return next((text for text in texts if len(text.split()) <= MAX_WORDS), short)


def _compare(results: Results, e: Evaluation, partner: Evaluation, differences: Differences) -> str:
    """Return one of `OUTCOMES`, where "raises" means better."""
    metric = primary_metric(e)
    outcome = judge_pair(results, e, partner, differences.get(e["name"], {}).get(metric))[0]
    opposite = {"raises": "lowers", "lowers": "raises"} if metric in LOWER_IS_BETTER else {}
    return opposite.get(outcome, outcome)


def has_classes(e: Evaluation) -> bool:
    """Return whether each image of an evaluation has one class."""
    return e.get("confusion") is not None


def _describe_basis(results: Results) -> str:
    pretraining, evaluations = results["pretrain"], results["evaluations"]
    parts = [name_groups(describe_test_images(results))] if evaluations else []
    if pretraining:
        epochs = format_count(pretraining["epochs"], "epoch")
        steps = f" ({format_count(pretraining['steps'], 'step')})" if "steps" in pretraining else ""
        parts.append(f"{epochs}{steps} of pretraining")
    return f"Rests on {join_words([*parts, 'one training run (one seed)'])}."


def describe_unseen(results: Results, differences: Differences) -> str:
    """Return which difference from its start would usually be missed, "" where nothing was compared."""
    if find_leak(results):
        return ""
    init, detectable = find_subject(results), []
    for e in results["evaluations"]:
        metric = primary_metric(e)
        d = differences.get(e["name"], {}).get(metric) if e["init"] == init else None
        if d and d["value"] is not None:
            detectable.append((metric, d["detectable"]))
    return describe_missed(detectable, few=lacks_intervals(results))


def describe_missed(detectable: Sequence[tuple[str, float | None]], few: bool = False) -> str:
    """Return which true differences would usually be missed.

    Args:
      detectable: (metric, difference) of each comparison; None where no difference could be shown.
      few: whether there are too few test groups for intervals.
    """
    limits = {m: format_limit([of for name, of in detectable if name == m]) for m, _ in detectable}
    told = [f"in {METRIC_NAMES[metric]} below about {limit}" for metric, limit in limits.items() if limit]
    if told:
        which = ", depending on the comparison," if any(" to " in text for text in told) else ""
        return f"A true difference {' or '.join(told)}{which} would usually be missed."
    few_patients = "With so few patients this" if few else "This"
    return f"{few_patients} test set cannot tell whether there is a difference." if detectable else ""


def format_limit(detectable: Sequence[float | None]) -> str:
    """Return ".01 to .04", or ".04" where what the comparisons can detect is about the same; "" where nothing is."""
    known = [value for value in detectable if value]
    if not known:
        return ""
    least, most = (format_number(end, 2 if end >= 0.01 else 3) for end in (min(known), max(known)))
    return most if max(known) <= ALIKE * min(known) or least == most else f"{least} to {most}"
