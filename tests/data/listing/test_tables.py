"""Columns and paths of tables as people name them."""

import unicodedata

import pytest

from jaxssl.data.listing import tables
from tests.data import layouts
from tests.refusals import refuses

DEFAULTS = {name: name for name in tables.COLUMNS}


@pytest.fixture
def root(tmp_path):
    for i in range(6):
        layouts.picture(tmp_path / "images" / f"ISIC_{i}.png", 20 * i)
    return tmp_path


def listed(root, head, *, columns=None, pattern="", row="images/ISIC_{i}.png,{c},p{g},{s}"):
    lines = [row.format(i=i, c="ab"[i % 2], g=i // 2, s=("train", "test")[i // 4]) for i in range(6)]
    (root / "t.csv").write_text("\n".join([head, *lines]), encoding="utf-8")
    return tables.list_images(root, "t.csv", DEFAULTS | (columns or {}), pattern)


@pytest.mark.parametrize(
    "head",
    [
        "path,Label,Group,Split",
        "Path,LABEL,Patient,SPLIT",
        "file_name,diagnosis,Patient ID,set",
        "Image,dx,lesion_id,Phase",
    ],
)
def test_columns_are_found_whatever_their_case(root, head):
    found = listed(root, head)
    assert found.labels == ["a", "b"] * 3 and found.groups == ["p0", "p0", "p1", "p1", "p2", "p2"]
    assert found.official == ["train"] * 4 + ["test"] * 2 and found.unread == ()


def test_columns_that_are_not_used_are_said(root):
    found = listed(root, "path,finding,age,sex")
    assert found.labels is None and found.groups is None and found.unread == ("columns of t.csv: finding, age, sex",)


def test_a_column_that_occurs_twice_is_refused_if_it_is_used(root):
    with refuses("conflict", "data.options.label_column", "two columns 'dx'"):
        listed(root, "path,dx,dx,split")
    assert listed(root, "path,label,age,age").unread == ("columns of t.csv: age, age (2)",)


def test_paths_that_are_none(root):
    with refuses("unsupported", None, "https://x.org/0.png", "download"):
        listed(root, "path,label,group,split", row="https://x.org/{i}.png,{c},{g},{s}")
    text = "a long sentence " * 30
    assert listed(root, "path,label,group,split", row=f"{text}{{i}},{{c}},{{g}},{{s}}").paths[0].startswith("a long")


def test_two_columns_that_may_be_meant_are_asked_about(root):
    with refuses("conflict", "data.options.group_column", "patient_id", "lesion_id"):
        listed(root, "path,patient_id,lesion_id,split", row="images/ISIC_{i}.png,p{g},{c},{s}")
    found = listed(root, "path,patient_id,lesion_id,split", columns={"group": "lesion_id"})
    assert found.groups == ["p0", "p0", "p1", "p1", "p2", "p2"]
    assert listed(root, "path,patient_id,lesion_id,x", columns={"group": ""}).groups is None
    found = listed(root, "path,label,patient,x", pattern=r"_(\d)")
    assert found.groups == list("012345")


def test_the_column_of_paths_is_the_one_that_names_files(root):
    found = listed(root, "id,image,label,split", row="{i},images/ISIC_{i}.png,{c},{s}")
    assert found.paths[0] == "images/ISIC_0.png" and "columns of t.csv: id" in found.unread[0]


@pytest.mark.parametrize(
    "row",
    ["ISIC_{i}", "isic_{i}.PNG", "images/ISIC_{i}", "Images/isic_{i}.png", "ISIC_{i}.dcm", "./images/ISIC_{i}.png"],
)
def test_paths_without_extension_folder_or_case(root, row):
    found = listed(root, "path,label,group,split", row=row + ",{c},p{g},{s}")
    assert found.paths == [f"images/ISIC_{i}.png" for i in range(6)]


def test_paths_in_another_unicode_form(root):
    layouts.picture(root / unicodedata.normalize("NFD", "Jörg.png"))
    (root / "t.csv").write_text("path\n" + unicodedata.normalize("NFC", "Jörg.png"), encoding="utf-8")
    assert tables.list_images(root, "t.csv", DEFAULTS).paths == [unicodedata.normalize("NFD", "Jörg.png")]


def test_a_path_that_two_files_may_be_is_not_guessed(root):
    layouts.picture(root / "more" / "ISIC_0.png")
    assert listed(root, "path,label,group,split", row="ISIC_{i},{c},p{g},{s}").paths[:2] == [
        "ISIC_0",
        "images/ISIC_1.png",
    ]
    # The folder that the table gives is another one.
    assert listed(root, "path,label,group,split", row="more/ISIC_{i}.png,{c},p{g},{s}").paths[1] == "more/ISIC_1.png"


def test_words_for_no_value(root):
    found = listed(root, "path,label,group,split", row="images/ISIC_{i}.png,NA,p{g},nan")
    assert found.labels is None and found.official is None and "NA" in found.unread[0]


def test_images_that_the_table_does_not_list_are_said(root):
    layouts.picture(root / "other.png")
    assert "1 images that t.csv does not list, such as other.png" in listed(root, "path,label,group,split").unread


def one_hot(root, head, rows):
    (root / "t.csv").write_text("\n".join([head, *(f"ISIC_{i},{row}" for i, row in enumerate(rows))]))
    return tables.list_images(root, "t.csv", DEFAULTS)


def test_one_hot_columns_are_labels(root):
    found = one_hot(root, "image,MEL,NV,BCC", ["1.0,0.0,0.0", "0.0,1.0,0.0", "0.0,0.0,1.0"])
    assert found.labels == ["MEL", "NV", "BCC"] and not any("columns" in line for line in found.unread)
    assert one_hot(root, "image,benign,malignant", ["1,0", "0,1"]).labels == ["benign", "malignant"]


def test_columns_that_may_not_be_labels_are_not_guessed(root):
    found = one_hot(root, "image,male,female,age", ["1,0,30", "0,1,40"])
    assert found.labels is None and "columns of t.csv: male, female, age" in found.unread
    found = one_hot(root, "image,edema,mass,nodule", ["1,0,0", "1,1,0", "0,0,0"])
    assert found.labels is None and "columns of t.csv: edema, mass, nodule" in found.unread
