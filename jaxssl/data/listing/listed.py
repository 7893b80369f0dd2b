"""The images that a folder or a table names."""

from typing import NamedTuple


class Listing(NamedTuple):
    """What is known of images that are not read yet; None for what is unknown of all.

    Attributes:
      paths: relative to the folder, with "/".
      official: "train", "validation" or "test".
      labels: names of the classes, "" for an image without one.
      groups: "" for an image without one.
    """

    paths: list[str]
    official: list[str] | None
    labels: list[str] | None
    groups: list[str] | None
