"""Few-shot episodes of each initialization, on the labels that transfer may use and the test split."""

from typing import Any

from jaxssl.evaluation.episodes import evaluate_episodes
from jaxssl.run import scoring
from jaxssl.run.setup import Setup
from jaxssl.run.transfer import Arm, labels_of, task_of
from jaxssl.training import distributed


def collect(setup: Setup, arm: Arm) -> None:
    """Evaluate episodes for each of `transfer.shots` and write evaluations/episodes_<init>.json, unless it is there."""
    c = setup.config.transfer
    if not c.shots or not setup.source.classes or not task_of(setup).has_classes:
        return
    if distributed.from_main(lambda: load(setup, arm.init)) is not None:
        return
    features, _ = arm.features()
    groups = setup.source.groups[setup.labelled]
    train, test = ((features[split], labels_of(setup, split)) for split in ("train", "test"))
    found = [
        evaluate_episodes(*train, groups, *test, shots=shots, draws=c.episodes, seed=setup.config.seed)
        for shots in c.shots
    ]
    known = [{"init": arm.init} | episode for episode in found if episode]
    written = {"name": f"episodes_{arm.init}", "episodes": known}
    distributed.from_main(lambda: scoring.write_files(setup.workdir, written, {}))


def load(setup: Setup, init: str) -> list[dict[str, Any]] | None:
    """Return the episodes of an initialization; None if they are missing or do not match their checksum."""
    found: Any = scoring.load_evaluation(setup.workdir, f"episodes_{init}", (".json",))
    return found and found["episodes"]


def read(setup: Setup, inits: list[str]) -> list[dict[str, Any]]:
    """Return the "episodes" of results.json."""
    return [episode for init in inits for episode in load(setup, init) or ()]
