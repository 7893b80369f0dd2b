"""`jaxssl score`: the run's own scores on its test images; what fits no run is refused."""

import json
import shutil

import pytest

from jaxssl.cli.parser import main
from jaxssl.inference import score
from jaxssl.results import description, score_schema
from jaxssl.results.workdir import read_results, read_splits
from tests.refusals import refuses

SSL = "--evaluation=finetune_ssl"


@pytest.fixture
def test_images(run, tmp_path):
    """The test images of the run, in a folder of their own."""
    for name in read_splits(run.workdir)["test"]:
        (tmp_path / "other" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(run.images / name, tmp_path / "other" / name)
    return tmp_path / "other"


def test_the_test_images_have_the_scores_of_the_run(run, test_images, tmp_path, capsys):
    assert main(["score", str(run.workdir), str(test_images), f"--to={tmp_path / 'score.json'}", SSL]) == 0
    printed = capsys.readouterr().out
    assert "macro AUC" in printed and "Groups are unknown" in printed and "too good" not in printed
    found = json.loads((tmp_path / "score.json").read_text())
    assert description.check(found, score_schema.Score) == []
    own = next(e for e in read_results(run.workdir)["evaluations"] if e["name"] == "finetune_ssl")
    assert (found["images"], found["confusion"], found["seen"]) == (own["images"], own["confusion"], 0)
    for metric in ("auc_macro", "accuracy"):
        assert found["metrics"][metric]["value"] == pytest.approx(own["metrics"][metric]["value"])
    assert found["test_split"]["metrics"] == own["metrics"]


def test_training_images_are_counted(run):
    content = score.score_images(run.workdir, run.images, "finetune_random", {"group_pattern": r"(\d\d)"})
    splits = read_splits(run.workdir)
    assert content["seen"] == len(splits["train"]) + len(splits["validation"])
    assert content["groups_known"] and content["groups"] == 20


def test_classes_that_the_run_does_not_know_are_refused(run, test_images):
    (test_images / "dark").rename(test_images / "darc")
    with refuses("unknown-name", "IMAGES", "'darc'", "did you mean 'dark'"):
        score.score_images(run.workdir, test_images)


def test_images_without_labels_are_refused(run, test_images):
    with refuses("missing", "IMAGES"):
        score.score_images(run.workdir, test_images / "dark")


def test_unknown_options_are_refused(run, test_images, capsys):
    assert main(["score", str(run.workdir), str(test_images), "--options=group_patern=x"]) == 2
    assert "did you mean 'group_pattern'" in capsys.readouterr().err


def test_corrupted_images_are_compared_with_the_same_images(run, test_images, tmp_path, capsys):
    to = tmp_path / "score.json"
    assert main(["score", str(run.workdir), str(test_images), f"--to={to}", "--corrupt=5"]) == 0
    assert "jpeg 5" in capsys.readouterr().out
    content = json.loads(to.read_text())
    assert description.check(content, score_schema.Score) == []
    assert [row["corruption"] for row in content["corruptions"]] == ["noise", "blur", "contrast", "brightness", "jpeg"]
    for row in content["corruptions"]:
        for metric, difference in row["differences"].items():
            expected = row["metrics"][metric]["value"] - content["metrics"][metric]["value"]
            assert difference["value"] == pytest.approx(expected)
    for wrong in ("6", "a"):
        assert main(["score", str(run.workdir), str(test_images), f"--corrupt={wrong}"]) == 2
