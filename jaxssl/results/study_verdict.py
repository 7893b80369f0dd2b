"""The answer of a study in a few words, as `jaxssl.results.verdict` gives that of one run."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxssl.evaluation.significance import MIN_SEEDS
from jaxssl.results.next_step import WORKDIR, NextStep, change_command, repeat_with_seeds
from jaxssl.results.study_conclusions import is_better, primary_differences, sort_key
from jaxssl.results.verdict import MAX_WORDS, Verdict, describe_missed
from jaxssl.results.words import (
    PROTOCOL_OBJECTS,
    arm_title,
    dataset_title,
    format_count,
    join_words,
    name_groups,
    protocol_name,
)

OPEN = "No difference shown"


def judge_study(study: Mapping[str, Any], commands: Mapping[str, str] | None = None) -> Verdict:
    """Return the answer of a study.

    Args:
      study: the content of compare.json.
      commands: {pretraining objective, or "random": the command of a run}, where known, for the next step.
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
    name = dataset_title(study["dataset"])
    starts = {arm["name"]: arm for arm in study["arms"] if arm["init"] != "random"}
    if len(starts) != 1:
        return f"{name}: which start is best?"
    [(start, arm)] = starts.items()
    return f"{name}: does {'pretraining by ' if arm.get('method') else ''}{arm_title(start)} help?"


def _answer(differences: Sequence[Mapping[str, Any]]) -> str:
    if not differences:
        return "Nothing to compare"
    first = min(differences, key=sort_key)
    verdict, task = first["verdict"], PROTOCOL_OBJECTS.get(first["protocol"], first["protocol"])
    if verdict == "open":
        return OPEN
    fields, than = ("verdict", "protocol", "labels", "b"), "better" if is_better(first) else "worse"
    alike = [d for d in sorted(differences, key=sort_key) if all(d[field] == first[field] for field in fields)]
    names = [arm_title(d["a"]) for d in alike if is_better(d) == is_better(first)]
    count, plural = format_count(len(names), "start"), len(names) > 1
    if verdict == "these runs":
        end = f"{'are' if plural else 'is'} {than} in these runs; other seeds may differ"
    elif first["b"] == "random":
        end = f"{'help' if is_better(first) else 'harm'}{'' if plural else 's'} {task}"
    else:
        names, count = names[:1], "One start"
        end = f"is {than} than {arm_title(first['b'])} with {task}"
    words = f"{join_words(names)} {end}"
    if len(words.split()) <= MAX_WORDS:
        return words
    return f"{count} {end if len(end.split()) < MAX_WORDS - 1 else f'is {than} than another with {task}'}"


def _describe_basis(study: Mapping[str, Any]) -> str:
    arms = study["arms"]
    if not arms:
        return ""
    images, groups = max(arm["images"] for arm in arms), max(arm["groups"] for arm in arms)
    of = f" of {format_count(groups, 'group')}" if study["dataset"]["groups_known"] and groups != images else ""
    seeds = format_count(max(len(arm["seeds"]) for arm in arms), "seed")
    folds = max(len(arm["folds"]) for arm in arms)
    of_runs = f"{seeds}, {format_count(folds, 'fold')}" if folds else seeds
    runs = format_count(study["runs"], "training run")
    return f"Rests on {format_count(images, 'test image')}{name_groups(of)} and {runs} ({of_runs})."


def _describe_unseen(differences: Sequence[Mapping[str, Any]]) -> str:
    known = [d for d in differences if d["mean"] is not None]
    few = any(d["over_groups"]["without"] for d in known)
    return describe_missed([d["detectable"] for d in known], known[0]["metric"] if known else "auc_macro", few)


def _choose(study: Mapping[str, Any], commands: Mapping[str, str] | None) -> NextStep:
    if study["unfinished"]:
        runs = format_count(study["unfinished"], "unfinished run")
        return NextStep(f"Finish the {runs}; this lists the command of each:", "jaxssl runs FOLDER")
    short = [arm for arm in study["arms"] if len(arm["seeds"]) < MIN_SEEDS]
    if short:
        arm = min(short, key=lambda arm: (len(arm["seeds"]), arm["init"] == "random"))
        start = max(arm["seeds"], default=-1) + 1
        missing = range(start, start + MIN_SEEDS - len(arm["seeds"]))
        text = (
            f"Run more seeds: {arm_title(arm['name'])} has {len(arm['seeds'])} of the {MIN_SEEDS} that a p-value needs "
            f"(missing: {', '.join(map(str, missing))})."
        )
        again = repeat_with_seeds(_find_command(study, arm, commands), missing, arm["folds"])
        return NextStep(text, again.partition("\n")[0])
    differences = find_main_differences(study)
    best = min(differences, key=sort_key, default=None)
    if best is None or best["verdict"] == "open":
        tried = {arm.get("method") for arm in study["arms"]}
        other = next((objective for objective in ("ntxent", "byol", "mae") if objective not in tried), "")
        command = next(filter(None, (_find_command(study, arm, commands) for arm in study["arms"])), "")
        return NextStep(
            "Add test images of other groups, or try another pretraining: more seeds alone rarely help.",
            change_command(command, other, {"pretrain.objective": other}) if other else "",
        )
    arm = next((arm for arm in study["arms"] if arm["name"] == best["a"]), study["arms"][0])
    found = WORKDIR.search(_find_command(study, arm, commands))
    return NextStep(
        "Confirm it on labeled images of another source (another clinic, scanner or year) before relying on it.",
        f"jaxssl score {found[2]} OTHER_IMAGES" if found else "",
    )


def _find_command(study: Mapping[str, Any], arm: Mapping[str, Any], commands: Mapping[str, str] | None) -> str:
    """Return the command of a run of an arm, "" where several arms have its method."""
    method = arm.get("method")
    alike = {other["name"] for other in study["arms"] if other.get("method") == method}
    return (commands or {}).get(method or "random", "") if len(alike) == 1 else ""


def describe_where(d: Mapping[str, Any], several_shares: bool) -> str:
    """Return the protocol of a difference, and the share of the labels where a study has several."""
    labels = f", {d['labels']}" if several_shares else ""
    return f"{protocol_name(d['protocol'])}{labels}"
