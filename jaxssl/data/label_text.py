"""Labels as one text each, as predictions.csv has them, and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np

SEPARATOR = "|"
UNKNOWN = "?"  # Before the name of a label of which it is not known whether an image has it.


def format_label(label: Any, classes: Sequence[str], task: str) -> str:
    """Return the name of a class; the names of several labels joined by "|", unknown ones after "?"; or a number.

    >>> format_label(np.array([1, 0, -1]), ("edema", "mass", "nodule"), "multi")
    'edema|?nodule'
    """
    if task == "value":
        value = np.ravel(label)[0]
        return str(value) if value.dtype == np.float32 else repr(float(value))
    if task != "multi":
        return classes[int(label)]
    marks = {1: "", -1: UNKNOWN}
    return SEPARATOR.join(marks[int(of)] + name for of, name in zip(label, classes, strict=True) if int(of) in marks)


def parse_labels(texts: Sequence[str], classes: Sequence[str], task: str) -> np.ndarray:
    """Return the labels of texts from `format_label`: [N] int, [N, C] int or [N] float32.

    Raises:
      KeyError: there is no class of this name.
      ValueError: a text is not a number.
    """
    if task == "value":
        return np.array(texts, np.float64).astype(np.float32)
    index = {name: i for i, name in enumerate(classes)}
    if task != "multi":
        return np.array([index[text] for text in texts], int)
    labels = np.zeros((len(texts), len(classes)), int)
    for row, text in zip(labels, texts, strict=True):
        for name in filter(None, text.split(SEPARATOR)):
            known = not name.startswith(UNKNOWN)
            row[index[name if known else name[len(UNKNOWN) :]]] = 1 if known else -1
    return labels
