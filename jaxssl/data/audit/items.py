"""The images of a folder, a download or an archive, listed for the audit; none of them is read yet."""

import functools
import importlib
import inspect as signatures
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxssl.data import downloads, labels
from jaxssl.data.audit.checks import lines
from jaxssl.data.audit.inspect import ALL, UNUSED, Item, name_labels
from jaxssl.data.audit.summary import count_values
from jaxssl.data.datasets import npz
from jaxssl.data.io import archive, images, volumes
from jaxssl.data.label_text import format_label
from jaxssl.data.listing import folders, tables
from jaxssl.data.listing import masks as mask_listing
from jaxssl.data.listing.labelling import Labelling, parse_row
from jaxssl.data.listing.listed import Listing
from jaxssl.data.listing.slices import Cut, cut_volumes, name_slices
from jaxssl.errors import UserError, did_you_mean


class Items(NamedTuple):
    """The images of a dataset; `name`, `place`, `ignored`, `notes` and `unread` as in audit.json.

    `mask_classes` are the classes of their masks, the background first; () if no masks are asked for.
    """

    name: str
    place: str
    items: list[Item]
    ignored: dict[str, int]
    notes: list[str]
    unread: Sequence[str] = ()
    mask_classes: tuple[str, ...] = ()


def list_folder(
    dir: str,
    group_pattern: str = "",
    exclude_pattern: str = "",
    ignore_masks: bool = True,
    slices: bool = False,
    slice_axis: int = 2,
    slice_range: tuple[float, float] = (0.0, 1.0),
    fits_extension: str = "",
    table: str = "",
    path_column: str = "path",
    label_column: str = "label",
    group_column: str = "group",
    split_column: str = "split",
    label_columns: Sequence[str] | None = None,
    label_separator: str = "",
    masks: str = "",
    mask_column: str = "",
    mask_classes: Sequence[str] = (),
) -> Items:
    """List the images in a folder, with splits, classes, groups and masks as `jaxssl.data.datasets.folder` reads them.

    Without a table, outer folders that hold a single folder are skipped; if the loader would refuse the layout, a note
    says so and the images have no class. With a table, a note names the images that it lists without their files, and
    those that it does not list are "unused".

    Raises:
      UserError: there is no such folder or no image in it, the pattern does not fit, or the loader would refuse the
        table.
    """
    root = Path(dir)
    if not root.is_dir():
        raise UserError(f"{dir} is not a folder: name the one that holds the images", code="missing", field=str(dir))
    found = images.find(root)
    columns = {"path": path_column, "label": label_column, "group": group_column, "split": split_column}
    cut = Cut(slices, slice_axis, slice_range, fits_extension)
    files = mask_listing.find(root, masks)
    wanted = mask_listing.Masks(masks, files, {}, _as_names(mask_classes), slice_axis)
    if table:
        labelling = Labelling("auto", _as_names(label_columns), label_separator)
        listing = tables.list_images(root, table, columns, group_pattern, labelling)
        of = tables.list_masks(root, table, listing.paths, mask_column) if mask_column else {}
        listed = _of_table(root, [*{*found} - {*files}], cut_volumes(root, listing, cut), cut)
        return _with_masks(root, listed, "", wanted._replace(of=of))
    tables.check_unused({**columns, "mask": mask_column or "mask"})
    every = [path for path in found if images.is_image(root / path) and path not in {*files}]
    if not every:
        raise UserError(
            f"{dir} holds no image ({', '.join(images.EXTENSIONS)}): name another folder",
            code="missing",
            field=str(dir),
        )
    selected, unread = folders.select_paths(every, exclude_pattern, ignore_masks)
    paths = [name for path in selected for name in name_slices(root, path, cut)]
    groups = labels.match_groups(paths, group_pattern) if group_pattern else [None] * len(paths)
    outer = _common_folder(every)
    inner = [path[len(outer) :] for path in paths]
    layout, notes = _read_layout(root, inner, bool(files))
    notes += images.describe_links(root, every)
    rows = (layout.official or [ALL] * len(paths), layout.classes or [""] * len(paths), groups)
    items = [
        _item(root / outer, name, split, label or None, group, cut)
        for name, split, label, group in zip(inner, *rows, strict=True)
    ]
    left_out = sorted(set(every) - set(selected))
    items += [Item(name[len(outer) :], root / name, UNUSED, used=False) for name in left_out]
    items.sort(key=lambda item: item.path)
    others = _count_extensions(set(found) - set(every) - {*files})
    listed = Items(str(dir), str(root / outer), items, others, notes, [*unread, *layout.unread])
    return _with_masks(root, listed, outer, wanted)


def _read_layout(root: Path, paths: Sequence[str], has_masks: bool) -> tuple[folders.Layout, list[str]]:
    """Return what the folders say, and a note if the loader would refuse them."""
    try:
        layout = folders.read_layout(root, paths)
        mask_listing.check_classes({*(layout.classes or [])} - {""})
    except UserError as error:
        return folders.Layout(None, None, []), [f"the folders are no classes: {error}"]
    if has_masks and mask_listing.are_image_folders(layout.classes or []):
        layout = layout._replace(classes=None)
    return layout, []


def _as_names(names: Sequence[str] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(map(str, names or ()))


def _with_masks(root: Path, listed: Items, outer: str, wanted: mask_listing.Masks) -> Items:
    """Return the items with the masks of those that are used; their paths are relative to the folder `outer`."""
    if not wanted.where and not wanted.of:
        return listed
    used = [item for item in listed.items if item.used]
    read, classes, unread = mask_listing.make_reader(root, [outer + item.path for item in used], wanted)
    readers = {item.path: functools.partial(read, row) for row, item in enumerate(used)}
    items = [item._replace(read_mask=readers.get(item.path)) for item in listed.items]
    return listed._replace(items=items, unread=[*listed.unread, *unread], mask_classes=classes)


def _item(root: Path, name: str, split: str, label: str | None, group: str | None, cut: Cut) -> Item:
    """Return the item of an image or of a slice, whose group is its volume if groups are unknown."""
    path, number = volumes.split_name(name)
    read = functools.partial(volumes.read, root, name, None, cut.axis, cut.fits_extension)
    if number is None or (root / name).is_file():
        return Item(name, root / name, split, label, group, read=read)
    return Item(name, root / path, split, label, group or path, read=read)


def _of_table(root: Path, found: Sequence[str], listing: Listing, cut: Cut) -> Items:
    count = len(listing.paths)
    columns = [column or [None] * count for column in (listing.official, listing.labels, listing.groups)]
    items, absent = {}, []
    for path, split, label, group in zip(listing.paths, *columns, strict=True):
        if (root / volumes.split_name(path)[0]).is_file():
            item = _item(root, path, split or ALL, label or None, group or None, cut)
            items[path] = _with_several(item, listing) if listing.task == "multi" else item
        else:
            absent.append({"path": path})
    if not items:
        raise UserError(
            f"{root} holds none of the {count} images of the table, such as {listing.paths[0]}",
            code="missing",
            field="data.options.table",
        )
    notes = lines.listed("images that the table lists without their files", absent, "path", count)
    alone = [{"path": path} for path, item in items.items() if item.group is None]
    if len(alone) < len(items):
        notes += lines.listed("images without a group, although others have one", alone, "path", len(items))
    listed_files = {volumes.split_name(path)[0] for path in items}
    notes += images.describe_links(root, listed_files)
    for path in found:
        if path not in listed_files and images.is_image(root / path):
            items[path] = Item(path, root / path, UNUSED, used=False)
    others = _count_extensions(set(found) - listed_files - set(items))
    listed = [items[path] for path in sorted(items)]
    return Items(str(root), str(root), listed, others, notes, listing.unread)


def _with_several(item: Item, listing: Listing) -> Item:
    """Return the item with the names of its labels, of which `label` has the marks."""
    marks = parse_row(item.label or "", len(listing.names))
    several = tuple(name_labels(marks, listing.names))
    return item._replace(label=format_label(marks, listing.names, "multi") or None, several=several)


def list_download(name: str, manual_dir: str, **options: Any) -> Items:
    """List the images in the download of a dataset: all of them, also those that are no example of the dataset.

    An example has the split, class and group of the dataset, another file those that its folders name. If the dataset
    cannot use the download, a note says why, and it is listed as a folder.

    Args:
      name: of a module of `jaxssl.data.datasets`.
      manual_dir: the download.
      **options: options of the dataset, which its `examples` takes; of one with masks `masks`, and what `masked` takes.

    Raises:
      UserError: there is no such folder, or one without a file of the dataset and without an image; an unknown option.
    """
    module = importlib.import_module(f"jaxssl.data.datasets.{name}")
    masks = options.pop("masks", False) if hasattr(module, "masked") else False
    list_examples: Callable = module.masked if masks else module.examples
    valid = list(signatures.signature(list_examples).parameters)[1:] + ["masks"] * hasattr(module, "masked")
    for key in options:
        if key not in valid:
            raise UserError(
                f"--options={key}: {did_you_mean(key, valid)}'{name}' takes {', '.join(valid) or 'no options'}",
                code="unknown-name",
                field="--options",
            )
    download = downloads.list_files(module.DATASET, manual_dir)
    try:
        found = list_examples(download, **options)
        dataset, examples = found if masks else (module.DATASET, found)
    except KeyError as error:
        if not options:
            raise
        raise UserError(f"--options: '{name}' does not know {error}", code="unknown-name", field="--options") from error
    except UserError as error:
        if not any(images.is_image(download.root / file) for file in download.files):
            raise
        listed = list_folder(manual_dir)
        return listed._replace(name=name, notes=[f"the dataset cannot use this download: {error}", *listed.notes])
    return _of_download(dataset, download, examples, options)


def _of_download(
    dataset: downloads.Dataset,
    download: downloads.Download,
    examples: Sequence[downloads.Example],
    options: Mapping[str, Any],
) -> Items:
    absent = [{"path": example.id} for example in examples if example.path is None]
    examples = [example for example in examples if example.path is not None]
    if not examples:
        raise downloads.missing_error(download, f"the images of '{dataset.name}'")
    items = {}
    for item in _of_examples(dataset, download.root, examples, options):
        # A file may hold several examples.
        items[item.path if item.path not in items else f"{item.path} {len(items)}"] = item
    ends = tuple({example.file.suffix.lower() for example in examples})
    names = (*dataset.classes, *(e.label for e in examples if e.label))
    classes = {labels.key(label): label for label in names}
    for path in set(download.files) - set(items):
        if path.lower().endswith(ends):
            items[path] = _of_folders(path, download.root, classes)
    outer = _common_folder(list(items))
    listed = [items[path]._replace(path=path[len(outer) :]) for path in sorted(items)]
    notes = lines.listed("images that the download lists without their files", absent, "path")
    others = _count_extensions(set(download.files) - set(items))
    return Items(
        dataset.name,
        str(download.root / outer),
        listed,
        others,
        notes,
        (),
        dataset.mask_classes if dataset.read_mask else (),
    )


def _of_examples(
    dataset: downloads.Dataset, root: Path, examples: Sequence[downloads.Example], options: Mapping[str, Any]
) -> Iterable[Item]:
    official = {example.split for example in examples} != {"train"}
    reader: Callable | None = dataset.read
    if reader:
        accepted = signatures.signature(reader).parameters
        reader = functools.partial(reader, **{key: value for key, value in options.items() if key in accepted})
    for example in examples:
        path = example.file.relative_to(root).as_posix()
        split, group = example.split if official else ALL, example.group if dataset.group else None
        read = reader and functools.partial(reader, example)
        read_mask = dataset.read_mask and functools.partial(dataset.read_mask, example)
        yield Item(path, example.file, split, example.label, group, read=read, read_mask=read_mask)


def _of_folders(path: str, root: Path, classes: Mapping[str, str]) -> Item:
    """Describe a file that is no example by the innermost folder named as a class, and the first named as a split."""
    names = path.split("/")[:-1]
    label = next((classes[labels.key(name)] for name in reversed(names) if labels.key(name) in classes), None)
    split = next((labels.SPLITS[name.lower()] for name in names if name.lower() in labels.SPLITS), UNUSED)
    return Item(path, root / path, split, label, used=False)


def list_archive(path: str, masks: bool = False, mask_classes: Sequence[str] = ()) -> Items:
    """List the images in an npz archive, with labels, groups and masks as `jaxssl.data.datasets.npz` reads them.

    Raises:
      UserError: there is no archive, or arrays are missing, hold objects or differ in length.
    """
    file, items = Path(path), []
    headers, keys = archive.read_headers(file), npz.image_keys(file, archive.read_headers(file))
    counts = {side: headers[key].shape[0] for side, key in keys.items()}
    classes, numbers, task = npz.read_all_labels(file, headers, npz.label_keys(headers, counts), counts, None, "auto")
    groups = npz.read_groups(file, headers, counts) or [None] * len(numbers)
    labels_of = iter(zip(numbers, groups, strict=True))
    for side, key in keys.items():
        pixels = archive.read_array(file, key)
        for one, pixel, (label, group) in zip(npz.make_ids(side, len(pixels)), pixels, labels_of, strict=False):
            if task == "multi":
                text, several = format_label(label, classes, task), tuple(name_labels(label, classes))
            else:
                text, several = classes[label] if label >= 0 else "", None
            items.append(Item(one, pixel, npz.SPLITS.get(side, ALL), text or None, group or None, several=several))
    if not items:
        raise UserError(f"{path} holds no image: name another archive", code="missing", field=str(path))
    if not masks:
        return Items(str(path), str(path), items, {}, [])
    read, names = npz.read_masks(file, headers, counts, _as_names(mask_classes))
    items = [item._replace(read_mask=functools.partial(read, row)) for row, item in enumerate(items)]
    return Items(str(path), str(path), items, {}, [], (), names)


def _count_extensions(paths: Iterable[str]) -> dict[str, int]:
    return count_values(os.path.splitext(path)[1].lower() or "no extension" for path in paths)


def _common_folder(paths: Sequence[str]) -> str:
    """Return the folders that all paths share, with a trailing "/", down to one that is named as a split."""
    shared = ""
    for names in zip(*(path.split("/")[:-1] for path in paths), strict=False):
        if len(set(names)) > 1 or names[0].lower() in labels.SPLITS:
            break
        shared += names[0] + "/"
    return shared
