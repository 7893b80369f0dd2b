"""Tables, and folders of images that one describes."""

import pytest
from absl import logging

import jaxssl.data
from jaxssl.data import splits
from jaxssl.data.datasets import folder
from jaxssl.data.io import table
from jaxssl.data.source import UNLABELLED
from jaxssl.errors import UserError
from tests.data import layouts
from tests.refusals import refuses

ROWS = [
    ["path", "label", "group", "split"],
    ["x/0.png", "b", "p1", "train"],
    ["x/1.png", "a", "p2", "Training"],
    ["2.png", "a", "p3", "val"],
    ["y/3.png", "b", "p4", "test"],
]


@pytest.fixture
def root(tmp_path):
    """Five images, of shades 0, 50, ..., and a table of four of them."""
    for i, path in enumerate(("x/0.png", "x/1.png", "2.png", "y/3.png", "y/4.png")):
        layouts.picture(tmp_path / path, 50 * i)
    layouts.table(tmp_path / "labels.csv", ROWS)
    return tmp_path


def load(root, **kw):
    return folder.load(**({"dir": str(root), "size": 8, "table": "labels.csv"} | kw))


def rewrite(root, *rows, **kw):
    layouts.table(root / "labels.csv", rows, **kw)


# The file


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_read(tmp_path, delimiter, mark, end):
    path = tmp_path / "table"
    lines = [["name", " kind ", "", "note"], ["x", " 1", "", 'a "b", c;\td'], ["", "", ""], ["y", "2"]]
    layouts.table(path, lines, delimiter=delimiter, lineterminator=end)
    path.write_bytes(mark + path.read_bytes())
    assert table.read(path, ("name", "kind")) == [
        (f"{path} line 2", {"name": "x", "kind": "1", "note": 'a "b", c;\td'}),
        (f"{path} line 4", {"name": "y", "kind": "2", "note": ""}),
    ]


def test_one_column_may_hold_commas(tmp_path):
    (tmp_path / "t").write_text("name\na, b.png\n")
    assert table.read(tmp_path / "t", ("name",))[0][1] == {"name": "a, b.png"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has no column 'name' among : correct it"),
        (b"name\n", "has no rows: correct it"),
        (b"names,k\nx,1\n", "has no column 'name' among names, k: correct it"),
        (b"name,name\nx,y\n", "has 2 columns 'name': correct it"),
        (b"name,k,k\nx,1,2\n", "has 2 columns 'k': correct it"),
        (b"name,k\nx,1\n\n,2\n", "line 4 lacks one of name: correct it"),
        (b"name,k\na, b.png,1\n", "line 2 has 3 values for 2 columns: correct it"),
        (b'name,k\n"x,1\ny,2\n', "line 3: unexpected end of data: correct it"),
        (b"name\nJos\x81", "is not text in UTF-8: correct it"),
        (b"name\nx\0y", "is not text in UTF-8: correct it"),
        (b"PK\3\4" + bytes(20), "is a workbook: save it as CSV"),
    ],
)
def test_read_refuses(tmp_path, content, says):
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(UserError, match=rf"^.*/t {says}$"):
        table.read(tmp_path / "t", ("name",), optional=("k",))


@pytest.mark.parametrize(
    "content",
    [
        b"sep=;\nname;kind\na;1\n",
        b'"sep=|"\r\nname|kind\r\na|1\r\n',
        b'name;kind;"note, free, long"\na;1;x\n',
        "name\tkind\na\t1\n".encode("utf-16"),
        "name,kind,note\na,1,ges\u00fcnd\n".encode("cp1252"),
        b"name|kind\na|1\n",
        b"\n\nname,kind\na,1\n",
    ],
)
def test_dialects(tmp_path, content):
    (tmp_path / "t").write_bytes(content)
    ((place, row),) = table.read(tmp_path / "t", ("name", "kind"))
    assert (row["name"], row["kind"]) == ("a", "1")
    line = 1 + next(i for i, text in enumerate(table._decode(tmp_path, content).splitlines()) if text.startswith("a"))
    assert place == f"{tmp_path / 't'} line {line}"


# Folders with a table


def test_columns_give_labels_groups_and_split(root):
    got = load(root)
    assert got.ids.tolist() == ["x/0.png", "x/1.png", "2.png", "y/3.png"] and got.classes == ("a", "b")
    assert got.labels.tolist() == [1, 0, 0, 1] and got.images[:, 0, 0, 0].tolist() == [0, 50, 100, 150]
    assert got.groups.tolist() == ["p1", "p2", "p3", "p4"] and got.groups_known
    assert got.official.tolist() == ["train", "train", "validation", "test"]


def test_table_anywhere_and_columns_of_other_names(root, tmp_path_factory):
    place = tmp_path_factory.mktemp("elsewhere") / "t.tsv"
    layouts.table(place, [["sex", "file", "dx", "patient", "set"], ["f", "x/0.png", "b", "p1", "test"]], delimiter="\t")
    layouts.table(root / "sub" / "labels.csv", ROWS)
    names = {"path_column": "file", "label_column": "", "group_column": "patient", "split_column": "set"}
    got = load(root, table=str(place), **names)
    assert got.ids.tolist() == ["x/0.png"] and got.groups.tolist() == ["p1"] and got.official.tolist() == ["test"]
    assert got.classes == () and got.labels.tolist() == [UNLABELLED]
    assert load(root, table="sub/labels.csv").fingerprint == load(root).fingerprint


def test_by_name_and_keywords(root):
    given = {"seed": 0, "manual_dir": "", "cache_dir": "", "size": 8, "on_bad_file": "stop", "nan": "refuse"}
    kw = {"table": "labels.csv", "label_column": "split"}
    got = jaxssl.data.load("folder", dir=str(root), options=kw, **given)
    assert got.classes == ("Training", "test", "train", "val")


def test_path_alone_is_a_list_of_unlabelled_images(root):
    rewrite(root, ["path"], ["y/4.png"], ["2.png"])
    got = load(root)
    assert got.ids.tolist() == ["y/4.png", "2.png"] and (got.labels == UNLABELLED).all() and got.classes == ()
    assert not got.groups_known and got.official is None


def test_empty_labels_are_for_pretraining_alone(root):
    rewrite(root, ["path", "label"], *([f"{i}.png", "ab"[i % 2] if i < 12 else ""] for i in range(20)))
    for i in range(20):
        layouts.picture(root / f"{i}.png")
    got = load(root)
    assert got.classes == ("a", "b") and got.labels.tolist() == [0, 1] * 6 + [UNLABELLED] * 8
    parts = splits.split(got, seed=0, validation=0.2, test=0.2)
    assert set(range(12, 20)) <= set(parts["train"]) and len(parts["test"]) and len(parts["validation"])


def test_empty_groups_are_of_one_image_and_unknown(root, monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: said.append(text % values))
    rewrite(root, ["path", "group"], ["x/0.png", "p"], ["x/1.png", "p"], ["2.png", ""], ["y/3.png", ""])
    got = load(root)
    assert got.groups.tolist() == ["p", "p", "2.png", "y/3.png"] and not got.groups_known
    (line,) = said
    assert line.startswith("labels.csv, column 'group': 2 of 4 images have no group")
    rewrite(root, ["path", "group"], ["x/0.png", ""], ["x/1.png", ""])
    assert not load(root).groups_known and len(said) == 1


def test_paths_are_told_to_be_the_same(root):
    rewrite(root, ["path"], ["./x/../x/0.png"], ["x\\1.png"], [str(root / "2.png")])
    assert load(root).ids.tolist() == ["x/0.png", "x/1.png", "2.png"]
    rewrite(root, ["path"], ["x/0.png"], ["2.png"], ["./x//0.png"])
    with pytest.raises(
        UserError, match=r"labels\.csv line 4: x/0\.png is listed in .*labels\.csv line 2 as well: keep"
    ):
        load(root)


@pytest.mark.parametrize("path", ["../a.png", "/etc/a.png", "x/../../a.png", ".", ".."])
def test_path_out_of_the_folder(root, path):
    rewrite(root, ["path"], ["2.png"], [path])
    with pytest.raises(UserError, match=r"labels\.csv line 3: .* leads out of data\.dir=") as error:
        load(root)
    assert "\n" not in str(error.value)


def test_files_that_are_not_there(root):
    rewrite(root, ["path"], ["2.png"], ["gone.png"], ["x"])
    with pytest.raises(
        UserError,
        match=r"^2 of 3 files cannot be read: gone\.png \(No such file or directory\); x \(Is a directory\): repair",
    ):
        load(root)
    assert load(root, on_bad_file="skip").ids.tolist() == ["2.png"]


def test_class_whose_files_are_all_skipped_is_refused(root):
    rewrite(root, *ROWS, ["gone.png", "cc", "p", "test"])
    with refuses("unreadable", "data.on_bad_file", "'cc'"):
        load(root, on_bad_file="skip")


def test_pattern_gives_groups_where_the_table_does_not(root):
    rewrite(root, ["path"], ["x/0.png"], ["x/1.png"], ["y/3.png"])
    assert load(root, group_pattern="(.*)/").groups.tolist() == ["x", "x", "y"]
    layouts.table(root / "labels.csv", ROWS)
    with pytest.raises(UserError, match="both give groups: set one of"):
        load(root, group_pattern="([0-9])")
    assert load(root, group_pattern="([0-9])", group_column="").groups.tolist() == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("rows", "kw", "says"),
    [
        (ROWS, {"table": "label.csv"}, r"data\.options\.table=label\.csv: there is no file .*/label\.csv; name one"),
        (
            ROWS,
            {"label_column": "lable"},
            r"data\.options\.label_column is 'lable': did you mean 'label'\? the columns of .*",
        ),
        (
            ROWS,
            {"path_column": ""},
            r"data\.options\.path_column is '': the columns of .* are path, label, group, split",
        ),
        ([["where", "label"], ["2.png", "a"]], {}, r"path_column is 'path': the columns of .* are where, label"),
        (
            [*ROWS, ["y/4.png", "a", "p5", "tset"]],
            {},
            r"line 6: split is 'tset': did you mean 'test'\? it must be one of",
        ),
        ([*ROWS, ["y/4.png", "a", "p5", ""]], {}, r"line 6: split is empty, as in 1 of 5 rows: fill it in"),
        ([*ROWS, ["", "a", "p5", "test"]], {}, "line 6 has no path: fill it in"),
        ([["path", "label"], ["2.png", "a"], ["y/3.png", ""]], {}, "'label' has one class only, 'a': add images"),
        (ROWS, {"table": "", "label_column": "dx"}, r"label_column='dx' is of a table: set data\.options\.table"),
    ],
)
def test_what_cannot_be(root, rows, kw, says):
    rewrite(root, *rows)
    with pytest.raises(UserError, match=says) as error:
        load(root, **kw)
    assert "\n" not in str(error.value)


def test_group_on_two_sides_of_the_split_is_refused(root):
    rewrite(root, *ROWS, ["y/4.png", "a", "p1", "test"])
    with pytest.raises(UserError, match=r"1 groups on two sides of the split: p1 \(test, train\)"):
        splits.split(load(root), seed=0, validation=0.2, test=0.2)


def test_the_order_of_the_rows_changes_no_image(root):
    rewrite(root, ROWS[0], *ROWS[:0:-1])
    got = load(root)
    assert got.ids.tolist() == ["y/3.png", "2.png", "x/1.png", "x/0.png"] and got.labels.tolist() == [1, 0, 0, 1]
    assert got.images[:, 0, 0, 0].tolist() == [150, 100, 50, 0]
