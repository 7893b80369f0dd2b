"""One experiment, from images to results: pretrain, transfer, evaluate, report.

What the workdir already holds is not done again: the same call resumes a run that was interrupted.
"""

import json
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxssl import files
from jaxssl.report import page, table
from jaxssl.results.predictions import compute_differences, read_predictions
from jaxssl.results.schema import Evaluation
from jaxssl.run import gallery, scoring
from jaxssl.run import workdir as workdirs
from jaxssl.run.encoders import init_encoder
from jaxssl.run.prepare import prepare
from jaxssl.run.pretraining import pretrain
from jaxssl.run.setup import Setup, init_names
from jaxssl.run.transfer import make_arm, remove_rejected, transfer
from jaxssl.training import distributed, metrics

Tree = Any


def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Run or resume the experiment `config` in `workdir` and return the content of results.json.

    Raises:
      UserError: the config, the data or the workdir are invalid, or do not fit together.
      TrainingFailedError: the loss is not finite, or the encoder collapsed and `on_collapse` is "stop".
      PreemptedError: a signal came, and everything is saved.
    """
    setup = prepare(config, Path(workdir))
    with workdirs.open_workdir(setup.workdir):
        distributed.from_main(lambda: begin(setup))
        encoders = make_encoders(setup)
        evaluations = evaluate(setup, encoders)
        results = distributed.from_main(lambda: scoring.write_results(setup, evaluations))
        # The gallery computes on the devices of one process.
        if jax.process_count() == 1:
            gallery.collect(setup)
        distributed.from_main(lambda: report(setup, results))
        return results


def begin(setup: Setup) -> None:
    """Write what the run starts with: config.json, splits.json and audit.json."""
    files.remove_unfinished(setup.workdir)
    workdirs.claim(setup)
    workdirs.audit_images(setup)


def make_encoders(setup: Setup) -> dict[str, Tree]:
    """Return the variables of the encoder by initialization, the pretrained one first."""
    encoders = [init_encoder(setup)]
    if setup.weights is not None:
        encoders.insert(0, setup.weights)
    if setup.config.pretrain.epochs:
        encoders.insert(0, pretrain(setup, encoders[0]))
    names = init_names(setup.config, bool(setup.objective and setup.objective.supervised))
    return dict(zip(names, encoders, strict=True))


def evaluate(setup: Setup, encoders: dict[str, Tree]) -> list[Evaluation]:
    """Return the evaluations of each encoder by each protocol; those in evaluations/ are not computed again."""
    evaluations = []
    if not setup.source.classes:
        return evaluations
    for init, variables in encoders.items():
        if init not in (setup.config.transfer.inits or encoders):
            continue
        arm = make_arm(setup, init, variables)
        for protocol in setup.config.transfer.protocols:
            file = setup.workdir / "evaluations" / f"{protocol}_{init}.json"
            if not distributed.from_main(file.exists):
                result = transfer(setup, protocol, arm)
                distributed.from_main(lambda: scoring.write_evaluation(setup, protocol, init, result))
                distributed.from_main(lambda: remove_rejected(setup.workdir, result.chosen))
            evaluations.append(distributed.from_main(lambda: json.loads(file.read_text())))
    return evaluations


def report(setup: Setup, results: dict[str, Any]) -> None:
    """Write report.html, log the scores, and print the summary."""
    differences = compute_differences(results, read_predictions(setup.workdir, results))
    page.write(setup.workdir, differences)
    metrics.conclude(setup.workdir, workdirs.config_to_json(setup.config), results)
    metrics.console.print(table.summarize(results, setup.workdir, differences))
