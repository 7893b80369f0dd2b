"""`jaxssl embed`: the features of `Network.encode` in each kind of file, with their ids and groups."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest
from pyarrow import parquet

import jaxssl
from jaxssl.cli.parser import main
from jaxssl.inference import embed, inputs


@pytest.fixture(scope="module")
def expected(run):
    """ids, features [N, D] and features of patches [N, P, D]."""
    ids, files = inputs.find_images([str(run.images)])
    network = jaxssl.load(run.workdir)
    return ids, network.encode(files), network.encode(files, patches=True)


def test_a_parquet_file_has_a_row_an_image(run, expected, tmp_path, capsys):
    to = tmp_path / "features.parquet"
    arguments = [str(run.workdir), str(run.images), f"--to={to}", r"--group_pattern=(\d)\."]
    assert main(["embed", *arguments]) == 0
    assert capsys.readouterr() == (f"{to}: 40 images, {expected[1].shape[1]} features each\n", "")
    table = parquet.read_table(to)
    assert table.column_names == ["id", "group", "features"] and table["id"].to_pylist() == expected[0]
    assert table["group"].to_pylist() == [name[-5] for name in expected[0]]
    np.testing.assert_allclose(table["features"].to_pylist(), expected[1], rtol=1e-6)


@pytest.mark.parametrize("ending", ["parquet", "csv", "npz"])
@pytest.mark.parametrize("features", ["pooled", "patches"])
def test_every_kind_of_file_holds_the_same(run, expected, tmp_path, monkeypatch, ending, features):
    monkeypatch.setattr(embed, "_PART_SIZE", 15)
    to = tmp_path / f"features.{ending}"
    assert main(["embed", str(run.workdir), str(run.images), f"--to={to}", f"--features={features}"]) == 0
    ids, *wanted = expected
    wanted = wanted[features == "patches"]
    images, patches, width = (*wanted.shape[:-1], 1)[:2] + wanted.shape[-1:]
    if ending == "npz":
        with np.load(to, allow_pickle=False) as found:
            assert found["id"].tolist() == found["group"].tolist() == ids
            np.testing.assert_allclose(found["features"], wanted, rtol=1e-6)
            assert found["features"].dtype == np.float32
        return
    if ending == "csv":
        with open(to, newline="") as file:
            rows = list(csv.DictReader(file))
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        found = np.array([[float(row[f"f{i}"]) for i in range(width)] for row in rows])
    else:
        columns = parquet.read_table(to).to_pydict()
        found = np.array(columns["features"])
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=1e-6)
    assert columns["id"] == columns["group"] == np.repeat(ids, patches).tolist()
    if features == "patches":
        assert [int(patch) for patch in columns["patch"]] == [*range(patches)] * images


def test_unreadable_files_are_told_and_the_others_done(run, tmp_path, capsys):
    (tmp_path / "torn.tif").write_bytes(b"II*\0")
    to = tmp_path / "features.npz"
    assert main(["embed", str(run.workdir), str(tmp_path / "torn.tif"), str(run.images / "dark"), f"--to={to}"]) == 0
    out, err = capsys.readouterr()
    assert "20 of 21 images, 1 skipped" in out and err.startswith(f"jaxssl: skipped {tmp_path}/torn.tif: ")
    assert len(np.load(to)["id"]) == 20


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to=f.txt"], "--to=f.txt must end in .parquet or .csv or .npz"),
        (["--to=f.csv", "--group_pattern=("], "--group_pattern='(' is not a regular expression"),
        (["--to=f.csv", "--group_pattern=x(y)"], "--group_pattern='x(y)' does not match 40 of 40 paths"),
        (["--to=/proc/f/f.csv"], "--to=/proc/f/f.csv cannot be written"),
    ],
)
def test_what_is_the_users_to_mend_ends_with_2_and_one_line(run, tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert main(["embed", str(run.workdir), str(run.images), *arguments]) == 2
    err = capsys.readouterr().err
    assert says in err and len(err.splitlines()) == 1 and list(tmp_path.iterdir()) == []


def test_what_it_compiles_is_kept_for_the_next_time(run, tmp_path):
    given = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    given |= {"HOME": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [
        sys.executable,
        "-m",
        "jaxssl",
        "embed",
        str(run.workdir),
        str(run.images),
        f"--to={tmp_path / 'f.npz'}",
    ]
    subprocess.run(command, check=True, env=given)
    assert any("jit_apply" in file.name for file in (tmp_path / ".cache" / "jaxssl" / "xla").iterdir())


def test_without_pyarrow_it_is_named(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["embed", str(run.workdir), str(run.images), f"--to={tmp_path / 'f.parquet'}"]) == 2
    assert "need the package pyarrow: pip install pyarrow" in capsys.readouterr().err
