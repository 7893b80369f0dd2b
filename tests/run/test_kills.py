"""Every command killed at random moments: no half file under a final name, and the same command goes on."""

import hashlib
import multiprocessing
import os
import random
import shutil
import sys
import time

import pytest

from jaxssl.training import runtime

pytestmark = pytest.mark.slow

KILLS = 25  # Of each command.
# Files that tell when, where or how fast they were written.
NOT_COMPARED = ("tensorboard", "log.txt", "sweep.json", ".lock0")


@pytest.fixture(scope="module")
def server():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["jaxssl.run.experiment", "jaxssl.inference.predict", "jaxssl.study.analysis"])
    return context


def go(arguments, said):
    for number, place in ((1, os.devnull), (2, said)):
        os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.setdefault(*runtime.HUGE_PAGES)  # Without them the command would restart as another process.
    from jaxssl.cli.parser import console

    sys.argv = ["jaxssl", *arguments]
    console()


@pytest.fixture
def place(run, tmp_path):
    """A finished run in a folder of runs, and an empty folder for output."""
    shutil.copytree(run.workdir, tmp_path / "runs" / "a")
    shutil.copytree(run.workdir, tmp_path / "runs" / "b")
    (tmp_path / "out").mkdir()
    images = sorted(run.images.rglob("*.jpg"))
    (tmp_path / "moles" / "HAM10000_images_part_1").mkdir(parents=True)
    for i, image in enumerate(images):
        shutil.copy(image, tmp_path / "moles" / "HAM10000_images_part_1" / f"ISIC_{i}.jpg")
    rows = [f"HAM_{i},ISIC_{i},{('nv', 'mel')[i % 2]}" for i in range(len(images))]
    (tmp_path / "moles" / "HAM10000_metadata.csv").write_text("\n".join(["lesion_id,image_id,dx", *rows]))
    (tmp_path / "config.py").write_text(
        "from pathlib import Path\nfrom tests import tiny_run\n\n"
        f"def get_config(arg=''):\n    c = tiny_run.get_config(Path({str(run.images)!r}))\n"
        "    c.transfer.protocols = ('probe',)\n    return c\n\n"
        "def sweep(arg=''):\n    return [('one', {}), ('two', {'data.label_fraction': 0.5})]\n"
    )
    return tmp_path


def command_lines(run, place):
    workdir, out = str(place / "runs" / "a"), place / "out"
    return {
        "embed": ["embed", workdir, str(run.images), f"--to={out}/features.npz"],
        "predict": ["predict", workdir, str(run.images), f"--to={out}/predictions.csv"],
        "export": ["export", workdir, f"--to={out}/encoder.safetensors"],
        "score": ["score", workdir, str(run.images), f"--to={out}/score.json"],
        "figures": ["figures", workdir, f"--to={out}/figures"],
        "prepare": [
            "data",
            "prepare",
            "ham10000",
            f"--manual_dir={place}/moles",
            f"--cache_dir={out}/cache",
            "--size=8",
        ],
        "audit": ["data", "audit", str(run.images), f"--to={out}/audit.json"],
        "report": ["report", workdir],
        "compare": ["compare", str(place / "runs")],
        "sweep": ["sweep", f"{place}/config.py", f"--workdir={out}/study", "--jobs=1"],
        "run": ["run", f"{place}/config.py", f"--workdir={out}/run"],
    }


def contents(folder):
    """SHA-256 of each final file."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
        and not any(part in str(file) for part in (".part", "incomplete."))
        and not any(name in str(file) for name in NOT_COMPARED)
    }


def run_command(server, place, arguments, seconds=None):
    """Exit code, or None if it was killed after so many seconds, and how long it took."""
    said = place / "said"
    process = server.Process(target=go, args=(arguments, said))
    began = time.monotonic()
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None, time.monotonic() - began
    assert process.exitcode == 0, said.read_text()
    return 0, time.monotonic() - began


SIMPLE = ("embed", "predict", "export", "score", "figures", "prepare", "audit", "report", "compare")


@pytest.mark.parametrize("command", SIMPLE)
def test_a_command_that_is_killed_leaves_nothing_half(run, place, server, command):
    arguments = command_lines(run, place)[command]
    before = contents(place)
    _, seconds = run_command(server, place, arguments)
    whole = contents(place)
    moments, killed = random.Random(0), 0
    while killed < KILLS:
        if killed % 2:  # The file of the first half is there and is replaced; of the other, it is not there yet.
            for name in whole.keys() - before.keys():
                (place / name).unlink(missing_ok=True)
        code, _ = run_command(server, place, arguments, moments.uniform(0.2, 1.0) * seconds)
        killed += code is None
        found = contents(place)
        assert {name: found[name] for name in found if name != "said"}.items() <= whole.items()
        if code == 0:  # It was faster than before.
            seconds *= 0.95
    assert run_command(server, place, arguments)[0] == 0
    assert {name: value for name, value in contents(place).items() if name != "said"}.items() <= whole.items()
    assert not [*place.rglob(".*.part"), *place.rglob("incomplete.*")]


@pytest.mark.parametrize("command", ["sweep", "run"])
def test_training_that_is_killed_goes_on(run, place, server, command):
    """Twice over in its own way: what a run leaves is compared to the bit in test_chaos.py."""
    arguments = command_lines(run, place)[command]
    _, seconds = run_command(server, place, arguments)
    results = sorted(file.relative_to(place) for file in (place / "out").rglob("predictions.csv"))
    expected = [(place / file).read_bytes() for file in results]
    moments = random.Random(0)
    for _ in range(KILLS):
        if all((place / file).exists() for file in results):
            shutil.rmtree(place / "out")
            (place / "out").mkdir()
        run_command(server, place, arguments, moments.uniform(0.1, 0.7) * seconds)
    while not all((place / file).exists() for file in results):
        run_command(server, place, arguments)
    assert [(place / file).read_bytes() for file in results] == expected
    assert not [file for file in place.rglob(".*.part") if "checkpoints" not in str(file)]
