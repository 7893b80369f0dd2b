"""The answer of a study in a few words, as `jaxssl.results.verdict` gives that of one run."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxssl.evaluation.significance import MIN_SEEDS
from jaxssl.results.cautions import COLLAPSED
from jaxssl.results.next_step import (
    ENOUGH_STEPS,
    TRY_AGAIN,
    WORKDIR,
    NextStep,
    change_command,
    remove_duplicates,
    repeat_with_seeds,
)
from jaxssl.results.study_conclusions import find_common_obstacle, is_better, primary_differences, sort_key
from jaxssl.results.verdict import MAX_WORDS, Verdict, describe_missed
from jaxssl.results.words import (
    arm_title,
    dataset_title,
    effect_title,
    format_count,
    has_interval,
    join_words,
    name_groups,
    protocol_name,
)

OPEN = "No difference shown"
MUCH_WIDER = 2  # Ratio of intervals from which the wider one is what limits a study.
DATA_DIR = re.compile(r"--config\.data\.dir[= ](\S+)")
SURE = ("higher", "lower")  # Verdicts that hold for other seeds and other test groups.


def judge_study(study: Mapping[str, Any], commands: Mapping[str, str] | None = None) -> Verdict:
    """Return the answer of a study.

    Args:
      study: the content of compare.json.
      commands: {pretraining objective, or "random": the command of a run, "sweep": that of all}, where known, for
        the next step.
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
    """Return the primary differences of arms from what they started from, or of all arms where there are none."""
    differences = primary_differences(study)
    return [d for d in differences if d["effect"]] or differences


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
    if obstacle := find_common_obstacle(differences):
        return obstacle
    if sure := [d for d in differences if d["verdict"] in SURE]:
        return _tell_sure(sure)
    here = [d for d in differences if d["verdict"] == "these runs"]
    return _tell_of_these_runs(here) if here else OPEN


def _tell_sure(sure: Sequence[Mapping[str, Any]]) -> str:
    """Return all that is established, helps and harms; without the uses or the names where it would be too long."""
    first = min(sure, key=sort_key)
    if not first["effect"]:
        than, task = "better" if is_better(first) else "worse", protocol_name(first["protocol"])
        words = f"{arm_title(first['a'])} is {than} than {arm_title(first['b'])} with {task}"
        return words if len(words.split()) <= MAX_WORDS else f"One start is {than} than another with {task}"
    effects: dict[tuple[bool, tuple[str, ...]], list[str]] = {}
    for better in (True, False):
        tasks: dict[str, list[str]] = {}
        for d in sure:
            if is_better(d) == better and protocol_name(d["protocol"]) not in tasks.setdefault(effect_title(d), []):
                tasks[effect_title(d)].append(protocol_name(d["protocol"]))
        for arm in sorted((arm for arm in tasks if tasks[arm]), key=lambda arm: -_find_largest(sure, arm)):
            effects.setdefault((better, tuple(tasks[arm])), []).append(arm)
    named = [(names, better, join_words(tasks)) for (better, tasks), names in effects.items()]
    some = {better: sum(len(names) for names, of, _ in named if of == better) for better in (True, False)}
    texts = [
        "; ".join(_tell_effect(names, len(names), better, tasks) for names, better, tasks in named),
        "; ".join(
            _tell_effect([format_count(len(names), "start")], len(names), better, tasks)
            for names, better, tasks in named
        ),
        "; ".join(_tell_effect([format_count(n, "start")], n, better, "some uses") for better, n in some.items() if n),
    ]
    return next(text for text in texts if len(text.split()) <= MAX_WORDS)


def _tell_effect(names: Sequence[str], count: int, better: bool, tasks: str) -> str:
    return f"{join_words(names)} {'help' if better else 'harm'}{'' if count > 1 else 's'} {tasks}"


def _find_largest(differences: Sequence[Mapping[str, Any]], arm: str) -> float:
    return max(abs(d["mean"]) for d in differences if effect_title(d) == arm)


def _tell_of_these_runs(here: Sequence[Mapping[str, Any]]) -> str:
    better, worse = (
        list(dict.fromkeys(effect_title(d) for d in sorted(here, key=sort_key) if is_better(d) == kind))
        for kind in (True, False)
    )
    verb = "" if better and worse else " are" if len(better + worse) > 1 else " is"
    parts = [f"{join_words(names)}{verb} {than}" for names, than in ((better, "better"), (worse, "worse")) if names]
    words = f"{', '.join(parts)} in these runs; other seeds may differ"
    short = f"{format_count(len(here), 'difference')} in these runs; other seeds may differ"
    return words if len(words.split()) <= MAX_WORDS else short


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
    known = [d for d in differences if d["mean"] is not None and not d["without"]]
    few = any(d["over_groups"]["without"] for d in known)
    return describe_missed([(d["metric"], d["detectable"]) for d in known], few)


def _choose(study: Mapping[str, Any], commands: Mapping[str, str] | None) -> NextStep:
    differences = find_main_differences(study)
    leak = find_common_obstacle(differences).startswith("Not valid")
    found = DATA_DIR.search(" ".join((commands or {}).values()))
    if step := remove_duplicates(study["dataset"], leak, f"jaxssl data audit {found[1]}" if found else ""):
        return step
    if study["unfinished"]:
        runs = format_count(study["unfinished"], "unfinished run")
        return NextStep(f"Finish the {runs}; this lists the command of each:", "jaxssl runs FOLDER")
    judged = [d for d in differences if not d["without"]]
    if differences and not judged:
        if find_common_obstacle(differences) == COLLAPSED:
            return NextStep(TRY_AGAIN)
        return NextStep(f"Pretrain longer, with more of pretrain.epochs: {ENOUGH_STEPS:,} steps are a start.")
    if judged and all(map(_lacks_groups, judged)):
        return NextStep(
            "Add test images of other patients or series: the interval over test groups is much wider than that over "
            "runs, so that more seeds alone will not help."
        )
    if short := [arm for arm in study["arms"] if len(arm["seeds"]) < MIN_SEEDS]:
        return _complete_seeds(study, short, commands)
    best = min(judged, key=sort_key, default=None)
    if best is None or best["verdict"] == "open":
        text = "Add test images of other groups, or try another pretraining: more seeds alone rarely help."
        return NextStep(text, _try_another(study, commands))
    helpful = [d for d in judged if d["verdict"] == best["verdict"] and is_better(d)]
    if not helpful:
        text = f"Keep {arm_title(best['b'])} for these images, or try another pretraining."
        return NextStep(text, _try_another(study, commands))
    best = min(helpful, key=sort_key)
    arm = next((arm for arm in study["arms"] if arm["name"] == best["a"]), study["arms"][0])
    found = WORKDIR.search(_find_command(study, arm, commands))
    return NextStep(
        "Confirm on labeled images of another source (another clinic, scanner or year) that "
        f"{effect_title(best)} helps, before relying on it.",
        f"jaxssl score {found[2]} OTHER_IMAGES" if found else "",
    )


def _lacks_groups(d: Mapping[str, Any]) -> bool:
    """Return whether a difference is open since the test groups are few, not since the runs are."""
    groups, runs = d["over_groups"], d["over_runs"]
    if d["verdict"] != "open" or not has_interval(groups) or not has_interval(runs):
        return False
    return groups["high"] - groups["low"] > MUCH_WIDER * (runs["high"] - runs["low"])


def _complete_seeds(
    study: Mapping[str, Any], short: Sequence[Mapping[str, Any]], commands: Mapping[str, str] | None
) -> NextStep:
    arm = min(short, key=lambda arm: (len(arm["seeds"]), arm["init"] == "random"))
    start, trainings = max(arm["seeds"], default=-1) + 1, max(len(arm["folds"]), 1) * (MIN_SEEDS - len(arm["seeds"]))
    missing = range(start, start + MIN_SEEDS - len(arm["seeds"]))
    text = (
        f"Run more seeds: {arm_title(arm['name'])} has {len(arm['seeds'])} of the {MIN_SEEDS} that a p-value needs "
        f"(seeds that are missing: {', '.join(map(str, missing))}; {format_count(trainings, 'training run')})."
    )
    sweep, seeds = (commands or {}).get("sweep", ""), re.compile(r"--seeds[= ]\d+")
    if found := WORKDIR.search(sweep) if seeds.search(sweep) else None:
        return NextStep(text, f"{seeds.sub(f'--seeds={MIN_SEEDS}', sweep)}\njaxssl compare {found[2]}")
    again = repeat_with_seeds(_find_command(study, arm, commands), missing, arm["folds"])
    return NextStep(text, again.partition("\n")[0])


def _try_another(study: Mapping[str, Any], commands: Mapping[str, str] | None) -> str:
    """Return the command of a run with a pretraining objective that no arm has; "" where none is known."""
    tried = {arm.get("method") for arm in study["arms"]}
    other = next((objective for objective in ("ntxent", "byol", "mae") if objective not in tried), "")
    command = next(filter(None, (_find_command(study, arm, commands) for arm in study["arms"])), "")
    return change_command(command, other, {"pretrain.objective": other}) if other else ""


def _find_command(study: Mapping[str, Any], arm: Mapping[str, Any], commands: Mapping[str, str] | None) -> str:
    """Return the command of a run of an arm, "" where several arms have its method."""
    method = arm.get("method")
    alike = {other["name"] for other in study["arms"] if other.get("method") == method}
    return (commands or {}).get(method or "random", "") if len(alike) == 1 else ""


def describe_where(d: Mapping[str, Any], several_shares: bool) -> str:
    """Return the protocol of a difference, and the share of the labels where a study has several."""
    labels = f", {d['labels']}" if several_shares else ""
    return f"{protocol_name(d['protocol'])}{labels}"
