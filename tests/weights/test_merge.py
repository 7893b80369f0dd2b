"""The strict comparison of trees."""

import numpy as np

from jaxssl.weights.merge import merge
from tests.refusals import refuses


def test_merge_names_what_differs_on_either_side():
    expected = {"conv1": np.zeros((3, 3)), "bn1": np.zeros(4)}
    given = {"conv1": np.zeros((5, 5)), "fc": np.zeros(2)}
    with refuses(
        "mismatch", "model.name", "file.x", "missing ['bn1']", "unexpected ['fc']", "['conv1']: (5, 5) is not (3, 3)"
    ):
        merge(expected, given, "file.x")
    assert merge(expected, expected, "file.x") is expected
