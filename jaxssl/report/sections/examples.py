"""Example images from gallery.npz: views, reconstructions, neighbors, mistakes and heat maps."""

from collections.abc import Sequence

import numpy as np

from jaxssl.report.blocks import Grid, Heading, Picture, Section, Strip, Text
from jaxssl.report.pictures import make_picture, overlay_heatmap
from jaxssl.report.run_data import RunData
from jaxssl.report.sections.common import COLLAPSED, has_collapsed
from jaxssl.report.sections.judged import judge
from jaxssl.results.gallery import Gallery, get_about, get_kinds
from jaxssl.results.words import format_number, protocol_name, shorten

# What stands for the class of an image that has none, or several.
KINDS = {
    "multi": " An image is named by the rarest of its labels.",
    "value": " An image is named by the fifth of all values that it is in.",
}
QUARTERS = ("upright", "90°", "180°", "270°")
HEAT_TEXTS = {
    "attention": "Attention of the last block of the pretrained encoder, mean over its heads.",
    "class": (
        "Class-activation maps of the fine-tuned network: what each place adds to the predicted class, beyond what it "
        "adds to the others."
    ),
    "value": "Activation maps of the fine-tuned network: what each place adds to the predicted value.",
}
HEAT_LIMIT = " Each map is stretched from its lowest to its highest value. It shows where, not why."


def pretraining_section(run: RunData) -> Section | None:
    """Return what pretraining saw and what its decoder makes of images."""
    blocks = [*_views(run.gallery), *_filled(run.gallery), *_turned(run.gallery)]
    return Section("views", "What pretraining saw", blocks) if blocks else None


def neighbor_section(run: RunData) -> Section | None:
    """Return test images with the training images that are nearest in feature space."""
    gallery, classes = run.gallery, get_kinds(run.gallery, run.results)
    if "near_ids" not in gallery:
        return None

    def name_class(label: int) -> str:
        return shorten(classes[label]) if label >= 0 else "unknown"

    if has_collapsed(run):
        return Section("neighbors", "Nearest neighbors", [Text(COLLAPSED)])
    strips = []
    for ids, labels, cosines, images in zip(
        *(gallery[f"near_{name}"] for name in ("ids", "labels", "cosine", "images")), strict=True
    ):
        first = name_class(labels[0])
        pictures = [make_picture(images[0], f"the test image {shorten(str(ids[0]))}, {first}", first)]
        for name, label, cosine, image in zip(ids[1:].tolist(), labels[1:], cosines, images[1:], strict=True):
            text, value = name_class(label), format_number(float(cosine))
            alt = f"training image {shorten(name)}, {text}, cosine {value}"
            differs = labels[0] >= 0 <= label != labels[0]
            named = {"strong": f"≠ {text}"} if differs else {"below": text}
            pictures.append(make_picture(image, alt, small=value, **named))
        strips.append(Strip(shorten(str(ids[0])), pictures, "and the nearest training images"))
    text = (
        "A test image and the training images with the most similar features, by cosine; ≠ marks another class. They "
        f"are from a sample of the training images.{KINDS.get(run.results['dataset'].get('task', ''), '')}"
    )
    return Section("neighbors", "Nearest neighbors", [Text(text), Grid(strips, "wide")])


def mistake_section(run: RunData) -> Section | None:
    """Return the wrong predictions with the highest probability."""
    gallery = run.gallery
    if "wrong_ids" not in gallery:
        return None
    evaluation = str(gallery["wrong_evaluation"])
    judged, strips = judge(run, evaluation), []
    for name, image in zip(gallery["wrong_ids"].tolist(), gallery["wrong_images"], strict=True):
        truth, predicted, p = judged[name]
        truth, predicted, value = shorten(truth), shorten(predicted), format_number(p)
        alt = f"{shorten(name)}: {predicted} with {value}, is {truth}"
        strips.append(Strip(shorten(name), [make_picture(image, alt, value, f"is {truth}", predicted)]))
    protocol = protocol_name(evaluation.partition("_")[0])
    text = f"The wrong predictions of {protocol} with the highest probability: the predicted class, and the true one."
    return Section("mistakes", "Most confident mistakes", [Text(text), Grid(strips, "small")])


def heat_section(run: RunData) -> Section | None:
    """Return attention or class-activation maps."""
    gallery, strips = run.gallery, []
    if "heat_ids" not in gallery:
        return None
    for name, image, heat in zip(*(gallery[key] for key in ("heat_ids", "heat_images", "heat")), strict=True):
        name = shorten(str(name))
        mapped = make_picture(overlay_heatmap(image, heat), f"{name}, bright where the map is high", "with its map")
        strips.append(Strip(name, [make_picture(image, name, "original"), mapped]))
    kind = get_about(gallery)["heat"]
    tuned = f"finetune_{get_about(gallery)['init']}"
    constant = [e["name"] for e in run.results["evaluations"] if e["constant_predictor"]]
    if kind == "class" and tuned in constant:
        text = "Not drawn: the fine-tuned network predicts one class for every image, whatever it shows."
        return Section("heat", "Where the network looks", [Text(text)])
    value = kind == "class" and run.results["dataset"].get("task") == "value"
    text = HEAT_TEXTS["value" if value else kind] + HEAT_LIMIT
    return Section("heat", "Where the network looks", [Text(text), Grid(strips, "pair")])


def _views(gallery: Gallery) -> list:
    if "views_ids" not in gallery:
        return []
    strips = []
    for name, images in zip(gallery["views_ids"].tolist(), gallery["views_images"], strict=True):
        strips.append(_strip(name, images, ["original", *(f"view {i}" for i in range(1, len(images)))]))
    channels = get_about(gallery)["channels"]
    grey = "" if channels in (1, 3) else f" Grey is the mean of {channels} channels."
    text = f"Training images and views of them, drawn by the augmentation of the pretraining.{grey}"
    return [Heading("Augmented views"), Text(text), Grid(strips)]


def _filled(gallery: Gallery) -> list:
    if "filled_ids" not in gallery:
        return []
    columns = zip(gallery["filled_ids"].tolist(), gallery["filled_images"], strict=True)
    strips = [_strip(name, images, ("original", "input", "reconstruction")) for name, images in columns]
    text = (
        "Test images, their masked inputs, in which parts have the mean color, and the reconstruction of the decoder."
    )
    if get_about(gallery)["objective"] == "mae":
        text += " Where targets were normalized, brightness and contrast of each patch are those of the original."
    return [Heading("Masked and reconstructed"), Text(text), Grid(strips)]


def _turned(gallery: Gallery) -> list:
    if "turned_ids" not in gallery:
        return []
    strips = []
    columns = (gallery[f"turned_{name}"] for name in ("ids", "images", "true", "said"))
    for name, image, true, predicted in zip(*columns, strict=True):
        name = shorten(str(name))
        alt = f"{name} rotated: {QUARTERS[true]}, predicted: {QUARTERS[predicted]}"
        wrong = "" if true == predicted else f"predicted {QUARTERS[predicted]}"
        strips.append(Strip(name, [make_picture(image, alt, QUARTERS[true], "" if wrong else "right", wrong)]))
    text = "Test images rotated anticlockwise, and the rotation that the network predicts."
    return [Heading("Rotated"), Text(text), Grid(strips, "small")]


def _strip(name: str, images: np.ndarray, below: Sequence[str]) -> Strip:
    name = shorten(name)
    pictures: list[Picture] = [
        make_picture(image, f"{name}, {text}", text) for image, text in zip(images, below, strict=True)
    ]
    return Strip(name, pictures)
