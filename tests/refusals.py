"""Assertions on `UserError` that do not depend on its wording."""

import contextlib
import re
from collections.abc import Iterator

import pytest

from jaxssl.errors import CODES, ErrorCode, UserError


@contextlib.contextmanager
def refuses(code: ErrorCode, field: str | None = None, *parts: str) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """Expects a `UserError` of this code and field whose message, one line, holds each of `parts` (a value, a name)."""
    assert code in CODES
    with pytest.raises(UserError) as caught:
        yield caught
    error = caught.value
    assert error.code == code, (error.code, str(error))
    assert field is None or error.field == field, (error.field, str(error))
    for part in parts:
        assert re.search(re.escape(part), str(error)), (part, str(error))
    assert "\n" not in str(error)
