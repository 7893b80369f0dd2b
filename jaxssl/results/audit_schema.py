"""Typed descriptions of audit.json, as in `jaxssl.results.schema`."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from jaxssl.results.schema import Split, Value, Version

Majority = TypedDict(
    "Majority",
    {
        "class": Annotated[str, "the most frequent class"],
        "images": Annotated[int, "its images"],
        "accuracy": Annotated[float, "accuracy of always predicting it"],
        "imbalance": Annotated[float, "its images divided by those of the rarest class"],
    },
)
Member = TypedDict(
    "Member",
    {
        "path": Annotated[str, "file or image id"],
        "split": Annotated[str, "its split"],
        "class": Annotated[str | None, "its class"],
        "group": Annotated[str | None, "its group"],
    },
)
Majority.__doc__ = "The most frequent class of a split."
Member.__doc__ = "An image of a cluster."


class SplitGroup(TypedDict):
    """A group with images in several splits."""

    group: Annotated[str, "name of the group"]
    counts: Annotated[dict[Split, int], "its images"]


class Groups(TypedDict):
    """Groups, such as patients."""

    known: Annotated[bool, "whether the dataset has groups"]
    count: Annotated[int | None, "number of groups; null if unknown"]
    across_splits: list[SplitGroup]
    largest: Annotated[dict[str, int], "images of the largest group, by its name; empty if groups are unknown"]
    median: Annotated[float | None, "median of the number of images of a group; null if groups are unknown"]


class Sizes(TypedDict):
    """Image sizes in pixels."""

    distinct: Annotated[int, "number of different sizes"]
    smallest: Annotated[list[int] | None, "width, height"]
    largest: Annotated[list[int] | None, "width, height"]
    commonest: Annotated[list[list[int]], "width, height, images of the ten most frequent"]


class Scale(TypedDict):
    """Images of one scale, where the highest values of the images leave a gap."""

    highest: Annotated[float, "highest value"]
    images: Annotated[int, "number of images"]
    classes: Annotated[list[str], "their classes"]
    path: Annotated[str, "one of them"]


class NotSquare(TypedDict):
    """Images that are not square."""

    images: Annotated[int, "number of images"]
    over_tenth: Annotated[int, "images of which the centre square leaves out more than 10 % of the pixels"]
    mean_share: Annotated[float, "mean share of the pixels outside of the centre square"]


class NonFinite(TypedDict):
    """An image with values that are not finite."""

    path: Annotated[str, "file or image id"]
    nan: Annotated[int, "number of NaN"]
    inf: Annotated[int, "number of infinities"]
    values: Annotated[int, "number of all values"]


class Constant(TypedDict):
    """An image in which each channel has one value."""

    path: Annotated[str, "file or image id"]
    value: Annotated[float, "lowest value"]


class Leaked(TypedDict):
    """Images with a duplicate in train."""

    validation: Annotated[int, "validation images"]
    test: Annotated[int, "test images"]


class Cluster(TypedDict):
    """Images that are duplicates of one another."""

    splits: Annotated[list[str], "their splits"]
    classes: Annotated[list[str], "their classes"]
    groups: Annotated[list[str], "their groups"]
    same_bytes: NotRequired[Annotated[bool, "exact duplicates: whether the files are equal"]]
    distance: NotRequired[Annotated[int, "near duplicates: largest Hamming distance of the perceptual hashes"]]
    similarity: NotRequired[Annotated[float, "near duplicates: smallest correlation"]]
    files: list[Member]


class Duplicates(TypedDict):
    """Clusters of duplicates."""

    across_splits: Annotated[int, "clusters in several splits"]
    across_classes: Annotated[int, "clusters of several classes"]
    across_groups: Annotated[int, "clusters of several groups"]
    extra: Annotated[int, "images beyond the first of each cluster"]
    leaked: Leaked
    clusters: list[Cluster]


class MaskSample(TypedDict):
    """Images of one kind."""

    images: Annotated[int, "number of images"]
    first: Annotated[str | None, "one of them"]


class MaskClass(TypedDict):
    """A class of masks."""

    name: Annotated[str, "its name"]
    images: Annotated[int, "images that have it"]
    share: Annotated[float, "share of the pixels whose class is known"]
    median_pixels: Annotated[float | None, "median of its pixels over the images that have it"]


class UnreadableMask(TypedDict):
    """A mask that cannot be used."""

    path: Annotated[str, "its image"]
    why: Annotated[str, "what is wrong: a broken file, a value that is no class, another shape than the image"]


class Masks(TypedDict):
    """The masks of the images, at the size at which a run holds them; of files, at their own."""

    images: Annotated[int, "images with a mask"]
    missing: Annotated[MaskSample, "images without one"]
    empty: Annotated[MaskSample, "masks with background only"]
    equal: Annotated[MaskSample, "masks that are not empty and equal that of another image"]
    unreadable: Annotated[list[UnreadableMask], "masks that cannot be used; a run stops at them or skips them"]
    classes: Annotated[list[MaskClass], "the background first"]


class Audit(TypedDict):
    """audit.json of a run: properties and problems of its images, as loaded."""

    schema_version: Version
    images: Annotated[int, "number of images"]
    classes: Annotated[list[str], "class names, sorted"]
    counts: Annotated[
        dict[Split, dict[Annotated[str, "class"], int]], 'images, for each of several labels; without: "unlabelled"'
    ]
    majority: dict[Split, Majority]
    groups: Groups
    channels: Annotated[dict[Value, int], "images by number of channels"]
    dtypes: Annotated[dict[Value, int], "images by dtype"]
    sizes: Sizes
    values: Annotated[dict[Annotated[str, "dtype"], list[float]], "lowest and highest finite value"]
    scales: list[Scale]
    not_square: NotSquare
    nonfinite: list[NonFinite]
    constant: list[Constant]
    exact: Annotated[Duplicates, "images with equal pixels"]
    near: Annotated[
        Duplicates, "images that are nearly equal: scaled, compressed or brightened; of a run, from 48 pixels a side"
    ]
    masks: NotRequired[Annotated[Masks, "missing without masks"]]
    unread: Annotated[list[str], "what the input holds that is not used"]
    notes: NotRequired[Annotated[list[str], "remarks on the layout"]]
    findings: Annotated[list[str], "problems in words, the most serious first"]


class Unreadable(TypedDict):
    """A file that cannot be decoded."""

    path: Annotated[str, "the file"]
    kind: Annotated[Literal["empty", "truncated", "refused", "corrupt"], "what is wrong"]
    why: Annotated[str, "the decoder's message"]


class Misnamed(TypedDict):
    """A file with the extension of another format."""

    path: Annotated[str, "the file"]
    format: Annotated[str, "its format"]


class FileAudit(Audit):
    """audit.json of `jaxssl data audit`: the same of files, with what only files tell."""

    name: Annotated[str, "the dataset, or its path"]
    place: Annotated[str, "innermost folder with all images; paths are relative to it"]
    bytes: Annotated[int, "size of all files"]
    ignored: Annotated[dict[Annotated[str, "extension"], int], "other files"]
    unused: Annotated[int, "images that a builder or a table leaves out"]
    formats: Annotated[dict[Value, int], "images by file format"]
    modes: Annotated[dict[Value, int], "images by Pillow mode"]
    orientations: Annotated[dict[Value, int], "images by EXIF orientation"]
    unreadable: list[Unreadable]
    misnamed: list[Misnamed]
    files: Annotated[list[dict[str, Any]], "one row per image: properties, SHA-256 and perceptual hash"]
