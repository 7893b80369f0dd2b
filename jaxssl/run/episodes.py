"""Few-shot episodes of each initialization, on the labels that transfer may use and the test split."""

import json
from pathlib import Path
from typing import Any

from jaxssl import files
from jaxssl.evaluation.episodes import evaluate_episodes
from jaxssl.run.setup import Setup
from jaxssl.run.transfer import Arm, labels_of, task_of
from jaxssl.training import distributed


def collect(setup: Setup, arm: Arm) -> None:
    """Evaluate episodes for each of `transfer.shots` and write evaluations/episodes_<init>.json, unless it is there."""
    file, c = episodes_file(setup, arm.init), setup.config.transfer
    if not c.shots or not setup.source.classes or not task_of(setup).has_classes:
        return
    if distributed.from_main(file.exists):
        return
    features, _ = arm.features()
    groups = setup.source.groups[setup.labelled]
    train, test = ((features[split], labels_of(setup, split)) for split in ("train", "test"))
    found = [
        evaluate_episodes(*train, groups, *test, shots=shots, draws=c.episodes, seed=setup.config.seed)
        for shots in c.shots
    ]
    known = [{"init": arm.init} | episode for episode in found if episode]
    distributed.from_main(lambda: files.write_json(file, known))


def read(setup: Setup, inits: list[str]) -> list[dict[str, Any]]:
    """Return the "episodes" of results.json."""
    wanted = (episodes_file(setup, init) for init in inits)
    return [episode for file in wanted if file.exists() for episode in json.loads(file.read_text(encoding="utf-8"))]


def episodes_file(setup: Setup, init: str) -> Path:
    return setup.workdir / "evaluations" / f"episodes_{init}.json"
