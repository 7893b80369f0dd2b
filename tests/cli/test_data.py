"""`jaxssl data`: what it prints, what it writes, and its exit codes."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxssl import data
from jaxssl.cli import data as verbs
from jaxssl.cli.parser import main

RNG = np.random.default_rng(0)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def noise():
    return RNG.integers(0, 256, (8, 8, 3)).astype(np.uint8)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current directory, with a folder of images of two classes with brackets in their names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    copy = noise()
    for side in ("train", "test"):
        save(tmp_path / f"images/{side}/[bold]a/0.png", copy)
        for name in ("1", "2"):
            save(tmp_path / f"images/{side}/:b: [x]/{name}.png", noise())
    return tmp_path


@pytest.fixture
def moles(tmp_path):
    rows = ["lesion_id,image_id,dx"]
    for i in range(6):
        save(tmp_path / f"download/HAM10000_images_part_1/ISIC_{i}.jpg", noise())
        rows.append(f"HAM_{i // 2},ISIC_{i},{'nv' if i < 4 else 'mel'}")
    (tmp_path / "download/HAM10000_metadata.csv").write_text("\n".join(rows))
    return tmp_path / "download"


def run(capsys, *arguments):
    code = main(["data", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_list_names_every_dataset_within_80_columns(capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    first = [line.split()[0] for line in out.splitlines() if line.startswith("  ") and line[2:3].strip()]
    assert set(data.names()) <= set(first)
    assert "7 classes; groups: lesion; licence: CC BY-NC 4.0" in out and "https://doi.org/10.7910/DVN/DBW86T" in out
    assert "…" not in out


def test_audit_of_a_folder(place, capsys):
    code, out, err = run(capsys, "audit", "images")
    assert code == 0 and err == "" and max(map(len, out.splitlines())) <= 80
    report = json.loads((place / "audit.json").read_text())
    assert report["counts"]["train"] == {":b: [x]": 2, "[bold]a": 1}
    for shown in ("[bold]a", ":b: [x]", "majority accuracy", "0.667", "8 x 8", "0 to 255 (uint8)", "audit.json"):
        assert shown in out, shown
    assert "test/[bold]a/0.png" in out and "test images with a copy in train: 1 of 3" in out


def test_audit_writes_where_to_says(place, capsys):
    assert run(capsys, "audit", "folder", "--dir=images", "--to=sub/report.json")[0] == 0
    assert (place / "sub/report.json").is_file() and not (place / "audit.json").exists()
    (place / "file").write_text("")
    code, _, err = run(capsys, "audit", "images", "--to=file/report.json")
    assert code == 2 and "--to=file/report.json cannot be written" in err


def test_audit_of_an_archive_and_of_a_group_pattern(place, capsys):
    np.savez("x.npz", images=RNG.integers(0, 256, (4, 6, 6)).astype(np.uint8), labels=[0, 1, 1, 1])
    code, out, _ = run(capsys, "audit", "x.npz")
    assert code == 0 and "4 images" in out and "0.750" in out
    assert run(capsys, "audit", "npz", "--dir=x.npz")[1] == out
    code, out, _ = run(capsys, "audit", "images", r"--options=group_pattern=/(\d)\.png")
    assert code == 0 and "groups on two sides of the split: 3 (0, 1, 2)" in out


def test_audit_of_a_folder_with_a_table(place, capsys):
    rows = ["file;kind;patient;side", ":b: [x]/1.png;bad;p1;train", "[bold]a/0.png;good;p2;train"]
    rows += [":b: [x]/2.png;bad;p1;test", "gone.png;good;p3;test"]
    (place / "images/train/labels.csv").write_text("\n".join(rows))
    columns = [f"--options={one}" for one in ("path_column=file", "label_column=kind", "group_column=patient")]
    code, out, err = run(
        capsys, "audit", "images/train", "--options=table=labels.csv", "--options=split_column=side", *columns
    )
    assert code == 0 and err == ""
    report = json.loads((place / "audit.json").read_text())
    assert report["counts"] == {"train": {"bad": 1, "good": 1}, "test": {"bad": 1}}
    assert report["groups"] == {
        "known": True,
        "count": 2,
        "across_splits": [{"group": "p1", "counts": {"test": 1, "train": 1}}],
    }
    for line in ("groups on two sides of the split: 1 (p1)", "without their files: 1 of 4 (gone.png)"):
        assert line in " ".join(out.split()), line


def test_audit_of_a_download(moles, capsys, monkeypatch):
    monkeypatch.chdir(moles.parent)
    code, out, _ = run(capsys, "audit", "ham10000", f"--manual_dir={moles}")
    assert code == 0 and "6 images" in out and "nv" in out and ".csv" in out
    assert json.loads((moles.parent / "audit.json").read_text())["groups"]["count"] == 3


def test_names_that_could_steer_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    same = noise()
    for name in ("\x1b[31mred\nline", "\udcff"):
        save(tmp_path / "images" / f"{name}.png", same)
    code, out, _ = run(capsys, "audit", "images")
    assert code == 0 and "\x1b" not in out and "?[31mred" in out and "\udcff" not in out


def test_prepare_counts_and_is_quick_the_second_time(moles, tmp_path, capsys):
    arguments = ("prepare", "ham10000", f"--manual_dir={moles}", f"--cache_dir={tmp_path / 'cache'}", "--size=8")
    code, out, _ = run(capsys, *arguments)
    assert code == 0 and "ham10000: 6 images in 3 groups" in out and "majority accuracy" in out and "0.667" in out
    records = sorted((tmp_path / "cache").rglob("*.array_record*"))
    before = [path.stat().st_mtime_ns for path in records]
    assert records and run(capsys, *arguments)[1] == out
    assert [path.stat().st_mtime_ns for path in records] == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["audit", "ham1000"], "ham1000 is no folder, archive or dataset: did you mean 'ham10000'?"),
        (["audit", "ham10000"], "audit ham10000 needs --manual_dir"),
        (["audit", "ham10000", "--manual_dir=nowhere"], "data.manual_dir=nowhere is not a folder: download HAM10000"),
        (["audit", "ham10000", "--manual_dir=empty"], "HAM10000_metadata.csv not found under data.manual_dir=empty"),
        (["audit", "ham10000", "--manual_dir=x", "--options=part=1"], "'ham10000' takes no keywords"),
        (["audit", "deeplense", "--manual_dir=images", "--options=part=x"], "'deeplense' does not know 'x'"),
        (["audit", "nowhere/at/all"], "nowhere/at/all is no folder, archive or dataset: known are brain_tumor"),
        (["audit", "folder", "--dir=nowhere"], "--dir=nowhere is not there: name the folder"),
        (["audit", "npz", "--dir=nowhere.npz"], "--dir=nowhere.npz is not there: name the archive"),
        (
            ["audit", "images", "--options=tabel=1"],
            "--options=tabel: did you mean 'table'? a folder takes group_pattern, table",
        ),
        (["audit", "images", "--options=group_pattern=("], "not a regular expression"),
        (["audit", "images", "--options=table=labels.csv"], "there is no file images/labels.csv"),
        (["audit", "images", "--options=label_column=kind"], "is of a table"),
        (["audit", "ham10000", "--manual_dir=x", "--options=part"], "--options=part is not KEY=VALUE"),
        (["audit", "npz"], "audit npz needs --dir: the archive"),
        (["audit", "images", "--dir=images"], "--dir=images is for the names folder and npz"),
        (["audit", "images", "--manual_dir=images"], "--manual_dir=images is for the datasets of the list"),
        (["audit", "lenses"], "there is no file to audit"),
        (["prepare", "folder"], "folder needs no preparation"),
        (["prepare", "ham1000"], "did you mean 'ham10000'?"),
        (["prepare", "ham10000"], "data.manual_dir"),
        (["prepare", "ham10000", "--manual_dir=nowhere"], "data.manual_dir=nowhere is not a folder: download HAM10000"),
        (
            ["prepare", "ham10000", "--manual_dir=images"],
            "HAM10000_metadata.csv not found under data.manual_dir=images",
        ),
        (
            ["prepare", "deeplense", "--manual_dir=images", "--options=prat=1"],
            "data.options.prat is not known: did you mean",
        ),
        (["prepare", "ham10000", "--size=0"], "--size=0"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_code_2(place, capsys, arguments, says):
    code, _, err = run(capsys, *arguments)
    assert code == 2 and says in err and err.startswith("jaxssl: ") and err.count("\n") == 1


def test_keywords_are_python_values_or_strings():
    assert verbs.parse_options(["bands=3", "part=model_i", "x="]) == {"bands": 3, "part": "model_i", "x": ""}


def test_as_a_module(place):
    ended = subprocess.run([sys.executable, "-m", "jaxssl", "data", "audit", "images"], capture_output=True, text=True)
    assert ended.returncode == 0 and "findings, the most serious first" in ended.stdout


def test_a_missing_argument_is_code_2(capsys):
    assert main(["data", "audit"]) == 2 and "NAME_OR_FOLDER" in capsys.readouterr().err
