"""List the datasets, prepare a download, or audit images.

jaxssl data list
jaxssl data audit data/mine --options=table=labels.csv
jaxssl data prepare ham10000 --manual_dir=data/ham10000
"""

import argparse
import inspect
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from jaxssl import data, files
from jaxssl.cli.options import add_options_argument, parse_known_options, parse_pairs
from jaxssl.config import fields
from jaxssl.config.parse import parse_value
from jaxssl.data.audit import items
from jaxssl.data.audit.report import audit_files, audit_source
from jaxssl.errors import UserError, did_you_mean, escape_controls
from jaxssl.results import schema

GROUP = "datasets"
CACHE = fields.find("data.cache_dir").default
# What datasets without a download hold, and where it comes from; of others the docstring says it.
GENERAL = {
    "folder": ("your images in class folders, or unlabelled", "data.dir is the folder"),
    "npz": ("arrays in one archive, such as those of MedMNIST", "data.dir is the archive; from: https://medmnist.com"),
    "lenses": ("simulated strong lenses, by the substructure of dark matter", "3 classes; made when they are loaded"),
}

_ROWS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="list | prepare | audit")
    actions.add_parser("list", help="List the datasets, with licence, groups and where to download them.")
    prepare = actions.add_parser("prepare", help="Convert a download into the cache and count its images.")
    prepare.add_argument("name", metavar="NAME", help="A dataset of the list.")
    prepare.add_argument("--cache_dir", default=CACHE, help=f"Where prepared datasets are kept; {CACHE} by default.")
    prepare.add_argument("--size", type=int, default=64, help="Side in pixels at which the images are read; 64.")
    audit = actions.add_parser("audit", help="Read every image and report what is wrong with the dataset.")
    audit.add_argument("name", metavar="NAME_OR_FOLDER", help="A dataset of the list, a folder, or an .npz archive.")
    audit.add_argument("--dir", default="", help="The folder or archive, if the name is folder or npz.")
    audit.add_argument(
        "--to",
        type=files.expand_user,
        default="audit.json",
        metavar="FILE",
        help="Output file of the whole report; audit.json by default.",
    )
    for action in (prepare, audit):
        action.add_argument("--manual_dir", default="", metavar="DIR", help="The folder of the unpacked download.")
        add_options_argument(action)


def run(options: argparse.Namespace) -> int:
    # Names of classes and files are not markup.
    console = Console(markup=False, emoji=False, highlight=False)
    if options.action == "list":
        console.print(dataset_table())
    elif options.action == "prepare":
        show_prepared(console, options)
    else:
        show_audit(console, options)
    return 0


def dataset_table() -> Table:
    """Return a table of all datasets, for a terminal of 80 columns or more."""
    table = Table("name", "what it is, and where to download it", box=box.SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    table.columns[1].overflow = "fold"
    for name in data.names():
        table.add_row(name, "\n".join(describe_dataset(name)))
    return table


def describe_dataset(name: str) -> tuple[str, ...]:
    """Return what a dataset holds and where to download it, in a few lines."""
    module = data.find_module(name)
    if not has_download(name):
        summary = (module.__doc__ or "").partition("\n")[0].rstrip(".")
        return GENERAL.get(name, (summary, "no download: read from disk or simulated"))
    d = module.DATASET
    classes = f"{len(d.classes)} classes" if d.classes else "no classes"
    return d.title, f"{classes}; groups: {d.group or 'unknown'}; licence: {d.license}", f"from: {d.download}"


def has_download(name: str) -> bool:
    """Return whether a dataset is a public download, which its module describes in `DATASET`."""
    return hasattr(data.find_module(name), "DATASET")


def show_prepared(console: Console, options: argparse.Namespace) -> None:
    if options.name in data.names() and not has_download(options.name):
        message = f"{options.name} needs no preparation: set data.name={options.name} in a config"
        raise UserError(message, code="unsupported", field="NAME")
    if options.size < 1:
        raise UserError(f"--size={options.size} is too small: give at least 1", code="out-of-range", field="--size")
    # What to do with unreadable images is up to the experiment that loads the dataset; here they are only counted.
    loaded = data.load(
        options.name,
        seed=0,
        dir="",
        manual_dir=options.manual_dir,
        cache_dir=options.cache_dir,
        size=options.size,
        on_bad_file="skip",
        nan="zero",
        memory_mib=fields.find("data.memory_mib").default,
        options=parse_options(options.options),
    )
    report = audit_source(loaded)
    groups = f" in {report['groups']['count']:,} groups" if loaded.groups_known else ""
    console.print(f"{options.name}: {report['images']:,} images{groups}, prepared in {options.cache_dir}")
    console.print(class_table(report))


def show_audit(console: Console, options: argparse.Namespace) -> None:
    report = audit_files(find_images(options))
    with files.output_errors(options.to):
        files.write_json(options.to, schema.with_version("audit.json", report))
    for part in audit_tables(report):
        console.print(part)
    console.print(f"The whole report is in {escape_controls(str(options.to))}.")
    if Path(options.name).exists():
        fields = [f"data.dir={options.name}", *(f"data.options.{option}" for option in options.options)]
        command = shlex.join(["jaxssl", "run", "own", *(f"--config.{field}" for field in fields)])
        line = f"To train on these images: {command}"
        console.print(escape_controls(line), soft_wrap=True)


def find_images(options: argparse.Namespace) -> items.Items:
    """List the images that the arguments name.

    Raises:
      UserError: no such dataset, folder or archive, or a flag that it does not take.
    """
    name = options.name
    named = name in data.names() and name not in data.OWN
    if named and not has_download(name):
        message = f"{name} has no download to audit: every run audits the images that it loads"
        raise UserError(message, code="unsupported", field="NAME_OR_FOLDER")
    if options.dir and name not in data.OWN:
        message = f"--dir={options.dir} is for the names folder and npz, not for {name}: leave it out"
        raise UserError(message, code="conflict", field="--dir")
    if named:
        if not options.manual_dir:
            message = f"audit {name} needs --manual_dir: the folder of its unpacked download"
            raise UserError(message, code="missing", field="--manual_dir")
        return items.list_download(name, str(files.expand_user(options.manual_dir)), **parse_options(options.options))
    if options.manual_dir:
        message = f"--manual_dir={options.manual_dir} is for the datasets of `jaxssl data list`, not for {name}"
        raise UserError(message, code="conflict", field="--manual_dir")
    return find_own_images(named_place(options), options.options)


def named_place(options: argparse.Namespace) -> Path:
    """Return the folder or archive of NAME_OR_FOLDER or --dir. UserError if there is none."""
    name, place = options.name, files.expand_user(options.dir or options.name)
    what = "archive" if name == "npz" else "folder"
    if name in data.OWN and not options.dir:
        raise UserError(f"audit {name} needs --dir: the {what} to read", code="missing", field="--dir")
    if options.dir and not place.exists():
        message = f"--dir={options.dir} does not exist: give the path of the {what}"
        raise UserError(message, code="missing", field="--dir")
    if not place.exists():
        hint = did_you_mean(name, data.names())
        message = f"{name} is not a folder, an archive or a dataset: {hint}Known datasets: {', '.join(data.names())}"
        raise UserError(message, code="missing", field="NAME_OR_FOLDER")
    return place


def find_own_images(place: Path, options: Iterable[str]) -> items.Items:
    """List the images of a folder or an archive. UserError if it does not take one of the options."""
    if place.is_file() and place.suffix.lower() != ".npz":  # A table, as `data.dir` may be.
        place, options = place.parent, [f"table={place.resolve()}", *options]
    list_images = items.list_folder if place.is_dir() else items.list_archive
    parameters = list(inspect.signature(list_images).parameters.values())[1:]
    known = {parameter.name: parameter.default for parameter in parameters}
    values = parse_known_options(options, known, "a folder" if place.is_dir() else "an archive")
    return list_images(str(place), **values)


def parse_options(arguments: Iterable[str]) -> dict[str, Any]:
    """Return {"bands": 3} for ["bands=3"]; a value that is not a Python literal is a string."""
    return {key: parse_value(f"--options={key}", text, None) for key, text in parse_pairs(arguments).items()}


# The report in the terminal


def audit_tables(report: Mapping[str, Any]) -> list[str | Table]:
    """Return what the terminal shows of a report of `audit_files`, the findings first."""
    size = f"{report['images']:,} images, {report['bytes'] / 1e6:,.1f} MB"
    found = Table("", "findings, the most serious first" if report["findings"] else "no findings", box=box.SIMPLE_HEAD)
    found.columns[1].overflow = "fold"
    for number, line in enumerate(report["findings"], 1):
        found.add_row(str(number), escape_controls(line))
    parts = [
        f"{escape_controls(report['name'])}: {size}, in {escape_controls(report['place'])}",
        found,
        class_table(report),
        *([mask_table(report["masks"])] if "masks" in report else []),
        fact_table(report),
    ]
    for key, title in (("exact", "The same image"), ("near", "Nearly the same image")):
        if report[key]["clusters"]:
            parts.append(duplicate_table(report[key], title))
    return parts


def class_table(report: Mapping[str, Any]) -> Table:
    """Return images by class and split, and the accuracy of always predicting the most frequent class."""
    by_split = report["counts"]
    table = Table("class", *by_split, box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    names = sorted({name for of in by_split.values() for name in of})
    for name in names:
        table.add_row(escape_controls(name), *(f"{of.get(name, 0):,}" for of in by_split.values()))
    total = sum(sum(of.values()) for of in by_split.values())
    if len(names) > 1 and total == report["images"]:  # Otherwise images count for each of their labels.
        table.add_section()
        table.add_row("together", *(f"{sum(of.values()):,}" for of in by_split.values()))
    if report["majority"]:
        best = {split: most["accuracy"] for split, most in report["majority"].items()}
        table.add_row("majority accuracy", *(f"{best[split]:.3f}" if split in best else "" for split in by_split))
    return table


def mask_table(masks: Mapping[str, Any]) -> Table:
    """Return the classes of masks: in how many images, and with how many pixels."""
    table = Table(
        f"class of {masks['images']:,} masks", "images", "share of pixels", "median pixels", box=box.SIMPLE_HEAD
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for one in masks["classes"]:
        median = "" if one["median_pixels"] is None else f"{one['median_pixels']:,.0f}"
        table.add_row(escape_controls(one["name"]), f"{one['images']:,}", f"{one['share']:.3%}", median)
    return table


def fact_table(report: Mapping[str, Any]) -> Table:
    """Return sizes, formats and values, a line each."""
    sizes, groups = report["sizes"], report["groups"]
    rows = {
        "groups": f"{groups['count']:,}" if groups["known"] else "unknown",
        "sizes": "",
        "formats": list_counts(report["formats"]),
        "modes": list_counts(report["modes"]),
        "channels": list_counts(report["channels"]),
        "values": ", ".join(f"{low:g} to {high:g} ({kind})" for kind, (low, high) in report["values"].items()),
        "turned by EXIF": list_counts({k: n for k, n in report["orientations"].items() if k not in ("none", "1")}),
        "unused": f"{report['unused']:,} that the builder or the table leaves out" if report["unused"] else "",
        "other files": list_counts(report["ignored"]),
    }
    if sizes["distinct"]:
        ends = [f"{width} x {height}" for width, height in (sizes["smallest"], sizes["largest"])]
        rows["sizes"] = ends[0] if sizes["distinct"] == 1 else f"{sizes['distinct']:,}, {ends[0]} to {ends[1]}"
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, value in rows.items():
        if value:
            table.add_row(name, escape_controls(value))
    return table


def duplicate_table(duplicates: Mapping[str, Any], title: str) -> Table:
    """Return the first clusters of duplicates, and how many there are."""
    clusters = duplicates["clusters"]
    shown = f", the first {_ROWS}" if len(clusters) > _ROWS else ""
    near = "distance" in clusters[0]
    alike = ("bits", "alike") if near else ()
    table = Table("splits and classes", *alike, "files", box=box.SIMPLE_HEAD, title_justify="left")
    table.title = f"{title}: {len(clusters):,} times{shown}"
    table.columns[0].max_width = 25
    table.columns[-1].overflow = "fold"
    for cluster in clusters[:_ROWS]:
        where = "\n".join(escape_controls(", ".join(of)) for of in (cluster["splits"], cluster["classes"]) if of)
        paths = [file["path"] for file in cluster["files"]]
        some = "\n".join(map(escape_controls, paths[:3])) + (f"\nand {len(paths) - 3} more" if len(paths) > 3 else "")
        how = (str(cluster["distance"]), f"{cluster['similarity']:.3f}") if near else ()
        table.add_row(where, *how, some)
    return table


def list_counts(of: Mapping[str, int]) -> str:
    """ "JPEG" of one kind, "RGB (188), RGBA (12)" of several."""
    return next(iter(of)) if len(of) == 1 else ", ".join(f"{name} ({n:,})" for name, n in of.items())
