"""What went wrong in the student projects before this one, staged: each failure is refused, or said aloud.

`STAGED` names the tests of other files that stage one; the tests here stage what those leave open.
"""

import csv
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxssl.config import checks
from jaxssl.inference import export
from jaxssl.models.shapes import shapes_of
from jaxssl.results.workdir import write
from jaxssl.run import prepare as preparation
from jaxssl.run.workdir import claim
from jaxssl.training import checkpoint
from tests import tiny_config, tiny_run
from tests.refusals import refuses
from tests.study import test_compare

ROOT = Path(__file__).parents[1]
STAGED = {
    "splits by slice where patients repeat": (
        "data/test_splits.py::test_leak_in_the_official_split",  # Refused.
        "data/test_splits.py::test_check_names_groups",
        "data/datasets/test_brain_tumor.py::test_split_keeps_patients_together",
        "data/test_audit.py::test_groups_on_two_sides",
        "report/test_report.py::test_unknown_groups_and_collapse_are_said",
    ),
    "the same model carried across the folds": (
        "run/test_experiment.py::test_folds_are_runs_of_their_own_from_fresh_weights",
        "run/test_experiment.py::test_a_fold_after_another_ends_as_it_does_alone",
        "objectives/test_distill.py::test_a_teacher_that_has_seen_the_test_images_is_refused",
        "test_sins.py::test_the_same_model_carried_across_the_folds",
    ),
    "the validation set used as test set": (
        "data/test_splits.py::test_official_split_without_test",
        "run/test_experiment.py::test_thresholds_and_temperature_are_found_on_validation_alone",
        "run/test_experiment.py::test_the_learning_rate_is_that_which_is_best_on_validation",
        "test_sins.py::test_the_validation_set_used_as_test_set",
    ),
    "arms of one comparison with different batch sizes, epochs and augmentation": (
        "test_configs.py::test_the_arms_of_a_study_differ_in_seed_labels_and_start_alone",
        "study/test_compare.py::test_without_any_config_what_arms_differ_in_is_not_known",
        "test_sins.py::test_arms_with_different_batch_sizes_epochs_and_augmentation",
    ),
    "test scores on training images": (
        "run/test_experiment.py::test_splits_are_stored_apart_and_predictions_are_of_test_alone",
        "data/test_audit.py::test_exact_copies_within_and_across_splits_and_classes",
        "inference/test_predict.py::test_the_runs_own_test_images_get_the_numbers_of_its_table",
        "test_sins.py::test_test_scores_on_training_images",
        "test_sins.py::test_weights_that_know_images_to_be_tested",
        "test_sins.py::test_weights_that_may_know_images_to_be_tested",
    ),
    "pretrained weights that were never loaded": (
        "run/test_experiment.py::test_an_encoder_that_was_never_loaded_is_refused",
        "weights/test_merge.py::test_merge_names_what_differs_on_either_side",
        "weights/test_weights.py::test_what_does_not_fit_is_said_in_one_line",
    ),
    "an evaluation with an untrained head": (
        "test_main.py::test_invalid_input_is_one_line_and_exit_code_2",  # transfer.epochs=0
        "inference/test_inference.py::test_a_run_without_a_trained_head_encodes_and_refuses_to_predict",
        "test_sins.py::test_an_evaluation_with_an_untrained_head",
    ),
    "self-supervised pairs made from labels": (
        "run/test_experiment.py::test_pretraining_that_reads_labels_is_called_supervised_and_reads_no_more_than_it_may",
        "objectives/test_pairs.py::test_only_pairs_from_labels_read_labels",
        "objectives/test_distill.py::test_what_labels_taught_is_supervised_on_features_too",
        "study/test_compare.py::test_pretraining_with_labels_is_called_supervised",
    ),
    "NaN found after several failed runs": (
        "data/datasets/test_folder.py::test_nan_is_refused",  # Before training.
        "data/datasets/test_real_lenses.py::test_nan_is_refused_unless_said",
        "data/datasets/test_npz.py::test_nan",
        "data/test_audit.py::test_holes_are_counted",
        "run/test_experiment.py::test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint_before",
        "evaluation/test_scores.py::test_refusals",
    ),
    "a constant predictor reported as a result": (
        "evaluation/test_scores.py::test_constant_predictor",
        "report/test_report.py::test_summary_fits_eighty_columns_and_says_all",
        "study/test_compare.py::test_arms_that_predict_one_class_or_no_better_than_that_are_said",
    ),
    "one run, no interval": (
        "run/test_experiment.py::test_results_hold_what_the_design_says",
        "report/test_report.py::test_answer_from_intervals",
        "study/test_compare.py::test_one_run_is_the_paired_difference_of_scores_and_has_no_p_value_over_seeds",
        "study/test_compare.py::test_four_seeds_have_an_interval_and_no_p_value_over_seeds",
    ),
}


@pytest.mark.parametrize("sin", STAGED)
def test_it_is_staged_where_it_says(sin):
    for name in STAGED[sin]:
        file, _, function = name.partition("::")
        assert re.search(rf"^def {function}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE), name


def test_the_same_model_carried_across_the_folds(tmp_path):
    """The encoder of one fold, exported and given to another fold, has seen what is tested there."""
    c = tiny_config.get_config()
    c.data.folds = 3
    workdir, file = tmp_path / "run", tmp_path / "encoder.safetensors"
    setup = preparation.prepare(c, workdir)
    workdir.mkdir()
    claim(setup)
    shapes = shapes_of(setup.encoder, 16, 1)
    checkpoint.save(workdir / "checkpoints" / "encoder", 1, jax.tree.map(lambda s: np.ones(s.shape, s.dtype), shapes))
    results = {"dataset": {"classes": []}, "pretrain": {"supervised": False}, "evaluations": []}
    write(workdir / "results.json", results)
    export.export_encoder(workdir, file)
    c.init.weights = str(file)
    preparation.prepare(c, tmp_path / "same fold")
    c.data.fold = 1
    with refuses("leakage", "init.weights", "such as lens"):
        preparation.prepare(c, tmp_path / "other fold")
    # Other images of the same kind are what weights are given for.
    c.seed = 1
    preparation.prepare(c, tmp_path / "other images")


@pytest.fixture
def from_itself(run, tmp_path):
    """The config of a finished run, to start from what it trained."""
    export.export_encoder(run.workdir, tmp_path / "encoder.safetensors")
    c = tiny_run.get_config(run.images)
    c.init.weights = str(tmp_path / "encoder.safetensors")
    return c


@pytest.mark.parametrize("change", [{"seed": 1}, {"seed": 1, "data.stored_size": 24}])
def test_weights_that_know_images_to_be_tested(from_itself, tmp_path, change):
    """However the images are scaled: what is compared is which they are, not their pixels."""
    c = from_itself
    preparation.prepare(c, tmp_path / "run")
    c.update_from_flattened_dict(change)
    with refuses("leakage", "init.weights"):
        preparation.prepare(c, tmp_path / "run")


def test_weights_that_may_know_images_to_be_tested(from_itself, tmp_path, caplog):
    c = from_itself
    c.seed = 1
    c.data.dir = shutil.copytree(c.data.dir, tmp_path / "copy").as_posix()
    c.data.stored_size = 24
    preparation.prepare(c, tmp_path / "run")
    assert "used images with the ids of" in caplog.text
    caplog.clear()
    for file in (tmp_path / "copy").rglob("*.*"):
        file.rename(file.with_name(f"other-{file.name}"))
    preparation.prepare(c, tmp_path / "run")
    assert not caplog.text


@pytest.mark.parametrize(
    ("labelled", "is_refused"),
    [("test", True), ("train", False)],
)
def test_what_cannot_be_evaluated_is_said_before_it_is_trained_for(run, tmp_path, labelled, is_refused):
    """One official side alone has labels; where that is train, it has validation and test taken from it."""
    names = sorted(path.relative_to(run.images).as_posix() for path in run.images.rglob("*.*"))
    rows = ["path,label,split"]
    for i, name in enumerate(names):
        side = ("train", "test")[i % 2]
        rows.append(f"{name},{name.split('/')[0] if side == labelled else ''},{side}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    c = tiny_run.get_config(run.images)
    c.data.options.table = str(tmp_path / "labels.csv")
    c.pretrain.on = "train+unlabelled"
    c.pretrain.batch_size = c.transfer.batch_size = 4
    if is_refused:
        with refuses("missing", "data.use_official_split", "the train split"):
            preparation.prepare(c, tmp_path / "run")
    else:
        setup = preparation.prepare(c, tmp_path / "run")
        assert all(len(rows) and (setup.source.labels[rows] >= 0).all() for rows in setup.splits.values())


def test_one_image_is_too_few_to_pretrain_on(run, tmp_path):
    (tmp_path / "one").mkdir()
    shutil.copy(run.images / "dark" / "00.png", tmp_path / "one")
    c = tiny_run.get_config(tmp_path / "one")
    c.pretrain.batch_size = 1
    with refuses("too-few", "data.dir"):
        preparation.prepare(c, tmp_path / "run")


def of_split(folder, split):
    """A finished run whose splits.json holds its images in another split than that of its predictions."""
    run = test_compare.run(folder / "run")
    ids = sorted({row["image_id"] for row in csv.DictReader((run / "predictions.csv").read_text().splitlines())})
    splits = {"train": [], "validation": [], "test": ids[10:]} | {split: ids[:10]}
    write(run / "splits.json", splits)
    return run


def test_the_validation_set_used_as_test_set(tmp_path):
    run = of_split(tmp_path / "by images", "validation")
    with refuses("leakage", str(run / "predictions.csv"), "probe_ssl has 10 images"):
        test_compare.study(run)
    run = test_compare.run(tmp_path / "by name")
    (run / "results.json").write_text((run / "results.json").read_text().replace('"split": "test"', '"split": "val"'))
    with refuses("leakage", str(run / "predictions.csv"), "probe_ssl is of the val split"):
        test_compare.study(run)


def test_test_scores_on_training_images(tmp_path):
    run = of_split(tmp_path, "train")
    with refuses("leakage", str(run / "predictions.csv"), "probe_ssl has 10 images"):
        test_compare.study(run)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("pretrain.batch_size", (64, 256)),
        ("pretrain.epochs", (50, 100)),
        ("pretrain.augment.noise", (0.0, 0.1)),
        ("transfer.batch_size", (16, 32)),
        ("transfer.epochs", (3, 30)),
        ("transfer.augment.rotate90", (False, True)),
        ("data.image_size", (32, 64)),
    ],
)
def test_arms_with_different_batch_sizes_epochs_and_augmentation(tmp_path, field, values):
    for objective, value in zip(("byol", "mae"), values, strict=True):
        tree = value
        for part in reversed(field.split(".")):
            tree = {part: tree}
        test_compare.run(tmp_path / objective, objective=objective, protocols=("finetune",), config=tree)
    said = test_compare.study(tmp_path)["conclusion"]["may_not"]
    assert f"Arms also differ in {field}: a difference between them may come from that." in said


@pytest.mark.parametrize("rates", [(), (0.0,)])
def test_an_evaluation_with_an_untrained_head(rates):
    c = tiny_config.get_config()
    checks.check(c)
    c.transfer.learning_rates = rates
    c.transfer.optimizer.learning_rate = 1.0 if rates else 0.0
    with refuses("out-of-range", "transfer.learning_rates" if rates else "transfer.optimizer.learning_rate"):
        checks.check(c)
    c.transfer.learning_rates = ()
    c.transfer.protocols = ("probe", "knn")  # Which need no training by steps.
    checks.check(c)
    c.pretrain.optimizer.learning_rate = 0.0
    with refuses("out-of-range", "pretrain.optimizer.learning_rate"):
        checks.check(c)
