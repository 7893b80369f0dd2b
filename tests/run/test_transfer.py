"""Which epoch and learning rate are kept."""

import json

import numpy as np
import pytest
from scipy import stats

from jaxssl.evaluation import calibration, scores
from jaxssl.run.finetuning import best_validation, has_stalled


def write(folder, rows):
    lines = [{"phase": "finetune_ssl", "step": epoch, "epoch": epoch} | row for epoch, row in enumerate(rows)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_equal_scores_are_told_apart_by_log_loss(tmp_path):
    losses = (0.1, 0.7, 0.3, 0.5)
    write(tmp_path, [{"validation": 1.0, "validation_loss": loss} for loss in losses])
    assert best_validation(tmp_path, "finetune_ssl") == (1.0, -0.3)  # Epoch 0 is before training.
    write(tmp_path, [{}, {"validation": 0.8, "validation_loss": 0.1}, {"validation": 0.9, "validation_loss": 2.0}])
    assert best_validation(tmp_path, "finetune_ssl") == (0.9, -2.0)
    write(tmp_path, [{"validation": None}] * 3)
    assert best_validation(tmp_path, "finetune_ssl") == (-np.inf, -np.inf)


@pytest.mark.parametrize("each", [5, 10])
def test_of_a_tiny_validation_split_log_loss_chooses_better_epochs(each):
    """Twenty epochs that get better and better; the AUC of so few images is soon 1."""
    rng, gains = np.random.default_rng(0), np.linspace(0.8, 3.0, 20)
    first, least, labels = [], [], np.repeat([0, 1], each)
    for _ in range(100):
        hard, rows = rng.normal(size=2 * each), []
        for gain in gains:
            evidence = (labels - 0.5) * gain + 0.8 * hard + 0.6 * rng.normal(size=2 * each)
            p = 1 / (1 + np.exp(-gain * evidence))
            p = np.stack([1 - p, p], axis=1)
            rows.append((scores.compute("auc_macro", p, labels), -calibration.log_losses(p, labels).mean()))
        first.append(int(np.argmax([score for score, _ in rows])))
        least.append(max(range(20), key=rows.__getitem__))
    truth = stats.norm.cdf(gains / 2**0.5)
    assert truth[least].mean() > truth[first].mean() + 0.02


def test_fine_tuning_stops_when_validation_has_not_risen_for_so_many_epochs(tmp_path):
    """Of equal scores, a smaller loss is better; the epoch before training and frozen ones do not count."""
    scores = [(0.9, 0.5), (0.6, 0.5), (0.7, 0.5), (0.7, 0.4), (0.7, 0.6), (0.6, 0.3), (0.8, 0.1)]
    write(tmp_path, [{"validation": score, "validation_loss": loss} for score, loss in scores])

    def stopped(patience, frozen=0):
        return [e for e in range(1, 7) if has_stalled(tmp_path, "finetune_ssl", e, patience, frozen)]

    assert (stopped(1), stopped(2), stopped(3)) == ([4, 5], [5], [])
    assert (stopped(1, 4), stopped(1, 5)) == ([5], [])
    write(tmp_path, [{"validation": None, "validation_loss": 1.0}] * 7)
    assert stopped(1) == []
