"""Every term of the glossary is found in text, with whatever characters it has."""

import pytest

from jaxssl.report.glossary import Occurrences
from jaxssl.results.glossary import TERMS


@pytest.mark.parametrize("term", TERMS)
def test_each_term_is_linked(term):
    page = Occurrences()
    assert page.link(f"The {term}, again.").count("<a ") == 1
    assert [used for _, used, _ in page.list_used()] == [term]
