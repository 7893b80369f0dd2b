"""Files that cannot be read, and those with the extension of another format."""

from collections.abc import Mapping
from typing import Any

from jaxssl.data.audit.checks import lines


def unreadable(report: Mapping[str, Any]) -> list[str]:
    """Files that no decoder can read."""
    remedy = "repair or remove them, or set data.on_bad_file to 'skip'"
    return lines.listed("files that cannot be read", report.get("unreadable", ()), "path", report["images"], remedy)


def misnamed(report: Mapping[str, Any]) -> list[str]:
    """Files with the extension of another format."""
    what, remedy = "files with the extension of another format", "rename them; they are read by their content"
    return lines.listed(what, report.get("misnamed", ()), "path", remedy=remedy)
