"""The parts of a page, as plain data; each is rendered by templates/blocks/<its name in lower case>.html.j2.

Text is escaped by the templates. Markup is the SVG of `jaxssl.report.figures`, which holds no text of the user's.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

Block = Any  # One of the classes below.


class Section(NamedTuple):
    """A section of a page; `id` is its anchor, and the reader opens it if it is folded."""

    id: str
    title: str
    blocks: Sequence[Block]
    folded: bool = True


class Text(NamedTuple):
    """A paragraph."""

    text: str


class Heading(NamedTuple):
    """A heading within a section."""

    text: str


class Bullets(NamedTuple):
    """A list of sentences."""

    items: Sequence[str]
    kind: str = ""


class Code(NamedTuple):
    """A command, to be copied."""

    text: str


class Details(NamedTuple):
    """Blocks that are shown on request."""

    summary: str
    blocks: Sequence[Block]


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
      text: what it says.
      small: what follows in small print, such as an interval.
      init: initialization whose swatch stands before the text.
      strong: a remark that must not be missed.
    """

    text: str
    small: str = ""
    init: str | None = None
    strong: str = ""


class Row(NamedTuple):
    """A row of a table."""

    name: Cell
    cells: Sequence[Cell]
    href: str = ""  # The name links to it.


class Body(NamedTuple):
    """Rows of a table under a common title, which may be empty."""

    title: str
    rows: Sequence[Row]


class Table(NamedTuple):
    """A table in a box that scrolls where the page is narrow; `head` has a name for each column, the first included."""

    label: str
    caption: str
    head: Sequence[str]
    bodies: Sequence[Body]
    kind: str = ""


class Confusion(NamedTuple):
    """A confusion matrix, shaded by the share of each row."""

    label: str
    caption: str
    init: str
    classes: Sequence[str]
    counts: Sequence[Sequence[int]]
    shares: Sequence[Sequence[float]]


class HeatCell(NamedTuple):
    """A cell of a heat map: what it says, more on hover, its strength in [0, 1], whether good, whether certain."""

    text: str
    title: str
    share: float
    good: bool
    certain: bool


class HeatMap(NamedTuple):
    """Values by row and column; columns are (name, small print), and cells None where nothing is known."""

    label: str
    caption: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, Sequence[HeatCell | None]]]


class Facts(NamedTuple):
    """Names and values."""

    pairs: Sequence[tuple[str, Any]]
    kind: str = ""


class Key(NamedTuple):
    """An entry of a legend: the swatch of an initialization, or the marker of the n-th kind, and its name."""

    name: str
    init: str | None = None
    kind: int | None = None


class Legend(NamedTuple):
    """The legend of the figures that follow."""

    keys: Sequence[Key]


class Panel(NamedTuple):
    """A figure with its caption, and below that a line and the value of each initialization, as (init, value)."""

    caption: str
    svg: Markup
    line: str = ""
    quantity: str = ""
    values: Sequence[tuple[str, str]] = ()


class Picture(NamedTuple):
    """An image with its text alternative; below it a line, one in small print, and what must not be missed."""

    src: str
    width: int
    height: int
    alt: str
    below: str = ""
    small: str = ""
    strong: str = ""


class Strip(NamedTuple):
    """Images in a row under a caption."""

    caption: str
    pictures: Sequence[Picture]
    small: str = ""


class Grid(NamedTuple):
    """Blocks in columns."""

    blocks: Sequence[Block]
    kind: str = ""


def cells(*texts: str) -> list[Cell]:
    """Return a cell for each text."""
    return [Cell(text) for text in texts]
