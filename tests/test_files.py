"""Files that are whole or not there, and one line where none can be written."""

import errno
import os

import pytest

from jaxssl import files
from jaxssl.errors import UserError


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    files.write_text(file, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(UserError, match=r"cannot be written: No space left on device: make room"),
        files.writing(tmp_path),
    ):
        files.write_text(file, "new")
    assert file.read_text() == "old" and [*tmp_path.iterdir()] == [file]


def test_what_a_killed_write_left_goes(tmp_path):
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations" / ".knn_ssl.json.17.part").write_text("{")
    (tmp_path / "evaluations" / "knn_ssl.json").write_text("{}")
    (tmp_path / "evaluations" / ".encoder.part" / "7").mkdir(parents=True)
    files.remove_unfinished(tmp_path)
    assert [file.name for file in (tmp_path / "evaluations").iterdir()] == ["knn_ssl.json"]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            OSError(errno.EDQUOT, "", "run/metrics.jsonl"),
            "run/metrics.jsonl cannot be written: Disk quota exceeded: make",
        ),
        (PermissionError(errno.EACCES, "", "run/a"), "run/a cannot be written: Permission denied: allow it"),
        (
            ValueError("RESOURCE_EXHAUSTED: [os_error_code='28']"),
            "run cannot be written: No space left",
        ),
    ],
)
def test_of_a_disk_that_is_full_or_forbidden(error, says):
    with pytest.raises(UserError) as raised, files.writing("run"):
        raise error
    assert str(raised.value).startswith(says) and "the same command goes on" in str(raised.value)


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "", "a"), ConnectionResetError(), ValueError("a 28")]
)
def test_other_errors_are_not_the_disks(error):
    with pytest.raises(type(error)) as raised, files.writing("run"):
        raise error
    assert raised.value is error
