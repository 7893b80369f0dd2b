"""One experiment, from images to results: pretrain, transfer, evaluate, report.

What the workdir already holds is not done again: the same call resumes a run that was interrupted.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxssl import files
from jaxssl.config.stored import config_to_json
from jaxssl.errors import UserError
from jaxssl.report import page, table
from jaxssl.results.predictions import compute_differences, read_predictions
from jaxssl.results.schema import Evaluation, Results
from jaxssl.results.segmentations import read_segmentations
from jaxssl.results.words import SEGMENTATION_PROTOCOLS
from jaxssl.run import disk, episodes, gallery, plan, reuse, scoring, segmentation
from jaxssl.run import workdir as workdirs
from jaxssl.run.encoders import init_encoder
from jaxssl.run.finetuning import remove_rejected
from jaxssl.run.prepare import prepare
from jaxssl.run.pretraining import pretrain
from jaxssl.run.setup import Setup, init_names
from jaxssl.run.transfer import Arm, make_arm, transfer
from jaxssl.training import distributed, memory, metrics, trackers

Tree = Any


def run(config: ConfigDict, workdir: Path, donor: Path | None = None) -> Results:
    """Run or resume the experiment `config` in `workdir` and return the content of results.json.

    Args:
      config: the config.
      workdir: output directory.
      donor: workdir of a run with the same pretraining, which is then not done again, or with a pretraining of another
        length, which then goes on from its encoder.

    Raises:
      UserError: the config, the data or the workdir are invalid, or do not fit together.
      TrainingFailedError: the loss is not finite, or the encoder collapsed and `on_collapse` is "stop".
      PreemptedError: a signal came, and everything is saved.
    """
    if donor and (longer := reuse.go_on(config, donor)) is not config:
        config, donor = longer, None
    with memory_errors():
        try:
            return _run(prepare(config, Path(workdir)), donor)
        finally:
            trackers.finish()


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turn an error of too little memory, outside the training phases, into a UserError."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not memory.is_out_of_memory(error):
            raise
        place = "the host" if isinstance(error, MemoryError) else "a device"
        raise UserError(
            f"{place} has too little memory for these images and this encoder: reduce data.image_size, "
            "data.stored_size or data.memory_mib, or choose a smaller model.name",
            code="out-of-memory",
            field="data.image_size",
        ) from error


def _run(setup: Setup, donor: Path | None) -> Results:
    with workdirs.open_workdir(setup.workdir):
        fresh = init_encoder(setup)
        if donor:
            distributed.from_main(lambda: reuse.check(setup, donor))
        if not distributed.from_main((setup.workdir / "results.json").exists):
            show_plan(setup, fresh)
        distributed.from_main(lambda: begin(setup))
        if donor:
            distributed.from_main(lambda: reuse.reuse_pretraining(setup, donor))
        encoders = make_encoders(setup, fresh)
        evaluations = evaluate(setup, encoders)
        results = distributed.from_main(lambda: write_results(setup, evaluations))
        # The gallery computes on the devices of one process.
        if jax.process_count() == 1:
            gallery.collect(setup)
        distributed.from_main(lambda: report(setup, results))
        return results


def show_plan(setup: Setup, fresh: Tree) -> None:
    """Print what the run is going to do, and about how long it takes."""
    seconds = plan.estimate_seconds(setup, fresh)
    if distributed.is_main():
        metrics.console.print(plan.describe(setup, seconds), soft_wrap=True)
        metrics.console.print(disk.describe(setup))
        memory.warn_if_too_little()


def begin(setup: Setup) -> None:
    """Write what the run starts with: config.json, splits.json and audit.json."""
    files.remove_unfinished(setup.workdir)
    workdirs.claim(setup)
    workdirs.audit_images(setup)


def make_encoders(setup: Setup, fresh: Tree) -> dict[str, Tree]:
    """Return the variables of the encoder by initialization, the pretrained one first, random ones, `fresh`, last."""
    encoders = [fresh]
    distributed.from_main(lambda: metrics.write_parameters(setup.workdir, encoders[-1]))
    if setup.weights is not None:
        encoders.insert(0, setup.weights)
    if setup.objective:
        encoders.insert(0, pretrain(setup, setup.objective, encoders[0]))
    names = init_names(setup.config, bool(setup.objective and setup.objective.supervised))
    return dict(zip(names, encoders, strict=True))


def evaluate(setup: Setup, encoders: dict[str, Tree]) -> list[Evaluation]:
    """Return the evaluations of each encoder by each protocol; those in evaluations/ are not computed again."""
    evaluations = []
    for init, variables in encoders.items():
        if init not in (setup.config.transfer.inits or encoders):
            continue
        arm = make_arm(setup, init, variables)
        for protocol in plan.list_protocols(setup):
            name = f"{protocol}_{init}"
            if distributed.from_main(lambda: scoring.load_evaluation(setup.workdir, name)) is None:
                evaluate_arm(setup, protocol, arm)
            evaluations.append(distributed.from_main(lambda: scoring.load_evaluation(setup.workdir, name)))
        episodes.collect(setup, arm)
    return evaluations


def evaluate_arm(setup: Setup, protocol: str, arm: Arm) -> None:
    """Apply a protocol to an encoder and write its evaluation."""
    if protocol in SEGMENTATION_PROTOCOLS:
        result = segmentation.segment(setup, protocol, arm)
        distributed.from_main(lambda: segmentation.write_evaluation(setup, protocol, arm.init, result))
    else:
        result = transfer(setup, protocol, arm)
        distributed.from_main(lambda: scoring.write_evaluation(setup, protocol, arm.init, result))
    distributed.from_main(lambda: remove_rejected(setup.workdir, result.chosen))


def write_results(setup: Setup, evaluations: list[Evaluation]) -> Results:
    """Write segmentations.csv, predictions.csv and, last of all, results.json, whose content is returned."""
    segmentation.write_segmentations(setup, evaluations)
    inits = list(dict.fromkeys(e["init"] for e in evaluations))
    return scoring.write_results(setup, evaluations, episodes.read(setup, inits))


def report(setup: Setup, results: Results) -> None:
    """Write report.html, log the scores, and print the summary."""
    predictions, masks = read_predictions(setup.workdir, results), read_segmentations(setup.workdir, results)
    differences = compute_differences(results, predictions, masks)
    page.write(setup.workdir, differences)
    metrics.conclude(setup.workdir, config_to_json(setup.config), results)
    metrics.console.print(table.summarize(results, setup.workdir, differences))
