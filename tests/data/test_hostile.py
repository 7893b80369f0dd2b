"""Files that are none (FIFOs, sockets, devices) block nothing; hostile names, archives, tables and weights are refused.

What the absurd ones need of memory is in test_absurd.py.
"""

import json
import logging
import math
import os
import shutil
import socket
import struct
import threading

import numpy as np
import pytest

from jaxssl import files
from jaxssl.cli import messages
from jaxssl.cli.parser import main
from jaxssl.data import source
from jaxssl.data.audit.items import list_folder
from jaxssl.data.audit.report import audit_files, audit_source
from jaxssl.data.datasets import folder as folder_dataset
from jaxssl.data.io import archive, coco, images, nifti, table
from jaxssl.weights import load
from tests import absurd, tiny_run
from tests.refusals import refuses

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


def test_runs_whose_files_are_fifos_are_refused(run, tmp_path):
    for name in ("results.json", "predictions.csv", "gallery.npz"):
        shutil.copytree(run.workdir, tmp_path / name, ignore=shutil.ignore_patterns("checkpoints", "report.html"))
        (tmp_path / name / name).unlink()
        os.mkfifo(tmp_path / name / name)
        assert within_seconds(lambda name=name: main(["report", str(tmp_path / name)])) == 2


def test_links_that_lead_out_are_findings(tmp_path):
    folder = tiny_run.write_images(tmp_path / "images", 4)
    (folder / "dark" / "own.png").symlink_to(folder / "dark" / "00.png")
    assert not images.describe_links(folder, images.find(folder))
    tiny_run.write_images(tmp_path / "others", 1)
    (folder / "dark" / "linked").symlink_to(tmp_path / "others" / "dark")
    (folder / "dark" / "x.png").symlink_to(tmp_path / "others" / "bright" / "00.png")
    (folder / "loop").symlink_to(folder)
    (folder / "root").symlink_to("/")
    (folder / "dark" / "self.png").symlink_to("self.png")
    (line,) = images.describe_links(folder, images.find(folder))
    assert line.startswith(f"2 files are links that lead out of {folder}, such as dark/linked/00.png")
    (folder / "dark" / "self.png").unlink()
    loaded = folder_dataset.load(dir=str(folder), size=16)
    assert line in audit_source(loaded)["findings"] and line in audit_files(list_folder(str(folder)))["findings"]


def test_names_in_a_table_that_could_steer_a_terminal_are_refused(tmp_path, capsys):
    folder = tiny_run.write_images(tmp_path / "images", 4)
    (tmp_path / "t.csv").write_text("path,label\nbright/00.png,a\x1b[2Jb\ndark/00.png,dark\n")
    assert main(["data", "audit", str(folder), f"--options=table={tmp_path}/t.csv", f"--to={tmp_path}/a.json"]) == 2
    said = capsys.readouterr().err
    assert "\x1b" not in said and r"\x1b[2Jb" in said


def test_messages_cannot_steer_a_terminal(tmp_path, capsys):
    assert main(["report", f"{tmp_path}/\x1b[2Jx\ny"]) == 2
    said = capsys.readouterr().err
    assert r"\x1b[2Jx\ny" in said and "\x1b" not in said and said.count("\n") == 1
    record = logging.LogRecord("jaxssl", logging.WARNING, "", 0, "%s", ("\x9b2J\u202eabc",), None)
    assert messages.Formatter().format(record) == r"jaxssl: \x9b2J\u202eabc"


def test_archives_that_inflate_and_tables_without_end_are_refused(tmp_path, monkeypatch):
    zeros = np.zeros((300, 32, 32), np.uint8)
    np.savez(tmp_path / "plain.npz", images=zeros)
    np.savez_compressed(tmp_path / "packed.npz", images=zeros)
    monkeypatch.setattr(archive, "MIN_INFLATED", 2**17)
    assert archive.read_headers(tmp_path / "plain.npz")["images"].shape == zeros.shape
    with refuses("unreadable"):
        archive.read_headers(tmp_path / "packed.npz")
    monkeypatch.setattr(table, "MAX_BYTES", 1000)
    (tmp_path / "t.csv").write_text("path,label\n" + "a" * 1000)
    with refuses("unsupported"):
        table.read(tmp_path / "t.csv", ())


@pytest.mark.parametrize("kind", ["unknown dtype", "dtype of 8 bits", "overlapping tensors", "negative offsets"])
def test_weights_that_are_none_are_refused(kind, tmp_path):
    absurd.SAFETENSORS[kind](tmp_path / "x.safetensors")
    with refuses("unreadable", "init.weights"):
        load.read(tmp_path / "x.safetensors")


def test_json_that_is_nested_too_deep_is_damaged(tmp_path):
    (tmp_path / "x.json").write_text(absurd.nested())
    with refuses("damaged"):
        files.read_json(tmp_path / "x.json", "delete it")


def test_archives_that_are_none_are_refused(tmp_path):
    os.mkfifo(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", images=np.float32(3))
    np.savez(tmp_path / "z.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.array([2**62, 0, 1, 1]))
    for name in ("x.npz", "y.npz", "z.npz"):
        arguments = ["data", "audit", str(tmp_path / name), f"--to={tmp_path}/a.json"]
        assert within_seconds(lambda arguments=arguments: main(arguments)) == 2


def coco_of(**image):
    image = {"id": 1, "file_name": "x.png", "height": 4, "width": 4} | image
    return {"images": [image], "categories": [{"id": 1, "name": "a"}], "annotations": []}


@pytest.mark.parametrize(
    "content",
    [
        absurd.nested(),
        json.dumps(coco_of(height=math.inf)),
        json.dumps(coco_of(height=10**5, width=10**5)),
        json.dumps(coco_of(id=[1])),
        json.dumps({"images": None, "annotations": None, "categories": None}),
    ],
)
def test_annotations_that_are_none_are_refused(content, tmp_path):
    (tmp_path / "x.json").write_text(content)
    with refuses("unreadable", None, "x.json"):
        coco.read(tmp_path / "x.json")


RUNS = ["o" * 10**6, [-5, 21], [10**30, -(10**30)], {"a": 1}, "\x00"]


@pytest.mark.parametrize(
    "outline", [*({"counts": runs, "size": [4, 4]} for runs in RUNS), {"counts": [16], "size": 4}, ["abcdefgh"], [3]]
)
def test_outlines_that_are_none_are_refused_at_once(outline):
    one = coco.Annotation(1, None, outline, False)
    assert isinstance(within_seconds(lambda: coco.object_mask(one, (4, 4))), ValueError)


def test_tables_with_too_many_columns_or_nul_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text(",".join(f"c{i}" for i in range(table.MAX_COLUMNS + 1)) + "\nx\n")
    with refuses("unsupported", None, "10,001 columns"):
        table.read(tmp_path / "t.csv", ())
    (tmp_path / "t.csv").write_bytes("path,label\nx\0.png,a\n".encode("utf-16"))
    with refuses("unreadable"):
        table.read(tmp_path / "t.csv", ())


def test_names_that_turn_the_text_around_are_refused(tmp_path):
    folder = tiny_run.write_images(tmp_path / "images", 2)
    (folder / "dark").rename(folder / "\u202edark")
    with refuses("unsupported", None, r"\u202edark"):
        folder_dataset.load(dir=str(folder), size=16)
    masks = np.zeros((2, 4, 4), np.uint8)
    made = source.make(masks[..., None], [0, 1], ["a", "b"], ("x", "y"))
    with refuses("unsupported", None, r"\x1b[31m"):
        source.with_masks(made, masks, ("background", "\x1b[31m"))
    with refuses("unsupported", None, r"\u202e"):
        source.make(masks[..., None], [[0, 1], [1, 0]], ["a", "b"], ("x", "\u202ey"), task="multi")


def test_a_volume_whose_header_has_no_end_is_refused(tmp_path):
    nibabel = pytest.importorskip("nibabel", reason="the extra [nifti] is not installed")
    header = nibabel.Nifti1Header()
    header.set_data_shape((4, 5, 6))
    raw = bytearray(header.binaryblock)
    raw[108:112], raw[344:348] = struct.pack("<f", 1.6e9), b"n+1\0"
    (tmp_path / "x.nii").write_bytes(bytes(raw) + bytes(1000))
    with pytest.raises(ValueError, match="1,600 MB of header"):
        nifti.shape(tmp_path / "x.nii")
    raw[108:112] = struct.pack("<f", 352)
    (tmp_path / "x.nii").write_bytes(bytes(raw) + bytes(1000))
    assert nifti.shape(tmp_path / "x.nii") == (4, 5, 6)
