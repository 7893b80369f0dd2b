"""Names of splits, classes, groups and missing values as people write them."""

import pytest

from jaxssl.data import labels
from tests.refusals import refuses


@pytest.mark.parametrize(
    ("name", "side"),
    [
        *[(name, "train") for name in ("train", "Training", "training_set", "seg_train", "imagesTr", "train2017")],
        *[(name, "train") for name in ("a. Training Set", "TRAIN DATA", "trainset")],
        *[(name, "validation") for name in ("val", "Valid", "dev", "dev_set", "validation-images", "eval", "val2017")],
        *[(name, "test") for name in ("test", "Test data", "testing_images", "imagesTs", "b. Testing Set", "holdout")],
        *[(name, None) for name in ("trained nurses", "train_test", "control", "retest", "traincar", "contest", "")],
    ],
)
def test_names_of_splits(name, side):
    assert labels.find_split(name) == side


@pytest.mark.parametrize(
    "word", ["", "nan", "NaN", "NA", "N/A", "None", "null", "?", "unknown", " - ", "<NA>", "Missing"]
)
def test_words_for_no_value(word):
    assert labels.is_missing(word) and labels.parse_values([word, "a"]) == ["", "a"]


@pytest.mark.parametrize("word", ["0", "no", "normal", "nano", "negative", "x"])
def test_values_are_values(word):
    assert not labels.is_missing(word)


def test_whole_floats_are_integers():
    assert labels.parse_values(["0", "0.0", "1.00", "12.", "0.5", "1e0"]) == ["0", "0", "1", "12", "0.5", "1e0"]
    assert labels.parse_values(["-0.0", "9" * 30 + ".0", "9" * 400 + ".0"]) == ["0", "9" * 30, "9" * 400 + ".0"]


def test_minus_one_is_no_class_among_others():
    assert labels.parse_classes(["0", "1", "-1"]) == ["0", "1", ""]
    assert labels.parse_classes(["1", "-1"]) == ["1", "-1"] and labels.parse_classes(["a", "b", "-1"]) == [
        "a",
        "b",
        "-1",
    ]


def test_classes_of_test_are_spelt_as_in_train():
    sides = ["train", "train", "test", "test"]
    assert labels.match_classes(["Big Cat", "dog", "big_cat", "DOG"], sides, "x") == [
        "Big Cat",
        "dog",
        "Big Cat",
        "dog",
    ]
    decomposed = "cafe\u0301"
    assert labels.match_classes(["caf\u00e9", "b", decomposed, "b"], sides, "x")[2] == "caf\u00e9"
    # Two spellings within one split may be two classes, such as letters.
    assert labels.match_classes(["a", "A", "a", "A"], sides, "x") == ["a", "A", "a", "A"]
    assert labels.match_classes(["cats", "dogs", "cats", "birds"], sides, "x")[3] == "birds"


def test_nearly_the_same_class_is_asked_about():
    with refuses("mismatch", "labels", "'cat'", "'cats'"):
        labels.match_classes(["cats", "dogs", "cat", "dogs"], ["train", "train", "test", "test"], "labels")


def test_empty_splits_are_counted_and_others_are_not_guessed():
    with refuses("missing", "set", "line 2", "2 of 3"):
        labels.parse_splits(["line 1", "line 2", "line 3"], "set", ["train", "", "NA"])
    with refuses("unknown-name", "set", "line 2", "did you mean 'test'"):
        labels.parse_splits(["line 1", "line 2"], "set", ["train", "tset"])
    assert labels.parse_splits(["1", "2"], "set", ["Training Set", "dev"]) == ["train", "validation"]
