"""Workdirs with damaged files: each command recovers or refuses in one line, and never ends in a traceback."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from jaxssl.cli.parser import main
from jaxssl.errors import UserError
from jaxssl.results.predictions import read_predictions
from jaxssl.run import experiment
from jaxssl.training import checkpoint
from tests import tiny_run
from tests.run import test_mask_runs, test_task_runs

FILES = (
    "config.json",
    "splits.json",
    "audit.json",
    "metrics.jsonl",
    "results.json",
    "predictions.csv",
    "gallery.npz",
    "parameters.txt",
    "report.html",
    "evaluations/probe_ssl.json",
    "evaluations/probe_ssl.csv",
    "evaluations/probe_ssl.sha256.json",
    "evaluations/finetune_ssl.csv",
    "checkpoints/encoder",
    "checkpoints/finetune_ssl",
    "checkpoints/finetune_ssl_best",
    "tensorboard",
)


def newest_hashes(path):
    """Of a folder of checkpoints, the file with the checksums: a folder is damaged there."""
    return max(path.glob("*.sha256.json"), default=path) if path.parent.name == "checkpoints" else path


def delete(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def truncate(path):
    path = newest_hashes(path)
    if path.is_file():
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def change_type(path):
    path = newest_hashes(path)
    if path.is_file():
        path.write_text({".json": "[1]", ".jsonl": "[1]\n7\n", ".csv": "a\n"}.get(path.suffix, "?"))


def make_folder(path):
    delete(path)
    (path / "inner").mkdir(parents=True)


def make_file(path):
    delete(path)
    path.write_text("?")


def break_encoding(path):
    path = newest_hashes(path)
    if path.is_file():
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] + b"\xff\xfe\x80" + data[len(data) // 2 :])


def hollow_out(path):
    """JSON of the right version, without its fields."""
    path = newest_hashes(path)
    if path.suffix == ".json" and path.is_file():
        path.write_text(json.dumps({"schema_version": 1}))
    else:
        delete(path)


def change_values(path):
    """Each field and each cell is of another type."""
    path = newest_hashes(path)
    if path.suffix == ".json" and path.is_file():
        fields = json.loads(path.read_text())
        path.write_text(json.dumps({key: value if key == "schema_version" else 7 for key, value in fields.items()}))
    elif path.suffix == ".csv":
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([head, *(",".join("x" * len(row.split(","))) for row in rows)]))
    else:
        delete(path)


def append_garbage(path):
    path = newest_hashes(path)
    if path.is_file():
        path.write_bytes(path.read_bytes() + b'{"phase": "pre')


DAMAGES = (
    delete,
    truncate,
    change_type,
    make_folder,
    make_file,
    break_encoding,
    append_garbage,
    hollow_out,
    change_values,
)


def _masks(place):
    c = test_mask_runs.get_config(test_mask_runs.write_disks(place / "images"))
    c.pretrain.epochs, c.transfer.epochs, c.transfer.min_steps_per_epoch = 1, 1, 1
    return c


def _labels(place, task):
    (place / "images").mkdir()
    c = tiny_run.get_config(test_task_runs.write_images(place / "images"))
    c.data.options.update(test_task_runs.CASES[task])
    c.data.task, c.data.stored_size, c.data.test = task, 0, 0.4
    return c


def _adapted(place):
    c = tiny_run.get_config(tiny_run.write_images(place / "images"))
    c.model.name, c.model.options = "vit_tiny", ConfigDict({"width": 12, "depth": 2, "heads": 3, "patch": 4})
    c.transfer.protocols, c.transfer.lora.rank = ("finetune", "attentive"), 2
    return c


def _episodes(place):
    c = tiny_run.get_config(tiny_run.write_images(place / "images"))
    c.transfer.protocols, c.transfer.shots = ("probe",), (1, 2)
    return c


# Kind of run -> its config, for images below a folder.
KINDS = {
    "masks": _masks,
    "multi": lambda place: _labels(place, "multi"),
    "value": lambda place: _labels(place, "value"),
    "adapted": _adapted,
    "episodes": _episodes,
}


@pytest.fixture(scope="module")
def command_lines(run, tmp_path_factory):
    """The arguments of each command, for a workdir."""
    return command_lines_of(run, tmp_path_factory.mktemp("config"))


def command_lines_of(run, folder):
    config = folder / "config.py"
    config.write_text(
        "from pathlib import Path\nfrom tests import tiny_run\n\n"
        f"def get_config(arg=''):\n    return tiny_run.get_config(Path({str(run.images)!r}))\n\n"
        "def sweep(arg=''):\n    return [('copy', {})]\n"
    )
    images = str(next(run.images.iterdir()) if (run.images / "dark").exists() else run.images)

    def arguments(command, workdir: Path):
        out = workdir.parent / "out"
        return {
            "run": [str(config), f"--workdir={workdir}"],
            "report": [str(workdir)],
            "runs": [str(workdir.parent)],
            "compare": [str(workdir.parent)],
            "predict": [str(workdir), images, f"--to={out}.csv"],
            "embed": [str(workdir), images, f"--to={out}.npz"],
            "export": [str(workdir), f"--to={out}.safetensors"],
            "score": [str(workdir), str(run.images), f"--to={out}.json"],
            "figures": [str(workdir), f"--to={out}"],
            "weights": [str(workdir)],
        }[command]

    return arguments


def attempt(command, arguments, capsys):
    """Run a command and return how it ended: "done" or "refused"; anything else fails the test."""
    capsys.readouterr()
    code = main([command, *arguments])
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("jaxssl: ")]
    assert "Traceback" not in said, said
    assert code in (0, 2), (code, said)
    assert code == 0 or len(lines) == 1, said
    return "done" if code == 0 else "refused"


READERS = ("report", "runs", "compare", "predict", "embed", "export", "score", "figures", "weights")


@pytest.mark.slow
@pytest.mark.parametrize("shift", range(len(DAMAGES)))
def test_readers_refuse_a_damaged_run_in_one_line(run, tmp_path, command_lines, capsys, shift):
    """Each file has one of the damages; with all shifts, each of them."""
    count = Counter()
    for i, name in enumerate(FILES):
        workdir = tmp_path / str(i) / "copy"
        shutil.copytree(run.workdir, workdir)
        DAMAGES[(i + shift) % len(DAMAGES)](workdir / name)
        for command in READERS:
            print(name, command)
            count[attempt(command, command_lines(command, workdir), capsys)] += 1
        shutil.rmtree(workdir.parent)
    assert count["done"] > count["refused"]


def listed_files(workdir):
    """Every file of a run; of checkpoints and event files the folder."""
    files = [file.relative_to(workdir) for file in workdir.rglob("*") if file.is_file()]
    names = {"tensorboard" if file.parts[0] == "tensorboard" else str(Path(*file.parts[:2])) for file in files}
    return sorted(name for name in names if not Path(name).name.startswith("."))


def resume(config, whole, workdir):
    """Run again in a damaged workdir and return how that ended: "made whole" or "refused"."""
    try:
        experiment.run(config, workdir)
    except UserError as error:
        assert "\n" not in str(error)
        return "refused"
    for table in whole.glob("*.csv"):
        assert (workdir / table.name).read_bytes() == table.read_bytes()
    return "made whole"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_readers_and_the_command_of_damaged_runs_of_each_kind(tmp_path, capsys, kind):
    """Each file has one of the damages, whichever comes next."""
    config = KINDS[kind](tmp_path)
    experiment.run(config, tmp_path / "workdir")
    whole, count = tiny_run.Run(tmp_path / "workdir", tmp_path / "images"), Counter()
    command_lines = command_lines_of(whole, tmp_path)
    for i, name in enumerate(listed_files(whole.workdir)):
        for damage in {DAMAGES[i % len(DAMAGES)], DAMAGES[(i + 4) % len(DAMAGES)]}:
            workdir = tmp_path / "runs" / "copy"
            shutil.copytree(whole.workdir, workdir)
            damage(workdir / name)
            for command in READERS:
                print(kind, name, damage.__name__, command)
                count[attempt(command, command_lines(command, workdir), capsys)] += 1
            count[resume(config, whole.workdir, workdir)] += 1
            shutil.rmtree(workdir.parent)
    with capsys.disabled():
        print(f"\n{kind}: {dict(count)}")
    assert count["done"] > count["refused"]


@pytest.mark.slow
@pytest.mark.parametrize("results", [True, False], ids=["finished", "unfinished"])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", FILES)
def test_the_command_of_a_damaged_run_makes_it_whole_again(run, tmp_path, command_lines, capsys, name, damage, results):
    workdir = tmp_path / "runs" / "copy"
    shutil.copytree(run.workdir, workdir)
    if not results:
        (workdir / "results.json").unlink()
    if (workdir / name).exists():
        damage(workdir / name)
    ended = attempt("run", command_lines("run", workdir), capsys)
    if ended == "done":
        assert (workdir / "predictions.csv").read_bytes() == (run.workdir / "predictions.csv").read_bytes()
        assert attempt("report", command_lines("report", workdir), capsys) == "done"
    else:
        kinds = ("make_folder", "make_file")
        assert damage.__name__ in kinds or (name == "metrics.jsonl" and not results), (name, damage.__name__)


@pytest.mark.parametrize(("name", "damage"), [("results.json", hollow_out), ("config.json", change_values)])
def test_a_file_whose_fields_are_lost_is_named(copy, tmp_path, capsys, name, damage):
    damage(copy / name)
    assert main(["figures", str(copy), f"--to={tmp_path}/f"]) == 2
    assert f"{copy / name}" in capsys.readouterr().err


def test_a_truncated_evaluation_is_computed_again(run, copy, command_lines, capsys):
    """It is not joined into predictions.csv unverified."""
    file = copy / "evaluations" / "probe_ssl.csv"
    file.write_bytes(file.read_bytes()[:200])
    assert attempt("run", command_lines("run", copy), capsys) == "done"
    for name in ("predictions.csv", "evaluations/probe_ssl.csv"):
        assert (copy / name).read_bytes() == (run.workdir / name).read_bytes()


def test_a_finished_phase_keeps_one_checkpoint_without_the_optimizer_and_can_be_scored_again(
    run, copy, command_lines, capsys
):
    for phase in ("pretrain", "finetune_ssl"):
        folder = copy / "checkpoints" / phase
        assert len(checkpoint.list_steps(folder)) == 1
        assert set(checkpoint.load_numpy(folder)) >= {"params", "model_state"}
        assert not checkpoint.load_numpy(folder).get("opt_state")
    (copy / "evaluations" / "finetune_ssl.sha256.json").unlink()
    shutil.rmtree(copy / "checkpoints" / "encoder")
    assert attempt("run", command_lines("run", copy), capsys) == "done"
    for name in ("predictions.csv", "evaluations/finetune_ssl.csv"):
        assert (copy / name).read_bytes() == (run.workdir / name).read_bytes()
    assert checkpoint.list_steps(copy / "checkpoints" / "encoder")


def test_the_guard_against_another_config_outlives_config_json(run, copy, command_lines, capsys):
    (copy / "config.json").unlink()
    arguments = command_lines("run", copy)
    assert main(["run", *arguments, "--config.seed=7"]) == 2
    assert "another config" in capsys.readouterr().err
    assert not (copy / "config.json").exists()
    assert attempt("run", arguments, capsys) == "done"
    assert (copy / "config.json").exists()
    for name in ("config.json", "splits.json"):
        (copy / name).unlink()
    assert attempt("run", arguments, capsys) == "refused"


def test_one_damaged_run_does_not_end_a_comparison(run, tmp_path, capsys, caplog):
    for name in ("whole", "broken"):
        shutil.copytree(run.workdir, tmp_path / name)
    (tmp_path / "broken" / "results.json").write_text("{")
    assert main(["compare", str(tmp_path)]) == 0
    assert f"{tmp_path / 'broken'} IS LEFT OUT" in caplog.text


def test_classes_and_ids_that_are_formulas_are_text_in_every_table(tmp_path, capsys):
    """`=cmd|...` as the name of a folder or a file: a spreadsheet must not run it, and jaxssl reads it back equal."""
    images = tiny_run.write_images(tmp_path / "images")
    (images / "dark").rename(images / "=1+1")
    for file in (images / "=1+1").iterdir():
        file.rename(file.with_name(f"@{file.name}"))
    c = tiny_run.get_config(images)
    c.pretrain.epochs, c.transfer.protocols = 0, ("probe",)
    results = experiment.run(c, tmp_path / "run")
    assert results["dataset"]["classes"] == ["=1+1", "bright"]
    (found,) = read_predictions(tmp_path / "run", results).values()
    assert any(name.startswith("=1+1/@") for name in found.ids)
    assert main(["predict", str(tmp_path / "run"), str(images / "=1+1"), f"--to={tmp_path}/new.csv"]) in (0, 2)
    for table in tmp_path.rglob("*.csv"):
        cells = [cell for row in csv.reader(table.read_text().splitlines()) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))], table
