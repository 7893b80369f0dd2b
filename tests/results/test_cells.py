"""Cells that a spreadsheet would evaluate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxssl.results.cells import escape_cell, unescape_cell


@pytest.mark.parametrize("text", ["=1+1", "+cmd|'/C calc'!A0", "@SUM(A1)", "-2+3", "\t=1", "\r=1", "'=1", "''=1"])
def test_formulas_are_marked_and_read_back(text):
    assert escape_cell(text) == f"'{text}" and unescape_cell(f"'{text}") == text


@pytest.mark.parametrize("value", ["", "benign", "a=b", "'quoted'", "-1.5e-3", "+2", "p_=1", 3, -0.5, None])
def test_other_cells_stay(value):
    assert escape_cell(value) == value
    assert not isinstance(value, str) or unescape_cell(value) == value


@given(st.text(alphabet="'=+-@\t\ra1. ", max_size=6))
def test_every_text_is_read_back_as_it_was(text):
    assert unescape_cell(escape_cell(text)) == text
