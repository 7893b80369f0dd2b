"""List the datasets, prepare a download, or audit images.

jaxssl data list
jaxssl data audit data/mine --options=table=labels.csv
jaxssl data prepare ham10000 --manual_dir=data/ham10000
"""

import argparse
import ast
import importlib
import inspect
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from jaxssl import data, files
from jaxssl.config import fields
from jaxssl.data.audit import audit
from jaxssl.errors import UserError, did_you_mean
from jaxssl.results import schema

GROUP = "datasets"
CACHE = fields.find("data.cache_dir").default
# Those that are no builders: what they hold, and where it comes from.
GENERAL = {
    "folder": ("your images in class folders, or unlabelled", "data.dir is the folder"),
    "npz": ("arrays in one archive, such as those of MedMNIST", "data.dir is the archive"),
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
        action.add_argument(
            "--options",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="An option of the dataset, as data.options.KEY of a config; may be repeated.",
        )


def run(options: argparse.Namespace) -> int:
    # Names of classes and files are not markup.
    console = Console(markup=False, emoji=False, highlight=False)
    if options.action == "list":
        console.print(listed())
    elif options.action == "prepare":
        show_prepared(console, options)
    else:
        show_audit(console, options)
    return 0


def listed() -> Table:
    """All datasets that `jaxssl.data.load` knows, for a terminal of 80 columns or more."""
    table = Table("name", "what it is, and where to download it", box=box.SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    table.columns[1].overflow = "fold"
    for name in data.names():
        if name in GENERAL:
            lines = GENERAL[name]
        else:
            d = importlib.import_module(f"jaxssl.data.datasets.{name}").DATASET
            classes = f"{len(d.classes)} classes" if d.classes else "no classes"
            lines = (d.title, f"{classes}; groups: {d.group or 'unknown'}; licence: {d.license}", f"from: {d.download}")
        table.add_row(name, "\n".join(lines))
    return table


def show_prepared(console: Console, options: argparse.Namespace) -> None:
    if options.name in GENERAL:
        raise UserError(f"{options.name} needs no preparation: name it as data.name in a config")
    if options.size < 1:
        raise UserError(f"--size={options.size}: set it to at least 1")
    # Bad files and holes are for the experiment that loads the dataset: here they only count.
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
        options=keywords(options.options),
    )
    report = audit.source(loaded)
    groups = f" in {report['groups']['count']:,} groups" if loaded.groups_known else ""
    console.print(f"{options.name}: {report['images']:,} images{groups}, prepared in {options.cache_dir}")
    console.print(counts(report))


def show_audit(console: Console, options: argparse.Namespace) -> None:
    report = audit.files(listing(options))
    with files.output_errors(options.to):
        files.write_json(options.to, schema.with_version("audit.json", report))
    for part in described(report):
        console.print(part)
    console.print(f"The whole report is in {clean(str(options.to))}.")


def listing(options: argparse.Namespace) -> audit.Listing:
    """The images that the arguments name.

    Raises:
      UserError: no such dataset, folder or archive, or a flag that it does not take.
    """
    name, place = options.name, Path(options.name).expanduser()
    if name in ("folder", "npz"):
        if not options.dir:
            raise UserError(f"audit {name} needs --dir: the {'folder' if name == 'folder' else 'archive'} to look at")
        place = Path(options.dir).expanduser()
        if not place.exists():
            raise UserError(f"--dir={options.dir} is not there: name the {'folder' if name == 'folder' else 'archive'}")
    elif options.dir:
        raise UserError(f"--dir={options.dir} is for the names folder and npz, not for {name}")
    elif name == "lenses":
        raise UserError("lenses are simulated: there is no file to audit")
    elif name in data.names():
        if not options.manual_dir:
            raise UserError(f"audit {name} needs --manual_dir: the folder that its download was unpacked into")
        return audit.download(name, str(Path(options.manual_dir).expanduser()), **keywords(options.options))
    if options.manual_dir:
        raise UserError(f"--manual_dir={options.manual_dir} is for the datasets of the list, not for {name}")
    if place.is_dir():
        kw = pairs(options.options)
        free = list(inspect.signature(audit.folder).parameters)[1:]
        for key in kw:
            if key not in free:
                raise UserError(f"--options={key}: {did_you_mean(key, free)}a folder takes {', '.join(free)}")
        return audit.folder(str(place), **kw)
    if place.is_file():
        if options.options:
            raise UserError(f"--options={options.options[0]}: an archive takes no keywords here")
        return audit.archive(str(place))
    known = data.names()
    raise UserError(f"{name} is no folder, archive or dataset: {did_you_mean(name, known)}known are {', '.join(known)}")


def pairs(given: Iterable[str]) -> dict[str, str]:
    """{"bands": "3"} of ["bands=3"]."""
    found = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key.isidentifier():
            raise UserError(f"--options={one} is not KEY=VALUE")
        found[key] = value
    return found


def keywords(given: Iterable[str]) -> dict[str, Any]:
    """{"bands": 3} of ["bands=3"]; what is no Python value is a string."""
    found: dict[str, Any] = pairs(given)
    for key, value in found.items():
        with suppress(ValueError, SyntaxError):
            found[key] = ast.literal_eval(value)
    return found


# The report for a person


def described(report: Mapping[str, Any]) -> list[str | Table]:
    """What is to be printed of a report of `audit.files`, the findings last, where they are seen."""
    size = f"{report['images']:,} images, {report['bytes'] / 1e6:,.1f} MB"
    parts = [
        f"{clean(report['name'])}: {size}, in {clean(report['place'])}",
        counts(report),
        facts(report),
    ]
    for key, title in (("exact", "The same image"), ("near", "Nearly the same image")):
        if report[key]["clusters"]:
            parts.append(copies(report[key], title))
    found = Table("", "findings, the most serious first" if report["findings"] else "no findings", box=box.SIMPLE_HEAD)
    found.columns[1].overflow = "fold"
    for number, line in enumerate(report["findings"], 1):
        found.add_row(str(number), clean(line))
    return [*parts, found]


def counts(report: Mapping[str, Any]) -> Table:
    """Images by class and split, and what always naming the most frequent class scores."""
    by_split = report["counts"]
    table = Table("class", *by_split, box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    names = sorted({name for of in by_split.values() for name in of})
    for name in names:
        table.add_row(clean(name), *(f"{of.get(name, 0):,}" for of in by_split.values()))
    if len(names) > 1:
        table.add_section()
        table.add_row("together", *(f"{sum(of.values()):,}" for of in by_split.values()))
    if report["majority"]:
        best = {split: most["accuracy"] for split, most in report["majority"].items()}
        table.add_row("majority accuracy", *(f"{best[split]:.3f}" if split in best else "" for split in by_split))
    return table


def facts(report: Mapping[str, Any]) -> Table:
    """Sizes, kinds and values, a line each."""
    sizes, groups = report["sizes"], report["groups"]
    rows = {
        "groups": f"{groups['count']:,}" if groups["known"] else "unknown",
        "sizes": "",
        "formats": among(report["formats"]),
        "modes": among(report["modes"]),
        "channels": among(report["channels"]),
        "values": ", ".join(f"{low:g} to {high:g} ({kind})" for kind, (low, high) in report["values"].items()),
        "turned by EXIF": among({k: n for k, n in report["orientations"].items() if k not in ("none", "1")}),
        "unused": f"{report['unused']:,} that the builder or the table leaves out" if report["unused"] else "",
        "other files": among(report["ignored"]),
    }
    if sizes["distinct"]:
        ends = [f"{width} x {height}" for width, height in (sizes["smallest"], sizes["largest"])]
        rows["sizes"] = ends[0] if sizes["distinct"] == 1 else f"{sizes['distinct']:,}, {ends[0]} to {ends[1]}"
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, value in rows.items():
        if value:
            table.add_row(name, clean(value))
    return table


def copies(found: Mapping[str, Any], title: str) -> Table:
    """The first clusters, and how many there are."""
    clusters = found["clusters"]
    shown = f", the first {_ROWS}" if len(clusters) > _ROWS else ""
    near = "distance" in clusters[0]
    alike = ("bits", "alike") if near else ()
    table = Table("splits and classes", *alike, "files", box=box.SIMPLE_HEAD, title_justify="left")
    table.title = f"{title}: {len(clusters):,} times{shown}"
    table.columns[0].max_width = 25
    table.columns[-1].overflow = "fold"
    for cluster in clusters[:_ROWS]:
        where = "\n".join(filter(None, (", ".join(cluster["splits"]), ", ".join(cluster["classes"]))))
        paths = [file["path"] for file in cluster["files"]]
        some = "\n".join(map(clean, paths[:3])) + (f"\nand {len(paths) - 3} more" if len(paths) > 3 else "")
        how = (str(cluster["distance"]), f"{cluster['similarity']:.3f}") if near else ()
        table.add_row(clean(where), *how, some)
    return table


def among(of: Mapping[str, int]) -> str:
    """ "JPEG" of one kind, "RGB (188), RGBA (12)" of several."""
    return next(iter(of)) if len(of) == 1 else ", ".join(f"{name} ({n:,})" for name, n in of.items())


def clean(text: str) -> str:
    """Without what could steer a terminal or cannot be encoded: names of files hold nearly anything."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
