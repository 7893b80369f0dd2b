"""Tests of jaxssl.errors."""

import pickle

from jaxssl.errors import UserError


def test_a_user_error_crosses_processes_whole():
    error = UserError("data.dir=/x is missing", code="missing", field="data.dir")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.code, copy.field) == (str(error), error.code, error.field)
