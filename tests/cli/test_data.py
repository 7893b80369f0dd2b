"""`jaxssl data`: what it prints, what it writes, and its exit codes."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxssl import data
from jaxssl.cli import data as verbs
from jaxssl.cli import parser
from jaxssl.cli.parser import main
from tests.refusals import refuses

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


def test_list_names_a_dataset_of_which_only_load_is_known(tmp_path, monkeypatch, capsys):
    (tmp_path / "only_load.py").write_text('"""Rings and disks."""\n\ndef load(*, seed): ...\n')
    monkeypatch.setattr(data.datasets, "__path__", [*data.datasets.__path__, str(tmp_path)])
    code, out, _ = run(capsys, "list")
    assert code == 0 and "only_load" in out and "Rings and disks " in out
    with refuses("unsupported", "NAME_OR_FOLDER", "only_load"):
        verbs.find_images(parser.parse(["data", "audit", "only_load"]))
    sys.modules.pop("jaxssl.data.datasets.only_load")


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
    # The folder or archive itself has a line more, the next command.
    assert out.startswith(run(capsys, "audit", "npz", "--dir=x.npz")[1])
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
        "median": 1.5,
        "largest": {"p1": 2},
    }
    for line in ("groups on two sides of the split: 1 (p1)", "without their files: 1 of 4 (gone.png)"):
        assert line in " ".join(out.split()), line
    # Or the table itself, as `data.dir` may be.
    assert run(capsys, "audit", "images/train/labels.csv", "--options=split_column=side", *columns)[0] == 0
    again = json.loads((place / "audit.json").read_text())
    assert again["counts"] == report["counts"] and again["groups"] == report["groups"]


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
    assert code == 0 and "\x1b" not in out and "\\x1b[31mred" in out and "\udcff" not in out


def test_prepare_counts_and_is_quick_the_second_time(moles, tmp_path, capsys):
    arguments = ("prepare", "ham10000", f"--manual_dir={moles}", f"--cache_dir={tmp_path / 'cache'}", "--size=8")
    code, out, _ = run(capsys, *arguments)
    assert code == 0 and "ham10000: 6 images in 3 groups" in out and "majority accuracy" in out and "0.667" in out
    records = sorted((tmp_path / "cache").rglob("*.array_record*"))
    before = [path.stat().st_mtime_ns for path in records]
    assert records and run(capsys, *arguments)[1] == out
    assert [path.stat().st_mtime_ns for path in records] == before


@pytest.mark.parametrize(
    ("arguments", "code", "field", "part"),
    [
        (["audit", "ham1000"], "missing", "NAME_OR_FOLDER", "did you mean 'ham10000'?"),
        (["audit", "nowhere/at/all"], "missing", "NAME_OR_FOLDER", "brain_tumor"),
        (["audit", "ham10000"], "missing", "--manual_dir", ""),
        (["audit", "ham10000", "--manual_dir=nowhere"], "missing", "data.manual_dir", "nowhere"),
        (["audit", "ham10000", "--manual_dir=empty"], "missing", "data.manual_dir", "HAM10000_metadata.csv"),
        (["audit", "ham10000", "--manual_dir=x", "--options=part=1"], "unknown-name", "--options", "part"),
        (["audit", "deeplense", "--manual_dir=images", "--options=part=x"], "unknown-name", "--options", "'x'"),
        (["audit", "folder", "--dir=nowhere"], "missing", "--dir", "nowhere"),
        (["audit", "npz", "--dir=nowhere.npz"], "missing", "--dir", "nowhere.npz"),
        (["audit", "npz"], "missing", "--dir", "archive"),
        (["audit", "images", "--options=tabel=1"], "unknown-name", "--options", "did you mean 'table'?"),
        (["audit", "images", "--options=group_pattern=("], "out-of-range", "data.options.group_pattern", ""),
        (["audit", "images", "--options=table=labels.csv"], "missing", "data.options.table", "images/labels.csv"),
        (["audit", "images", "--options=label_column=kind"], "conflict", "data.options.label_column", "kind"),
        (["audit", "ham10000", "--manual_dir=x", "--options=part"], "out-of-range", "--options", "KEY=VALUE"),
        (["audit", "images", "--dir=images"], "conflict", "--dir", "images"),
        (["audit", "images", "--manual_dir=images"], "conflict", "--manual_dir", "images"),
        (["audit", "lenses"], "unsupported", "NAME_OR_FOLDER", "lenses"),
        (["prepare", "folder"], "unsupported", "NAME", "folder"),
        (["prepare", "ham1000"], "unknown-name", "data.name", "did you mean 'ham10000'?"),
        (["prepare", "ham10000"], "missing", "data.manual_dir", ""),
        (["prepare", "ham10000", "--manual_dir=nowhere"], "missing", "data.manual_dir", "nowhere"),
        (["prepare", "ham10000", "--manual_dir=images"], "missing", "data.manual_dir", "HAM10000_metadata.csv"),
        (
            ["prepare", "deeplense", "--manual_dir=images", "--options=prat=1"],
            "unknown-name",
            "data.options.prat",
            "did you mean 'part'?",
        ),
        (["prepare", "ham10000", "--size=0"], "out-of-range", "--size", "0"),
        (["lst"], "unknown-name", None, "did you mean 'list'?"),
        (["audit"], "missing", "NAME_OR_FOLDER", ""),
        (["audit", "images", "--optoins=a=1"], "unknown-name", "--optoins", "did you mean '--options'?"),
    ],
)
def test_invalid_input_is_one_line_and_exit_code_2(place, capsys, arguments, code, field, part):
    with refuses(code, field, part):
        main(["data", *arguments, "--debug"])
    ended, _, line = run(capsys, *arguments)
    assert ended == 2 and line.startswith("jaxssl: ") and line.count("\n") == 1


def test_keywords_are_python_values_or_strings():
    assert verbs.parse_options(["bands=3", "part=model_i", "x="]) == {"bands": 3, "part": "model_i", "x": ""}


def test_as_a_module(place):
    ended = subprocess.run([sys.executable, "-m", "jaxssl", "data", "audit", "images"], capture_output=True, text=True)
    assert ended.returncode == 0 and "findings, the most serious first" in ended.stdout
