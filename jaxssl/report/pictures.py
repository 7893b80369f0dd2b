"""The sections of the page that show images, from gallery.npz; each is "" where it has nothing to show."""

import base64
import io
import json
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from PIL import Image

from jaxssl.errors import UserError
from jaxssl.report import figures
from jaxssl.report.markup import bdi, escape, glyph, grid, panel, scrolling, table_head
from jaxssl.report.words import MOST_CLASSES, clean, initialisation, number, protocol_name, short

Gallery = dict[str, np.ndarray]
# {image id: (class, predicted class, its probability)} of one evaluation.
Judged = dict[str, tuple[str, str, float]]
MOST_GROUPS = 8
TSNE = (
    "Images that are near one another are alike; distances across the map and the sizes of clusters mean nothing. It "
    "stands in for UMAP, which would need a compiler for this picture alone."
)
QUARTERS = ("upright", "90°", "180°", "270°")

SCRIPT = """
const box = document.querySelector(".explore"), slider = box.querySelector("input");
const thumb = box.querySelector(".thumb"), said = box.querySelector("p");
const rows = [...document.querySelectorAll(".mapped tbody tr")];
const plots = [...document.querySelectorAll(".plot")].map(plot => {
  const here = plot.appendChild(document.createElement("span"));
  here.className = "here";
  return {plot, here, points: plot.dataset.points.split(" ").map(pair => pair.split(",").map(Number))};
});
const show = i => {
  slider.value = i;
  thumb.style.cssText = rows[i].querySelector(".thumb").style.cssText;
  const cells = [...rows[i].querySelectorAll("[data-what]")];
  const words = cell => [cell.dataset.what + " ", cell.querySelector("bdi").cloneNode(true), " "];
  said.replaceChildren(...cells.flatMap(words));
  slider.setAttribute("aria-valuetext", said.textContent);
  for (const {here, points} of plots) {
    here.style.left = points[i][0] + "%";
    here.style.top = points[i][1] + "%";
  }
};
for (const {plot, points} of plots) plot.addEventListener("pointermove", event => {
  const at = plot.getBoundingClientRect();
  const x = 100 * (event.clientX - at.left) / at.width, y = 100 * (event.clientY - at.top) / at.height;
  const far = points.map(point => Math.hypot(point[0] - x, point[1] - y));
  const nearest = far.indexOf(Math.min(...far));
  if (far[nearest] < 6) show(nearest);
});
slider.addEventListener("input", () => show(Number(slider.value)));
box.hidden = false;
show(0);
"""


def read(workdir: Path) -> Gallery:
    """The content of gallery.npz; empty where a run has none. UserError where it is damaged."""
    file = Path(workdir) / "gallery.npz"
    if not file.exists():
        return {}
    try:
        with open(file, "rb") as stream:
            return dict(np.load(stream, allow_pickle=False))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{file} cannot be read ({error}): delete it, and the run's command makes it again") from error


def about(gallery: Gallery) -> dict[str, Any]:
    return json.loads(str(gallery["about"]))


# Images.


def jpeg(image: np.ndarray) -> str:
    """[H, W, 1 or 3] uint8 -> a data URI; colours at full resolution, so that blocks of 8 pixels stand alone."""
    stream = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(
        stream, "JPEG", quality=90, subsampling=0
    )
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def img(image: np.ndarray, said: str) -> str:
    height, width = image.shape[:2]
    return f'<img src="{jpeg(image)}" alt="{escape(said)}" width="{width}" height="{height}">'


def strip(caption: str, cells: Sequence[tuple[np.ndarray, str, str]]) -> str:
    """A figure of images in a row: (image, its text alternative, HTML below it); the caption is HTML."""
    shown = "".join(f"<div>{img(image, said)}<small>{below}</small></div>" for image, said, below in cells)
    return f'<figure class="strip"><figcaption>{caption}</figcaption><div class="row">{shown}</div></figure>'


def named(image_id: str, beside: str = "") -> str:
    """An image's id as the caption of its figure, and HTML in small print."""
    return f"{bdi(short(image_id))}{f' <small>{beside}</small>' if beside else ''}"


def grey(gallery: Gallery) -> str:
    channels = about(gallery)["channels"]
    return "" if channels in (1, 3) else f" Grey is the mean of {channels} channels."


def section(text: str, *parts: str) -> str:
    return f"<p>{escape(text)}</p>{''.join(parts)}"


# What pretraining saw.


def pretraining(gallery: Gallery) -> str:
    parts = [views(gallery), filled(gallery), turned(gallery)]
    return "".join(part for part in parts if part)


def views(gallery: Gallery) -> str:
    if "views_ids" not in gallery:
        return ""
    strips = []
    for name, images in zip(gallery["views_ids"].tolist(), gallery["views_images"], strict=True):
        below = ["as it is", *(f"view {i}" for i in range(1, len(images)))]
        cells = [(image, f"{short(name)}, {text}", text) for image, text in zip(images, below, strict=True)]
        strips.append(strip(named(name), cells))
    text = "Training images beside views of them, drawn as the augmentation of the pretraining draws them."
    return f"<h3>Augmented views</h3>{section(text + grey(gallery), grid(strips))}"


def filled(gallery: Gallery) -> str:
    if "filled_ids" not in gallery:
        return ""
    strips = []
    for name, images in zip(gallery["filled_ids"].tolist(), gallery["filled_images"], strict=True):
        below = ("as it is", "what was seen", "filled in")
        cells = [(image, f"{short(name)}, {text}", text) for image, text in zip(images, below, strict=True)]
        strips.append(strip(named(name), cells))
    text = "Test images, what is left of them where parts hold the mean colour, and what the decoder fills in."
    if about(gallery)["objective"] == "mae":
        text += " Where targets were normalised, brightness and contrast of each patch are given to it."
    return f"<h3>Masked and filled in</h3>{section(text, grid(strips))}"


def turned(gallery: Gallery) -> str:
    if "turned_ids" not in gallery:
        return ""
    shown = []
    columns = (gallery[f"turned_{name}"] for name in ("ids", "images", "true", "said"))
    for name, image, true, said in zip(*columns, strict=True):
        right = "right" if true == said else f"<strong>predicted {QUARTERS[said]}</strong>"
        text = f"{short(str(name))} turned: {QUARTERS[true]}, predicted: {QUARTERS[said]}"
        shown.append(strip(named(str(name)), [(image, text, f"{QUARTERS[true]}, {right}")]))
    text = "Test images turned anticlockwise, and by how much the network says that they were."
    return f"<h3>Turned</h3>{section(text, grid(shown, 'small'))}"


# What the features hold together.


def embedding(gallery: Gallery, results: dict[str, Any], evaluation: str, judged: Judged) -> str:
    """The map of the features; `judged` by the evaluation of that name says where errors are."""
    if "map_ids" not in gallery:
        return ""
    labels = gallery["map_labels"]
    # By class and place, so that going from one image to the next is a walk.
    order = np.lexsort((gallery["map_pca"][:, 0], labels))
    of = {name: values[order] for name, values in gallery.items() if name.startswith("map_") and name != "map_share"}
    keys = [key for key in (by_class(of, results), by_group(of, results), by_error(of, evaluation, judged)) if key]
    parts = []
    for name, title, text in (
        ("pca", "Principal components", shares(gallery["map_share"])),
        ("tsne", "t-SNE", TSNE),
    ):
        points, aspect = placed(of[f"map_{name}"])
        pairs = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        panels = []
        for i, key in enumerate(keys):
            label = f"{title} of {len(labels)} test images, by {key.by}"
            drawn = figures.scatter(f"map-{name}-{i}", label, points, key.kinds, aspect)
            panels.append(panel(f"By {key.by}", f'<div class="plot" data-points="{pairs}">{drawn}</div>'))
        parts.append(f"<h3>{title}</h3><p>{escape(text)}</p>{grid(panels)}")
    what = initialisation(about(gallery)["init"], results)
    text = (
        f"{len(labels)} test images by the features of the encoder ({what}), scaled to length 1. Point at one, or move "
        "the slider, to see its image in all maps."
    )
    style = f"--sprite:url({sprite(of['map_images'])});--across:{across(len(order))}"
    return (
        f'<p>{escape(text)}</p><div class="map" style="{style}">{explorer(len(order))}'
        f"{''.join(map(key_list, keys))}{''.join(parts)}{map_table(of, results, judged)}</div><script>{SCRIPT}</script>"
    )


def shares(found: np.ndarray) -> str:
    first, second = (f"{100 * share:.0f} %" for share in found)
    return f"The two directions in which the features vary most, with {first} and {second} of their variance."


def placed(points: np.ndarray) -> tuple[np.ndarray, float]:
    """[N, 2] -> the same in percent of a figure from its upper left corner, and its height over its width.

    Both directions have one scale, as far as the figure does not become a strip.
    """
    points = points.astype(np.float64) * (1, -1)
    low, high = points.min(0), points.max(0)
    extent = np.maximum(high - low, 1e-12)
    aspect = float(np.clip(extent[1] / extent[0], 0.5, 1.25))
    scale = 92 / max(extent[0], extent[1] / aspect)
    return 50 + (points - (low + high) / 2) * (scale, scale / aspect), aspect


class Key(NamedTuple):
    """A colouring of the map."""

    by: str
    kinds: np.ndarray  # Of each point; -1 for none of the names.
    names: dict[int, str]
    rest: str  # What the others are.


def by_class(of: Gallery, results: dict[str, Any]) -> Key:
    classes, labels = results["dataset"]["classes"], of["map_labels"]
    known = sorted(label for label, _ in Counter(labels[labels >= 0].tolist()).most_common(MOST_CLASSES))
    kinds = np.array([known.index(label) if label in known else -1 for label in labels.tolist()])
    return Key("class", kinds, {i: classes[label] for i, label in enumerate(known)}, "others, or unknown")


def by_group(of: Gallery, results: dict[str, Any]) -> Key | None:
    """The groups with most images on the map; nothing where groups are unknown, or are of one image each."""
    counts = Counter(of["map_groups"].tolist())
    names = [name for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if count > 1]
    names = names[:MOST_GROUPS]
    if not results["dataset"]["groups_known"] or not names:
        return None
    kinds = np.array([names.index(name) if name in names else -1 for name in of["map_groups"].tolist()])
    return Key("group", kinds, dict(enumerate(names)), "other groups")


def by_error(of: Gallery, evaluation: str, judged: Judged) -> Key | None:
    found = [judged.get(name) for name in of["map_ids"].tolist()]
    if None in found:
        return None
    wrong = np.array([truth != predicted for truth, predicted, _ in found])
    cross = figures.MARKERS.index("X")
    return Key(f"error of {protocol_name(evaluation)}", np.where(wrong, cross, -1), {cross: "wrong"}, "right")


def key_list(key: Key) -> str:
    """The legend of one colouring."""
    items = [f"<li>{glyph(kind)} {bdi(short(name))}</li>" for kind, name in key.names.items()]
    if (key.kinds < 0).any():
        items.append(f'<li class="rest"><span aria-hidden="true">•</span> {escape(key.rest)}</li>')
    return f'<ul class="legend key"><li>By {escape(key.by)}:</li>{"".join(items)}</ul>'


def across(images: int) -> int:
    """Images in a row of the sprite."""
    return int(np.ceil(np.sqrt(images)))


def sprite(images: np.ndarray) -> str:
    """All images in one, row by row; each begins on a block of JPEG's, so that none shines into the next."""
    side = -(-images.shape[1] // 8) * 8
    count = across(len(images))
    sheet = np.zeros((count * side, count * side, images.shape[-1]), np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, count)
        flat = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).resize((side, side))
        sheet[y * side : (y + 1) * side, x * side : (x + 1) * side] = np.asarray(flat).reshape(side, side, -1)
    return jpeg(sheet)


def thumb(i: int, images: int) -> str:
    y, x = divmod(i, across(images))
    return f'<span class="thumb" aria-hidden="true" style="--x:{x};--y:{y}"></span>'


def explorer(images: int) -> str:
    """What the script moves; hidden until it runs."""
    return (
        f'<div class="explore" hidden>{thumb(0, images)}<div><label for="explored">Image on the map</label>'
        f'<input type="range" id="explored" min="0" max="{images - 1}" value="0"><p></p></div></div>'
    )


def map_table(of: Gallery, results: dict[str, Any], judged: Judged) -> str:
    """All images on the map, for those who cannot point at one; the script takes its words from here."""
    classes, rows = results["dataset"]["classes"], []
    head = ["Image", "Class", "Predicted", "Group"]
    for i, (name, label, group) in enumerate(
        zip(*(of[f"map_{field}"].tolist() for field in ("ids", "labels", "groups")), strict=True)
    ):
        truth = classes[label] if label >= 0 else "unknown"
        predicted = judged[name][1] if name in judged else "–"
        cells = "".join(
            f'<td data-what="{what}">{bdi(short(text))}</td>'
            for what, text in (("class", truth), ("predicted", predicted), ("group", group))
        )
        first = f'{thumb(i, len(of["map_ids"]))}<span data-what="image">{bdi(short(name))}</span>'
        rows.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    table = (
        f'<table class="mapped"><caption>The images on the map, by class</caption>'
        f"{table_head(head[0], head[1:])}<tbody>{''.join(rows)}</tbody></table>"
    )
    return (
        f"<details><summary>The images on the map as a table</summary>{scrolling(table, 'Images on the map')}</details>"
    )


def neighbours(gallery: Gallery, results: dict[str, Any]) -> str:
    if "near_ids" not in gallery:
        return ""
    classes, strips = results["dataset"]["classes"], []

    def called(label: int) -> str:
        return short(classes[label]) if label >= 0 else "unknown"

    for ids, labels, cosines, images in zip(
        *(gallery[f"near_{name}"] for name in ("ids", "labels", "cosine", "images")), strict=True
    ):
        cells = [(images[0], f"the test image {short(str(ids[0]))}, {called(labels[0])}", bdi(called(labels[0])))]
        for name, label, cosine, image in zip(ids[1:].tolist(), labels[1:], cosines, images[1:], strict=True):
            other = labels[0] >= 0 <= label != labels[0]
            below = f"<strong>≠ {bdi(called(label))}</strong>" if other else bdi(called(label))
            said = f"training image {short(name)}, {called(label)}, cosine {number(float(cosine))}"
            cells.append((image, said, f"{below}<br>{number(float(cosine))}"))
        strips.append(strip(named(str(ids[0]), "and the training images next to it"), cells))
    text = (
        "A test image and those of training with the most similar features, by cosine; ≠ marks another class. They are "
        "looked for among a sample of the training images."
    )
    return section(text, grid(strips, "wide"))


# Where the network is wrong, and where it looks.


def mistakes(gallery: Gallery, judged: Judged) -> str:
    if "wrong_ids" not in gallery:
        return ""
    shown = []
    for name, image in zip(gallery["wrong_ids"].tolist(), gallery["wrong_images"], strict=True):
        truth, predicted, sure = judged[name]
        said = f"{short(name)}: {short(predicted)} with {number(sure)}, is {short(truth)}"
        below = f"<strong>{bdi(short(predicted))}</strong> {number(sure)}<br>is {bdi(short(truth))}"
        shown.append(strip(named(name), [(image, clean(said), below)]))
    protocol = protocol_name(str(gallery["wrong_evaluation"]).partition("_")[0])
    text = f"The test images that {protocol} gets wrong with the highest probability: what it says, and what they are."
    return section(text, grid(shown, "small"))


def heat(gallery: Gallery) -> str:
    if "heat_ids" not in gallery:
        return ""
    strips = []
    for name, image, of in zip(*(gallery[key] for key in ("heat_ids", "heat_images", "heat")), strict=True):
        below = (img_text := short(str(name)), f"{img_text}, bright where the map is high")
        cells = [(image, below[0], "as it is"), (over(image, of), below[1], "with its map")]
        strips.append(strip(named(str(name)), cells))
    text = {
        "attention": "Where the attention of the last block of the pretrained encoder goes, mean over its heads.",
        "class": (
            "Class-activation maps of the fine-tuned network: what each place adds to the predicted class, beyond what "
            "it adds to the others."
        ),
    }[about(gallery)["heat"]]
    text += " Each map is stretched from its lowest to its highest value. It shows where, and not why."
    return section(text, grid(strips, "pair"))


def over(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """An image in grey with a map in colour over it."""
    size = image.shape[1::-1]
    high = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR), np.float64)[..., None] / 255
    base = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1)
    colour = 255 * mpl.colormaps["inferno"](high[..., 0])[..., :3]
    return np.rint(base * (1 - 0.65 * high) + colour * 0.65 * high).astype(np.uint8)
