"""Runs of several datasets: a study each, and a page that tells which start helps on which data."""

import pytest

from jaxssl.cli.parser import main
from jaxssl.report.datasets import make_heat_map
from jaxssl.results import words
from jaxssl.results.datasets_verdict import describe_studies, judge_studies
from jaxssl.results.workdir import read, write
from jaxssl.study.runs import find_runs, find_studies
from tests.refusals import refuses
from tests.report.test_report import Page, check
from tests.study.test_compare import run as make_run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Of lesions byol helps, of lenses mae; of chest images byol harms."""
    folder = tmp_path_factory.mktemp("datasets")
    lifts = {"lesions": (0.8, 2.2, 0.8), "lenses": (0.8, 0.8, 2.2), "chest": (2.2, 0.8, 2.2)}
    for name, (random, byol, mae) in lifts.items():
        for seed in range(5):
            for method in ("byol", "mae"):
                lift = {"random": random, "byol": byol, "mae": mae}
                where = folder / f"{name}-{method}-{seed}"
                make_run(where, seed, method, lift=lift, config={}, name=name, fingerprint=name)
    return folder


def test_each_dataset_is_a_study_and_the_page_tells_which_start_helps_on_which(place, tmp_path, capsys):
    assert main(["compare", str(place), f"--to={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "lesions: BYOL helps linear probing" in said
    assert "BYOL helps on lesions, harms on chest; MAE helps on lenses" in " ".join(said.split())
    studies = {name: read(tmp_path / name / "compare.json") for name in ("chest", "lenses", "lesions")}
    assert {study["dataset"]["name"] for study in studies.values()} == studies.keys()
    assert all(study["runs"] == 10 for study in studies.values())
    page = Page((tmp_path / "report.html").read_text())
    check(page)
    links = [a["href"] for a in page.all("a") if not a["href"].startswith("#")]
    assert links == [f"{name}/report.html" for name in studies]
    assert all((tmp_path / link).is_file() for link in links)
    # What is shown is what the studies say.
    heat = make_heat_map(studies)
    assert [name for name, _ in heat.columns] == list(studies)
    for start, row in heat.rows:
        for (name, _), cell in zip(heat.columns, row, strict=True):
            [d] = [d for d in studies[name]["differences"] if d["metric"] == "auc_macro" and d["b"] == "random"
                   and start.startswith(words.arm_title(d["a"]))]  # fmt: skip
            assert cell.good == (d["mean"] > 0) and cell.certain == (d["verdict"] != "open") and 0 <= cell.share <= 1
            assert cell.text in page.words and cell.title
    verdict = judge_studies(studies)
    assert len(verdict.words.split()) <= 12 and verdict.words in page.words and "(lenses)" in verdict.unseen
    assert verdict.next_step.text.startswith("First, lenses. Confirm on labeled images")
    may, _ = describe_studies(studies)
    assert "BYOL harms on chest." in may


def test_own_images_are_called_by_their_folder_which_may_be_renamed(tmp_path):
    """Two archives are two datasets, whose runs do not call each other damaged; what is not begun counts for one."""
    for seed, title in enumerate(["chest.npz", "chest.npz", "chest-2025.npz"]):
        make_run(tmp_path / f"chest-{seed}", seed, name="npz", title=title, fingerprint="chest", config={})
        make_run(tmp_path / f"skin-{seed}", seed, name="npz", title="skin.npz", fingerprint="skin", config={})
    begun = tmp_path / "skin-3" / "config.json"
    begun.parent.mkdir()
    write(begun, {"config": {"data": {"name": "npz", "dir": "data/skin.npz"}}})
    found = {name: (len(runs), left) for name, (runs, left) in find_studies([tmp_path]).items()}
    assert found == {"chest.npz": (3, 0), "skin.npz": (3, 1)}


def test_report_writes_the_same_page(place, capsys):
    assert main(["report", str(place)]) == 0
    assert capsys.readouterr().out.strip() == str(place / "report.html")
    assert "which start is best on which" in (place / "report.html").read_text()


def test_in_python_runs_of_several_datasets_are_refused(place):
    with refuses("mismatch", "name"):
        find_runs([place])
