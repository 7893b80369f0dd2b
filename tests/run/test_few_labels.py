"""Few labels: enough steps, and choices by cross-validation of these labels alone."""

import math

import numpy as np
import pytest

from jaxssl.evaluation import probe
from jaxssl.results import cautions, description, schema
from jaxssl.results.workdir import read_results
from jaxssl.run import encoders, episodes, experiment, few_labels, plan, prepare, transfer
from jaxssl.run.setup import transfer_rows
from jaxssl.training import metrics
from tests import tiny_config


def config(**changes):
    c = tiny_config.get_config()
    c.data.labels_per_class = 4
    c.pretrain.epochs = 0
    c.transfer.freeze_epochs = 0
    c.update_from_flattened_dict(changes)
    return c


def test_folds_keep_groups_together_and_hold_each_label_out_once(tmp_path):
    setup = prepare.prepare(config(), tmp_path)
    labels, groups = setup.source.labels[setup.labelled], setup.source.groups[setup.labelled]
    folds = few_labels.make_folds(setup)
    assert len(labels) == 12 and len(folds) == 4
    np.testing.assert_array_equal(np.sort(np.concatenate([held for _, held in folds])), np.arange(12))
    for train, held in folds:
        assert not {*groups[train]} & {*groups[held]}
        assert len({*labels[train]}) == 3
    # One group for each class leaves nothing to hold out.
    source = setup.source._replace(groups=np.array([f"g{label}" for label in setup.source.labels]))
    assert few_labels.make_folds(setup._replace(source=source)) == []


def test_the_probe_chooses_by_the_few_labels_alone(tmp_path):
    setup = prepare.prepare(config(**{"data.validation_labels": "few"}), tmp_path)
    assert transfer_rows(setup)["validation"] is setup.labelled
    features = np.random.default_rng(0).normal(size=(12, 5)) + setup.source.labels[setup.labelled][:, None]
    fitted, held_out = few_labels.fit_probe(setup, features, "accuracy")
    labels, scores = setup.source.labels[setup.labelled], {}
    for C in probe.C_GRID:
        right = 0
        for train, held in few_labels.make_folds(setup):
            part = features[train], labels[train]
            one = probe.fit(*part, *part, classes=3, metric="accuracy", Cs=[C])
            right += (probe.predict_proba(one, features[held]).argmax(1) == labels[held]).sum()
        scores[C] = right / 12
    assert fitted.validation == max(scores.values()) and scores[fitted.C] == fitted.validation
    assert (held_out.argmax(1) == labels).mean() == fitted.validation


def test_few_labels_are_trained_on_for_enough_steps(tmp_path):
    setup = prepare.prepare(config(**{"transfer.batch_size": 64, "transfer.epochs": 3}), tmp_path)
    c = setup.config.transfer
    assert (c.batch_size, c.min_steps_per_epoch) == (12, math.ceil(plan.FEW_LABELS_STEPS / 3))
    assert setup.requested == {"transfer.batch_size": 64, "transfer.min_steps_per_epoch": 0}


def test_episodes_of_as_many_labels_as_there_are(tmp_path):
    setup = prepare.prepare(config(**{"transfer.shots": (1, 5), "transfer.episodes": 20}), tmp_path)
    arm = transfer.make_arm(setup, "random", encoders.init_encoder(setup))
    episodes.collect(setup, arm)
    (found,) = episodes.read(setup, ["random"])
    assert description.check(found, schema.Episodes) == []
    assert (found["init"], found["shots"], found["draws"]) == ("random", 1, 20)
    assert 0 <= found["low"] <= found["accuracy"]["value"] <= found["high"] <= 1
    assert not description.find_damage(tmp_path)
    file = tmp_path / "evaluations" / "episodes_random.json"
    for damaged in (b"\xff", file.read_bytes()[:100], b"[]"):
        file.write_bytes(damaged)
        assert episodes.read(setup, ["random"]) == []
    episodes.collect(setup, arm)
    assert episodes.read(setup, ["random"]) == [found]


@pytest.mark.slow
@pytest.mark.parametrize("few", [False, True])
def test_a_run_with_twelve_labels(tmp_path, few):
    changes = {"transfer.min_steps_per_epoch": 1, "transfer.epochs": 1, "transfer.batch_size": 8}
    if few:
        changes |= {"data.validation_labels": "few", "transfer.learning_rates": (1e-2, 1e-3)}
    experiment.run(config(**changes), tmp_path)
    results = read_results(tmp_path)
    of = {e["protocol"]: e for e in results["evaluations"]}
    validation = results["dataset"]["splits"]["validation"]["images"]
    assert {e["chosen_on"] for e in of.values()} == {0 if few else validation}
    assert bool(cautions._choice_cautions(results)) != few
    rates = {row["phase"] for row in metrics.read(tmp_path) if row["phase"].startswith("finetune_random")}
    assert len(rates) == (1 + 2 * 4 if few else 1)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir())[0] == "finetune_random"
    if few:
        assert (
            of["finetune"]["selected_by"] == "no validation, the last epoch"
            and of["probe"]["selected_by"] == "auc_macro"
        )
