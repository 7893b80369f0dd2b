"""Where the results come from: data, code, devices, the command and the config."""

import json
from collections.abc import Sequence

from jaxssl import files
from jaxssl.report.blocks import Body, Cell, Code, Details, Facts, Heading, Row, Section, Table, Text, cells
from jaxssl.report.run_data import RunData
from jaxssl.results.names import display_name
from jaxssl.results.schema import Dataset, MetricsRow, Results
from jaxssl.results.words import dataset_title, phase_name, shorten_list


def section(run: RunData) -> Section:
    """Return what is needed to repeat the run."""
    dataset, config, settings = run.results["dataset"], run.config, run.config["config"]
    facts = {
        "Dataset": dataset_title(dataset),
        "Classes": ", ".join(shorten_list(dataset["classes"])) or "no labels",
        "Data fingerprint": run.splits.get("fingerprint", dataset["fingerprint"]),
        "Encoder": display_name(settings.get("model", {}).get("name", "")),
        "Initial weights": _describe_weights(run.results),
        "Seed": settings.get("seed", ""),
        "Code": config.get("git") or "git revision unknown",
        "Devices": ", ".join(config.get("devices", ())),
        "Time in training steps": _describe_times(run.results, run.rows),
        "Packages": ", ".join(f"{name} {version}" for name, version in config.get("versions", {}).items()),
    }
    command = config.get("command")
    repeat = Code(command) if command else Text("The command was not recorded; every field of its config is below.")
    fields = [(name, json.dumps(value, ensure_ascii=False)) for name, value in files.flatten(settings)]
    return Section(
        "provenance",
        "Where this comes from",
        [
            Facts([(name, fact) for name, fact in facts.items() if fact != ""]),
            _splits(dataset),
            Heading("To repeat it"),
            repeat,
            Details("The whole config", [Facts(fields, "config")]),
        ],
    )


def _describe_weights(results: Results) -> str:
    """Return name, file, hash and license of the weights that the run started from, "" for random ones."""
    weights = results.get("init")
    if not weights:
        return ""
    parts = [f"{weights['name']} from {weights['weights']}"]
    if weights["sha256"]:
        parts.append(f"SHA-256 {weights['sha256']}")
    parts += [f"license {weights['license']}"] * bool(weights["license"])
    parts += weights["changes"]
    if not weights["training_images_known"]:
        parts.append("whether they were trained on test images of this run is not known")
    return "; ".join(parts)


def _splits(dataset: Dataset) -> Table:
    groups = (
        "All images of a group are in the same split."
        if dataset["groups_known"]
        else "Groups are unknown: this does not exclude leakage."
    )
    rows = [Row(Cell(name), cells(f"{of['images']:,}", f"{of['groups']:,}")) for name, of in dataset["splits"].items()]
    caption = f"{groups} The ids of the images are in splits.json."
    return Table("Splits", caption, ["Split", "images", "groups"], [Body("", rows)])


def _describe_times(results: Results, rows: Sequence[MetricsRow]) -> str:
    """Return the time in training steps of each phase, and the speed of pretraining."""
    seconds: dict[str, float] = {}
    for row in rows:
        seconds[row["phase"]] = seconds.get(row["phase"], 0) + (row.get("seconds") or 0)
    pretraining = results["pretrain"]
    speed = f" at {pretraining['images_per_second']:,.0f} images/s" if pretraining else ""
    return "; ".join(
        f"{phase_name(phase, results)} {_format_duration(time)}{speed if phase == 'pretrain' else ''}"
        for phase, time in seconds.items()
    )


def _format_duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{hours:.1f} h" if hours >= 1 else f"{minutes:.1f} min" if minutes >= 1 else f"{seconds:.1f} s"
