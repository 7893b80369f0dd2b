"""Classes that a split lacks, and class imbalance."""

from collections.abc import Mapping
from typing import Any

from jaxssl.data.audit.inspect import UNUSED

_IMBALANCE = 10


def balance(report: Mapping[str, Any]) -> list[str]:
    """Missing classes and imbalance, by split."""
    found = []
    for split, most in report["majority"].items():
        missing = sorted(set(report["classes"]) - set(report["counts"][split]))
        if missing and split != UNUSED:
            found.append(
                f"classes that {split} lacks: {', '.join(missing)}: scores on {split} say nothing of them; "
                "data.use_official_split=False splits all classes"
            )
        if most["imbalance"] >= _IMBALANCE:
            found.append(
                f"'{most['class']}' is {most['imbalance']:.0f} times as frequent as the rarest class of {split}: judge "
                "by AUC and balanced accuracy, not by accuracy"
            )
    return found
