"""The checks of the audit: one file per kind of finding.

A check is a function from a report of `jaxssl.data.audit.report` to its findings: lines that say what is wrong, with
how many images, and what to do. To add one, write it in a file of this folder and add it to `CHECKS`, whose order is
that of the findings, the most serious first.
"""

from collections.abc import Callable, Mapping
from typing import Any

from jaxssl.data.audit.checks import classes, duplicates, groups, layout, masks, readable, scale, unread, values

CHECKS: tuple[Callable[[Mapping[str, Any]], list[str]], ...] = (
    layout.notes,
    readable.unreadable,
    masks.unreadable,
    values.nonfinite,
    groups.across_splits,
    groups.implausible,
    duplicates.leaked,
    duplicates.torn,
    duplicates.extra,
    values.constant,
    values.kinds,
    masks.incomplete,
    masks.classes,
    scale.scales,
    scale.crop,
    readable.misnamed,
    unread.unread,
    classes.balance,
    groups.single,
    groups.unknown,
)
