"""Random labels on few patients: no seed may find that pretraining raises or lowers anything."""

import numpy as np
import pytest
from PIL import Image

from jaxssl.results import run_conclusions
from jaxssl.results import workdir as workdirs
from jaxssl.results.cautions import FEW_STEPS
from jaxssl.results.predictions import compute_differences, read_predictions
from jaxssl.results.verdict import judge_run
from jaxssl.run import experiment
from jaxssl.study import analysis
from jaxssl.study.runs import find_runs
from tests import tiny_config


def images(folder, patients, each=12):
    """Noise of random labels in `folder`/<split>/<class>: so many patients in each split, each with both classes."""
    rng = np.random.default_rng(0)
    for split, count in patients.items():
        for patient in range(count):
            for i in range(each):
                place = folder / split / "ab"[i % 2]
                place.mkdir(parents=True, exist_ok=True)
                noise = rng.integers(0, 256, (16, 16), np.uint8)
                Image.fromarray(noise).save(place / f"{split}{patient}-{i}.png")


@pytest.mark.slow
def test_ten_seeds_on_three_patients_say_nothing(tmp_path):
    images(tmp_path / "images", {"train": 6, "val": 3, "test": 3})
    for seed in range(10):
        c = tiny_config.get_config()
        c.seed, c.data.name, c.data.dir, c.data.options = seed, "folder", str(tmp_path / "images"), {}
        c.data.options.group_pattern = r"/(\w+)-\d+\.png$"
        c.pretrain.epochs = 1
        workdir = tmp_path / "runs" / str(seed)
        results = experiment.run(c, workdir)
        results["pretrain"]["steps"] = FEW_STEPS  # With fewer there is no verdict, whatever the scores.
        workdirs.write(workdir / "results.json", results)
        assert results["dataset"]["groups_known"] and results["dataset"]["splits"]["test"]["groups"] == 3
        differences = compute_differences(results, read_predictions(workdir, results))
        said = run_conclusions.answer(results, differences)
        assert " raises " not in said and " lowers " not in said, said
        words = judge_run(results, differences).words
        assert "helps" not in words and "harms" not in words, words
    study = analysis.analyze(*find_runs([tmp_path / "runs"]))
    assert {d["verdict"] for d in study["differences"]} == {"open"}
    assert study["conclusion"]["may"] == []
