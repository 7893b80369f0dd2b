"""Finds and reads the runs of a study."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxssl import data, files
from jaxssl.config.fields import has_role
from jaxssl.config.stored import read_config
from jaxssl.errors import UserError
from jaxssl.results.predictions import Predictions, check_predictions, mask_predictions, read_predictions
from jaxssl.results.schema import Evaluation, Results
from jaxssl.results.segmentations import read_segmentations
from jaxssl.results.words import has_own_pretraining, is_segmentation
from jaxssl.results.workdir import read_results

log = logging.getLogger(__name__)
# Datasets whose images are a function of the seed.
SIMULATED = ("lenses",)


class Run(NamedTuple):
    """A finished run.

    Attributes:
      folder: its workdir.
      results: the content of results.json.
      settings: {config field: value}; empty without config.json.
      predictions: test predictions by evaluation.
    """

    folder: Path
    results: Results
    settings: dict[str, Any]
    predictions: dict[str, Predictions]

    @property
    def simulated(self) -> bool:
        """Whether each seed has images of its own."""
        return self.results["dataset"]["name"] in SIMULATED


def find_runs(folders: Sequence[Path]) -> tuple[list[Run], int]:
    """Return the finished runs below these folders in the order of their paths, and the number of unfinished ones.

    Raises:
      UserError: a folder without a run, a missing or damaged file, runs on different data.
    """
    runs, unfinished = _read_all(folders)
    check_same_data(runs)
    return runs, len(unfinished)


def find_studies(folders: Sequence[Path]) -> dict[str, tuple[list[Run], int]]:
    """Return the same as `find_runs` for each dataset, by what titles call it.

    Raises:
      UserError: as `find_runs`; runs of one dataset have different images.
    """
    runs, unfinished = _read_all(folders)
    others = [_read_dataset(folder) for folder in unfinished]
    titles: dict[str, str] = {}  # By fingerprint, as a folder may have been renamed.
    found: dict[str, list[Run]] = {}
    for run in runs:
        dataset = run.results["dataset"]
        title = titles.setdefault(dataset["fingerprint"], dataset.get("title", dataset["name"]))
        found.setdefault(title, []).append(run)
    for of in found.values():
        check_same_data(of)
    return {name: (found[name], others.count(name) if len(found) > 1 else len(others)) for name in sorted(found)}


def _read_dataset(folder: Path) -> str:
    """Return the dataset of an unfinished run as titles call it, "" where its config cannot be read."""
    try:
        settings = read_config(folder)["config"]["data"]
        return data.title(settings["name"], settings["dir"])
    except (UserError, KeyError, TypeError):
        return ""


def _read_all(folders: Sequence[Path]) -> tuple[list[Run], list[Path]]:
    """Return the finished runs below these folders, and the folders of the others."""
    finished: set[Path] = set()
    started: set[Path] = set()
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: give one that holds runs", code="missing", field=str(folder))
        found = {file.parent.resolve() for file in folder.rglob("results.json")}
        begun = {file.parent.resolve() for file in folder.rglob("config.json")}
        if not found:
            remedy = f"`jaxssl runs {folder}` shows how far each is" if begun else "give a folder with runs in it"
            message = f"{folder} holds no finished run, and {len(begun)} that have begun: {remedy}"
            raise UserError(message, code="missing", field=str(folder))
        finished |= found
        started |= begun
    runs = read_runs(sorted(finished))
    bare = [run.folder for run in runs if not run.settings]
    if 0 < len(bare) < len(runs):
        raise UserError(
            f"{bare[0]} has no config.json and other runs have one: without it arms cannot be told apart",
            code="missing",
            field=str(bare[0] / "config.json"),
        )
    return runs, sorted(started - finished)


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read the runs in these folders. Those that are damaged are named in a warning and left out.

    Raises:
      UserError: all of them are damaged.
    """
    runs, errors = [], []
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except UserError as error:
            errors.append((folder, error))
    if not runs:
        raise errors[0][1]
    for folder, error in errors:
        log.warning("%s IS LEFT OUT of the comparison: %s", folder, error)
    return runs


def read_run(folder: Path) -> Run:
    """Read a run from its files. UserError where one is missing or damaged."""
    results = read_results(folder)
    try:
        _check_results(results)
        predictions = read_predictions(folder, results)
        if any(map(is_segmentation, results["evaluations"])):
            masks = mask_predictions(read_segmentations(folder, results))
            for name, of in masks.items():
                check_predictions(folder / "segmentations.csv", name, of)
            predictions |= masks
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder / "results.json", error) from error
    if not (folder / "config.json").exists():
        return Run(folder, results, {}, predictions)
    try:
        settings = dict(files.flatten(read_config(folder)["config"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder / "config.json", error) from error
    return Run(folder, results, settings, predictions)


def check_same_data(runs: Sequence[Run]) -> None:
    """Raise UserError if two runs have different images. Simulated images need to agree for equal seeds only."""
    first: dict[Any, Run] = {}
    for run in runs:
        mine = run.results["dataset"]
        for e in run.results["evaluations"]:
            other = first.setdefault(e["seed"] if run.simulated else None, run)
            theirs = other.results["dataset"]
            for name in ("name", "classes", "fingerprint"):
                if mine[name] != theirs[name]:
                    fields = differing_fields(run, other)
                    why = "; ".join(fields) or f"{name} {mine[name]!r} and {theirs[name]!r}"
                    raise UserError(
                        f"{run.folder} and {other.folder} are of different data ({why}): compare runs on the same "
                        "images",
                        code="mismatch",
                        field=name,
                    )
    names = sorted({run.results["dataset"]["name"] for run in runs})
    if len(names) > 1:
        message = f"the runs are of several datasets ({', '.join(names)}): compare those of one"
        raise UserError(message, code="mismatch", field="name")


def differing_fields(a: Run, b: Run) -> list[str]:
    """Return "data.image_size 64 and 32" for each field on which the images depend and in which two runs differ."""
    names = [
        name for name in a.settings if name.startswith("data.") and not has_role(name, "place", "repeat", "record")
    ]
    return [
        f"{name} {a.settings[name]!r} and {b.settings.get(name)!r}"
        for name in names
        if a.settings[name] != b.settings.get(name)
    ]


def _check_results(results: Results) -> None:
    """Read every field that a comparison needs, so that a damaged file is reported as such."""
    dataset = results["dataset"]
    _ = dataset["name"], dataset["fingerprint"], dataset["groups_known"], dataset["classes"]
    _ = [dataset["splits"][split]["images"] / 1 for split in ("train", "test")]
    for e in results["evaluations"]:
        _check_evaluation(e)
        if has_own_pretraining(e["init"]):
            pretraining = results["pretrain"]
            if pretraining is None:
                raise ValueError("an evaluation of pretraining without pretraining")
            _ = pretraining["objective"], pretraining["supervised"]


def _check_evaluation(e: Evaluation) -> None:
    _ = "".join((e["name"], e["protocol"], e["init"]))
    _ = float(e["label_fraction"]), int(e["seed"]), int(e["fold"] or 0)


def _damaged(file: Path, error: Exception) -> UserError:
    message = f"{file} is not of a jaxssl run, or damaged: {error!r}; run the experiment again to write it"
    return UserError(message, code="damaged", field=str(file))
