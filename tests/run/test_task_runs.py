"""Whole runs on several labels, ordered grades and values: every score again from predictions.csv, by scikit-learn."""

import csv

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from sklearn import metrics

import jaxssl
from jaxssl.inference import predict
from jaxssl.results import description, schema
from jaxssl.run import experiment
from jaxssl.study import analysis, runs
from tests import tiny_run

LABELS = ("Edema", "Mass", "Nodule")


def write_images(folder, count=90):
    """Grey images whose thirds are brighter by label, with a table of labels, their sum as grade, and an age."""
    rng = np.random.default_rng(0)
    marks = rng.random((count, 3)) < (0.5, 0.4, 0.3)
    rows = [["path", "patient", *LABELS, "grade", "age"]]
    for i, has in enumerate(marks):
        image = rng.normal(90, 20, (18, 18))
        for c in np.flatnonzero(has):
            image[:, 6 * c : 6 * c + 6] += 50
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{i:02}.png")
        texts = ["-1" if rng.random() < 0.1 else str(int(mark)) for mark in has]
        rows.append(
            [f"{i:02}.png", f"p{i // 2}", *texts, str(has.sum()), f"{20 + has @ (10, 20, 30) + rng.normal():.1f}"]
        )
    (folder / "t.csv").write_text("\n".join(map(",".join, rows)))
    return folder / "t.csv"


CASES = {
    "multi": {"label_columns": LABELS},
    "ordinal": {"label_column": "grade"},
    "value": {"label_column": "age"},
}


def scores_of(task, rows, classes):
    """The scores of one evaluation from its rows of predictions.csv."""
    truth, guess = ([row[name] for row in rows] for name in ("label", "predicted"))
    if task == "value":
        y, p = np.array(truth, np.float32).astype(float), np.array(guess, float)
        found = metrics.mean_absolute_error(y, p), metrics.r2_score(y, p), stats.spearmanr(y, p).statistic
        return dict(zip(("mae", "r2", "spearman"), found, strict=True))
    p = np.array([[float(row[f"p_{name}"]) for name in classes] for row in rows])
    if task == "ordinal":
        y, g = np.array(truth, int), np.array(guess, int)
        kappa = metrics.cohen_kappa_score(y, g, weights="quadratic")
        return {"accuracy": np.mean(y == g), "mae": np.abs(y - g).mean(), "quadratic_kappa": kappa}
    auc, precision = [], []
    for c, name in enumerate(classes):
        has = np.array([name in text.split("|") for text in truth])
        known = np.array([f"?{name}" not in text.split("|") for text in truth])
        auc.append(metrics.roc_auc_score(has[known], p[known, c]))
        precision.append(metrics.average_precision_score(has[known], p[known, c]))
    assert any("?" in text for text in truth) and guess[0] == "|".join(np.array(classes)[p[0] > 0.5])
    return {"auc_macro": np.mean(auc), "average_precision": np.mean(precision)}


@pytest.mark.slow
@pytest.mark.parametrize("task", CASES)
def test_a_run_from_its_table_to_its_page(tmp_path, task):
    config = tiny_run.get_config(write_images(tmp_path))
    config.data.options.update(CASES[task])
    config.data.task = "auto" if task == "multi" else task
    config.data.stored_size = 0
    config.data.test = 0.4
    config.transfer.protocols = ("probe", "knn", "finetune")
    config.transfer.sampling = "balanced"
    if task != "value":
        config.transfer.class_weights = "balanced"
    results = experiment.run(config, tmp_path / "run")
    assert results["dataset"]["task"] == task
    with open(tmp_path / "run" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for e in results["evaluations"]:
        own = [row for row in rows if row["evaluation"] == e["name"]]
        for name, value in scores_of(task, own, results["dataset"]["classes"]).items():
            assert e["metrics"][name]["value"] == pytest.approx(value, abs=1e-9), (e["name"], name)
    assert not description.check(results, schema.Results)
    words = {"multi": "macro AUC", "ordinal": "quadratic kappa", "value": "mean absolute error"}
    assert words[task] in (tmp_path / "run" / "report.html").read_text()

    study = analysis.analyze(runs.find_runs([tmp_path / "run"])[0])
    assert study["differences"][0]["metric"] == ("mae" if task == "value" else "auc_macro")

    predict.write_predictions(tmp_path / "run", [str(tmp_path / "00.png")], tmp_path / "new.csv")
    with open(tmp_path / "new.csv", newline="") as file:
        (new,) = csv.DictReader(file)
    network = jaxssl.load(tmp_path / "run")
    p = network.predict([tmp_path / "00.png"])[0]
    assert (
        new["predicted"]
        == {
            "multi": "|".join(np.array(network.classes)[p > 0.5]),
            "ordinal": network.classes[p.argmax()],
            "value": str(p[0]) if task == "value" else "",
        }[task]
    )
    first = next(row for row in rows if row["evaluation"] == network.evaluation)
    again = network.predict([tmp_path / first["image_id"]])[0]
    expected = [float(first["predicted"])] if task == "value" else [float(first[f"p_{n}"]) for n in network.classes]
    np.testing.assert_allclose(again, expected, rtol=1e-3)
