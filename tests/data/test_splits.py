"""Splits: properties over random group structures, and what is asked of an official split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxssl.data import source, splits
from jaxssl.errors import UserError
from tests.refusals import refuses

SIDES = ("train", "validation", "test")
PINNED = [4, 8, 11, 15]


def make(groups, labels, official=None, classes=None, known=True):
    classes = classes or tuple(f"class{c}" for c in range(max(max(labels, default=-1) + 1, 0)))
    ids = [f"image{i:05d}" for i in range(len(labels))]
    blank = np.zeros((len(labels), 1, 1, 1), np.uint8)
    return source.make(blank, labels, ids, classes, groups=groups if known else None, official=official)


def permuted(one, order):
    return one._replace(
        images=one.images[order],
        labels=one.labels[order],
        groups=one.groups[order],
        ids=one.ids[order],
        official=None if one.official is None else one.official[order],
    )


@st.composite
def structures(draw):
    """Groups of one to six images and of one or several classes, and three lone images of each class."""
    classes = draw(st.integers(2, 4))
    sizes = draw(st.lists(st.integers(1, 6), max_size=25))
    groups = [f"g{g}" for g, size in enumerate(sizes) for _ in range(size)]
    pure = draw(st.booleans())
    own = draw(st.lists(st.integers(0, classes - 1), min_size=len(sizes), max_size=len(sizes)))
    labels = [
        own[g] if pure else draw(st.integers(0, classes - 1)) for g, size in enumerate(sizes) for _ in range(size)
    ]
    lone = [c for c in range(classes) for _ in range(3)]
    return make(groups + [f"lone{i}" for i in range(len(lone))], labels + lone)


@settings(max_examples=60, deadline=None)
@given(structures(), st.integers(0, 9), st.randoms(use_true_random=False))
def test_split_by_group_whatever_the_order(one, seed, random):
    got = splits.split(one, seed=seed, validation=0.2, test=0.2)
    assert sorted(np.concatenate([got[side] for side in SIDES])) == list(range(len(one.ids)))
    groups = [set(one.groups[got[side]]) for side in SIDES]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    for side in SIDES:
        assert set(one.labels[got[side]]) == set(one.labels)
        assert (np.diff(got[side]) > 0).all()
    order = list(range(len(one.ids)))
    random.shuffle(order)
    other = permuted(one, order)
    again = splits.split(other, seed=seed, validation=0.2, test=0.2)
    assert all(set(other.ids[again[side]]) == set(one.ids[got[side]]) for side in SIDES)


@settings(max_examples=60, deadline=None)
@given(structures(), st.integers(0, 9), st.floats(0.01, 1), st.floats(0.01, 1), st.randoms(use_true_random=False))
def test_label_fractions_are_nested_by_group_and_show_every_class(one, seed, a, b, random):
    indices = np.array(sorted(random.sample(range(len(one.ids)), len(one.ids) // 2 + 1)))
    small, large = (set(splits.label_fraction(one, indices, f, seed=seed).tolist()) for f in sorted((a, b)))
    assert small <= large <= set(indices.tolist())
    assert set(one.labels[list(small)]) == set(one.labels[indices])
    for chosen in (small, large):
        rest = set(indices.tolist()) - chosen
        assert not set(one.groups[list(chosen)]) & set(one.groups[list(rest)])
    assert splits.label_fraction(one, indices, 1.0, seed=seed).tolist() == indices.tolist()
    order = np.array(random.sample(range(len(one.ids)), len(one.ids)))
    other = permuted(one, order)
    again = splits.label_fraction(other, np.flatnonzero(np.isin(order, indices)), min(a, b), seed=seed)
    assert set(other.ids[again]) == set(one.ids[list(small)])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(3, 60), min_size=2, max_size=4), st.floats(0.05, 0.4), st.floats(0.05, 0.4), st.integers(0, 9)
)
def test_proportions_of_lone_images(counts, validation, test, seed):
    """A side is given an image only where it lacks the most, so none ends with more than one too many."""
    one = make(None, np.repeat(np.arange(len(counts)), counts).tolist(), known=False)
    got = splits.split(one, seed=seed, validation=validation, test=test)
    for side, share in (("train", 1 - validation - test), ("validation", validation), ("test", test)):
        seen = np.bincount(one.labels[got[side]], minlength=len(counts))
        assert (seen - share * np.array(counts) <= 1 + 1e-9).all() and (seen - share * np.array(counts) > -2).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=2, max_size=4), st.floats(0.01, 1), st.integers(0, 9))
def test_label_fraction_of_lone_images_is_the_nearest_count(counts, fraction, seed):
    one = make(None, np.repeat(np.arange(len(counts)), counts).tolist(), known=False)
    got = splits.label_fraction(one, np.arange(len(one.ids)), fraction, seed=seed)
    seen = np.bincount(one.labels[got], minlength=len(counts))
    assert (np.abs(seen - np.maximum(fraction * np.array(counts), 1)) <= 0.5 + 1e-9).all()


def test_unequal_groups_come_near_the_shares():
    """One to five images a group and one rare class, as with lesions or patients."""
    rng = np.random.default_rng(0)
    sizes, kinds = rng.integers(1, 6, 800), rng.choice(3, 800, p=[0.8, 0.17, 0.03])
    one = make(np.repeat([f"p{i}" for i in range(800)], sizes), np.repeat(kinds, sizes).tolist())
    got = splits.split(one, seed=1, validation=0.15, test=0.15)
    total = np.bincount(one.labels)
    for side, share in (("train", 0.7), ("validation", 0.15), ("test", 0.15)):
        assert np.abs(np.bincount(one.labels[got[side]]) - share * total).max() <= 5


def test_seed_matters_and_the_split_of_a_seed_stays():
    one = make(None, [0, 1] * 10, known=False)
    tests = [splits.split(one, seed=seed, validation=0.2, test=0.2)["test"].tolist() for seed in range(5)]
    assert len(set(map(tuple, tests))) == 5
    assert tests[0] == PINNED


def test_split_and_label_fraction_are_drawn_independently():
    """Else the few labels would be those images that the split, too, drew first."""
    one = make(None, [0] * 400 + [1] * 400, known=False)
    everything = np.arange(800)
    few = set(splits.label_fraction(one, everything, 0.25, seed=0))
    order = [i for i in np.concatenate([splits.split(one, seed=0, validation=0.2, test=0.2)["test"]])]
    assert 0.1 < np.mean([i in few for i in order]) < 0.4


def test_too_few_groups():
    one = make(["p", "p", "p", "q", "a", "b", "c", "d"], [1, 1, 1, 1, 0, 0, 0, 0], classes=("nevus", "melanoma"))
    with pytest.raises(
        UserError, match=r"'melanoma' has 4 images in 2 groups .*, too few for train, validation, test "
    ):
        splits.split(one, seed=0, validation=0.2, test=0.2)
    with pytest.raises(UserError, match="'class0' has 5 images, too few for 50 folds "):
        splits.cross_validation(make(None, [0] * 5 + [1] * 5, known=False), seed=0, folds=50, fold=0, validation=0.01)


def test_shares_that_leave_nothing_to_train_on_are_refused():
    """Values are stratified by fifths, of which each has one image here."""
    labels = np.arange(5, dtype=np.float32)
    one = make(None, [0] * 5, classes=("age",))._replace(labels=labels, task="value")
    with refuses("too-few", "data.validation", "none of 5 images"):
        splits.split(one, seed=0, validation=0.5, test=0.4)


def test_official_split_is_kept_and_completed():
    labels = [0, 1] * 30
    official = ["train"] * 40 + ["test"] * 20
    one = make(None, labels, official=official, known=False)
    got = splits.split(one, seed=0, validation=0.25, test=0.9)
    assert got["test"].tolist() == list(range(40, 60))
    assert len(got["validation"]) == 10 and set(got["validation"]) | set(got["train"]) == set(range(40))
    full = make(None, labels, official=["train"] * 20 + ["validation"] * 20 + ["test"] * 20, known=False)
    whole = splits.split(full, seed=0, validation=0.25, test=0.1)
    assert [whole[side].tolist() for side in SIDES] == [list(range(20 * i, 20 * i + 20)) for i in range(3)]
    anew = splits.split(one, seed=0, validation=0.2, test=0.2, official=False)
    assert anew["test"].tolist() != got["test"].tolist() and len(anew["test"]) == 12


def test_official_split_without_test():
    one = make(None, [0, 1] * 30, official=["train"] * 40 + ["validation"] * 20, known=False)
    got = splits.split(one, seed=0, validation=0.2, test=0.25)
    assert got["validation"].tolist() == list(range(40, 60)) and len(got["test"]) == 10 and len(got["train"]) == 30


def test_official_split_whose_test_has_no_labels():
    labels = [0, 1] * 20 + [source.UNLABELLED] * 20
    one = make(None, labels, official=["train"] * 40 + ["test"] * 20, known=False)
    got = splits.split(one, seed=0, validation=0.2, test=0.25)
    assert [len(got[side]) for side in SIDES] == [22, 8, 10]
    assert max(map(max, got.values())) < 40


def test_official_split_without_train():
    one = make(None, [0, 1], official=["test", "test"], known=False)
    with pytest.raises(UserError, match="no train images"):
        splits.split(one, seed=0, validation=0.2, test=0.2)


def test_leak_in_the_official_split():
    one = make(["p1", "p2", "p1", "p3"], [0, 1, 0, 1], official=["train", "train", "test", "test"])
    with pytest.raises(UserError, match=r"1 groups on two sides of the split: p1 \(test, train\)"):
        splits.split(one, seed=0, validation=0.2, test=0.2)


def test_check_names_groups():
    one = make([f"p{i // 2:02d}" for i in range(40)], [0, 1] * 20)
    splits.check(one, {"train": np.arange(20), "test": np.arange(20, 40)})
    with pytest.raises(UserError, match=r"20 groups .*: p00 \(test, train\), p01 .* and 10 more"):
        splits.check(one, {"train": np.arange(0, 40, 2), "test": np.arange(1, 40, 2)})
    alone = make(None, [0, 1], known=False)
    with pytest.raises(UserError, match=r"image00001 \(pretrain, test\)"):
        splits.check(alone, {"pretrain": np.array([0, 1]), "test": np.array([1])})


def test_unlabelled_images_are_for_training():
    one = make(None, [source.UNLABELLED] * 9, known=False)
    got = splits.split(one, seed=0, validation=0.2, test=0.2)
    assert got["train"].tolist() == list(range(9)) and not len(got["validation"]) and not len(got["test"])
    assert not len(splits.label_fraction(one, np.arange(9), 0.5, seed=0))
    one = make(None, [source.UNLABELLED] * 4, official=["train", "test", "train", "test"], known=False)
    assert splits.split(one, seed=0, validation=0.2, test=0.2)["test"].tolist() == [1, 3]


@settings(max_examples=40, deadline=None)
@given(structures(), st.integers(2, 3), st.integers(0, 9), st.randoms(use_true_random=False))
def test_folds_are_disjoint_complete_by_group_and_the_same_in_any_order(one, folds, seed, random):
    options = {"seed": seed, "folds": folds, "validation": 0.0}
    tests = []
    for fold in range(folds):
        got = splits.cross_validation(one, fold=fold, **options)
        assert sorted(np.concatenate([got[side] for side in SIDES])) == list(range(len(one.ids)))
        assert not set(one.groups[got["train"]]) & set(one.groups[got["test"]])
        assert set(one.labels[got["test"]]) == set(one.labels)
        tests.append(got["test"])
    assert sorted(np.concatenate(tests)) == list(range(len(one.ids)))
    order = list(range(len(one.ids)))
    random.shuffle(order)
    other = permuted(one, order)
    again = splits.cross_validation(other, fold=0, **options)
    assert set(other.ids[again["test"]]) == set(one.ids[tests[0]])


@settings(max_examples=40, deadline=None)
@given(structures(), st.integers(2, 4), st.integers(0, 9), st.floats(0.05, 0.3), st.randoms(use_true_random=False))
def test_validation_of_a_fold_is_by_group_and_the_same_in_any_order(one, folds, seed, validation, random):
    options = {"seed": seed, "folds": folds, "fold": folds - 1, "validation": validation}
    try:
        got = splits.cross_validation(one, **options)
    except UserError as error:
        assert "too few for" in str(error)
        return
    assert sorted(np.concatenate([got[side] for side in SIDES])) == list(range(len(one.ids)))
    groups = [set(one.groups[got[side]]) for side in SIDES]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert set(one.labels[got["validation"]]) == set(one.labels)
    whole = splits.cross_validation(one, **options | {"validation": 0.0})
    np.testing.assert_array_equal(got["test"], whole["test"])
    other = permuted(one, np.array(random.sample(range(len(one.ids)), len(one.ids))))
    again = splits.cross_validation(other, **options)
    assert all(set(other.ids[again[side]]) == set(one.ids[got[side]]) for side in SIDES)


def test_folds_of_the_dataset_itself_are_kept():
    rng = np.random.default_rng(0)
    patients, labels = np.repeat(np.arange(30), 4), np.repeat(rng.permutation(np.arange(30) % 3), 4)
    one = make([f"p{p:02}" for p in patients], labels.tolist())._replace(folds=(patients % 5).astype(np.int32))
    got = splits.cross_validation(one, seed=0, folds=5, fold=3, validation=0.2)
    np.testing.assert_array_equal(got["test"], np.flatnonzero(patients % 5 == 3))
    assert not set(one.groups[got["train"]]) & set(one.groups[got["validation"]]) and 20 <= len(got["validation"]) <= 28
    torn = one._replace(folds=(np.arange(120) % 5).astype(np.int32))
    with pytest.raises(UserError, match="on two sides of the split"):
        splits.cross_validation(torn, seed=0, folds=5, fold=3, validation=0.0)
    # Another number of parts than the dataset's own is dealt out anew.
    assert set(splits.cross_validation(torn, seed=0, folds=3, fold=0, validation=0.0)["test"] % 5) == set(range(5))


def test_images_without_a_label_are_trained_on_and_never_scored():
    labels = [0, 1] * 20 + [-1] * 10
    groups = [f"g{i}" for i in range(40)] + [f"g{i}" for i in range(5)] + [f"u{i}" for i in range(5)]
    one = make(groups, labels, classes=("a", "b"))
    for got in (
        splits.split(one, seed=0, validation=0.2, test=0.3),
        splits.cross_validation(one, seed=0, folds=4, fold=1, validation=0.2),
    ):
        assert (one.labels[np.concatenate([got["validation"], got["test"]])] >= 0).all()
        assert set(range(45, 50)) <= set(got["train"])
        # One of g0 to g4 without a label is trained on just where its group is.
        held = set(one.groups[got["validation"]]) | set(one.groups[got["test"]])
        assert {i for i in range(40, 45) if groups[i] not in held} == set(got["train"]) & set(range(40, 45))
    blank = make(None, [-1] * 6, known=False)
    with pytest.raises(UserError, match=r"data.folds=2: the images have no labels"):
        splits.cross_validation(blank, seed=0, folds=2, fold=0, validation=0.0)


@settings(max_examples=40, deadline=None)
@given(structures(), st.integers(0, 9), st.integers(1, 20), st.integers(1, 20), st.randoms(use_true_random=False))
def test_counts_a_class_are_nested_by_group_and_reached(one, seed, a, b, random):
    everything = np.arange(len(one.ids))
    small, large = (splits.labels_per_class(one, everything, n, seed=seed) for n in sorted((a, b)))
    assert set(small) <= set(large) and set(one.labels[small]) == set(one.labels)
    for chosen in (small, large):
        assert not set(one.groups[chosen]) & set(one.groups[np.setdiff1d(everything, chosen)])
    other = permuted(one, np.array(random.sample(range(len(one.ids)), len(one.ids))))
    again = splits.labels_per_class(other, everything, min(a, b), seed=seed)
    assert set(other.ids[again]) == set(one.ids[small])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=4), st.integers(1, 80))
def test_count_a_class_of_lone_images_is_exact(counts, count):
    one = make(None, np.repeat(np.arange(len(counts)), counts).tolist(), known=False)
    got = splits.labels_per_class(one, np.arange(len(one.ids)), count, seed=0)
    np.testing.assert_array_equal(np.bincount(one.labels[got]), np.minimum(counts, count))


def make_multi(prevalence, images=200, seed=0):
    rng = np.random.default_rng(seed)
    labels = (rng.random((images, len(prevalence))) < prevalence).astype(int)
    labels[rng.random(labels.shape) < 0.1] = source.UNLABELLED
    ids = [f"image{i:05d}" for i in range(images)]
    blank, names = np.zeros((images, 1, 1, 1), np.uint8), [f"label{c}" for c in range(len(prevalence))]
    return source.make(blank, labels, ids, tuple(names), [f"g{i // 2}" for i in range(images)], task="multi")


def test_several_labels_are_on_all_sides_in_their_shares():
    one = make_multi([0.4, 0.2, 0.1])
    parts = splits.split(one, seed=0, validation=0.2, test=0.2)
    splits.check(one, parts)
    shares = {side: (one.labels[rows] == 1).sum(0) / (one.labels == 1).sum(0) for side, rows in parts.items()}
    for side, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
        np.testing.assert_allclose(shares[side], share, atol=0.07)
    assert np.concatenate(list(parts.values())).size == one.known.sum()
    some = splits.label_fraction(one, parts["train"], 0.2, seed=0)
    assert set(some) <= set(parts["train"]) and 0.1 < len(some) / len(parts["train"]) < 0.3
    assert (one.labels[some] == 1).any(axis=0).all()


def test_a_label_too_rare_for_all_sides_is_for_training():
    one = make_multi([0.5, 0.0])
    one.labels[7] = [0, 1]
    parts = splits.split(one, seed=0, validation=0.2, test=0.2)
    assert 7 in parts["train"] and all(len(rows) for rows in parts.values())


def test_values_are_spread_over_all_sides():
    values = np.random.default_rng(0).exponential(size=200)
    values[:10] = np.nan
    blank, ids = np.zeros((200, 1, 1, 1), np.uint8), [f"image{i:05d}" for i in range(200)]
    one = source.make(blank, values, ids, ("age",), task="value")
    parts = splits.split(one, seed=0, validation=0.2, test=0.2)
    for side in ("validation", "test"):
        found = np.quantile(one.labels[parts[side]], [0.25, 0.5, 0.75])
        np.testing.assert_allclose(found, np.nanquantile(values, [0.25, 0.5, 0.75]), atol=0.15)
    assert set(range(10)) <= set(parts["train"])
    folds = splits.cross_validation(one, seed=0, folds=5, fold=0, validation=0.1)
    assert 30 < len(folds["test"]) < 45
