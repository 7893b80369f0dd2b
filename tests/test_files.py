"""Atomic writes, locks, and one line where a file cannot be written."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxssl import files
from tests.refusals import refuses


def test_a_failed_write_leaves_the_old_file_and_no_temporary_file(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    files.write_text(file, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with refuses("not-writable", None, "No space left on device", "free some space"), files.disk_errors(tmp_path):
        files.write_text(file, "new")
    assert file.read_text() == "old" and [*tmp_path.iterdir()] == [file]


def test_temporary_files_of_killed_writers_are_removed(tmp_path):
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations" / ".knn_ssl.json.17.part").write_text("{")
    (tmp_path / "evaluations" / "knn_ssl.json").write_text("{}")
    (tmp_path / "evaluations" / ".encoder.part" / "7").mkdir(parents=True)
    files.remove_unfinished(tmp_path)
    assert [file.name for file in (tmp_path / "evaluations").iterdir()] == ["knn_ssl.json"]


@pytest.mark.parametrize(
    ("error", "field", "reason"),
    [
        (OSError(errno.EDQUOT, "", "run/metrics.jsonl"), "run/metrics.jsonl", "Disk quota exceeded: free"),
        (PermissionError(errno.EACCES, "", "run/a"), "run/a", "Permission denied: allow"),
        (ValueError("RESOURCE_EXHAUSTED: [os_error_code='28']"), "run", "No space left"),
    ],
)
def test_a_full_or_read_only_disk_is_a_user_error(error, field, reason):
    with refuses("not-writable", field, f"{field} cannot be written", reason, "same command"), files.disk_errors("run"):
        raise error


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "", "a"), ConnectionResetError(), ValueError("a 28")]
)
def test_other_errors_pass_through(error):
    with pytest.raises(type(error)) as raised, files.disk_errors("run"):
        raise error
    assert raised.value is error


def test_json_that_is_missing_or_damaged(tmp_path):
    file = tmp_path / "a.json"
    with refuses("missing", str(file), "copy it"):
        files.read_json(file, "copy it")
    file.write_text("{")
    with refuses("damaged", str(file), "copy it"):
        files.read_json(file, "copy it")


def test_a_lock_excludes_others_and_ends_with_its_process(tmp_path):
    folder = tmp_path / "new" / "run"
    code = f"""
import time
from pathlib import Path
from jaxssl import files
with files.lock(Path({str(folder)!r}) / ".lock0"):
    print("locked", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout.readline()
        assert files.is_locked(folder) and files.is_locked(folder)
        with refuses("in-use", "--workdir", f"--workdir={folder}"), files.lock(folder / ".lock0", "--workdir"):
            pass
        holder.kill()
    assert not files.is_locked(folder)
    with files.lock(folder / ".lock0"):
        assert files.is_locked(folder)
    assert not files.is_locked(folder)


def test_a_lock_that_is_passed_lasts_as_long_as_the_child(tmp_path):
    with files.lock_to_pass(tmp_path / ".lock_cell") as descriptors:
        holder = subprocess.Popen(["sleep", "60"], pass_fds=descriptors)
    with holder:
        assert files.is_locked(tmp_path)
        holder.kill()
    assert not files.is_locked(tmp_path)


def test_a_lock_that_cannot_be_created(tmp_path):
    (tmp_path / "file").touch()
    with refuses("not-writable", "--workdir", "--workdir="), files.lock(tmp_path / "file" / ".lock0", "--workdir"):
        pass


def test_what_killed_writers_left_of_a_file_is_deleted_when_it_is_written_again(tmp_path):
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from jaxssl import files
folder = Path({str(tmp_path)!r})
with files.atomic_path(folder / "out.csv") as part, files.temporary_folder(folder, "npz"):
    part.write_text("half")
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    of_others = [tmp_path / ".out.csv.00000000-1.part", tmp_path / f".out.csv.{files._owner()}.part"]
    for file in of_others:
        file.write_text("being written")
    assert len([*tmp_path.iterdir()]) == 4
    with files.temporary_folder(tmp_path, "npz"):
        pass
    files.write_text(tmp_path / "out.csv", "all")
    # This process is the owner of the second.
    assert {*tmp_path.iterdir()} == {tmp_path / "out.csv", of_others[0]}
