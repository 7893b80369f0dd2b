"""Several labels an image, and values, as tables have them."""

import numpy as np
import pytest
from PIL import Image

from jaxssl import data
from jaxssl.data.audit import items, report
from tests.refusals import refuses

ROWS = (
    ("a", "p1", "1", "0", "", "Mass|Edema", "61.5"),
    ("b", "p1", "0.0", "-1", "1", "No Finding", ""),
    ("c", "p2", "0", "0", "0", "", "20"),
    ("d", "p3", "", "", "nan", "Edema", "-3e1"),
)
HEAD = ("path", "patient", "Edema", "Mass", "Lung Opacity", "findings", "age")


@pytest.fixture
def load(tmp_path):
    for i, row in enumerate(ROWS):
        Image.fromarray(np.full((8, 8), 40 * i, np.uint8)).save(tmp_path / f"{row[0]}.png")
    (tmp_path / "t.csv").write_text("\n".join(",".join(row) for row in (HEAD, *ROWS)))

    def load(task="auto", **options):
        where = {"seed": 0, "manual_dir": "", "cache_dir": "", "size": 8, "on_bad_file": "stop", "nan": "refuse"}
        return data.load("folder", dir=str(tmp_path / "t.csv"), options=options, task=task, **where)

    return load


def test_a_column_for_each_label(load):
    source = load(label_columns=("edema", "Mass", "lung_opacity"))
    assert (source.task, source.classes) == ("multi", ("Edema", "Mass", "Lung Opacity"))
    np.testing.assert_array_equal(source.labels, [[1, 0, -1], [0, -1, 1], [0, 0, 0], [-1, -1, -1]])
    assert source.known.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(source.strata[:3].sum(0), [1, 0, 1, 1])
    assert load(task="multi").classes == source.classes  # Found, as the only columns of 1 and 0.


def test_the_audit_counts_an_image_for_each_of_its_labels(load, tmp_path):
    counts = {"Edema": 1, "Lung Opacity": 1, "none of the labels": 1, "unlabelled": 1}
    assert report.audit_source(load(label_columns=("Edema", "Mass", "Lung Opacity")))["counts"]["all"] == counts
    options = {"table": "t.csv", "label_columns": ("Edema", "Mass", "Lung Opacity")}
    found = report.audit_files(items.list_folder(str(tmp_path), **options))
    assert found["counts"]["all"] == counts and not found["majority"]
    listed = items.list_archive(str(save(tmp_path / "x.npz", np.array([[1, 1], [0, 0], [-1, 1]])))).items
    assert [item.several for item in listed] == [("0", "1"), ("none of the labels",), ("1",)]


def test_a_separator_between_labels(load):
    source = load(label_column="findings", label_separator="|")
    assert source.classes == ("Edema", "Mass")
    np.testing.assert_array_equal(source.labels, [[1, 1], [0, 0], [-1, -1], [1, 0]])
    np.testing.assert_array_equal(load("multi", label_column="findings").labels, source.labels)
    single = load(label_column="findings")
    assert single.task == "single" and any("label_separator" in line for line in single.unread)


def test_values(load):
    source = load("value", label_column="age")
    assert (source.task, source.classes, source.labels.dtype) == ("value", ("age",), np.float32)
    np.testing.assert_array_equal(source.labels, [61.5, np.nan, 20, -30])
    assert source.known.tolist() == [True, False, True, True]


def test_integers_are_classes_unless_told(load):
    assert load(label_column="patient").task == "single"


@pytest.mark.parametrize(
    ("task", "options", "code", "field", "words"),
    [
        ("auto", {"label_columns": ("Edema", "Mas")}, "unknown-name", "data.options.label_columns", "Mass"),
        ("auto", {"label_columns": ("Edema", "age")}, "out-of-range", "age", "61.5"),
        ("auto", {"label_columns": "Edema"}, "too-few", "data.options.label_columns", "two"),
        ("value", {"label_columns": ("Edema", "Mass")}, "conflict", "data.options.label_columns", "multi"),
        ("value", {"label_column": "findings"}, "out-of-range", "findings", "Mass|Edema"),
        ("value", {}, "missing", "data.options.label_column", "numbers"),
        ("multi", {"label_column": "patient"}, "mismatch", "data.options.label_separator", "patient"),
        ("ordinal", {"label_column": "patient"}, "unsupported", "data.task", "number"),
    ],
)
def test_what_does_not_fit_is_refused(load, task, options, code, field, words):
    with refuses(code, field, words):
        load(task, **options)


def test_class_folders_have_one_class_each(tmp_path):
    for name in ("0 none", "10 severe", "2 mild"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((8, 8), len(name), np.uint8)).save(tmp_path / name / "x.png")
    where = {"seed": 0, "manual_dir": "", "cache_dir": "", "size": 8, "on_bad_file": "stop", "nan": "refuse"}
    source = data.load("folder", dir=str(tmp_path), options={}, task="ordinal", **where)
    assert source.classes == ("0 none", "2 mild", "10 severe")
    with refuses("conflict", "data.task", "table"):
        data.load("folder", dir=str(tmp_path), options={}, task="multi", **where)


def save(path, labels, **others):
    rng = np.random.default_rng(0)
    np.savez(path, images=rng.integers(0, 256, (len(labels), 8, 8), np.uint8), labels=labels, **others)
    return path


def test_archives_have_several_labels_or_values(tmp_path):
    where = {"seed": 0, "manual_dir": "", "cache_dir": "", "size": 8, "on_bad_file": "stop", "nan": "refuse"}

    def load(labels, task="auto", name="x.npz"):
        return data.load("npz", dir=str(save(tmp_path / name, np.array(labels))), options={}, task=task, **where)

    several = load([[1, 1, 0], [0, 0, 0], [-1, 0, 1]])
    assert (several.task, several.classes) == ("multi", ("0", "1", "2"))
    assert several.labels.tolist() == [[1, 1, 0], [0, 0, 0], [-1, 0, 1]]
    assert load([[1, 0], [0, 1], [1, 0]]).task == "single"
    assert load([[1, 0], [0, 1], [1, 0]], "multi").labels.shape == (3, 2)
    chest = load(np.eye(14, dtype=np.uint8)[:4] + np.eye(14, k=1, dtype=np.uint8)[:4], name="chestmnist_64.npz")
    assert chest.classes[2] == "effusion"
    values = load([[1.5], [np.nan], [3.0]], "value")
    assert values.task == "value" and values.known.tolist() == [True, False, True]
    assert load([2, 0, 1], "ordinal").task == "ordinal"
    with refuses("out-of-range", "labels", "data.task='value'"):
        load([1.5, 2.5, 3.5])
    with refuses("conflict", "labels", "multi"):
        load([[1, 1], [0, 1]], "single")


def test_other_datasets_are_one_class_an_image():
    where = {
        "seed": 0,
        "dir": "",
        "manual_dir": "",
        "cache_dir": "",
        "size": 16,
        "on_bad_file": "stop",
        "nan": "refuse",
    }
    options = {"images_per_class": 3}
    assert data.load("lenses", options=options, task="ordinal", **where).task == "ordinal"
    with refuses("conflict", "data.task", "ordinal"):
        data.load("lenses", options=options, task="value", **where)
