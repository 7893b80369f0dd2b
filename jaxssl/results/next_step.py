"""What to do next after a run or a study, with the command that does it."""

import fnmatch
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from jaxssl.evaluation.significance import MIN_SEEDS
from jaxssl.results.cautions import FEW_STEPS, beats_chance, find_leak, is_worse_than_chance
from jaxssl.results.schema import Results, RunConfig
from jaxssl.results.words import (
    TRAINED_PROTOCOLS,
    describe_test_groups,
    format_count,
    lacks_intervals,
    predicted_noun,
    protocol_name,
)
from jaxssl.training.metrics import is_far

ENOUGH_STEPS = 1000
TRY_AGAIN = "Pretrain again with a smaller learning rate or another objective: the network has collapsed."
WORKDIR = re.compile(r"--workdir(=|\s+)(\S+)")


class NextStep(NamedTuple):
    """What to do, and the command that does it; "" where no single command does."""

    text: str
    command: str = ""


def choose_next_step(results: Results, config: RunConfig | None = None) -> NextStep:
    """Return what the run most needs: sound data first, then sound training, then other seeds.

    Args:
      results: the content of results.json.
      config: the content of config.json; without it there are no commands.
    """
    known: Mapping[str, Any] = config or {}
    command, settings = str(known.get("command") or ""), known.get("config") or {}
    for step in (
        _mend_data(results, settings),
        _explain_low_scores(results, settings),
        _mend_pretraining(results, command, settings),
        _mend_transfer(results, command, settings),
        _question_labels(results, settings),
    ):
        if step:
            return step
    return NextStep(
        f"Repeat the training with {MIN_SEEDS - 1} other seeds and compare: one run alone may differ by chance.",
        repeat_with_seeds(command, range(1, MIN_SEEDS)),
    )


def _mend_data(results: Results, settings: Mapping[str, Any]) -> NextStep | None:
    dataset, audit = results["dataset"], _audit(settings)
    if step := remove_duplicates(dataset, bool(find_leak(results)), audit):
        return step
    if not dataset["classes"]:
        return NextStep("Give labels (a folder per class, or a table) to measure whether pretraining helps.")
    if lacks_intervals(results):
        return NextStep(
            f"Add test images of other patients, objects or series: {describe_test_groups(results)}.",
            audit,
        )
    pretraining = results["pretrain"]
    expected = pretraining["expected_first_loss"] if pretraining else None
    if pretraining and expected is not None and is_far(pretraining["first_loss"], expected):
        return NextStep("Check the images and the augmentation: the first loss is far from the expected one.", audit)
    return None


def remove_duplicates(dataset: Mapping[str, Any], leak: bool, audit: str) -> NextStep | None:
    """Return the step that copied test images need; near copies count where they make the answer invalid: a `leak`."""
    exact, near = (dataset.get(f"test_images_{kind}copied_in_train", 0) for kind in ("", "nearly_"))
    where = "are among the training images too" if exact else "have near copies among the training images"
    copies = exact or near * leak
    return NextStep(f"Remove duplicates: {copies:,} test images {where}.", audit) if copies else None


def _explain_low_scores(results: Results, settings: Mapping[str, Any]) -> NextStep | None:
    """Return what to look at where a trained network is worse than chance, which longer training does not mend."""
    worse = [e for e in results["evaluations"] if e["protocol"] in TRAINED_PROTOCOLS and is_worse_than_chance(e)]
    if not worse:
        return None
    name = protocol_name(worse[0]["protocol"])
    return NextStep(
        f"First find out why {name} is worse than chance: look at the labels, then try another learning rate.",
        _audit(settings),
    )


def _question_labels(results: Results, settings: Mapping[str, Any]) -> NextStep | None:
    if not results["evaluations"] or any(map(beats_chance, results["evaluations"])):
        return None
    return NextStep("Look at the images and their labels first: no network is better than chance.", _audit(settings))


def _audit(settings: Mapping[str, Any]) -> str:
    folder = (settings.get("data") or {}).get("dir") or ""
    return f"jaxssl data audit {shlex.quote(str(folder))}" if folder else ""


def _mend_pretraining(results: Results, command: str, settings: Mapping[str, Any]) -> NextStep | None:
    pretraining = results["pretrain"]
    if not pretraining:
        return None
    steps = pretraining.get("steps")
    if steps and steps < FEW_STEPS:
        epochs = pretraining["epochs"] * -(-ENOUGH_STEPS // steps)
        return NextStep(
            f"Pretrain longer: {format_count(steps, 'step')} so far, {ENOUGH_STEPS:,} are a start.",
            change_command(command, "longer", {"pretrain.epochs": epochs}),
        )
    if pretraining["collapse"]["verdict"] == "collapsed":
        rate = ((settings.get("pretrain") or {}).get("optimizer") or {}).get("learning_rate")
        changes = {"pretrain.optimizer.learning_rate": f"{rate / 3:.2g}"} if rate else {}
        return NextStep(
            TRY_AGAIN,
            change_command(command, "again", changes) if changes else "",
        )
    return None


def _mend_transfer(results: Results, command: str, settings: Mapping[str, Any]) -> NextStep | None:
    constant = [e for e in results["evaluations"] if e["constant_predictor"] and e["protocol"] in TRAINED_PROTOCOLS]
    epochs = (settings.get("transfer") or {}).get("epochs")
    if not constant:
        return None
    return NextStep(
        f"Fine-tune longer: the network still names one {predicted_noun(results)} for every image.",
        change_command(command, "longer", {"transfer.epochs": 4 * epochs}) if epochs else "",
    )


def change_command(command: str, suffix: str, changes: Mapping[str, Any]) -> str:
    """Return the command with other fields and another workdir; "" without a workdir to change."""
    if not WORKDIR.search(command):
        return ""
    for field in changes:
        command = re.sub(rf" --config\.{re.escape(field)}=\S+", "", command)
    fields = " ".join(f"--config.{field}={shlex.quote(str(value))}" for field, value in changes.items())
    moved = WORKDIR.sub(lambda match: f"--workdir{match[1]}{match[2]}-{suffix}", command)
    return f"{moved} {fields}".strip()


def repeat_with_seeds(command: str, seeds: Iterable[int], folds: Iterable[int] = ()) -> str:
    """Return a shell loop that repeats a run, or each fold, with other seeds, and the comparison of all.

    "" without a workdir.
    """
    found = WORKDIR.search(command)
    if not found:
        return ""
    loops = {"seed": ("s", seeds)} | ({"data.fold": ("k", folds)} if folds else {})
    again, ends = command, ""
    for field in reversed(loops):
        again = _vary(again, field, loops[field][0])
    for variable, values in loops.values():
        again, ends = f"for {variable} in {' '.join(map(str, values))}; do {again}", f"{ends}; done"
    places = re.sub(r"\$[sk]", "*", WORKDIR.findall(again)[0][1])
    first = "" if fnmatch.fnmatch(found[2], places) else f"{found[2]} "
    return f"{again}{ends}\njaxssl compare {first}{places}"


def _vary(command: str, field: str, variable: str) -> str:
    """Return the command with a shell variable as the value of a field, and in the name of its workdir."""
    given = re.search(rf" --config\.{re.escape(field)}[= ](\d+)", command)

    def move(match: re.Match[str]) -> str:
        number = rf"(?<!\d){given[1]}$" if given else "$."
        place, moved = re.subn(number, f"${variable}", match[2])
        name = "" if moved else f"-{field.rpartition('.')[2]}${variable}"
        return f"--workdir{match[1]}{place}{name}"

    command = WORKDIR.sub(move, command.replace(given[0], "") if given else command)
    return f"{command} --config.{field}=${variable}"
