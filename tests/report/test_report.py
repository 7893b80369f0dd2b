"""The report of runs made up here: true words, a whole page, and names that would like to be markup."""

import copy
import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from jaxssl.evaluate import scores
from jaxssl.report import figures, page, table, words
from jaxssl.report.__main__ import main

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
            scored = scores.evaluate(p, labels, groups, seed=0, resamples=100)
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
    config = {"config": {"seed": 0, "model": {"name": "resnet18", "kw": {}}}, "versions": {"jax": "1"}, "git": None}
    write = {"results": results, "config": config | {"devices": ["cpu:0"]}, "splits": {"fingerprint": "abc"}}
    for name, content in write.items():
        (workdir / f"{name}.json").write_text(json.dumps(content))
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with open(workdir / "predictions.csv", "w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        header = ["evaluation", "image_id", "group", "label", "predicted", *(f"p_{c}" for c in classes)]
        csv.writer(file).writerows([header, *lines])
    return results


class Page(HTMLParser):
    """Reads a page and fails where a tag is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.words, self.style = [], [], [], "", ""
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
        else:
            self.words += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def report(workdir):
    return Page(page.write(workdir).read_text())


def check(found):
    """What holds for every page."""
    assert len(found.ids) == len(set(found.ids))
    used = [a[k][1:] for _, a in found.tags for k in ("href", "xlink:href") if k in a]
    used += [m for _, a in found.tags for v in a.values() for m in re.findall(r"url\(#([^)]+)\)", v or "")]
    assert set(used) <= set(found.ids)
    assert not {"script", "link", "iframe", "object", "img"} & {tag for tag, _ in found.tags}
    for _, attributes in found.tags:
        assert not {"src", "srcset", "data", "action"} & attributes.keys()
        assert not any(key.startswith("on") for key in attributes)
        for key, value in attributes.items():
            assert "//" not in (value or "") or key.startswith("xmlns"), (key, value)
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
    titles = [
        "Scores on the test",
        "Against random",
        "ROC by class",
        "Precision and recall",
        "taken for what",
        "probabilities mean",
    ]
    titles += ["Learning", "Where this comes from"]
    places = [found.words.index(title) for title in titles]
    assert places == sorted(places)
    # ROC, precision: 2 protocols x 2 classes; reliability: 3; learning: 5 and 3; differences: 1.
    assert len(found.all("svg")) == 2 * 4 + 3 + 5 + 3 + 1
    for e in results["evaluations"]:
        assert words.number(e["metrics"]["auc_macro"]["value"]) in found.words
    assert "always the commonest class" in found.words and "expected at first" in found.words
    assert (tmp_path / "report.html").stat().st_size < 1e6


def test_page_is_a_function_of_the_workdir(tmp_path):
    make(tmp_path / "a")
    make(tmp_path / "b")
    first = page.write(tmp_path / "a").read_bytes()
    assert page.write(tmp_path / "a").read_bytes() == first == page.write(tmp_path / "b").read_bytes()


def test_figures_take_every_colour_from_the_style_sheet(tmp_path):
    make(tmp_path)
    found = report(tmp_path)
    drawn = [value for tag, a in found.tags for value in a.values() if tag in ("path", "text", "use", "g") and value]
    assert not [value for value in drawn if re.search(r"#[0-9a-f]{6}\b", value)]
    texts = [a for a in found.all("text")]
    assert texts and all("var(--" in a.get("style", "") for a in texts)
    for variable in figures.VARIABLES.values():
        assert f"{variable[4:-1]}:" in found.style


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
    found = report(tmp_path)
    check(found)
    assert HOSTILE[0] in found.words and HOSTILE[1] in found.words
    assert "\u202e" not in found.words and "\x00" not in found.words and "evil $\\frac{" in found.words
    shown(results, tmp_path)


def test_one_class(tmp_path):
    results = make(tmp_path, classes=("only",))
    found = report(tmp_path)
    check(found)
    assert "macro AUC is undefined" in found.words and "always one class" in found.words
    assert "ROC by class" not in found.words
    assert "* predicts one class" in shown(results, tmp_path)


def test_a_name_without_end_is_cut(tmp_path):
    make(tmp_path, classes=("n" * 1000, "other"), protocols=("probe",))
    found = report(tmp_path)
    check(found)
    assert "n" * (words.LONGEST_NAME - 1) + "…" in found.words and "n" * words.LONGEST_NAME not in found.words


def test_two_hundred_classes(tmp_path):
    make(tmp_path, classes=tuple(f"class {i}" for i in range(200)), protocols=("probe",), images=400)
    found = report(tmp_path)
    check(found)
    assert "188 others" in found.words and "12 commonest of 200" in found.words
    assert (tmp_path / "report.html").stat().st_size < 8e6


def test_pooled_confusion_loses_no_image(tmp_path):
    results = make(tmp_path, classes=tuple(f"c{i}" for i in range(30)), protocols=("probe",), images=95)
    cells = re.findall(r"<td[^>]*>([\d,]+)</td>", page.confusion_table(results, results["evaluations"][0]))
    assert len(cells) == (words.MOST_CLASSES + 1) ** 2 and sum(map(int, cells)) == 95


def test_no_labels(tmp_path):
    results = make(tmp_path, classes=())
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
    assert "Nothing to compare in this run" in found.words and "Against random" not in found.words
    assert "byol" not in shown(results, tmp_path)


def test_no_test_images(tmp_path):
    results = make(tmp_path, images=0)
    check(report(tmp_path))
    assert "0 test images" in words.answer(results)
    shown(results, tmp_path)


def test_unknown_groups_and_collapse_are_said(tmp_path):
    results = make(tmp_path)
    assert not any("grouping unknown" in text for text in words.cautions(results))
    results["dataset"]["groups_known"] = False
    results["pretrain"]["collapse"]["verdict"] = "collapsed"
    said = " ".join(words.cautions(results))
    assert "grouping unknown is not no leakage" in said and "The encoder collapsed" in said


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
    said = words.answer(results_with(ssl, random))
    assert says in said and "On 1,200 test images of 700 groups" in said and "One run, one seed" in said
    assert ("raises" in said) == (says.startswith("raises")) and ("lowers" in said) == (says.startswith("lowers"))
    assert "None" not in said and "nan" not in said


@pytest.mark.parametrize(
    ("difference", "says"),
    [
        ((0.059, 0.031, 0.087), "raises macro AUC with linear probing (from .580 to .612, difference +.059 [+.031 to"),
        ((-0.01, -0.02, -0.004), "lowers macro AUC with linear probing (from .580 to .612, difference −.010 [−.020 to"),
        ((0.02, -0.01, 0.05), "no difference in macro AUC between pretraining by byol and random weights can be"),
        ((0.0, 0.0, 0.0), "no difference"),
        ((0.02, None, None), "no difference"),
    ],
)
def test_a_paired_difference_decides(difference, says):
    of = {"probe_ssl": {"auc_macro": dict(zip(("value", "low", "high"), difference, strict=True))}}
    assert says in words.answer(results_with(HIGH, BETWEEN), of)


def test_protocols_may_differ():
    one, other = results_with(HIGH, LOW), results_with(BETWEEN, HIGH, "finetune")
    said = words.answer(one | {"evaluations": one["evaluations"] + other["evaluations"]})
    assert "raises macro AUC with linear probing" in said and "concluded with fine-tuning" in said


def test_differences_are_of_the_same_images_and_resamples(tmp_path):
    results = make(tmp_path, lift=1.5)
    predictions = page.read_predictions(tmp_path, results)
    found = page.differences(results, predictions)
    assert set(found) == {"probe_ssl", "knn_ssl", "finetune_ssl"}
    auc = {e["name"]: e["metrics"]["auc_macro"]["value"] for e in results["evaluations"]}
    assert found["probe_ssl"]["auc_macro"]["value"] == pytest.approx(auc["probe_ssl"] - auc["probe_random"])
    assert found["probe_ssl"]["auc_macro"]["low"] > 0 and "raises" in words.answer(results, found)
    other = predictions | {"probe_random": predictions["probe_random"]._replace(ids=["another"] * 80)}
    assert set(page.differences(results, other)) == {"knn_ssl", "finetune_ssl"}
    fewer = copy.deepcopy(results)
    fewer["evaluations"][0]["label_fraction"] = 0.1
    assert "probe_ssl" not in page.differences(fewer, predictions)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5534, ".553"), (1.0, "1.000"), (-0.02, "−.020"), (-1.5, "−1.500"), (10.25, "10.250"), (None, "undefined")],
)
def test_number(value, text):
    assert words.number(value) == text


def test_calibration_is_that_of_the_error(tmp_path):
    results = make(tmp_path)
    p = page.read_predictions(tmp_path, results)["probe_ssl"]
    confidence, accuracy, counts = page.calibration(p)
    error = results["evaluations"][0]["metrics"]["ece"]["value"]
    assert np.sum(counts * np.abs(confidence - accuracy)) / counts.sum() == pytest.approx(error)


def test_thinned_curves_are_means():
    x = np.arange(1001.0)
    thin_x, thin_y = figures.thin(x, 3 * x)
    assert len(thin_x) <= figures.MOST_POINTS
    np.testing.assert_allclose(thin_y, 3 * thin_x)
    np.testing.assert_allclose(thin_x[0], x[:6].mean())
    assert figures.thin(x[:10], x[:10])[0].tolist() == x[:10].tolist()


# The terminal.


def shown(results, workdir, differences=None):
    console = Console(width=80, record=True, file=open("/dev/null", "w"), color_system=None)  # noqa: SIM115
    with console.file:
        console.print(table.summary(results, workdir, differences))
        text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    return text


def test_summary_fits_eighty_columns_and_says_all(tmp_path):
    results = make(tmp_path)
    results["evaluations"][1]["constant_predictor"] = True
    text = shown(results, tmp_path, page.differences(results, page.read_predictions(tmp_path, results)))
    for e in results["evaluations"]:
        for metric in ("auc_macro", "accuracy"):
            assert words.interval(e["metrics"][metric]) in text
    assert re.search(r"always the commonest class +\.500", text) and "pretrained by byol*" in text
    assert "raises macro AUC" in text and "…" not in text and "One run, one seed" in " ".join(text.split())
    whole = "".join(text.split())  # A long path is folded.
    assert "results.json" in whole and "report.html" not in whole


# The command.


def test_command_writes_each_report(tmp_path, capsys):
    for name in ("a", "b"):
        make(tmp_path / name, protocols=("probe",))
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / name / "report.html") for name in ("a", "b")]


def empty(workdir):
    (workdir / "predictions.csv").write_text("evaluation,image_id\n")


def cut(workdir):
    (workdir / "results.json").write_text('{"dataset": ')


def relabel(workdir):
    text = (workdir / "predictions.csv").read_text().replace("benign", "else")
    (workdir / "predictions.csv").write_text(text)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda w: (w / "results.json").unlink(), "results.json"),
        (lambda w: (w / "config.json").unlink(), "config.json"),
        (lambda w: (w / "splits.json").unlink(), "splits.json"),
        (lambda w: (w / "predictions.csv").unlink(), "predictions.csv"),
        (empty, "0 rows of probe_ssl"),
        (cut, "is not JSON"),
        (relabel, "does not fit"),
    ],
)
def test_a_workdir_that_is_not_whole_is_refused_in_one_line(tmp_path, capsys, harm, says):
    make(tmp_path, protocols=("probe",))
    harm(tmp_path)
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert says in error and error.startswith("jaxssl: ") and error.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


def test_command_without_workdir_with_a_missing_one_and_with_help(tmp_path, capsys):
    assert main([]) == 2
    make(tmp_path / "whole", protocols=("probe",))
    assert main([str(tmp_path / "none"), str(tmp_path / "whole")]) == 2
    assert (tmp_path / "whole" / "report.html").exists()
    assert main(["--help"]) == 0
    assert capsys.readouterr().err.count("\n") == 2


def test_findings_of_the_audit_are_on_the_page_as_text(tmp_path):
    results = make(tmp_path)
    results["dataset"] |= {"test_images_copied_in_train": 3, "findings": ["<b>bold</b> has no images"]}
    (tmp_path / "results.json").write_text(json.dumps(results))
    found = report(tmp_path)
    assert "3 of the test images are pixel for pixel among the training images too" in found.words
    assert "<b>bold</b> has no images" in found.words
