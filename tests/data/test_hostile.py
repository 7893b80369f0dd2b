"""Files that are none: FIFOs, sockets, devices and links to them, by names of images and tables, block nothing."""

import os
import socket
import threading

import pytest

from jaxssl import files
from jaxssl.cli.parser import main
from jaxssl.data.io import images
from tests import tiny_run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has none of these")


@pytest.fixture(params=["fifo", "socket", "device", "link"])
def odd(request, tmp_path):
    path = tmp_path / "x.png"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "socket":
        request.getfixturevalue("monkeypatch").chdir(tmp_path)  # The path of a socket must be short.
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("x.png")
    else:
        path.symlink_to("/dev/zero" if request.param == "device" else "/dev/tty")
    return path


def within_seconds(function):
    """The result or the error of a function that must not hang."""
    ended = []

    def call():
        try:
            ended.append(function())
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(60)
    assert ended, "it hangs"
    return ended[0]


def test_what_is_no_file_is_not_read(odd):
    assert isinstance(within_seconds(lambda: images.read(odd)), OSError)
    with pytest.raises(OSError):
        files.open_regular(odd)


def test_a_folder_that_holds_such_a_file_is_refused_in_one_line(tmp_path, capsys):
    folder = tiny_run.write_images(tmp_path / "images", 4)
    os.mkfifo(folder / "dark" / "x.png")
    (tmp_path / "config.py").write_text(
        "from pathlib import Path\nfrom tests import tiny_run\n\n"
        f"def get_config(arg=''):\n    return tiny_run.get_config(Path({str(folder)!r}))\n"
    )
    code = within_seconds(lambda: main(["run", f"{tmp_path}/config.py", f"--workdir={tmp_path}/run"]))
    said = capsys.readouterr().err
    assert code == 2 and "x.png" in said and "Traceback" not in said, said
    assert within_seconds(lambda: main(["data", "audit", str(folder), f"--to={tmp_path}/audit.json"])) in (0, 2)


def test_a_table_that_is_a_fifo_is_refused(tmp_path, capsys):
    folder = tiny_run.write_images(tmp_path / "images", 4)
    os.mkfifo(tmp_path / "labels.csv")
    arguments = ["data", "audit", str(folder), f"--options=table={tmp_path}/labels.csv", f"--to={tmp_path}/a.json"]
    assert within_seconds(lambda: main(arguments)) == 2
    assert "labels.csv" in capsys.readouterr().err
