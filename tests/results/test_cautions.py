"""What scores and training of a run warn of."""

import pytest

from jaxssl.results import cautions


def evaluation(value, low=None, high=None, **more):
    auc = {"value": value, "low": low, "high": high, **more.pop("auc", {})}
    return {"protocol": "probe", "init": "random", "metrics": {"auc_macro": auc}} | more


def results(*evaluations, steps=1000, **missing):
    splits = {split: {"images": 9, "groups": 9, "missing_classes": names} for split, names in missing.items()}
    pretraining = {"objective": "byol", "supervised": False, "steps": steps, "images": 16 * steps}
    return {"pretrain": pretraining, "evaluations": list(evaluations), "dataset": {"splits": splits}}


def test_six_steps_are_no_ground_for_a_verdict():
    (sentence,) = cautions.training_cautions(results(steps=6))
    assert "6 steps on 96 images" in sentence and "too few to judge BYOL" in sentence
    assert cautions.training_cautions(results()) == []
    assert cautions.training_cautions(results() | {"pretrain": None}) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (results(evaluation(0.3, 0.2, 0.45)), ["Worse than chance"]),
        (results(evaluation(0.3, 0.2, 0.55)), []),
        (results(evaluation(1.0), evaluation(0.996)), ["at the ceiling"]),
        (results(evaluation(1.0), evaluation(0.9)), []),
        (results(evaluation(0.8), test=["rare"]), ["The test split has no image of rare"]),
        (results(evaluation(0.8), train=["a"], validation=["a", "b"]), ["The train split", "The validation split"]),
        (results(evaluation(0.8, selected_by="the last epoch")), ["the last epoch was taken instead"]),
        (results(evaluation(0.8, selected_by="auc_macro")), []),
        (results(evaluation(0.8, without_temperature="all 5 images are right")), ["not calibrated: all 5"]),
        (results(evaluation(0.8, auc={"without": "a class has 3 groups"})), ["no interval: a class has 3 groups"]),
    ],
)
def test_scores(found, said):
    sentences = cautions.score_cautions(found)
    assert len(sentences) == len(said)
    for sentence, part in zip(sentences, said, strict=True):
        assert part in sentence


def test_groups_are_explained_where_no_patients_are_known():
    assert "copies or series" in cautions.describe_few_groups(31, known=False)
    assert cautions.describe_few_groups(1, known=True) == (
        "The test images are of 1 group: so few show large differences only."
    )
