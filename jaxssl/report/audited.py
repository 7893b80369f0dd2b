"""The section of the page on the images themselves, from what audit.json says of them."""

from typing import Any

from jaxssl.report.markup import bdi, definitions, escape, scrolling, table_head, table_row
from jaxssl.report.words import MOST_CLASSES, plain, short

Audit = dict[str, Any]


def section(dataset: dict[str, Any], audit: Audit) -> str:
    """Findings first, then counts and properties; of `audit` as `jaxssl.data.audit.audit.source` makes it, or {}."""
    if not audit:
        return findings(dataset["findings"])
    parts = [findings(audit["findings"])]
    if audit["counts"]:
        parts.append(scrolling(count_table(audit), "Images by class and split"))
    parts.append(definitions(properties(audit).items(), "facts"))
    text = (
        "These checks are of the images as they were loaded. Files that cannot be read and near copies are looked for "
        "by python -m jaxssl.data audit."
    )
    return f"{''.join(parts)}<p>{escape(text)}</p>"


def findings(lines: list[str]) -> str:
    if not lines:
        return "<p>The audit of the images found nothing wrong.</p>"
    return f"<p>The audit of the images found:</p><ul>{''.join(f'<li>{bdi(line)}</li>' for line in lines)}</ul>"


def count_table(audit: Audit) -> str:
    counts = audit["counts"]
    total = {name: sum(of.get(name, 0) for of in counts.values()) for name in [*audit["classes"], "unlabelled"]}
    names = [name for name, images in total.items() if images]
    shown = sorted(sorted(names, key=lambda name: -total[name])[:MOST_CLASSES], key=names.index)
    lines = [table_row(bdi(short(name)), [f"{of.get(name, 0):,}" for of in counts.values()]) for name in shown]
    if len(names) > len(shown):
        rest = [sum(images for name, images in of.items() if name not in shown) for of in counts.values()]
        lines.append(table_row(f"{len(names) - len(shown)} others", [f"{images:,}" for images in rest]))
    lines.append(table_row("<strong>all</strong>", [f"{sum(of.values()):,}" for of in counts.values()]))
    commonest = [
        f"{100 * most['accuracy']:.1f}\u00a0%" if (most := audit["majority"].get(split)) else "" for split in counts
    ]
    if any(commonest):
        lines.append(table_row("share of the commonest class", commonest))
    return (
        f"<table><caption>Images by class and split</caption>{table_head('Class', counts)}"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def properties(audit: Audit) -> dict[str, str]:
    exact, groups = audit["exact"], audit["groups"]
    sizes = [f"{width} × {height} px ({images:,})" for width, height, images in audit["sizes"]["commonest"][:3]]
    values = [f"{kind} from {plain(low)} to {plain(high)}" for kind, (low, high) in audit["values"].items()]
    torn = f"{len(groups['across_splits']):,} on two sides of the split"
    return {
        "Images": f"{audit['images']:,}",
        "Groups": f"{groups['count']:,}, {torn}" if groups["known"] else "unknown",
        "Size as held": ", ".join(sizes),
        "Channels": ", ".join(f"{channels} ({images:,})" for channels, images in audit["channels"].items()),
        "Values": ", ".join(values),
        "Further copies of an image": f"{exact['extra']:,}",
        "Validation images copied in train": f"{exact['leaked']['validation']:,}",
        "Test images copied in train": f"{exact['leaked']['test']:,}",
        "With values that are not finite": f"{len(audit['nonfinite']):,}",
        "With one value throughout": f"{len(audit['constant']):,}",
    }
