"""One experiment from images to results: its files, its scores, and what comes of killing it."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score

from jaxssl.augment import views
from jaxssl.data import source
from jaxssl.errors import TrainingFailedError
from jaxssl.inference import export, trained
from jaxssl.run import encoders, experiment, pretraining, scoring, transfer
from jaxssl.run import prepare as preparation
from jaxssl.run import workdir as workdirs
from jaxssl.training import checkpoint, loop, metrics
from tests import tiny_config
from tests.refusals import refuses

ROOT = Path(__file__).parents[2]


@pytest.fixture
def done(lenses_run):
    return lenses_run


def table(workdir):
    with open(workdir / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def outcome(workdir):
    """results.json without its times, and predictions.csv."""
    text = re.sub(r'"(seconds|images_per_second)": [0-9.e+-]+', "", (workdir / "results.json").read_text())
    return text, (workdir / "predictions.csv").read_text()


def test_results_hold_what_the_design_says(done):
    workdir, results = done
    assert json.loads((workdir / "results.json").read_text()) == json.loads(json.dumps(results))
    dataset = results["dataset"]
    assert dataset["classes"] == ["no", "sphere", "vort"] and dataset["name"] == "lenses" and dataset["groups_known"]
    assert sum(split["images"] for split in dataset["splits"].values()) == 120
    pretrain = results["pretrain"]
    assert pretrain["objective"] == "byol" and pretrain["epochs"] == 2 and pretrain["expected_first_loss"] is None
    assert pretrain["seconds"] > 0 and 0 < pretrain["final_loss"] < pretrain["first_loss"] <= 8
    assert set(pretrain["collapse"]) == {"verdict", "feature_std", "effective_rank"}
    names = [e["name"] for e in results["evaluations"]]
    assert names == [f"{p}_{i}" for i in ("ssl", "random") for p in ("probe", "knn", "finetune")]
    for e in results["evaluations"]:
        assert e["name"] == f"{e['protocol']}_{e['init']}" and e["split"] == "test" and e["fold"] is None
        assert e["images"] == dataset["splits"]["test"]["images"] == np.sum(e["confusion"])
        assert set(e["metrics"]) == {"accuracy", "balanced_accuracy", "auc_macro", "f1_macro", "ece", "ece_calibrated"}


def test_every_score_can_be_recomputed_from_predictions(done):
    workdir, results = done
    rows = table(workdir)
    classes = results["dataset"]["classes"]
    for e in results["evaluations"]:
        of = [r for r in rows if r["evaluation"] == e["name"]]
        labels = [classes.index(r["label"]) for r in of]
        p = np.array([[float(r[f"p_{c}"]) for c in classes] for r in of])
        predicted = [classes.index(r["predicted"]) for r in of]
        assert predicted == p.argmax(1).tolist()
        present = np.unique(labels)
        expected = {
            "accuracy": accuracy_score(labels, predicted),
            "balanced_accuracy": balanced_accuracy_score(labels, predicted),
            "auc_macro": roc_auc_score(labels, p / p.sum(1, keepdims=True), multi_class="ovr"),
            "f1_macro": f1_score(labels, predicted, labels=present, average="macro", zero_division=0),
        }
        for name, value in expected.items():
            assert e["metrics"][name]["value"] == pytest.approx(value, abs=1e-9), (e["name"], name)
        assert e["majority_accuracy"] == pytest.approx(max(np.bincount(labels)) / len(labels))


def test_splits_are_stored_apart_and_predictions_are_of_test_alone(done):
    workdir, results = done
    splits = json.loads((workdir / "splits.json").read_text())
    expected = {
        "schema_version",
        "train",
        "validation",
        "test",
        "groups_known",
        "fingerprint",
        "config_sha256",
        "pixels",
    }
    assert set(splits) == expected
    for e in results["evaluations"]:
        of = e["overfitting"]
        assert (of is None) == (e["protocol"] == "knn")
        if of:
            assert of["gap"]["value"] == pytest.approx(of["validation_loss"] - of["train_loss"])
            assert e["selected_by"] == "auc_macro"
    sets = [set(splits[name]) for name in ("train", "validation", "test")]
    assert sum(map(len, sets)) == len(set().union(*sets)) == 120
    assert {r["image_id"] for r in table(workdir)} == sets[2]
    assert splits["fingerprint"] == results["dataset"]["fingerprint"]


def test_metrics_tell_the_story_of_each_phase(done):
    workdir, _ = done
    rows = metrics.read(workdir, "pretrain")
    steps = [r for r in rows if "loss" in r]
    assert [r["step"] for r in steps] == list(range(1, len(steps) + 1))
    assert (steps[0]["epoch"], steps[-1]["epoch"]) == (1, 2)
    assert {"images_per_second", "online_probe_accuracy", "embedding_std", "gradient_norm", "epoch"} <= set(steps[0])
    assert [r["epoch"] for r in rows if "effective_rank" in r] == [0, 1, 2]
    assert [r["epoch"] for r in metrics.read(workdir, "finetune_ssl") if "validation" in r] == [0, 1, 2]
    assert list((workdir / "tensorboard" / "pretrain").glob("events*"))
    config = json.loads((workdir / "config.json").read_text())
    assert config["config"]["pretrain"]["epochs"] == 2 and config["versions"]["jax"] and config["devices"]


def test_the_frozen_encoder_did_not_move_by_a_bit_and_then_did(done):
    """freeze_epochs is 1 of 2: after the first epoch the encoder is still that of pretraining, its statistics too."""
    workdir, _ = done
    encoder = restore(workdir / "checkpoints" / "encoder")
    first = restore(workdir / "checkpoints" / "finetune_ssl", newest=False)
    jax.tree.map(np.testing.assert_array_equal, first["params"]["encoder"], encoder["params"])
    jax.tree.map(np.testing.assert_array_equal, first["model_state"]["encoder"]["batch_stats"], encoder["batch_stats"])
    assert np.abs(first["params"]["head"]["linear"]["kernel"]).max() > 0
    last = restore(workdir / "checkpoints" / "finetune_ssl")
    assert not np.array_equal(last["params"]["encoder"]["conv1"]["kernel"], encoder["params"]["conv1"]["kernel"])


def restore(folder, newest=True):
    import orbax.checkpoint as ocp

    step = checkpoint.list_steps(folder)[0 if newest else -1]
    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore((folder / str(step)).absolute())
    plain = {name: value for name, value in tree.items() if name != "key"}
    return jax.tree.map(np.asarray, plain)


def test_pictures_are_gathered_at_the_end(done):
    workdir, _ = done
    with np.load(workdir / "gallery.npz", allow_pickle=False) as gallery:
        assert {"views_ids", "map_tsne", "near_ids", "wrong_ids", "heat"} <= set(gallery)
        test = json.loads((workdir / "splits.json").read_text())["test"]
        assert set(gallery["map_ids"].tolist()) <= set(test)
    assert "Nearest neighbors" in (workdir / "report.html").read_text()


def test_a_finished_run_is_not_done_again(done):
    workdir, results = done
    before = {f: f.stat().st_mtime_ns for f in (workdir / "checkpoints").rglob("*") if f.is_file()}
    assert experiment.run(tiny_config.get_config(), workdir) == results
    assert before == {f: f.stat().st_mtime_ns for f in (workdir / "checkpoints").rglob("*") if f.is_file()}


def test_a_workdir_of_another_config_is_refused_with_the_difference(done):
    workdir, _ = done
    c = tiny_config.get_config()
    c.pretrain.epochs = 3
    with refuses("conflict", "--workdir", "pretrain.epochs is 2 there and 3 here"):
        experiment.run(c, workdir)
    assert not list(workdirs.differences({"mesh": {"data": 1}}, {"mesh": {"data": 2}}))


def test_an_unlabelled_folder_is_pretrained_on_and_not_evaluated(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(40):
        np.save(tmp_path / "images" / f"{i}.npy", rng.normal(size=(20, 24, 2)).astype(np.float32))
    c = tiny_config.get_config()
    c.data.name, c.data.dir, c.data.options = "folder", str(tmp_path / "images"), {}
    c.pretrain.epochs = 1
    results = experiment.run(c, tmp_path / "run")
    assert results["evaluations"] == [] and results["dataset"]["classes"] == []
    assert results["dataset"]["splits"]["train"]["images"] == 40 and not results["dataset"]["groups_known"]
    assert results["pretrain"]["final_loss"] > 0
    assert (tmp_path / "run" / "report.html").stat().st_size > 1000
    assert table(tmp_path / "run") == []


def test_two_runs_do_not_share_a_workdir(done):
    workdir, _ = done
    with workdirs.open_workdir(workdir), refuses("in-use", "--workdir"):
        experiment.run(tiny_config.get_config(), workdir)


def test_other_images_under_the_same_config_are_refused(done, monkeypatch):
    workdir, _ = done
    real = preparation.data.load

    def other(*args, **kw):
        return real(*args, **kw)._replace(fingerprint="other")

    monkeypatch.setattr(preparation.data, "load", other)
    with refuses("mismatch", str(workdir / "splits.json")):
        experiment.run(tiny_config.get_config(), workdir)


def test_an_encoder_that_was_never_loaded_is_refused(done, tmp_path):
    workdir, _ = done
    variables = restore(workdir / "checkpoints" / "encoder")
    checkpoint.save(tmp_path / "same", 1, variables)
    with refuses("conflict", "pretrain.optimizer.learning_rate"):
        pretraining.load_pretrained(tmp_path / "same", variables)
    with refuses("damaged", str(tmp_path / "none")):
        pretraining.load_pretrained(tmp_path / "none", variables)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint_before(tmp_path):
    c = tiny_config.get_config()
    c.pretrain.optimizer.name = "sgd"
    c.pretrain.optimizer.learning_rate = 1e30
    c.pretrain.save_every = 1
    with pytest.raises(TrainingFailedError, match=r"pretrain: .* at step"):
        experiment.run(c, tmp_path)
    for step in checkpoint.list_steps(tmp_path / "checkpoints" / "pretrain"):
        assert all(
            np.isfinite(r["loss"]) for r in metrics.read(tmp_path, "pretrain") if r["step"] <= step and "loss" in r
        )
    assert metrics.read(tmp_path, "pretrain")[-1]["gradient_norm"] is None
    assert not (tmp_path / "results.json").exists()


def start(workdir):
    command = [sys.executable, "-m", "jaxssl.main", f"--config={ROOT}/tests/tiny_config.py", f"--workdir={workdir}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def run_until(workdir, phase, step, number, times=1):
    """Starts the run, sends it the signal once it has written that row, and returns (exit code, stderr)."""
    with start(workdir) as process:
        while process.poll() is None and not any(r["step"] >= step for r in metrics.read(workdir, phase)):
            time.sleep(0.02)
        for again in range(times):
            time.sleep(1.1 * loop.SAME_SIGNAL_SECONDS * again)
            process.send_signal(number)
        _, error = process.communicate()
    return process.returncode, error


def run_to_the_end(workdir):
    with start(workdir) as process:
        _, error = process.communicate()
    assert process.returncode == 0, error


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run in a process of its own, as eight devices share the threads in another way than one does."""
    workdir = tmp_path_factory.mktemp("whole")
    run_to_the_end(workdir)
    return workdir


def finish_as(whole, interrupted):
    """Run to the end, which must give every byte of the results and of the weights but the times."""
    run_to_the_end(interrupted)
    assert outcome(interrupted) == outcome(whole)
    for name in ("encoder", "finetune_ssl", "finetune_random_best"):
        jax.tree.map(np.testing.assert_array_equal, *(restore(w / "checkpoints" / name) for w in (whole, interrupted)))


def test_stopped_and_killed_it_ends_as_if_undisturbed(whole, tmp_path):
    code, error = run_until(tmp_path, "pretrain", 1, signal.SIGTERM)
    assert code == 75 and "run the same command again" in error, error
    assert checkpoint.list_steps(tmp_path / "checkpoints" / "pretrain")
    code, error = run_until(tmp_path, "finetune_ssl", 2, signal.SIGKILL)
    assert code == -signal.SIGKILL, error
    finish_as(whole, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_stopped_between_two_trainings_it_saves_and_says_so(whole, tmp_path, times):
    """As a rule: which of the two is a matter of milliseconds. A second SIGTERM ends a run at once."""
    code, error = run_until(tmp_path, "finetune_ssl", 10, signal.SIGTERM, times)
    assert code == 75 and "run the same command again" in error, error
    finish_as(whole, tmp_path)


@pytest.mark.slow
def test_killed_in_every_phase_it_ends_as_if_undisturbed(whole, tmp_path):
    for phase, step in [("pretrain", 1), ("pretrain", 4), ("finetune_ssl", 2), ("finetune_random", 1)]:
        code, error = run_until(tmp_path, phase, step, signal.SIGKILL)
        assert code == -signal.SIGKILL, error
    finish_as(whole, tmp_path)


def test_a_predictor_learns_at_the_rate_of_its_own(tmp_path):
    """At next to none, the scales of its batch norm stay 1; those of the projector move."""
    c = tiny_config.get_config()
    c.pretrain.epochs = 1
    c.pretrain.options.predictor_rate = 1e-9
    c.transfer.protocols = ("knn",)
    experiment.run(c, tmp_path)
    params = checkpoint.load_numpy(tmp_path / "checkpoints" / "pretrain")["params"]
    moved = {name: np.abs(params[name]["bn"]["scale"] - 1).max() for name in ("projector", "predictor")}
    assert moved["predictor"] < 1e-6 and moved["projector"] > 1e-4, moved


def test_pretraining_that_reads_labels_is_called_supervised_and_reads_no_more_than_it_may(tmp_path):
    config = tiny_config.get_config("pairs")
    results = experiment.run(config, tmp_path)
    assert results["pretrain"]["supervised"]
    assert [e["name"] for e in results["evaluations"]] == ["probe_supervised", "probe_random"]
    assert {e["init"] for e in results["evaluations"]} == {"supervised", "random"}
    page = (tmp_path / "report.html").read_text()
    assert "no result here is self-supervised" in page and "pairs with labels (supervised)" in page

    setup = preparation.prepare(config, tmp_path)
    assert 0 < len(setup.labelled) < len(setup.splits["train"])
    np.testing.assert_array_equal(setup.pretraining_rows, setup.labelled)


@pytest.mark.parametrize("asinh", [0.0, 10.0])
def test_training_images_have_mean_0_and_deviation_1_after_their_scaling(asinh):
    pixels = np.random.default_rng(0).gamma(0.5, 30.0, (50, 8, 8, 2)).astype(np.float32)
    images = source.make(pixels, np.zeros(50), [str(i) for i in range(50)], ("a", "b"))
    scaling = preparation.measure_pixels(images, np.arange(50), (1.0, 99.0), asinh)
    assert (scaling.low, scaling.high) == tuple(np.percentile(pixels, (1, 99)))
    seen = np.asarray(views.eval_transform(pixels, scaling, 8))
    np.testing.assert_allclose(seen.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(seen.std((0, 1, 2)), 1, atol=1e-4)


def test_given_weights_are_an_arm_and_the_start_of_pretraining(done, tmp_path):
    workdir, _ = done
    export.export_encoder(workdir, tmp_path / "encoder.safetensors")
    c = tiny_config.get_config()
    c.init.weights = str(tmp_path / "encoder.safetensors")
    c.init.mean, c.init.std = (0.5,), (0.25,)
    c.pretrain.optimizer.learning_rate = 1e-6
    c.transfer.protocols = ("probe",)
    results = experiment.run(c, tmp_path / "run")
    names = ["probe_encoder+ssl", "probe_encoder", "probe_random"]
    assert [e["name"] for e in results["evaluations"]] == names
    assert json.loads((tmp_path / "run" / "config.json").read_text())["pixels"]["mean"] == [0.5]
    # At this rate pretraining ends near where it began: at the given weights.
    given = checkpoint.load_numpy(workdir / "checkpoints" / "encoder")["params"]
    ended = checkpoint.load_numpy(tmp_path / "run" / "checkpoints" / "encoder")["params"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), given, ended)
    assert results["init"]["name"] == "encoder" and results["init"]["training_images_known"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert results["init"]["sha256"] in page and "ImageNet" not in page


def test_folds_are_runs_of_their_own_from_fresh_weights(tmp_path):
    tested, started = [], []
    for fold in range(3):
        c = tiny_config.get_config()
        c.data.folds, c.data.fold = 3, fold
        c.pretrain.epochs = 0
        c.transfer.protocols = ("probe",)
        (e,) = experiment.run(c, tmp_path / str(fold))["evaluations"]
        assert e["fold"] == fold
        tested += json.loads((tmp_path / str(fold) / "splits.json").read_text())["test"]
        started.append(encoders.init_encoder(preparation.prepare(c, tmp_path / str(fold))))
    assert len(tested) == len(set(tested)) == 120
    for other in started[1:]:
        jax.tree.map(np.testing.assert_array_equal, started[0], other)
    # What one fold trained cannot be found by another.
    with refuses("conflict", "--workdir", "belongs to another config: data.fold is 0 there and 2 here"):
        experiment.run(c, tmp_path / "0")


@pytest.mark.slow
def test_a_fold_after_another_ends_as_it_does_alone(tmp_path):
    """Nothing that one fold has trained is in the next."""
    ended = []
    for i, fold in enumerate((1, 0, 1)):
        c = tiny_config.get_config()
        c.data.folds, c.data.fold = 3, fold
        c.pretrain.epochs = 1
        c.transfer.protocols = ("probe",)
        workdir = tmp_path / str(i)
        experiment.run(c, workdir)
        weights = jax.tree.leaves(checkpoint.load_numpy(workdir / "checkpoints" / "encoder"))
        ended.append(([np.asarray(w).tobytes() for w in weights], (workdir / "predictions.csv").read_bytes()))
    assert ended[0] == ended[2]
    assert ended[0][0] != ended[1][0] and ended[0][1] != ended[1][1]


def test_pretraining_sees_images_without_labels_only_where_it_may(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 16, 16, 1), np.uint8)
    labels = np.concatenate([np.arange(60) % 3, np.full(30, source.UNLABELLED)])
    images = source.make(pixels, labels, [f"i{i:02}" for i in range(90)], ("a", "b", "c"))
    monkeypatch.setattr(preparation.data, "load", lambda name, **kw: images)
    c = tiny_config.get_config()
    setup = preparation.prepare(c, tmp_path)
    assert 0 < len(setup.pretraining_rows) == len(setup.labelled) < len(setup.splits["train"])
    c.pretrain.on = "train+unlabelled"
    setup = preparation.prepare(c, tmp_path)
    np.testing.assert_array_equal(setup.pretraining_rows, setup.splits["train"])
    assert (setup.source.labels[setup.labelled] >= 0).all() and set(range(60, 90)) <= set(
        setup.pretraining_rows.tolist()
    )


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("searched")
    c = tiny_config.get_config()
    c.pretrain.epochs = 0
    c.transfer.protocols = ("finetune",)
    c.transfer.learning_rates = (0.0, 1e-2)
    c.transfer.freeze_epochs = 0
    return c, workdir, experiment.run(c, workdir)


def test_the_learning_rate_is_that_which_is_best_on_validation(searched):
    _, workdir, results = searched
    (e,) = results["evaluations"]
    assert e["name"] == "finetune_random"
    assert [(t["phase"], t["learning_rate"]) for t in e["tried"]] == [
        ("finetune_random_1", 0.0),
        ("finetune_random_2", 1e-2),
    ]
    of_phase = []
    for t in e["tried"]:
        rows = metrics.read(workdir, t["phase"])
        of_phase.append(max(r["validation"] for r in rows if r["step"] and "validation" in r))
    assert [t["validation"] for t in e["tried"]] == of_phase
    best = e["tried"][int(np.argmax(of_phase))]
    assert (e["phase"], e["learning_rate"]) == (best["phase"], best["learning_rate"])
    kept = {folder.name for folder in (workdir / "checkpoints").iterdir()}
    assert kept == {e["phase"], f"{e['phase']}_best"}
    head = restore(workdir / "checkpoints" / f"{e['phase']}_best")["params"]["head"]
    found = trained.load(workdir, "finetune_random").head
    np.testing.assert_array_equal(found["linear"]["kernel"], head["linear"]["kernel"])
    assert e["phase"].replace("_", "-") in (workdir / "report.html").read_text()


def test_the_compute_of_an_arm_is_that_of_all_its_rates(searched):
    c, workdir, results = searched
    (e,) = results["evaluations"]
    steps = [r for r in metrics.read(workdir) if "loss" in r]
    assert {r["phase"] for r in steps} == {"finetune_random_1", "finetune_random_2"}
    assert e["compute"]["images"] == len(steps) * c.transfer.batch_size
    assert e["compute"]["seconds"] > sum(r["seconds"] for r in steps)


def test_rates_that_are_done_are_not_trained_again(searched, tmp_path, monkeypatch):
    """Ended after all rates and before what was found is written, it has nothing to train when it goes on."""
    c, _, results = searched

    def end(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(scoring, "write_evaluation", end)
        experiment.run(c, tmp_path)
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "checkpoints").rglob("*") if f.is_file()}
    assert {f.relative_to(tmp_path).parts[1] for f in before} > {"finetune_random_1", "finetune_random_2"}
    (e,) = experiment.run(c, tmp_path)["evaluations"]
    assert e["tried"] == results["evaluations"][0]["tried"] and e["metrics"] == results["evaluations"][0]["metrics"]
    left = {f: f.stat().st_mtime_ns for f in (tmp_path / "checkpoints").rglob("*") if f.is_file()}
    assert left.items() <= before.items()


def test_an_arm_is_evaluated_only_where_it_is_asked_for(tmp_path):
    c = tiny_config.get_config()
    c.pretrain.epochs = 1
    c.transfer.protocols = ("knn",)
    c.transfer.inits = ("ssl",)
    assert [e["name"] for e in experiment.run(c, tmp_path / "run")["evaluations"]] == ["knn_ssl"]
    c.transfer.inits = ("ssl", "imagenet+ssl")
    with refuses("unknown-name", "transfer.inits", "has no 'imagenet+ssl', but ssl, random"):
        preparation.prepare(c, tmp_path / "other")


def test_thresholds_and_temperature_are_found_on_validation_alone(done):
    workdir, results = done
    for e in results["evaluations"]:
        assert 0.05 <= e["temperature"] <= 20
        bins = e["reliability"]
        error = sum(b["images"] * abs(b["accuracy"] - b["confidence"]) for b in bins if b["images"]) / e["images"]
        assert e["metrics"]["ece"]["value"] == pytest.approx(error, abs=1e-12)
        assert [p["class"] for p in e["operating_point"]] == results["dataset"]["classes"]
        p = np.array(
            [
                [float(r[f"p_{c}"]) for c in results["dataset"]["classes"]]
                for r in table(workdir)
                if r["evaluation"] == e["name"]
            ]
        )
        labels = [r["label"] for r in table(workdir) if r["evaluation"] == e["name"]]
        for k, point in enumerate(e["operating_point"]):
            positive = np.array(labels) == point["class"]
            called = p[:, k] > point["threshold"]
            assert point["specificity_wanted"] == 0.9
            assert point["sensitivity"]["value"] == pytest.approx(called[positive].mean())
            assert point["specificity"]["value"] == pytest.approx(1 - called[~positive].mean())


def test_few_images_fill_the_steps_that_an_epoch_has_at_least(tmp_path):
    c = tiny_config.get_config()
    c.pretrain.epochs = 0
    c.data.label_fraction = 0.05
    c.transfer.protocols = ("finetune",)
    # Without it, the batch is reduced to the images.
    setup = preparation.prepare(c, tmp_path)
    assert setup.config.transfer.batch_size == len(setup.labelled) < c.transfer.batch_size
    c.transfer.min_steps_per_epoch = 3
    setup = preparation.prepare(c, tmp_path)
    assert len(setup.labelled) < c.transfer.batch_size
    transfer.finetune(setup, transfer.make_arm(setup, "random", encoders.init_encoder(setup)))
    assert [r["step"] for r in metrics.read(tmp_path, "finetune_random") if "loss" in r] == [1, 2, 3, 4, 5, 6]
