"""Files that cannot be read, and those with the extension of another format."""

from collections.abc import Mapping
from typing import Any

from jaxssl.data.audit.checks import lines


def unreadable(report: Mapping[str, Any]) -> list[str]:
    """Files that no decoder can read."""
    return lines.listed("files that cannot be read", report.get("unreadable", ()), "path", report["images"])


def misnamed(report: Mapping[str, Any]) -> list[str]:
    """Files with the extension of another format."""
    return lines.listed("files with the extension of another format", report.get("misnamed", ()), "path")
