"""Remarks on the layout of the folders, the download or the table."""

from collections.abc import Mapping
from typing import Any


def notes(report: Mapping[str, Any]) -> list[str]:
    """Remarks that were made when the images were listed."""
    return list(report.get("notes", ()))
