"""What the input holds that is not used."""

from collections.abc import Mapping
from typing import Any


def unread(report: Mapping[str, Any]) -> list[str]:
    """Columns, files, formats and folders that are not read."""
    return [f"not used: {line}" for line in report.get("unread", ())]
