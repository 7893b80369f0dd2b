"""`jaxssl predict`: the numbers of the run's own predictions.csv; what it says of images that do not fit."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxssl.cli.parser import main
from jaxssl.inference import network
from jaxssl.results.words import format_estimate
from jaxssl.results.workdir import read_results
from tests import tiny_run

SSL = "--evaluation=finetune_ssl"


def read(file):
    with open(file, newline="") as opened:
        return list(csv.DictReader(opened))


def test_the_runs_own_test_images_get_the_numbers_of_its_table(run, tmp_path, capsys):
    to = tmp_path / "new" / "predictions.csv"
    assert main(["predict", str(run.workdir), str(run.images), f"--to={to}", SSL]) == 0
    rows = {row.pop("image_id"): row for row in read(to)}
    expected = [row for row in read(run.workdir / "predictions.csv") if row["evaluation"] == "finetune_ssl"]
    seen = f"{40 - len(expected)} of them are training or validation images of the run: do not score it on them"
    out, err = capsys.readouterr()
    first, score, *doubts = out.splitlines()
    assert (first, err) == (f"{to}: 40 images, by finetune_ssl; {seen}", "")
    own = next(e for e in read_results(run.workdir)["evaluations"] if e["name"] == "finetune_ssl")
    assert score.startswith(f"finetune_ssl: macro AUC {format_estimate(own['metrics']['auc_macro'])} on ")
    assert any("groups are unknown" in line for line in doubts)
    assert len(rows) == 40 and len(expected) >= 10
    for row in expected:
        found = rows[row["image_id"]]
        assert list(found)[:3] == ["predicted", "p_bright", "p_dark"] and found["predicted"] == row["predicted"]
        for name in ("p_bright", "p_dark"):
            assert float(found[name]) == pytest.approx(float(row[name]), rel=1e-5)


def test_images_that_the_run_knows_are_told_by_any_way_to_them(run, tmp_path, capsys, monkeypatch):
    expected = [row for row in read(run.workdir / "predictions.csv") if row["evaluation"] == "finetune_ssl"]
    new = sum(row["image_id"].startswith("dark/") for row in expected)
    monkeypatch.chdir(run.images.parent)
    files = sorted(map(str, (run.images / "dark").iterdir()))
    for given in (["images/dark"], files, ["."]):
        assert main(["predict", str(run.workdir), *given, f"--to={tmp_path / 'p.csv'}", SSL]) == 0
        known = 40 - len(expected) if given == ["."] else 20 - new
        assert f"; {known} of them are training or validation images" in capsys.readouterr().out
    # Under other names they have the same pixels, and other images may have the same names.
    (tmp_path / "others").mkdir()
    for file in (run.images / "dark").iterdir():
        shutil.copy(file, tmp_path / "others" / f"new{file.name}")
    assert main(["predict", str(run.workdir), str(tmp_path / "others"), f"--to={tmp_path / 'p.csv'}", SSL]) == 0
    assert f"; {20 - new} of them are training or validation images" in capsys.readouterr().out
    for file in (tmp_path / "others").iterdir():
        Image.fromarray(np.full((30, 30), 7, np.uint8)).save(tmp_path / "others" / file.name.removeprefix("new"))
        file.unlink()
    assert main(["predict", str(run.workdir), str(tmp_path / "others"), f"--to={tmp_path / 'p.csv'}", SSL]) == 0
    assert "of them are" not in capsys.readouterr().out


def test_what_does_not_fit_is_left_out_with_its_reason(run, tmp_path, capsys):
    images = shutil.copytree(run.images / "dark", tmp_path / "images")
    (images / "torn.png").write_bytes(b"\x89PNG")
    (images / "text.jpg").write_text("text")
    np.save(images / "five.npy", np.zeros((30, 30, 5), np.uint8))
    np.save(images / "unit.npy", np.random.default_rng(0).uniform(size=(30, 30, 3)))
    np.save(images / "deep.npy", np.full((30, 30), 65535, np.uint16))
    Image.fromarray(np.zeros((300, 2), np.uint8)).save(images / "thin.png")
    to = tmp_path / "p.csv"
    assert main(["predict", str(run.workdir), str(images), f"--to={to}", SSL]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{to}: 22 of 26 images, 4 skipped, by finetune_ssl; ")
    lines = err.splitlines()
    assert [line.split(":")[1] for line in lines] == [
        " skipped five.npy",
        " skipped text.jpg",
        " skipped torn.png",
        " skipped unit.npy",
    ]
    assert "has 5 channels, and the run's images have 3" in lines[0] and "values in [0, 1]" in lines[3]
    assert {"deep.npy", "thin.png"} < {row["image_id"] for row in read(to)}


def test_calibrated_probabilities_stand_beside_the_others(copy, run, tmp_path):
    def calibrate(temperature):
        results = json.loads((copy / "results.json").read_text())
        for e in results["evaluations"]:
            e["temperature"] = temperature
        (copy / "results.json").write_text(json.dumps(results))
        assert main(["predict", str(copy), str(run.images / "dark"), f"--to={tmp_path / 'p.csv'}", SSL]) == 0
        return read(tmp_path / "p.csv")

    assert "calibrated_dark" not in calibrate(None)[0]
    for row in calibrate(0.5):
        p, found = ([float(row[f"{kind}_{name}"]) for name in tiny_run.CLASSES] for kind in ("p", "calibrated"))
        # A temperature of 1/2 squares the odds.
        assert found[0] / found[1] == pytest.approx((p[0] / p[1]) ** 2, rel=1e-4) and sum(found) == pytest.approx(1)


def test_of_another_evaluation(run, tmp_path):
    to, images = tmp_path / "p.csv", str(run.images / "dark")
    assert main(["predict", str(run.workdir), images, f"--to={to}", "--evaluation=finetune_random"]) == 0
    expected = tiny_run.predictions(run.workdir, "finetune_random")
    rows = [row for row in read(to) if f"dark/{row['image_id']}" in expected]
    assert len(rows) >= 5
    for row in rows:
        assert float(row["p_dark"]) == pytest.approx(expected[f"dark/{row['image_id']}"][1], rel=1e-5)


def without_head(workdir):
    results = json.loads((workdir / "results.json").read_text())
    results["evaluations"] = [e for e in results["evaluations"] if e["init"] == "random" and e["protocol"] == "probe"]
    (workdir / "results.json").write_text(json.dumps(results))


@pytest.mark.parametrize(
    ("spoil", "arguments", "says"),
    [
        (without_head, ["--to=p.csv"], "no network with a trained head"),
        (None, ["--to=p.txt"], "--to=p.txt must end in .csv"),
        (None, ["--to=/proc/p/p.csv"], "--to=/proc/p/p.csv cannot be written"),
        (None, ["--to=p.csv", "--evaluation=probe_random"], "has no network 'probe_random'"),
        (None, ["--to=p.csv", "--evaluation=finetune_sl"], "did you mean 'finetune_ssl'"),
        (shutil.rmtree, ["--to=p.csv"], "results.json cannot be read"),
    ],
)
def test_what_is_the_users_to_mend_ends_with_2_and_one_line(copy, run, capsys, monkeypatch, spoil, arguments, says):
    monkeypatch.chdir(copy.parent)
    if spoil:
        spoil(copy)
    assert main(["predict", str(copy), str(run.images), *arguments]) == 2
    out, err = capsys.readouterr()
    assert says in err and not out and len(err.splitlines()) == 1
    assert sorted(copy.parent.glob("*p.csv*")) == []


def test_where_no_image_could_be_taken_it_ends_with_2_and_leaves_no_table(run, tmp_path, capsys):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    to = tmp_path / "p.csv"
    assert (
        main(["predict", str(run.workdir), str(tmp_path / "torn.png"), str(tmp_path / "gone.png"), f"--to={to}"]) == 2
    )
    lines = capsys.readouterr().err.splitlines()
    assert "torn.png" in lines[0] and "gone.png: No such file" in lines[1] and "none of the 2 images can" in lines[2]
    assert list(tmp_path.glob("*p.csv*")) == []


def test_the_probe_of_the_pretrained_encoder_predicts_as_in_the_runs_table(run, tmp_path):
    to = tmp_path / "p.csv"
    assert main(["predict", str(run.workdir), str(run.images), f"--to={to}", "--evaluation=probe_ssl"]) == 0
    expected = tiny_run.predictions(run.workdir, "probe_ssl")
    found = {row["image_id"]: float(row["p_dark"]) for row in read(to)}
    for name, p in expected.items():
        assert found[name] == pytest.approx(p[1], rel=1e-4, abs=1e-6)


def test_the_best_on_validation_predicts_unless_another_is_named(copy):
    results = json.loads((copy / "results.json").read_text())
    for best in ("finetune_ssl", "probe_ssl", "finetune_random"):
        for e in results["evaluations"]:
            e["validation"] = 0.9 if e["name"] == best else 0.5 if e["init"] == "ssl" else None
        (copy / "results.json").write_text(json.dumps(results))
        assert network.load(copy).evaluation == best
