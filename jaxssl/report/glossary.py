"""Links the terms of the glossary where they occur on a page."""

import re

from markupsafe import Markup, escape

from jaxssl.results.glossary import TERMS
from jaxssl.results.words import clean_text

_LOWER = {str(escape(term)).lower(): term for term in TERMS}
_PATTERN = re.compile(
    rf"(?<!\.)\b(?:{'|'.join(re.escape(str(escape(term))) for term in sorted(TERMS, key=len, reverse=True))})s?\b",
    re.IGNORECASE,
)


class Occurrences:
    """The terms that a page has used, and those that its present section has linked."""

    def __init__(self) -> None:
        self.used: set[str] = set()
        self.linked: set[str] = set()

    def link(self, text: str) -> Markup:
        """Return HTML in which the first occurrence of each term in a section links to its explanation."""

        def replace(match: re.Match[str]) -> str:
            found = match[0].lower()
            term = _LOWER.get(found) or _LOWER[found[:-1]]  # "seeds" is explained as "seed".
            if term in self.linked:
                return match[0]
            self.linked.add(term)
            self.used.add(term)
            title = escape(TERMS[term])
            return f'<a class="term" href="#{make_anchor(term)}" title="{title}">{match[0]}</a>'

        return Markup(_PATTERN.sub(replace, str(escape(clean_text(text)))))

    def start_section(self) -> str:
        """Forget what was linked, so that the next section links its terms again."""
        self.linked.clear()
        return ""

    def list_used(self) -> list[tuple[str, str, str]]:
        """Return (anchor, term, explanation) of the terms that were used, in alphabetical order."""
        return [(make_anchor(term), term, TERMS[term]) for term in sorted(self.used, key=str.lower)]


def make_anchor(term: str) -> str:
    """Return the id of a term in the glossary."""
    return f"term-{re.sub('[^a-z0-9]+', '-', term.lower())}"
