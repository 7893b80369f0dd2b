"""Learning curves of pretraining and fine-tuning."""

from collections.abc import Sequence

import numpy as np

from jaxssl.report import figures
from jaxssl.report.blocks import Grid, Heading, Panel, Section, Text
from jaxssl.report.figures import Line
from jaxssl.report.run_data import RunData
from jaxssl.report.sections.common import init_legend
from jaxssl.results.schema import MetricsRow
from jaxssl.results.words import clean_text, describe_collapse, format_value, init_name

# Fields of metrics.jsonl and their titles.
PRETRAINING_CURVES = {
    "loss": "Loss",
    "online_probe_accuracy": "Online probe accuracy",
    "embedding_std": "Standard deviation of the embedding",
    "feature_std": "Standard deviation of the features",
    "effective_rank": "Effective rank of the features",
}
FINETUNING_CURVES = {
    "loss": "Loss",
    "accuracy": "Accuracy on training batches",
    "train_loss": "Log loss on training images, not augmented",
    "validation_loss": "Log loss on validation images",
    "validation": "Score on validation",
}


def section(run: RunData) -> Section | None:
    """Return the curves of both phases."""
    blocks = [*_pretraining(run), *_finetuning(run)]
    return Section("learning", "Learning curves", blocks) if blocks else None


def _pretraining(run: RunData) -> list:
    pretraining = run.results["pretrain"]
    if not pretraining or not any(row["phase"] == "pretrain" for row in run.rows):
        return []
    expected = {"loss": pretraining["expected_first_loss"]}
    panels = [
        _panel(run, {"ssl": "pretrain"}, field, title, expected.get(field))
        for field, title in PRETRAINING_CURVES.items()
    ]
    return [Heading("Pretraining"), Text(describe_collapse(pretraining)), Grid([p for p in panels if p])]


def _finetuning(run: RunData) -> list:
    phases = {row["phase"] for row in run.rows}
    tuned = {e["init"]: e.get("phase", e["name"]) for e in run.results["evaluations"] if e["protocol"] == "finetune"}
    shown = {init: phase for init, phase in tuned.items() if phase in phases}
    if not shown:
        return []
    text = (
        "The circle marks the epoch that was kept: that with the best validation score, and of equal ones with the "
        "smallest log loss."
        if any(row.get("validation") is not None for row in run.rows)
        else "Without a score on validation, the last epoch was kept."
    )
    value = run.results["dataset"].get("task") == "value"
    titles = {f: t.replace("Log loss", "Squared error") if value else t for f, t in FINETUNING_CURVES.items()}
    panels = [_panel(run, shown, field, title) for field, title in titles.items()]
    return [Heading("Fine-tuning"), Text(text), init_legend(run.results, shown), Grid([p for p in panels if p])]


def _panel(run: RunData, phases: dict[str, str], field: str, title: str, expected: float | None = None) -> Panel | None:
    """Return one quantity over the epochs of these phases, by initialization; None where no row has it."""
    lines, best, texts = [], [], []
    for init, phase in phases.items():
        points = _points([row for row in run.rows if row["phase"] == phase], field)
        if not points:
            continue
        x, y = np.array(points, float).T
        lines.append(Line(init, x, y))
        texts.append(f"{init_name(init, run.results)} {format_value(y[0])} at first, {format_value(y[-1])} at last")
        if field == "validation" and len(x) > 1:
            kept = _kept([row for row in run.rows if row["phase"] == phase], y)
            best.append((x[kept], y[kept]))
    if not lines:
        return None
    name = f"{'-'.join(phases.values())}-{field}".replace("_", "-").replace("+", "-")
    ends = "" if expected is None else f"; expected at first {format_value(expected)}"
    label = clean_text(f"{title} over epochs: {'; '.join(texts)}{ends}")
    return Panel(title, figures.draw_curves(name, label, lines, expected=expected, best=best))


def _kept(rows: Sequence[MetricsRow], scores: np.ndarray) -> int:
    """Return the index of the epoch that was kept: the best score, of equal ones the smallest log loss."""
    losses = [row.get("validation_loss") or 0.0 for row in rows if row.get("validation") is not None]
    return max(range(1, len(scores)), key=lambda i: (scores[i], -losses[i]))


def _points(rows: Sequence[MetricsRow], field: str) -> list[tuple[float, float]]:
    """Return (epoch, value) of the rows that have this field."""
    ratios = (row["step"] / row["epoch"] for row in rows if row["epoch"] and "loss" not in row)
    steps_per_epoch = max(ratios, default=1)
    return [(row["step"] / steps_per_epoch, value) for row in rows if (value := row.get(field)) is not None]
