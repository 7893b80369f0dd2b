"""Properties and problems of the images, from audit.json."""

from jaxssl.report.blocks import Body, Bullets, Cell, Facts, Row, Section, Table, Text, cells
from jaxssl.report.run_data import RunData
from jaxssl.results.audit_schema import Audit
from jaxssl.results.words import MAX_CLASSES, format_value, shorten

SCOPE = (
    "These checks are of the images as they were loaded. jaxssl data audit also looks for unreadable files and near "
    "duplicates."
)


def section(run: RunData) -> Section:
    """Return findings first, then counts and properties."""
    audit = run.audit
    if audit is None:
        return Section("images", "The images", _findings(run.results["dataset"]["findings"]))
    blocks = _findings(audit["findings"])
    if audit["counts"]:
        blocks.append(_counts(audit))
    blocks += [Facts(list(_properties(audit).items())), Text(SCOPE)]
    return Section("images", "The images", blocks)


def _findings(findings: list[str]) -> list:
    if not findings:
        return [Text("The audit of the images found no problem.")]
    return [Text("The audit of the images found:"), Bullets(findings)]


def _counts(audit: Audit) -> Table:
    counts = audit["counts"]
    total = {name: sum(of.get(name, 0) for of in counts.values()) for name in [*audit["classes"], "unlabelled"]}
    names = [name for name, images in total.items() if images]
    shown = sorted(sorted(names, key=lambda name: -total[name])[:MAX_CLASSES], key=names.index)
    rows = [Row(Cell(shorten(name)), cells(*(f"{of.get(name, 0):,}" for of in counts.values()))) for name in shown]
    if len(names) > len(shown):
        rest = [sum(images for name, images in of.items() if name not in shown) for of in counts.values()]
        rows.append(Row(Cell(f"{len(names) - len(shown)} others"), cells(*(f"{images:,}" for images in rest))))
    if sum(total.values()) == audit["images"]:  # Otherwise images count for each of their labels.
        rows.append(Row(Cell("", strong="all"), cells(*(f"{sum(of.values()):,}" for of in counts.values()))))
    majority = [
        f"{100 * most['accuracy']:.1f}\u00a0%" if (most := audit["majority"].get(split)) else "" for split in counts
    ]
    if any(majority):
        rows.append(Row(Cell("share of the most frequent class"), cells(*majority)))
    title = "Images by class and split"
    return Table(title, title, ["Class", *counts], [Body("", rows)])


def _properties(audit: Audit) -> dict[str, str]:
    exact, groups = audit["exact"], audit["groups"]
    sizes = [f"{width} × {height} px ({images:,})" for width, height, images in audit["sizes"]["commonest"][:3]]
    values = [
        f"{kind} from {format_value(low)} to {format_value(high)}" for kind, (low, high) in audit["values"].items()
    ]
    across = f"{len(groups['across_splits']):,} in several splits"
    return {
        "Images": f"{audit['images']:,}",
        "Groups": f"{groups['count']:,}, {across}" if groups["known"] else "unknown",
        "Stored size": ", ".join(sizes),
        "Channels": ", ".join(f"{channels} ({images:,})" for channels, images in audit["channels"].items()),
        "Values": ", ".join(values),
        "Duplicates of an image": f"{exact['extra']:,}",
        "Validation images copied in train": f"{exact['leaked']['validation']:,}",
        "Test images copied in train": f"{exact['leaked']['test']:,}",
        "With values that are not finite": f"{len(audit['nonfinite']):,}",
        "With a single value": f"{len(audit['constant']):,}",
    }
