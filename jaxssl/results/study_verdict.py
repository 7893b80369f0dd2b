"""The answer of a study in a few words, as `jaxssl.results.verdict` gives that of one run."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxssl.evaluation.significance import MIN_SEEDS
from jaxssl.results.next_step import NextStep, repeat_with_seeds
from jaxssl.results.study_conclusions import is_better, primary_differences, sort_key
from jaxssl.results.verdict import Verdict, describe_least
from jaxssl.results.words import (
    PROTOCOL_OBJECTS,
    format_count,
    join_words,
    protocol_name,
)

MAX_WORDS = 12
OPEN = "No difference shown"


def judge_study(study: Mapping[str, Any], commands: Mapping[str, str] | None = None) -> Verdict:
    """Return the answer of a study.

    Args:
      study: the content of compare.json.
      commands: {name of an arm: the command of one of its runs}, where known, for the command of the next step.
    """
    differences = find_main_differences(study)
    return Verdict(
        _ask(study),
        _answer(differences),
        _describe_basis(study),
        _describe_unseen(differences),
        _choose(study, commands),
    )


def find_main_differences(study: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the primary differences from random weights, or of all arms where there is no random arm."""
    differences = primary_differences(study)
    return [d for d in differences if d["b"] == "random"] or differences


def _ask(study: Mapping[str, Any]) -> str:
    name = study["dataset"]["name"]
    starts = {arm["name"]: arm for arm in study["arms"] if arm["init"] != "random"}
    if len(starts) != 1:
        return f"{name}: which start is best?"
    [(start, arm)] = starts.items()
    return f"{name}: does {'pretraining by ' if arm.get('method') else ''}{start} help?"


def _answer(differences: Sequence[Mapping[str, Any]]) -> str:
    if not differences:
        return "Nothing to compare"
    first = min(differences, key=sort_key)
    verdict, task = first["verdict"], PROTOCOL_OBJECTS.get(first["protocol"], first["protocol"])
    if verdict == "open":
        return OPEN
    if verdict == "these runs":
        return "Not yet known: the networks differ, other seeds may not"
    fields = ("verdict", "protocol", "labels", "b")
    alike = [d["a"] for d in sorted(differences, key=sort_key) if all(d[field] == first[field] for field in fields)]
    plural, names = len(alike) > 1, join_words(alike)
    if first["b"] == "random":
        verb = ("help" if is_better(first) else "harm") + ("" if plural else "s")
        words = f"{names} {verb} {task}"
        short = f"{format_count(len(alike), 'arm')} {verb} {task}"
    else:
        than = "better" if is_better(first) else "worse"
        words = f"{first['a']} is {than} than {first['b']} with {task}"
        short = f"One arm is {than} than another with {task}"
    return words if len(words.split()) <= MAX_WORDS else short


def _describe_basis(study: Mapping[str, Any]) -> str:
    arms = study["arms"]
    if not arms:
        return ""
    images, groups = max(arm["images"] for arm in arms), max(arm["groups"] for arm in arms)
    of = f" of {format_count(groups, 'group')}" if study["dataset"]["groups_known"] and groups != images else ""
    seeds = format_count(max(len(arm["seeds"]) for arm in arms), "seed")
    folds = max(len(arm["folds"]) for arm in arms)
    parts = [f"{format_count(images, 'test image')}{of}", format_count(study["runs"], "run"), seeds]
    return f"Rests on {join_words([*parts, format_count(folds, 'fold')] if folds else parts)}."


def _describe_unseen(differences: Sequence[Mapping[str, Any]]) -> str:
    known = [d for d in differences if d["mean"] is not None]
    return describe_least([d["detectable"] for d in known], known[0]["metric"] if known else "auc_macro")


def _choose(study: Mapping[str, Any], commands: Mapping[str, str] | None) -> NextStep:
    if study["unfinished"]:
        return NextStep(f"Finish the {format_count(study['unfinished'], 'unfinished run')}: give its command again.")
    short = [arm for arm in study["arms"] if len(arm["seeds"]) < MIN_SEEDS]
    if short:
        arm = min(short, key=lambda arm: (len(arm["seeds"]), arm["init"] == "random"))
        start = max(arm["seeds"], default=-1) + 1
        missing = range(start, start + MIN_SEEDS - len(arm["seeds"]))
        text = (
            f"Run more seeds: {arm['name']} has {len(arm['seeds'])} of the {MIN_SEEDS} that a p-value needs "
            f"(missing: {', '.join(map(str, missing))})."
        )
        command = (commands or {}).get(arm["name"], "")
        return NextStep(text, repeat_with_seeds(command, missing).partition("\n")[0])
    verdicts = {d["verdict"] for d in find_main_differences(study)}
    if verdicts <= {"open"}:
        return NextStep("Add test images of other groups, or try another pretraining: more seeds alone rarely help.")
    return NextStep("Confirm the difference on images of another source before relying on it.")


def describe_where(d: Mapping[str, Any], several_shares: bool) -> str:
    """Return the protocol of a difference, and the share of the labels where a study has several."""
    labels = f", {d['labels']}" if several_shares else ""
    return f"{protocol_name(d['protocol'])}{labels}"
