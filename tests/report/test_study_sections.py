"""Overfitting and pooled folds on the page of a comparison."""

import json
from pathlib import Path

from jaxssl.report.sections import study_differences
from jaxssl.report.study_data import StudyData
from tests.report.test_report import HOSTILE
from tests.report.test_study import written
from tests.study.test_compare import run


def with_losses(folder):
    results = json.loads((folder / "results.json").read_text())
    rows = []
    for e in results["evaluations"]:
        gap = {"train_loss": 0.1, "validation_loss": 0.456, "gap": dict.fromkeys(("value", "low", "high"))}
        e |= {"phase": e["name"], "overfitting": gap}
        rows += [
            {"phase": e["name"], "step": epoch, "epoch": epoch, "train_loss": 1 - epoch / 5, "validation_loss": 0.5}
            for epoch in range(4)
        ]
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_overfitting_of_all_arms_is_one_picture(tmp_path):
    for seed in range(2):
        with_losses(run(tmp_path / str(seed), seed, protocols=("finetune",)))
    found = written(tmp_path)
    assert "Overfitting" in found.words and ".456" in found.words
    assert any("Log loss by epoch" in svg["aria-label"] for svg in found.all("svg"))


def test_folds_together(tmp_path):
    for fold in range(2):
        for seed in range(2):
            run(tmp_path / f"{seed}{fold}", seed, HOSTILE[0], fold=fold, lift={"random": 0.8, HOSTILE[0]: 2.0})
    found = written(tmp_path)
    assert "All folds together" in found.words
    labels = [svg["aria-label"] for svg in found.all("svg")]
    assert sum("over all folds" in label for label in labels) == 2  # Of two classes, the ROC of the second.
    again = written(tmp_path)
    assert again.words == found.words


def test_without_folds_and_losses_neither_is_there(tmp_path):
    run(tmp_path / "run")
    found = written(tmp_path)
    assert "All folds together" not in found.words and "Overfitting" not in found.words


def test_the_number_beside_a_bar_is_the_wider_interval_and_grey_has_its_reason():
    of = {"a": "byol", "b": "random", "effect": True, "protocol": "probe", "metric": "auc_macro", "labels": "100 %"}
    of |= {"label_fraction": 1.0, "mean": 0.2, "verdict": "these runs", "p_holm": None, "without": ""}
    of |= {"over_groups": {"low": 0.15, "high": 0.25}, "over_runs": {"low": 0.06, "high": 0.34}}
    corrected = of | {"protocol": "finetune", "verdict": "open"}
    study = {"differences": [of, corrected], "arms": [{"labels": "100 %"}]}
    [forest] = study_differences.plot(StudyData(study, Path(), []))
    details = [mark.difference.detail for mark in forest.marks]
    assert details == ["(+.06 to +.34)\u00a0†", "(+.06 to +.34), other seeds: open"]
    assert "†: open after correction for 2 comparisons." in forest.key
