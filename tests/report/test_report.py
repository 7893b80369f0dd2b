"""The report of runs made up here: true words, a whole page, and names that would like to be markup."""

import base64
import copy
import csv
import html
import io
import json
import re
import types
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image
from rich.console import Console

from jaxssl.cli.parser import main
from jaxssl.evaluation import calibration
from jaxssl.evaluation.evaluate import evaluate
from jaxssl.report import figures, page, table
from jaxssl.report.render import load_asset
from jaxssl.report.sections import confusion, differences, feature_map
from jaxssl.results import run_conclusions, words
from jaxssl.results.predictions import compute_differences, read_predictions
from jaxssl.results.schema import with_version
from tests.refusals import refuses

VOID = {"meta", "link", "br", "img", "hr", "input", "wbr"}
HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=1>', "\u202eevil $\\frac{", "ab\x00c\ud800&amp;"]


def make(workdir, classes=("benign", "malign"), lift=1.5, protocols=("probe", "knn", "finetune"), images=80, **change):
    """A workdir as a run leaves it, without a run: `lift` is by how much the pretrained arm is better."""
    rng = np.random.default_rng(0)
    labels = np.arange(images) % max(1, len(classes))
    groups = np.array([f"patient{i // 2}" for i in range(images)])
    evaluations, lines = [], []
    for init in ("ssl", "random") if classes else ():
        for protocol in protocols:
            better = lift * (init == "ssl")
            logits = rng.normal(size=(images, len(classes))) + better * np.eye(len(classes))[labels]
            p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            name = f"{protocol}_{init}"
            scored = judged(p, labels, groups, classes)
            same = {"label_fraction": 1.0, "fold": None, "seed": 0, "split": "test"}
            evaluations.append({"name": name, "protocol": protocol, "init": init} | same | scored)
            for i in range(images):
                truth, guess = classes[labels[i]], classes[p[i].argmax()]
                lines.append([name, f"image{i}", groups[i], truth, guess, *map(repr, p[i].tolist())])
    split = {"images": images, "groups": images // 2}
    collapse = {"verdict": "healthy", "feature_std": 0.3, "effective_rank": 20.0}
    results = {
        "dataset": {
            "name": "lesions",
            "classes": list(classes),
            "splits": {name: split for name in ("train", "validation", "test")},
            "groups_known": True,
            "fingerprint": "abc",
            "test_images_copied_in_train": 0,
            "findings": [],
        },
        "pretrain": {
            "objective": "byol",
            "supervised": False,
            "epochs": 2,
            "final_loss": 1.0,
            "first_loss": 4.0,
            "expected_first_loss": 4.2,
            "collapse": collapse,
            "seconds": 10.0,
            "images_per_second": 50.0,
        },
        "evaluations": evaluations,
    } | change
    rows = [{"phase": "pretrain", "step": 0, "epoch": 0, "feature_std": 0.1, "effective_rank": 5.0}]
    for step in range(1, 9):
        loss = {"loss": 4 / step, "online_probe_accuracy": 0.5, "embedding_std": 0.9, "seconds": 1.0}
        rows.append({"phase": "pretrain", "step": step, "epoch": 1 + (step - 1) // 4} | loss)
        rows.append(
            {"phase": "finetune_ssl", "step": step, "epoch": 1 + (step - 1) // 4, "loss": 1 / step, "accuracy": 0.5}
        )
        if step % 4 == 0:
            rows.append(
                {"phase": "pretrain", "step": step, "epoch": step // 4, "feature_std": 0.2, "effective_rank": 9}
            )
            rows.append({"phase": "finetune_ssl", "step": step, "epoch": step // 4, "validation": 0.4 + step / 20})
    workdir.mkdir(parents=True, exist_ok=True)
    config = {
        "config": {"seed": 0, "model": {"name": "resnet18", "options": {}}},
        "versions": {"jax": "1"},
        "git": None,
    }
    splits = {"test": sorted({line[1] for line in lines}), "fingerprint": "abc"}
    results = with_version("results.json", results)
    write = {"results": results, "config": config | {"devices": ["cpu:0"]}, "splits": splits}
    for name, content in write.items():
        (workdir / f"{name}.json").write_text(json.dumps(with_version(f"{name}.json", content)))
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with open(workdir / "predictions.csv", "w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        header = ["evaluation", "image_id", "group", "label", "predicted", *(f"p_{c}" for c in classes)]
        csv.writer(file).writerows([header, *lines])
    return results


def judged(p, labels, groups, classes):
    """What a run says of these probabilities, with the test images for validation."""
    found = calibration.fit_temperature(p, labels)
    calibrated = None if found is None else calibration.apply_temperature(p, found)
    scored = evaluate(p, labels, groups, calibrated=calibrated)
    scored["metrics"].setdefault("ece_calibrated", dict.fromkeys(("value", "low", "high")))
    points = []
    for k in [1] if len(classes) == 2 else range(len(classes)):
        chosen = calibration.threshold_at_specificity(p[:, k], labels == k, 0.9)
        point = calibration.operating_point(chosen, p[:, k], labels == k, groups)
        points.append({"specificity_wanted": 0.9, "class": classes[k], "threshold": chosen} | point)
    bins = calibration.reliability_bins(p, labels)
    return scored | {"temperature": found, "reliability": bins, "operating_point": points}


class Page(HTMLParser):
    """Reads a page and fails where a tag is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.words, self.style, self.script = [], [], [], "", "", ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [value for key, value in attributes if key == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.style += data
        elif self.open and self.open[-1] == "script":
            self.script += data
        else:
            self.words += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def add_gallery(workdir, results, channels=3, side=24, images=30, groups=9, **change):
    """Pictures and an audit as a run leaves them, of noise."""
    rng = np.random.default_rng(1)
    classes, depth = results["dataset"]["classes"], channels if channels in (1, 3) else 1

    def noise(*shape):
        return rng.integers(0, 256, (*shape, side, side, depth), np.uint8)

    ids = np.array([f"image{i}" for i in range(images)])
    labels = np.arange(images) % len(classes) if classes else np.full(images, -1)
    about = {"objective": "byol", "init": "ssl", "channels": channels, "heat": "class"}
    gallery = {
        "about": np.array(json.dumps(about)),
        "views_ids": ids[:3],
        "views_images": noise(3, 3),
        "filled_ids": ids[:2],
        "filled_images": noise(2, 3),
        "turned_ids": ids[:4],
        "turned_images": noise(4),
        "turned_true": np.arange(4),
        "turned_said": np.array([0, 1, 1, 3]),
        "map_ids": ids,
        "map_groups": np.array([f"patient{i // 2}" for i in range(images)]),
        "map_labels": labels,
        "map_images": noise(images),
        "map_pca": rng.normal(size=(images, 2)),
        "map_share": np.array([0.5, 0.25]),
        "map_tsne": rng.normal(size=(images, 2)),
        "near_ids": ids[:12].reshape(2, 6),
        "near_labels": labels[:12].reshape(2, 6),
        "near_cosine": np.full((2, 5), 0.9),
        "near_images": noise(2, 6),
        "heat_ids": ids[:2],
        "heat_images": noise(2),
        "heat": rng.integers(0, 256, (2, 4, 4), np.uint8),
    }
    if classes:
        gallery |= {"wrong_ids": ids[:4], "wrong_images": noise(4), "wrong_evaluation": np.array("probe_ssl")}
    np.savez(workdir / "gallery.npz", **gallery | change)
    rows = {
        "schema_version": 1,
        "images": images,
        "classes": sorted(classes),
        "findings": ["<b>bold</b> has no images"],
    }
    none = {"across_splits": 0, "extra": 3, "leaked": {"validation": 0, "test": 2}, "clusters": []}
    counts = {split: dict.fromkeys(classes or ["unlabelled"], 5) for split in ("train", "test")}
    most = {
        split: {"class": name, "images": 5, "accuracy": 0.5, "imbalance": 1.0} for split in counts for name in classes
    }
    (workdir / "audit.json").write_text(
        json.dumps(
            rows
            | {
                "counts": counts,
                "majority": most,
                "groups": {"known": groups is not None, "count": groups, "across_splits": []},
            }
            | {"channels": {"3": images}, "dtypes": {"uint8": images}, "values": {"uint8": [0, 255]}, "exact": none}
            | {"sizes": {"commonest": [[24, 24, images]]}, "nonfinite": [], "constant": []}
        )
    )


def report(workdir):
    return Page(page.write(workdir).read_text())


def check(found):
    """What holds for every page."""
    assert len(found.ids) == len(set(found.ids))
    used = [a[k][1:] for _, a in found.tags for k in ("href", "xlink:href") if a.get(k, "").startswith("#")]
    used += [m for _, a in found.tags for v in a.values() for m in re.findall(r"url\(#([^)]+)\)", v or "")]
    used += [a["for"] for _, a in found.tags if "for" in a]
    assert set(used) <= set(found.ids)
    assert not {"link", "iframe", "object"} & {tag for tag, _ in found.tags}
    assert [a for a in found.all("script")] in ([], [{}]) and found.script in ("", load_asset("report.js"))
    for image in found.all("img"):
        assert image["src"].startswith("data:image/jpeg;base64,") and image["alt"] and int(image["width"]) > 0
    for tag, attributes in found.tags:
        assert not {"srcset", "data", "action"} & attributes.keys()
        assert "src" not in attributes or tag == "img"
        assert not any(key.startswith("on") for key in attributes)
        for key, value in attributes.items():
            inline = re.sub(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", "", value or "")
            assert "//" not in inline or key.startswith("xmlns"), (key, value)
    assert "url(" not in found.style and "@import" not in found.style
    assert all(a["role"] == "img" and a["aria-label"] and float(a["width"]) > 0 for a in found.all("svg"))
    assert found.words.count("undefined undefined") == 0 and "nan" not in found.words.lower().split()
    assert len([t for t, _ in found.tags if t == "caption"]) == len(found.all("table"))
    assert all("scope" in a for a in found.all("th"))
    assert [a["lang"] for a in found.all("html")] == ["en"] and len(found.all("h1")) == 1


def test_page_is_whole_and_in_order(tmp_path):
    results = make(tmp_path)
    found = report(tmp_path)
    check(found)
    titles = ["Scores on the test", "Difference from random", "Learning curves", "ROC by class", "Precision and recall"]
    titles += ["Confusion", "at a threshold", "Calibration of", "Where this comes from", "Glossary"]
    places = [found.words.index(title) for title in titles]
    assert places == sorted(places)
    # ROC, precision: 2 protocols, of the second class; reliability: 3 before and 3 after; learning: 5 and 3; forest: 3.
    assert len(found.all("svg")) == 2 * 2 + 2 * 3 + 5 + 3 + 3
    for e in results["evaluations"]:
        digits = words.count_common_digits(other["metrics"]["auc_macro"] for other in results["evaluations"])
        assert words.format_estimate(e["metrics"]["auc_macro"], digits) in found.words
    assert "always the most frequent class" in found.words and "expected at first" in found.words
    assert (tmp_path / "report.html").stat().st_size < 1e6


def test_page_is_a_function_of_the_workdir(tmp_path):
    for name in ("a", "b"):
        add_gallery(tmp_path / name, make(tmp_path / name))
    first = page.write(tmp_path / "a").read_bytes()
    assert page.write(tmp_path / "a").read_bytes() == first == page.write(tmp_path / "b").read_bytes()


def test_pictures_are_on_the_page_in_order(tmp_path):
    results = make(tmp_path)
    plain = set(report(tmp_path).all("svg")[0])
    add_gallery(tmp_path, results)
    found = report(tmp_path)
    check(found)
    titles = [
        "Learning curves",
        "A map of the features",
        "What pretraining saw",
        "Augmented views",
        "Masked and reconstructed",
    ]
    titles += ["Rotated", "Nearest neighbors", "Most confident mistakes", "Where the network looks", "The images"]
    places = [found.words.rindex(title) for title in [*titles, "Where this comes from"]]
    assert places == sorted(places) and plain
    # Views 3 x 3, filled 2 x 3, turned 4, neighbours 2 x 6, mistakes 4, heat 2 x 2.
    assert len(found.all("img")) == 9 + 6 + 4 + 12 + 4 + 4
    assert [a["max"] for a in found.all("input")] == ["29"]
    # Two maps, by class, by group and by error, know where each image is.
    points = [a["data-points"].split() for a in found.all("div") if "data-points" in a]
    assert len(points) == 6 and {len(of) for of in points} == {30}
    assert all(0 <= float(number) <= 100 for of in points for pair in of for number in pair.split(","))
    assert len([a for a in found.all("span") if a.get("class") == "thumb"]) == 31
    assert "Test images copied in train" in found.words and "<b>bold</b> has no images" in found.words
    assert "predicted 90°" in found.words


def test_the_map_is_by_umap_where_the_run_had_it(tmp_path):
    results = make(tmp_path, protocols=("probe",))
    add_gallery(tmp_path, results)
    assert "t-SNE of 30 test images" in page.write(tmp_path).read_text()
    add_gallery(tmp_path, results, map_umap=np.zeros((30, 2)))
    text = page.write(tmp_path).read_text()
    assert "UMAP of 30 test images" in text and "t-SNE of" not in text


def test_the_mistakes_are_said_as_predictions_csv_has_them(tmp_path):
    results = make(tmp_path)
    of = read_predictions(tmp_path, results)["probe_ssl"]
    add_gallery(tmp_path, results, wrong_ids=np.array(["image5"]), wrong_images=np.zeros((1, 8, 8, 1), np.uint8))
    (alt,) = [a["alt"] for a in report(tmp_path).all("img") if " with ." in a["alt"]]
    row, classes = of.probabilities[5], results["dataset"]["classes"]
    assert alt == f"image5: {classes[row.argmax()]} with {words.format_number(row.max())}, is {classes[of.labels[5]]}"


def test_a_sprite_has_each_image_in_its_place():
    shades = np.arange(10, 210, 20, dtype=np.uint8)
    images = np.broadcast_to(shades[:, None, None, None], (10, 20, 20, 1))
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(feature_map.make_sprite(images).split(",")[1]))))
    assert sheet.shape == (96, 96) and feature_map.count_columns(10) == 4
    for i, shade in enumerate(shades):
        y, x = divmod(i, 4)
        tile = sheet[24 * y : 24 * (y + 1), 24 * x : 24 * (x + 1)].astype(int)
        assert abs(tile - shade).max() <= 2
    assert feature_map.place_in_sprite(9, 10) == (9 % 4, 9 // 4)


@pytest.mark.parametrize("points", [[[0, 0], [4, 2], [2, 1]], [[0, 0], [0, 9]], [[1, 1], [1, 1]], [[0, 0], [9, 0]]])
def test_a_map_keeps_directions_and_stays_inside(points):
    points = np.array(points, float)
    placed, aspect = feature_map.place_points(points)
    assert (placed >= 0).all() and (placed <= 100).all() and 0.5 <= aspect <= 1.25
    # One scale for both directions, and up is up.
    scaled = placed * (1, aspect)
    step, drawn = points[1] - points[0], scaled[1] - scaled[0]
    np.testing.assert_allclose(step[0] * -drawn[1], step[1] * drawn[0], atol=1e-9)
    assert (drawn * (1, -1) * step >= 0).all()


def test_a_damaged_gallery_is_refused_and_a_missing_one_is_not(tmp_path, capsys):
    make(tmp_path, protocols=("probe",))
    (tmp_path / "gallery.npz").write_bytes(b"PK\x03\x04 and nothing more")
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "gallery.npz cannot be read" in error and error.count("\n") == 1
    (tmp_path / "gallery.npz").unlink()
    assert main(["report", str(tmp_path)]) == 0 and 'id="map"' not in (tmp_path / "report.html").read_text()


def test_figures_take_every_colour_from_the_style_sheet(tmp_path):
    add_gallery(tmp_path, make(tmp_path))
    found = report(tmp_path)
    drawn = [value for tag, a in found.tags for value in a.values() if tag in ("path", "text", "use", "g") and value]
    assert not [value for value in drawn if re.search(r"#[0-9a-f]{6}\b", value)]
    texts = [a for a in found.all("text")]
    assert texts and all("var(--" in a.get("style", "") for a in texts)
    for variable in figures.VARIABLES.values():
        assert f"{variable[4:-1]}:" in found.style


def test_an_interval_of_the_answer_stays_on_one_line(tmp_path):
    results = make(tmp_path)
    found = compute_differences(results, read_predictions(tmp_path, results))
    stated = re.search(r'<p class="answer">(.*?)</p>', page.write(tmp_path).read_text())[1]
    for of in found.values():
        d = of["auc_macro"]
        assert f"<span>[{words.format_range(d)}]</span>" in stated
    assert stated.count("<span>[") == 3 and re.sub("</?span>", "", stated) in html.escape(
        run_conclusions.answer(results, found)
    )


def test_names_stay_text(tmp_path):
    results = make(tmp_path, classes=HOSTILE, images=40)
    results["dataset"]["name"] = HOSTILE[0]
    (tmp_path / "results.json").write_text(json.dumps(results))
    predictions = (tmp_path / "predictions.csv").read_bytes().replace("\ud800".encode("utf-8", "surrogatepass"), b"?")
    (tmp_path / "predictions.csv").write_bytes(predictions)
    results["dataset"]["classes"] = [name.replace("\ud800", "?") for name in results["dataset"]["classes"]]
    (tmp_path / "results.json").write_text(json.dumps(results))
    config = json.loads((tmp_path / "config.json").read_text())
    config["config"]["data"] = {"dir": "/tmp/\udcff<b>&'\x1b"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    add_gallery(tmp_path, results, near_ids=np.array([HOSTILE[:3] * 2, ["n" * 1000] * 6]))
    found = report(tmp_path)
    check(found)
    assert HOSTILE[0] in found.words and HOSTILE[1] in found.words
    assert "\u202e" not in found.words and "\x00" not in found.words and "evil $\\frac{" in found.words
    shown(results, tmp_path)


def test_one_class(tmp_path):
    results = make(tmp_path, classes=("only",))
    add_gallery(tmp_path, results, channels=5, groups=None)
    found = report(tmp_path)
    check(found)
    assert "macro AUC is undefined" in found.words and "always one class" in found.words
    assert "ROC by class" not in found.words and "mean of 5 channels" in found.words
    assert "at a threshold" not in found.words and "With the temperature" not in found.words
    assert "* predicts one class" in shown(results, tmp_path)


def test_a_name_without_end_is_cut(tmp_path):
    add_gallery(tmp_path, make(tmp_path, classes=("n" * 1000, "other"), protocols=("probe",)))
    found = report(tmp_path)
    check(found)
    assert "n" * (words.MAX_NAME - 1) + "…" in found.words and "n" * words.MAX_NAME not in found.words


def test_two_hundred_classes(tmp_path):
    results = make(tmp_path, classes=tuple(f"class {i}" for i in range(200)), protocols=("probe",), images=400)
    add_gallery(tmp_path, results, images=256, side=40)
    found = report(tmp_path)
    check(found)
    assert "188 others" in found.words and "12 most frequent of 200" in found.words
    assert (tmp_path / "report.html").stat().st_size < 8e6


def test_pooled_confusion_loses_no_image(tmp_path):
    results = make(tmp_path, classes=tuple(f"c{i}" for i in range(30)), protocols=("probe",), images=95)
    counts = np.array(confusion.confusion_matrix(results, results["evaluations"][0]).counts)
    assert counts.shape == (words.MAX_CLASSES + 1,) * 2 and counts.sum() == 95


def test_no_labels(tmp_path):
    results = make(tmp_path, classes=())
    add_gallery(tmp_path, results)
    found = report(tmp_path)
    check(found)
    assert "the images have no labels" in found.words and "nothing was evaluated" in found.words
    text = shown(results, tmp_path)
    assert "macro AUC" not in text and "nothing was evaluated" in text


def test_no_pretraining(tmp_path):
    results = make(tmp_path)
    results |= {"pretrain": None, "evaluations": [e for e in results["evaluations"] if e["init"] == "random"]}
    (tmp_path / "results.json").write_text(json.dumps(results))
    found = report(tmp_path)
    check(found)
    assert "This run has nothing to compare" in found.words and "Difference from random" not in found.words
    assert "BYOL" not in shown(results, tmp_path)


def test_no_test_images(tmp_path):
    results = make(tmp_path, images=0)
    check(report(tmp_path))
    assert "0 test images" in run_conclusions.answer(results)
    shown(results, tmp_path)


def test_unknown_groups_and_collapse_are_said(tmp_path):
    results = make(tmp_path)
    assert not any("unknown groups" in text for text in run_conclusions.cautions(results))
    results["dataset"]["groups_known"] = False
    results["pretrain"]["collapse"]["verdict"] = "collapsed"
    said = " ".join(run_conclusions.cautions(results))
    assert "unknown groups do not exclude leakage" in said and "The encoder collapsed" in said


# The answer.


def results_with(ssl, random, protocol="probe"):
    """Results of one protocol with these (value, low, high) of the macro AUC."""
    evaluations = [
        {
            "name": f"{protocol}_{init}",
            "protocol": protocol,
            "init": init,
            "label_fraction": 1.0,
            "fold": None,
            "seed": 0,
            "split": "test",
            "images": 1200,
            "constant_predictor": False,
            "metrics": {"auc_macro": dict(zip(("value", "low", "high"), auc, strict=True))},
        }
        for init, auc in (("ssl", ssl), ("random", random))
    ]
    dataset = {"splits": {"test": {"images": 1200, "groups": 700}}, "groups_known": True}
    return {"dataset": dataset, "pretrain": {"objective": "byol", "supervised": False}, "evaluations": evaluations}


HIGH, LOW, BETWEEN, NONE = (0.612, 0.59, 0.634), (0.553, 0.528, 0.577), (0.58, 0.55, 0.61), (None, None, None)


@pytest.mark.parametrize(
    ("ssl", "random", "says"),
    [
        (
            HIGH,
            LOW,
            "raises macro AUC with linear probing (from .553 (.528–.577) to .612 (.590–.634), and the two inter",
        ),
        (LOW, HIGH, "lowers macro AUC with linear probing (from .612"),
        (HIGH, BETWEEN, "can be concluded with linear probing (.612 (.590–.634) against .580 (.550–.610), and the two"),
        (NONE, NONE, "macro AUC is undefined with linear probing"),
        (HIGH, NONE, "macro AUC is undefined"),
        ((0.6, None, None), (0.5, None, None), "no difference in macro AUC"),
    ],
)
def test_answer_from_intervals(ssl, random, says):
    said = run_conclusions.answer(results_with(ssl, random))
    assert says in said and "On 1,200 test images of 700 groups" in said and "One run with one seed" in said
    assert ("raises" in said) == (says.startswith("raises")) and ("lowers" in said) == (says.startswith("lowers"))
    assert "None" not in said and "nan" not in said


@pytest.mark.parametrize(
    ("difference", "says"),
    [
        ((0.059, 0.031, 0.087), "raises macro AUC with linear probing (from .580 to .612, difference +.059 [+.031 to"),
        ((-0.01, -0.02, -0.004), "lowers macro AUC with linear probing (from .580 to .612, difference −.010 [−.020 to"),
        ((0.02, -0.01, 0.05), "no difference in macro AUC between pretraining by BYOL and random weights can be"),
        ((0.0, 0.0, 0.0), "no difference"),
        ((0.02, None, None), "no difference"),
    ],
)
def test_a_paired_difference_decides(difference, says):
    of = {"probe_ssl": {"auc_macro": dict(zip(("value", "low", "high"), difference, strict=True))}}
    assert says in run_conclusions.answer(results_with(HIGH, BETWEEN), of)


def test_protocols_may_differ():
    one, other = results_with(HIGH, LOW), results_with(BETWEEN, HIGH, "finetune")
    said = run_conclusions.answer(one | {"evaluations": one["evaluations"] + other["evaluations"]})
    assert "raises macro AUC with linear probing" in said and "concluded with fine-tuning" in said


def test_classes_and_masks_have_scores_of_their_own():
    """In the sentence, in the tables of the terminal, and on the page, with a figure each."""
    one, other = results_with(HIGH, LOW), results_with(LOW, LOW, "segment")
    for e in other["evaluations"]:
        e["metrics"] = {"dice": e["metrics"]["auc_macro"]}
    evaluations = [e | {"constant_predictor": False} for e in one["evaluations"] + other["evaluations"]]
    results: Any = one | {"evaluations": evaluations}
    said = run_conclusions.answer(results)
    assert "raises macro AUC with linear probing" in said and "no difference in Dice" in said
    assert "segmentation" not in said.partition("no difference in Dice")[0]
    alone = run_conclusions.answer(results | {"evaluations": evaluations[1::2]})
    assert "macro AUC on" in alone and "Dice on" in alone
    headers = [[column.header for column in of.columns][1:] for of in table.make_score_tables(results)]
    assert headers == [["macro AUC"], ["Dice"]]
    difference = {"value": 0.059, "low": 0.031, "high": 0.087, "p": 0.001, "detectable": 0.04}
    found = {"probe_ssl": {"auc_macro": difference}, "segment_ssl": {"dice": difference}}
    run: Any = types.SimpleNamespace(results=results, differences=found)
    shown, drawn = differences.section(run), differences.plot(run)
    assert shown is not None and [of.head[1:] for of in shown.blocks] == [["macro AUC"], ["Dice"]]
    assert [of.caption.split(" from ")[0] for of in drawn] == ["Difference in macro AUC", "Difference in Dice"]
    # Grey is what leaves it open, and what does not count.
    assert [mark.difference.color for of in drawn for mark in of.marks] == ["ssl", "ssl"]
    difference["low"] = -0.031
    assert {mark.difference.color for of in differences.plot(run) for mark in of.marks} == {"open"}
    difference["low"] = 0.031
    results["dataset"]["test_images_copied_in_train"] = 700
    leaked = differences.plot(run)
    assert {mark.difference.color for of in leaked for mark in of.marks} == {"open"} and "Not valid" in leaked[0].key


def test_differences_are_of_the_same_images_and_resamples(tmp_path):
    results = make(tmp_path, lift=1.5)
    predictions = read_predictions(tmp_path, results)
    found = compute_differences(results, predictions)
    assert set(found) == {"probe_ssl", "knn_ssl", "finetune_ssl"}
    auc = {e["name"]: e["metrics"]["auc_macro"]["value"] for e in results["evaluations"]}
    assert found["probe_ssl"]["auc_macro"]["value"] == pytest.approx(auc["probe_ssl"] - auc["probe_random"])
    assert found["probe_ssl"]["auc_macro"]["low"] > 0 and "raises" in run_conclusions.answer(results, found)
    other = predictions | {"probe_random": predictions["probe_random"]._replace(ids=["another"] * 80)}
    assert set(compute_differences(results, other)) == {"knn_ssl", "finetune_ssl"}
    fewer = copy.deepcopy(results)
    fewer["evaluations"][0]["label_fraction"] = 0.1
    assert "probe_ssl" not in compute_differences(fewer, predictions)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5534, ".553"), (1.0, "1.000"), (-0.02, "−.020"), (-1.5, "−1.500"), (10.25, "10.250"), (None, "undefined")],
)
def test_number(value, text):
    assert words.format_number(value) == text


def test_reliability_is_drawn_before_and_after_the_temperature(tmp_path, monkeypatch):
    results = make(tmp_path, protocols=("probe",))
    drawn = {}
    monkeypatch.setattr(figures, "draw_reliability", lambda name, _, *of: drawn.update({name: of}) or Markup(""))
    found = report(tmp_path)
    for error, (lines, counts) in zip(("ece", "ece_calibrated"), drawn.values(), strict=True):
        for e, line, images in zip(results["evaluations"], lines, counts, strict=True):
            gap = np.sum(images * np.abs(line.x - line.y)) / images.sum()
            assert line.init == e["init"] and gap == pytest.approx(e["metrics"][error]["value"]) and images.sum() == 80
            said = e["metrics"][error]
            assert words.format_estimate(said) in found.words
    for e in results["evaluations"]:
        assert f"{e['temperature']:.2f}" in found.words


def test_operating_points_stand_by_class(tmp_path):
    results = make(tmp_path, classes=("a", "b", "c"))
    found = report(tmp_path)
    text = found.words[found.words.rindex("at a threshold") : found.words.rindex("Calibration of")]
    assert "chosen such that 90 % of the validation images" in text
    for e in results["evaluations"]:
        for point in e["operating_point"]:
            cells = (
                words.format_number(point["threshold"]),
                *map(words.format_estimate, (point["sensitivity"], point["specificity"])),
            )
            assert ("".join(cells) in text) == (e["protocol"] != "knn")


def test_what_an_older_run_does_not_say_is_left_out(tmp_path):
    results = make(tmp_path)
    for e in results["evaluations"]:
        for name in ("temperature", "reliability", "operating_point"):
            del e[name]
    (tmp_path / "results.json").write_text(json.dumps(results))
    found = report(tmp_path)
    check(found)
    assert "at a threshold" not in found.words and "Calibration of" not in found.words


def test_thinned_curves_are_means():
    x = np.arange(1001.0)
    thin_x, thin_y = figures.thin(x, 3 * x)
    assert len(thin_x) <= figures.MAX_POINTS
    np.testing.assert_allclose(thin_y, 3 * thin_x)
    np.testing.assert_allclose(thin_x[0], x[:6].mean())
    assert figures.thin(x[:10], x[:10])[0].tolist() == x[:10].tolist()


# The terminal.


def shown(results, workdir, differences=None):
    console = Console(width=80, record=True, file=open("/dev/null", "w"), color_system=None)  # noqa: SIM115
    with console.file:
        console.print(table.summarize(results, workdir, differences))
        text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    return text


def test_summary_fits_eighty_columns_and_says_all(tmp_path):
    results = make(tmp_path)
    results["evaluations"][1]["constant_predictor"] = True
    text = shown(results, tmp_path, compute_differences(results, read_predictions(tmp_path, results)))
    for e in results["evaluations"]:
        for metric in ("auc_macro", "accuracy"):
            digits = words.count_common_digits(other["metrics"][metric] for other in results["evaluations"])
            assert words.format_estimate(e["metrics"][metric], digits) in text
    assert re.search(r"majority class +\.500", text) and "pretrained by BYOL*" in text
    assert "raises macro AUC" in text and "…" not in text and "One run with one seed" in " ".join(text.split())
    whole = "".join(text.split())  # A long path is folded.
    assert "results.json" in whole and "report.html" not in whole


# The command.


def test_command_writes_each_report(tmp_path, capsys):
    for name in ("a", "b"):
        make(tmp_path / name, protocols=("probe",))
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / name / "report.html") for name in ("a", "b")]


def empty(workdir):
    (workdir / "predictions.csv").write_text("evaluation,image_id\n")


def cut(workdir):
    (workdir / "results.json").write_text('{"dataset": ')


def relabel(workdir):
    text = (workdir / "predictions.csv").read_text().replace("benign", "else")
    (workdir / "predictions.csv").write_text(text)


def edit(value):
    """Puts a number of one's own into predictions.csv."""

    def harm(workdir):
        head, row, *rest = (workdir / "predictions.csv").read_text().splitlines()
        (workdir / "predictions.csv").write_text("\n".join([head, f"{row.rpartition(',')[0]},{value}", *rest]))

    return harm


def empty_evaluations(workdir):
    """What a gallery shows is then of no evaluation."""
    results = json.loads((workdir / "results.json").read_text())
    add_gallery(workdir, results, wrong_ids=np.array(["image5"]), wrong_images=np.zeros((1, 8, 8, 1), np.uint8))
    (workdir / "results.json").write_text(json.dumps(results | {"evaluations": []}))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (edit("nan"), "predictions.csv is damaged: probe_ssl: probabilities: 1 of"),
        (edit("2"), "predictions.csv is damaged: probe_ssl: probabilities must sum to 1"),
        (empty_evaluations, "copy the files back"),
        (lambda w: (w / "results.json").unlink(), "results.json"),
        (lambda w: (w / "config.json").unlink(), "config.json"),
        (lambda w: (w / "splits.json").unlink(), "splits.json"),
        (lambda w: (w / "predictions.csv").unlink(), "predictions.csv"),
        (empty, "0 rows of probe_ssl"),
        (cut, "results.json"),
        (lambda w: (w / "results.json").write_text("{}"), "no schema_version"),
        (lambda w: (w / "results.json").write_text("[]"), "no schema_version"),
        (lambda w: (w / "report.html").mkdir(), "report.html cannot be written: Is a directory"),
        (relabel, "does not agree with"),
    ],
)
def test_a_workdir_that_is_not_whole_is_refused_in_one_line(tmp_path, capsys, harm, says):
    make(tmp_path, protocols=("probe",))
    harm(tmp_path)
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert says in error and error.startswith("jaxssl: ") and error.count("\n") == 1
    assert not (tmp_path / "report.html").is_file()
    if not (tmp_path / "report.html").exists():
        assert main(["figures", str(tmp_path)]) == 2 and says in capsys.readouterr().err


def test_command_without_workdir_with_a_missing_one_and_with_help(tmp_path, capsys):
    make(tmp_path / "whole", protocols=("probe",))
    assert main(["report", str(tmp_path / "none"), str(tmp_path / "whole")]) == 2
    assert (tmp_path / "whole" / "report.html").exists() and capsys.readouterr().err.count("\n") == 1
    with refuses("missing", str(tmp_path / "none" / "results.json")):
        main(["report", str(tmp_path / "none"), "--debug"])
    for arguments, code in (([], 2), (["--help"], 0)):
        assert main(["report", *arguments]) == code


def test_findings_of_the_audit_are_on_the_page_as_text(tmp_path):
    results = make(tmp_path)
    results["dataset"] |= {"test_images_copied_in_train": 3, "findings": ["<b>bold</b> has no images"]}
    (tmp_path / "results.json").write_text(json.dumps(results))
    found = report(tmp_path)
    assert "3 of the test images are pixel for pixel among the training images" in found.words
    assert "<b>bold</b> has no images" in found.words
