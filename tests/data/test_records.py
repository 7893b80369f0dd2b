"""Images in records: the same values, errors and batches as in memory, without the memory."""

import io
import json
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import logging

from jaxssl.data import records, source
from jaxssl.data.datasets import folder
from jaxssl.data.io import loading
from jaxssl.errors import UserError
from jaxssl.run import experiment
from jaxssl.training import checkpoint, metrics
from tests import tiny_config

SIZE = 4


def noise(count, channels=3, dtype=np.uint8, size=SIZE, seed=0):
    values = np.random.default_rng(seed).random((count, size, size, channels)) * 255
    return list(values.astype(dtype))


def stack(arrays, place, memory_mib=0.0, **kw):
    """What `loading.stack` gives, and how many images it has read."""
    read = []

    def read_one(i):
        read.append(i)
        if isinstance(arrays[i], Exception):
            raise arrays[i]
        return arrays[i]

    names = [f"{i}.npy" for i in range(len(arrays))]
    cache = place and records.Cache(place, memory_mib, "these")
    held, kept, _ = loading.stack(read_one, names, SIZE, cache=cache, **kw)
    return held, kept, len(read)


@pytest.fixture
def stored(tmp_path):
    """20 images, and what reads them."""
    arrays = noise(20)
    return np.stack(arrays), stack(arrays, tmp_path)[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_records_hold_what_memory_holds(tmp_path, dtype, channels):
    arrays = noise(150, channels, dtype)
    held, kept, _ = stack(arrays, None)
    stored, as_well, _ = stack(arrays, tmp_path)
    assert isinstance(held, np.ndarray) and isinstance(stored, records.Images)
    assert (stored.shape, stored.dtype, len(stored), stored.nbytes) == (held.shape, held.dtype, 150, held.nbytes)
    np.testing.assert_array_equal(stored[:], held)
    np.testing.assert_array_equal(kept, as_well)


@pytest.mark.parametrize(
    "rows",
    [
        3,
        -1,
        np.int64(7),
        slice(None),
        slice(2, 11, 3),
        slice(5, 5),
        [4, 4, 0],
        np.array([19, -20, 7]),
        np.arange(20) % 3 == 0,
        np.array([[1, 2], [3, 4]]),
    ],
    ids=str,
)
def test_rows_are_chosen_as_numpy_does(stored, rows):
    array, lazy = stored
    np.testing.assert_array_equal(lazy[rows], array[rows], strict=True)


def test_a_row_that_is_not_there(stored):
    with pytest.raises(IndexError):
        stored[1][20]


def test_more_than_one_chunk(stored, monkeypatch):
    array, lazy = stored
    monkeypatch.setattr(records, "_CHUNK", 7 * array[0].nbytes)
    assert [len(some) for some in records.chunks(lazy)] == [len(some) for some in records.chunks(array)] == [7, 7, 6]
    np.testing.assert_array_equal(lazy[:], array)
    np.testing.assert_array_equal(list(lazy), array)


def test_a_copy_in_another_process_reads_the_same(stored):
    array, lazy = stored
    code = "import pickle, sys; sys.stdout.buffer.write(pickle.load(sys.stdin.buffer)[[5, 2]].tobytes())"
    ended = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(lazy), capture_output=True, check=True)
    assert ended.stdout == array[[5, 2]].tobytes()


# Where they go


@pytest.mark.parametrize("limit, lazy", [(20 * 48, False), (20 * 48 - 1, True)])
def test_the_limit_is_the_bytes_of_all_images(tmp_path, limit, lazy):
    held, _, _ = stack(noise(20), tmp_path, limit / 2**20)
    assert isinstance(held, records.Images) == lazy
    assert any(tmp_path.iterdir()) == lazy


@pytest.mark.parametrize("grey", [[0], [9], [0, 1, 2, 3], [3, 8]])
@pytest.mark.parametrize("limit", [0, 10 * 32, 10 * 48])
def test_grey_among_rgb(tmp_path, grey, limit):
    arrays = [noise(1, 1 if i in grey else 3, seed=i)[0] for i in range(10)]
    held, _, _ = stack(arrays, tmp_path, limit / 2**20)
    assert isinstance(held, records.Images) == (limit < 10 * 48) and held.shape == (10, SIZE, SIZE, 3)
    for image, array in zip(held, arrays, strict=True):
        np.testing.assert_array_equal(image, np.broadcast_to(array, image.shape))


@pytest.mark.parametrize(
    "arrays, says",
    [
        (
            [*noise(3), *noise(2, dtype=np.uint16)],
            r"differ in dtype: uint8 \(3, such as 0.npy\), uint16 \(2, such as 3.npy\)",
        ),
        (
            [*noise(1, 1), *noise(1, 3), *noise(1, 2)],
            r"differ in channels: 3 \(2, such as 0.npy\), 2 \(1, such as 2.npy\)",
        ),
        ([*noise(1), ValueError("no"), OSError("bad")], r"2 of 3 files cannot be read: 1.npy \(no\); 2.npy \(bad\): r"),
        ([ValueError("no")] * 2, "2 of 2 files cannot be read"),
        ([*noise(1, 1, np.float32), np.full((4, 4, 1), np.nan, np.float32)], "1 of 2 files .*no finite value"),
        (
            [*noise(1, 1, np.float32), np.float32([[[np.nan], [1]]] * 2)],
            "1.npy: 2 of its values are NaN or infinite, as in 1 of 2",
        ),
    ],
)
def test_errors_are_those_of_memory(tmp_path, arrays, says):
    for place in (None, tmp_path):
        with pytest.raises(UserError, match=says):
            stack(arrays, place)
    assert not any(file.is_file() for file in tmp_path.rglob("*"))


def test_bad_files_are_skipped_and_named_each_time(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: said.append(text % values))
    arrays = [ValueError("no"), *noise(3), OSError("bad"), *noise(1)]
    for reads in (6, 2):
        held, kept, read = stack(arrays, tmp_path, on_bad_file="skip")
        assert kept.tolist() == [1, 2, 3, 5] and len(held) == 4 and read == reads
        np.testing.assert_array_equal(held[3], arrays[5])
    assert len(said) == 2 and said[0] == said[1] and "2 of 6 files cannot be read: 0.npy (no); 4.npy (bad)" in said[0]
    with pytest.raises(UserError, match="2 of 6 files cannot be read"):
        stack(arrays, tmp_path)


def test_files_that_were_bad_are_taken_once_they_are_mended(tmp_path):
    arrays = [ValueError("no"), *noise(3), OSError("bad")]
    assert stack(arrays, tmp_path, on_bad_file="skip")[1].tolist() == [1, 2, 3]
    (arrays[4],) = noise(1)
    held, kept, _ = stack(arrays, tmp_path, on_bad_file="skip")
    assert kept.tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(held[3], arrays[4])
    assert stack(arrays, tmp_path, on_bad_file="skip")[2] == 1
    (arrays[0],) = noise(1)
    assert stack(arrays, tmp_path)[1].tolist() == [0, 1, 2, 3, 4]
    assert stack(arrays, tmp_path)[2] == 0


# The cache


def test_images_are_read_once(tmp_path):
    arrays = noise(20)
    assert stack(arrays, tmp_path)[2] == 20
    held, _, read = stack(arrays, tmp_path)
    assert read == 0 and isinstance(held, records.Images)
    held, _, read = stack(arrays, tmp_path, memory_mib=1)
    assert read == 0 and isinstance(held, np.ndarray)
    np.testing.assert_array_equal(held, arrays)
    assert stack(arrays, tmp_path, nan="zero")[2] == 20


def test_a_folder_is_read_again_when_a_file_changes(tmp_path):
    for i, image in enumerate(noise(6)):
        (tmp_path / "in" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "in" / "ab"[i % 2] / f"{i}.npy", image)
    given = {"dir": str(tmp_path / "in"), "size": SIZE}
    held = folder.load(**given)

    def stored():
        return folder.load(**given, cache_dir=str(tmp_path / "cache"), memory_mib=0)

    assert isinstance(stored().images, records.Images)
    assert stored().fingerprint == held.fingerprint
    assert len(list((tmp_path / "cache").rglob("*.array_record"))) == 1
    changed = tmp_path / "in" / "a" / "0.npy"
    np.save(changed, 255 - np.load(changed))
    os.utime(changed, ns=(0, 0))
    assert stored().fingerprint == folder.load(**given).fingerprint != held.fingerprint


def test_fingerprints_are_those_of_arrays(stored, monkeypatch):
    array, lazy = stored
    monkeypatch.setattr(records, "_CHUNK", 3 * array[0].nbytes)
    made = [source.make(images, np.zeros(20), [f"{i}" for i in range(20)], ("a", "b")) for images in (array, lazy)]
    assert made[0].fingerprint == made[1].fingerprint
    other = source.make(255 - array, np.zeros(20), [f"{i}" for i in range(20)], ("a", "b"))
    assert other.fingerprint != made[0].fingerprint


def fingerprint(images):
    return source.make(images, np.zeros(len(images)), [f"{i}" for i in range(len(images))], ("a", "b")).fingerprint


def test_the_digest_of_records_is_kept_beside_them(stored, monkeypatch):
    array, lazy = stored
    first = fingerprint(lazy)
    read = []
    monkeypatch.setattr(records, "chunks", lambda images: read.append(images) or [array])
    assert fingerprint(lazy) == first and not read
    assert fingerprint(array) == first and read


@pytest.mark.parametrize("kept", ["", "{}", "[]", '{"bytes": 1, "modified_ns": 1, "shape": 1, "sha256": "x"}'])
def test_a_kept_digest_that_is_damaged_is_made_again(stored, kept):
    array, lazy = stored
    for _ in range(2):
        assert fingerprint(lazy) == fingerprint(array)
        (beside,) = Path(lazy.file).parent.glob("*.json")
        beside.write_text(kept)


def test_a_file_that_changed_is_digested_again(tmp_path):
    """Its size is the same: other images of the same dataset."""
    one, other = (stack(noise(20, seed=seed), tmp_path / str(seed))[0] for seed in (0, 1))
    before = [fingerprint(one), fingerprint(other)]
    Path(one.file).write_bytes(Path(other.file).read_bytes())
    records._reader.cache_clear()
    assert os.path.getsize(one.file) == os.path.getsize(other.file)
    assert before[0] != before[1] == fingerprint(one)


def test_a_file_that_is_gone_is_one_line(stored):
    os.unlink(stored[1].file)
    with pytest.raises(UserError, match=f"^{stored[1].file} is damaged: .*: delete it, and it is made again$"):
        fingerprint(stored[1])


def test_a_cache_for_reading_only(stored, monkeypatch):
    def refuse(path, value):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(records.files, "write_json", refuse)
    assert fingerprint(stored[1]) == fingerprint(stored[0])


@pytest.mark.parametrize("damage", ["cut", "head", "middle", "empty", "foreign"])
def test_a_damaged_file_is_named(tmp_path, damage):
    arrays = noise(2000)
    lazy, _, _ = stack(arrays, tmp_path)
    (file,) = tmp_path.rglob("*.array_record")
    good = file.read_bytes()
    middle = len(good) // 2
    bad = {
        "cut": good[:middle],
        "head": bytes(200) + good[200:],
        "middle": good[:middle] + bytes(b ^ 255 for b in good[middle : middle + 99]) + good[middle + 99 :],
        "empty": b"",
        "foreign": b"PK\3\4" + b"0" * 1000,
    }
    file.write_bytes(bad[damage])
    with pytest.raises(UserError, match=f"^{file} is damaged: [^\n]*: delete it, and it is made again$"):
        stack(arrays, tmp_path)[0][:]
    file.unlink()
    np.testing.assert_array_equal(stack(arrays, tmp_path)[0][:], arrays)
    assert lazy[0].shape == (SIZE, SIZE, 3)


def test_a_full_disk_is_one_line(tmp_path):
    def write():
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, before[1]))
        try:
            stack(noise(30000), tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    with pytest.raises(UserError, match=r"^data\.cache_dir: .* cannot be written \(.*\): make room there"):
        write()
    assert not any(file.is_file() for file in tmp_path.rglob("*"))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^data\.cache_dir: .* cannot be written"):
        stack(noise(3), tmp_path / "file")


# Streams


def parts(count=12, size=5, seed=0):
    return [np.random.default_rng((seed, i)).permutation(20)[:size] for i in range(count)]


def test_a_stream_is_a_gather_of_each_part(stored):
    array, lazy = stored
    streamed = list(records.stream(lazy, parts(), 0))
    assert all(type(some) is np.ndarray for some in streamed)
    np.testing.assert_array_equal(streamed, [array[rows] for rows in parts()])


def test_no_parts(stored):
    assert list(records.stream(stored[1], [], 2)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_ends_a_stream_with_the_same_line(stored, workers):
    lazy = stored[1]
    with open(lazy.file, "r+b") as file:
        file.truncate(1000)
    records._reader.cache_clear()
    with pytest.raises(UserError, match=f"^{lazy.file} is damaged: .*: delete it"):
        list(records.stream(lazy, parts(), workers))
    assert not multiprocessing.active_children()


def test_processes_outlive_signals_to_all_and_end_with_the_stream(stored):
    array, lazy = stored
    stream = records.stream(lazy, parts(100), 2)
    first = [next(stream), next(stream)]
    readers = multiprocessing.active_children()
    assert len(readers) == 2
    for reader in readers:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            os.kill(reader.pid, number)
    np.testing.assert_array_equal([*first, *stream], [array[rows] for rows in parts(100)])
    assert not multiprocessing.active_children()


def test_a_killed_process_is_an_error_and_no_wait(stored):
    stream = records.stream(stored[1], parts(100), 1)
    next(stream)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"^data\.workers: a process that reads images was ended .* code -9"):
        list(stream)
    assert time.monotonic() - began < 30
    assert not multiprocessing.active_children()


def test_processes_end_with_a_parent_that_is_killed(stored):
    code = """
import multiprocessing, os, pickle, signal, sys
from jaxssl.data import records
images, parts = pickle.load(sys.stdin.buffer)
stream = records.stream(images, parts, 1)
next(stream)
print(*(reader.pid for reader in multiprocessing.active_children()), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    given = pickle.dumps((stored[1], parts(1000)))
    ended = subprocess.run([sys.executable, "-c", code], input=given, capture_output=True, timeout=60)
    reader, deadline = int(ended.stdout), time.monotonic() + 30
    while runs(reader) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not runs(reader)


def runs(process):
    """Whether there is such a process, ended ones that nobody has asked for aside."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True)
    return found.stdout.strip() not in ("", "Z")


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="only Linux says how much memory was used at most")
def test_memory_does_not_grow_with_the_data(tmp_path):
    """147 MB of images are stacked, identified and streamed in less than half of that."""
    code = """
import re, sys
from pathlib import Path
import numpy as np
from jaxssl.data import records, source
from jaxssl.data.io import loading

COUNT = 12000

def peak():
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read())[1]) * 1024

def load(count, place):
    block = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
    cache = records.Cache(Path(sys.argv[1]) / place, 0.01, "these")
    pixels, _, _ = loading.stack(lambda i: block[i % 16].copy(), range(count), 64, cache=cache)
    made = source.make(pixels, np.zeros(count), np.arange(count), ("a", "b"))
    parts = np.random.default_rng(0).permutation(count)[: count // 64 * 64].reshape(-1, 64)
    total = 0
    for part, read in zip(parts, records.stream(made.images, list(parts), 0), strict=False):
        assert (read[-1] == block[part[-1] % 16]).all()
        total += len(read)
    return total

load(128, "a")
before = peak()
assert load(COUNT, "b") > COUNT - 64
print(peak() - before)
"""
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < 12000 * 64 * 64 * 3 / 2


# Experiments


@pytest.mark.slow
def test_an_experiment_on_records_ends_with_the_same_bytes(tmp_path):
    for i, image in enumerate(noise(120, 1, size=16)):
        (tmp_path / "in" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        image[: 4 * (i % 2)] //= 2
        np.save(tmp_path / "in" / "ab"[i % 2] / f"{i}.npy", image)
    c = tiny_config.get_config()
    c.data.name, c.data.dir, c.data.options = "folder", str(tmp_path / "in"), {}
    c.data.cache_dir = str(tmp_path / "cache")
    c.transfer.protocols, c.pretrain.epochs = ("probe",), 1
    outcomes = []
    for memory_mib in (1024, 0):
        c.data.memory_mib = memory_mib
        workdir = tmp_path / f"run{memory_mib}"
        experiment.run(c, workdir)
        assert any(tmp_path.rglob("*.array_record")) == (memory_mib == 0)
        names = ("predictions.csv", "splits.json", "audit.json")
        weights = jax.tree.leaves(checkpoint.load_numpy(workdir / "checkpoints" / "encoder"))
        losses = [(row["step"], row["loss"]) for row in metrics.read(workdir, "pretrain") if "loss" in row]
        outcomes.append(
            ([(workdir / name).read_bytes() for name in names], [np.asarray(w).tobytes() for w in weights], losses)
        )
    assert outcomes[0] == outcomes[1] and outcomes[0][2]


def test_what_a_killed_writer_left_goes_when_the_next_one_starts(tmp_path):
    (tmp_path / ".x.array_record.0123.part").write_bytes(b"half")

    def images():
        # That of this writer stays, also when another one starts meanwhile.
        (own,) = tmp_path.glob(".*.part")
        records.remove_unfinished(tmp_path)
        assert own.exists()
        yield np.zeros((2, 2, 1), np.uint8)

    records.write(tmp_path / "x.array_record", images(), lambda: {"shape": (1, 2, 2, 1), "dtype": "uint8"})
    assert [file.name for file in tmp_path.iterdir()] == ["x.array_record"]
    assert records.load(tmp_path / "x.array_record")[0].shape == (1, 2, 2, 1)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="only Linux says how much memory was used at most")
def test_200000_images_train_in_less_than_2_gib(tmp_path):
    """By the command: a folder is prepared, audited, pretrained on and probed; as arrays it would be 586 MiB more."""
    count, head = 200_000, io.BytesIO()
    np.save(head, np.zeros((32, 32, 3), np.uint8))
    head = head.getvalue()[: -32 * 32 * 3]
    for name in "ab":
        (tmp_path / "in" / name).mkdir(parents=True)
    for start in range(0, count, 1000):
        for i, image in enumerate(np.random.default_rng(start).integers(0, 256, (1000, 32, 32, 3), np.uint8), start):
            # Of the second class, all are darker.
            (tmp_path / "in" / "ab"[i % 2] / f"{i}.npy").write_bytes(head + (image >> i % 2).tobytes())
    (tmp_path / "config.py").write_text(
        f"""
from ml_collections import ConfigDict
from tests import tiny_config

def get_config():
    c = tiny_config.get_config()
    c.data.name, c.data.options, c.data.image_size = "folder", ConfigDict(), 32
    c.data.dir, c.data.cache_dir, c.data.memory_mib = "{tmp_path / "in"}", "{tmp_path / "cache"}", 64
    c.pretrain.batch_size, c.pretrain.epochs, c.pretrain.images_per_epoch = 64, 2, 6400
    c.transfer.protocols = ("probe",)
    return c
"""
    )
    code = """
import atexit, re, runpy, sys
from pathlib import Path

peak = Path(sys.argv.pop(1))
status = Path("/proc/self/status")
atexit.register(lambda: peak.write_text(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1]))
runpy.run_module("jaxssl.main", run_name="__main__")
"""
    options = [f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'run'}"]
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "peak"), *options], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    (stored,) = tmp_path.glob("cache/records/*.array_record")
    assert stored.stat().st_size > count * 32 * 32 * 3
    split = json.loads((tmp_path / "run" / "splits.json").read_text())
    assert sum(len(split[side]) for side in ("train", "validation", "test")) == count
    assert int((tmp_path / "peak").read_text()) < 2 * 2**20
