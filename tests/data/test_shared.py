"""Every dataset of the real copies, prepared and audited by the documented commands, against what their list says."""

import json
import re
from collections import Counter

import pytest
import yaml

from jaxssl import data
from jaxssl.cli.data import GENERAL
from jaxssl.cli.parser import main
from jaxssl.data.audit.report import audit_source

pytestmark = pytest.mark.slow

# By name in SOURCES.md: the dataset of `jaxssl data list`, its place, and the counts by split and class that
# follow from those of SOURCES.md.
CASES = {
    "head_ct_hemorrhage": (
        "head_ct",
        "head_ct_hemorrhage",
        lambda of: {"all": {"hemorrhage": of["counts"]["hemorrhage_1"], "normal": of["counts"]["hemorrhage_0"]}},
    ),
    "brain_tumor_classification": (
        "folder",
        "brain_tumor_classification",
        lambda of: {"train": of["counts"]["Training"], "test": of["counts"]["Testing"]},
    ),
    "brain_tumor_figshare": ("folder", "brain_tumor_figshare/jpg", lambda of: {"all": named(of["counts"])}),
    "brain_tumor_figshare as .mat": (
        "brain_tumor",
        "brain_tumor_figshare",
        lambda of: {"all": dict.fromkeys(("meningioma", "glioma", "pituitary"), per_label(of))},
    ),
    "ham10000": ("ham10000", "ham10000", lambda of: {"all": of["counts"]}),
    "ham10000_fullsize_sample": (
        "folder",
        "ham10000_fullsize_sample/HAM10000_images_part_1",
        lambda of: {"all": {"unlabelled": of["counts"]["files"]}},
    ),
    "chest_xray": ("chest_xray", "chest_xray", lambda of: of["counts"]),
    "chest_xray_native_aspect": (
        "folder",
        "chest_xray_native_aspect/chest_xray",
        lambda of: {"train": of["counts"]},
    ),
    "isic9": ("isic9", "isic9", lambda of: {"train": of["counts"]["Train"], "test": of["counts"]["Test"]}),
    "idrid": (
        "idrid_grading",
        "idrid",
        lambda of: {side: named(counts) for side, counts in of["counts_present"].items()},
    ),
    "cifar10": (
        "folder",
        "cifar10",
        lambda of: {side: [of["counts"][f"{side}_per_class"]] * of["counts"]["classes"] for side in ("train", "test")},
    ),
    "medmnist": (
        "npz",
        "medmnist/pneumoniamnist.npz",
        lambda of: {
            {"val": "validation"}.get(side, side): dict(zip(("normal", "pneumonia"), counts, strict=True))
            for side, counts in of["counts"]["pneumoniamnist"].items()
        },
    ),
    "lensing": (
        "folder",
        "lensing",
        lambda of: {
            "all": {
                top: sum(int(what.split()[0]) for part, what in of["counts"].items() if part.startswith(parts))
                for top, parts in {
                    "unlabelled": ("npy_",),
                    "lensing_sim": ("lensing_sim_",),
                    "deeplense_model_sample": ("deeplense_",),
                }.items()
            }
        },
    ),
}


def named(counts):
    return {str(label): count for label, count in counts.items()}


def per_label(of):
    """The .mat files stand in a sentence alone."""
    return int(re.search(r"repacked_mat/ \(\d+ files, (\d+) per label\)", str(of["deviations"]))[1])


def sources(shared_data):
    """The blocks of SOURCES.md by name."""
    text = (shared_data / "SOURCES.md").read_text()
    blocks = map(yaml.safe_load, re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S))
    return {block["dataset"]: block for block in blocks}


def expected(shared_data, case):
    return CASES[case][2](sources(shared_data)[case.split()[0]])


def agrees(counts, wanted):
    """Where the classes have no names in SOURCES.md, how many there are of each will do."""
    assert counts.keys() == wanted.keys()
    for side, of in wanted.items():
        assert (list(counts[side].values()) if isinstance(of, list) else counts[side]) == of, side


def test_no_dataset_is_left_out(shared_data):
    assert {case.split()[0] for case in CASES} == set(sources(shared_data))
    folders = {path.name for path in shared_data.iterdir() if path.is_dir()}
    assert {place.split("/")[0] for _, place, _ in CASES.values()} == folders


@pytest.mark.parametrize("case", CASES)
def test_audit_counts_what_the_list_says(shared_data, tmp_path, case, capsys):
    name, place, _ = CASES[case]
    builder = name not in GENERAL
    arguments = [name, f"--manual_dir={shared_data / place}"] if builder else [str(shared_data / place)]
    assert main(["data", "audit", *arguments, f"--to={tmp_path / 'audit.json'}"]) == 0, capsys.readouterr().err
    report = json.loads((tmp_path / "audit.json").read_text())
    agrees(report["counts"], expected(shared_data, case))
    assert not report["unreadable"] and not report["nonfinite"] and not report["constant"]
    if case == "idrid":
        listed = sum(sum(of.values()) for of in sources(shared_data)["idrid"]["counts_csv"].values())
        assert f"without their files: {listed - report['images']} (" in report["findings"][0]


@pytest.mark.parametrize("case", CASES)
def test_what_is_prepared_counts_what_the_list_says(shared_data, tmp_path, case, capsys):
    name, place, _ = CASES[case]
    builder = name not in GENERAL
    wanted = expected(shared_data, case)
    if case == "isic9":
        wanted = without_doubles(shared_data, wanted)
    if builder:
        arguments = [name, f"--manual_dir={shared_data / place}", f"--cache_dir={tmp_path}", "--size=16"]
        assert main(["data", "prepare", *arguments]) == 0
        assert f"{name}: {sum(sum(of.values()) for of in wanted.values()):,} images" in capsys.readouterr().out
    loaded = data.load(
        name,
        seed=0,
        dir=str(shared_data / place),
        manual_dir=str(shared_data / place),
        cache_dir=str(tmp_path),
        size=16,
        on_bad_file="skip",
        nan="refuse",
        options={},
    )
    agrees(audit_source(loaded)["counts"], wanted)


def without_doubles(shared_data, counts):
    """Less the images of train whose name stands in two classes or in test."""
    places = [path.parts[-3:] for path in (shared_data / "isic9").rglob("*.jpg")]
    doubled = {name for name, count in Counter(name for *_, name in places).items() if count > 1}
    assert len(doubled) == 155
    less = Counter(label for side, label, name in places if side == "Train" and name in doubled)
    return counts | {"train": {label: count - less[label] for label, count in counts["train"].items()}}
