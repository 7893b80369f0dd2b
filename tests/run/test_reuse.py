"""A run takes over the pretraining of another one, if it is the one that it would do itself."""

import shutil

import pytest

from jaxssl.run import experiment
from jaxssl.training import metrics
from tests import tiny_run
from tests.refusals import refuses


def pretraining(workdir):
    return metrics.read(workdir, "pretrain")


def test_a_run_with_other_settings_of_the_transfer_takes_over_the_pretraining(run, tmp_path):
    c = tiny_run.get_config(run.images)
    c.transfer.protocols, c.data.label_fraction, c.data.validation_labels = ("knn",), 0.5, "few"
    results = experiment.run(c, tmp_path / "new", run.workdir)
    assert pretraining(tmp_path / "new") == pretraining(run.workdir)
    assert [e["name"] for e in results["evaluations"]] == ["knn_ssl", "knn_random"]
    # The same command resumes.
    assert experiment.run(c, tmp_path / "new", run.workdir) == results


def test_a_longer_pretraining_goes_on_from_the_encoder(run, tmp_path, caplog):
    c = tiny_run.get_config(run.images)
    c.pretrain.epochs, c.transfer.protocols = 2, ("probe",)
    results = experiment.run(c, tmp_path / "longer", run.workdir)
    assert f"--from={run.workdir}: pretrain.epochs is 1 there and 2 here" in caplog.text
    # The arms are the encoder as it was, and after two more epochs.
    assert [e["init"] for e in results["evaluations"]] == ["workdir+ssl", "workdir", "random"]
    assert pretraining(tmp_path / "longer")[-1]["step"] == 2 * pretraining(run.workdir)[-1]["step"]
    assert experiment.run(c, tmp_path / "longer", run.workdir) == results


@pytest.mark.parametrize(("field", "value"), [("seed", 1), ("model.options.width", 8), ("data.test", 0.25)])
def test_another_pretraining_is_refused(run, tmp_path, field, value):
    c = tiny_run.get_config(run.images)
    c.update_from_flattened_dict({field: value})
    with refuses("conflict", "--from", field, f"--config.init.weights={run.workdir}"):
        experiment.run(c, tmp_path / "new", run.workdir)
    assert not (tmp_path / "new" / "config.json").exists()


def test_a_refused_workdir_names_the_flag_that_fits(run):
    for field, value, flag in (
        ("transfer.epochs", 7, "--from"),
        ("pretrain.epochs", 2, "--from"),
        ("seed", 1, "--config.init.weights"),
    ):
        c = tiny_run.get_config(run.images)
        c.update_from_flattened_dict({field: value})
        with refuses("conflict", "--workdir", f"{flag}={run.workdir}"):
            experiment.run(c, run.workdir)


def test_other_images_are_refused(run, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(run.images, images)
    (images / "bright" / "00.png").unlink()
    with refuses("mismatch", "--from"):
        experiment.run(tiny_run.get_config(images), tmp_path / "new", run.workdir)


def test_a_folder_without_a_run_is_refused(run, tmp_path):
    with refuses("missing", None, "config.json"):
        experiment.run(tiny_run.get_config(run.images), tmp_path / "new", tmp_path)
