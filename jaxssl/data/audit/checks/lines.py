"""The form of a finding: what is wrong, how many, the first of them, and what to do."""

from collections.abc import Mapping, Sequence
from typing import Any

_LISTED = 3


def listed(what: str, rows: Sequence[Mapping[str, Any]], key: str, total: int = 0, remedy: str = "") -> list[str]:
    """Return one line with the number of rows and the first of them, or none without rows.

    Args:
      what: what is wrong with them.
      rows: the rows; with "why", that is shown too.
      key: of the rows, what names them.
      total: of how many; 0 if that is not shown.
      remedy: what to do.
    """
    if not rows:
        return []
    some = ", ".join(row[key] + (f": {row['why']}" if "why" in row else "") for row in rows[:_LISTED])
    more = ", ..." if len(rows) > _LISTED else ""
    line = f"{what}: {len(rows):,}{f' of {total:,}' if total else ''} ({some}{more})"
    return [f"{line}: {remedy}" if remedy else line]
