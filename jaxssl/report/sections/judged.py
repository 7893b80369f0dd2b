"""The prediction for each image, as the sections with images show it."""

from typing import Any

import numpy as np

from jaxssl.data.label_text import format_label
from jaxssl.evaluation.tasks import TASKS
from jaxssl.report.run_data import RunData
from jaxssl.results.predictions import task_name
from jaxssl.results.words import format_value

# {image id: (class, predicted class, its probability)} of one evaluation.
Judged = dict[str, tuple[str, str, float]]


def judge(run: RunData, evaluation: str) -> Judged:
    """Return the class, the prediction and its probability of each image in an evaluation; {} without predictions."""
    if evaluation not in run.predictions:
        return {}
    classes, of, task = run.results["dataset"]["classes"], run.predictions[evaluation], task_name(run.results)
    predicted, highest = TASKS[task].predicted(of.probabilities), of.probabilities.max(axis=1)

    def describe(label: Any) -> str:
        return (
            format_value(float(np.ravel(label)[0])) if task == "value" else format_label(label, classes, task) or "none"
        )

    texts = [list(map(describe, side)) for side in (of.labels, predicted)]
    return dict(zip(of.ids, zip(*texts, map(float, highest), strict=True), strict=True))
