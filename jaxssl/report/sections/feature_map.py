"""Maps of the features of test images, by principal components and by UMAP or t-SNE."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from jaxssl.report import figures
from jaxssl.report.blocks import Section, Text
from jaxssl.report.pictures import encode_jpeg, to_pillow
from jaxssl.report.run_data import RunData
from jaxssl.report.sections.common import COLLAPSED, has_collapsed
from jaxssl.report.sections.judged import Judged, judge
from jaxssl.results.gallery import Gallery, get_about, get_kinds
from jaxssl.results.schema import Results
from jaxssl.results.words import MAX_CLASSES, init_name, protocol_name, shorten

MAX_GROUPS = 8
NEIGHBORS_TEXT = (
    "Images that are close to one another have similar features; distances across the map and sizes of clusters have "
    "no meaning."
)


class Coloring(NamedTuple):
    """One coloring of the map."""

    by: str
    kinds: np.ndarray  # [N] int; -1 for none of the names.
    names: dict[int, str]
    rest: str  # What the others are.

    @property
    def has_rest(self) -> bool:
        """Whether any image has none of the names."""
        return bool((self.kinds < 0).any())


class Projection(NamedTuple):
    """One projection, drawn in each coloring as (title, svg); `points` are "x,y" in percent."""

    title: str
    text: str
    points: str
    figures: Sequence[tuple[str, Markup]]


class MapRow(NamedTuple):
    """One image on the map; `place` is its column and row in the sprite."""

    place: tuple[int, int]
    image: str
    truth: str
    predicted: str
    group: str


class Map(NamedTuple):
    """The block: the sprite of all images with so many in a row, the colorings, projections and images."""

    sprite: str
    across: int
    colorings: Sequence[Coloring]
    projections: Sequence[Projection]
    rows: Sequence[MapRow]


def section(run: RunData) -> Section | None:
    """Return the map of the features, explored by script and listed in a table."""
    gallery, results = run.gallery, run.results
    if "map_ids" not in gallery:
        return None
    if has_collapsed(run):
        return Section("map", "A map of the features", [Text(COLLAPSED)])
    init = get_about(gallery)["init"]
    # Errors are those of an evaluation of the features themselves, if there is one.
    protocol = next((p for p in ("probe", "knn", "finetune") if f"{p}_{init}" in run.predictions), "")
    judged = judge(run, f"{protocol}_{init}")
    # By class and place, so that the next image is a close one.
    order = np.lexsort((gallery["map_pca"][:, 0], gallery["map_labels"]))
    of = {name: values[order] for name, values in gallery.items() if name.startswith("map_") and name != "map_share"}
    classes, values = get_kinds(gallery, results), results["dataset"].get("task") == "value"
    found = (_by_class(of, classes), _by_group(of, results), None if values else _by_error(of, protocol, judged))
    colorings = [coloring for coloring in found if coloring]
    projections = [
        _project("pca", "Principal components", _describe_shares(gallery["map_share"]), of, colorings),
        _project(*(("umap", "UMAP") if "map_umap" in of else ("tsne", "t-SNE")), NEIGHBORS_TEXT, of, colorings),
    ]
    text = (
        f"{len(order)} test images by the features of the encoder ({init_name(init, results)}), scaled to length 1. "
        "Point at one, or move the slider, to see its image in all maps."
    )
    rows = _rows(of, classes, judged)
    block = Map(make_sprite(of["map_images"]), count_columns(len(order)), colorings, projections, rows)
    return Section("map", "A map of the features", [Text(text), block])


def _project(name: str, title: str, text: str, of: Gallery, colorings: Sequence[Coloring]) -> Projection:
    points, aspect = place_points(of[f"map_{name}"])
    drawn = []
    for i, coloring in enumerate(colorings):
        label = f"{title} of {len(points)} test images, by {coloring.by}"
        svg = figures.draw_scatter(f"map-{name}-{i}", label, points, coloring.kinds, aspect)
        drawn.append((f"By {coloring.by}", svg))
    return Projection(title, text, " ".join(f"{x:.1f},{y:.1f}" for x, y in points), drawn)


def _describe_shares(shares: np.ndarray) -> str:
    first, second = (f"{100 * share:.0f} %" for share in shares)
    return f"The two directions in which the features vary most, with {first} and {second} of their variance."


def place_points(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit points [N, 2] into a figure.

    Returns:
      Points in percent of the figure from its upper left corner, and its height over its width. Both directions have
      the same scale, as long as the figure does not become a strip.
    """
    points = points.astype(np.float64) * (1, -1)
    low, high = points.min(0), points.max(0)
    extent = np.maximum(high - low, 1e-12)
    aspect = float(np.clip(extent[1] / extent[0], 0.5, 1.25))
    scale = 92 / max(extent[0], extent[1] / aspect)
    return 50 + (points - (low + high) / 2) * (scale, scale / aspect), aspect


def _by_class(of: Gallery, classes: Sequence[str]) -> Coloring:
    labels = of["map_labels"]
    known = sorted(label for label, _ in Counter(labels[labels >= 0].tolist()).most_common(MAX_CLASSES))
    kinds = np.array([known.index(label) if label in known else -1 for label in labels.tolist()])
    return Coloring(
        "class", kinds, {i: shorten(classes[int(label)]) for i, label in enumerate(known)}, "others, or unknown"
    )


def _by_group(of: Gallery, results: Results) -> Coloring | None:
    """Return the groups with the most images on the map; None if groups are unknown, or have one image each."""
    counts = Counter(of["map_groups"].tolist())
    names = [name for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if count > 1]
    names = names[:MAX_GROUPS]
    if not results["dataset"]["groups_known"] or not names:
        return None
    kinds = np.array([names.index(name) if name in names else -1 for name in of["map_groups"].tolist()])
    return Coloring("group", kinds, {i: shorten(name) for i, name in enumerate(names)}, "other groups")


def _by_error(of: Gallery, protocol: str, judged: Judged) -> Coloring | None:
    found = [judged.get(name) for name in of["map_ids"].tolist()]
    wrong = np.array([truth != predicted for truth, predicted, _ in (item for item in found if item)])
    if len(wrong) < len(found):
        return None
    cross = figures.MARKERS.index("X")
    return Coloring(f"error of {protocol_name(protocol)}", np.where(wrong, cross, -1), {cross: "wrong"}, "right")


def count_columns(images: int) -> int:
    """Return how many images are in a row of the sprite."""
    return int(np.ceil(np.sqrt(images)))


def make_sprite(images: np.ndarray) -> str:
    """Return all images [N, S, S, C] uint8 in one, row by row; none shares a block of JPEG with another."""
    side = -(-images.shape[1] // 8) * 8
    columns = count_columns(len(images))
    sheet = np.zeros((columns * side, columns * side, images.shape[-1]), np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, columns)
        resized = np.asarray(to_pillow(image).resize((side, side))).reshape(side, side, -1)
        sheet[y * side : (y + 1) * side, x * side : (x + 1) * side] = resized
    return encode_jpeg(sheet)


def place_in_sprite(i: int, images: int) -> tuple[int, int]:
    """Return the column and the row of the `i`-th of so many images."""
    y, x = divmod(i, count_columns(images))
    return x, y


def _rows(of: Gallery, classes: Sequence[str], judged: Judged) -> list[MapRow]:
    rows = []
    columns = (of[f"map_{field}"].tolist() for field in ("ids", "labels", "groups"))
    for i, (name, label, group) in enumerate(zip(*columns, strict=True)):
        truth = classes[int(label)] if label >= 0 else "unknown"
        truth, predicted = judged[name][:2] if name in judged else (truth, "–")
        texts = map(shorten, (name, truth, predicted, group))
        rows.append(MapRow(place_in_sprite(i, len(of["map_ids"])), *texts))
    return rows
