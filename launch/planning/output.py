"""Print plans as text and tables, and draw a sweep."""

import io
import math
from typing import Any

from matplotlib.figure import Figure
from planning.chips import GIB
from rich import box
from rich.table import Table

LEGEND = """Weak scaling: the same number of images per chip on each slice. GiB: memory per chip. ms: a step,
of which "sent" is messages. peak: utilisation. kept: images per second and chip, relative to
the first slice. hours: chip-hours for all images that the config processes."""


def format_plan(p: dict[str, Any]) -> str:
    """Return a plan as lines of text."""
    lines = [f"{p['phase']} on {p['topology']}, {p['chips']} chips, {p['batch_size']:,} images a step"]
    fits = "fits" if p["fits"] else "does not fit"
    lines += [f"  memory a chip    {gib(p['memory_bytes'])} of {gib(p['memory_of_chip'])}: {fits}"]
    if p.get("largest_batch"):
        lines[-1] += f"; the largest batch that fits is about {p['largest_batch']:,}"
    if not p["fits"]:
        return "\n".join(lines)
    ms = {k: "unknown" if math.isnan(v) else f"{1e3 * v:.1f}" for k, v in p["seconds"].items()}
    lines += [f"  FLOPs, bytes     {p['flops'] / 1e12:.2f} TFLOP and {p['bytes'] / 1e9:.2f} GB a chip and step"]
    for c in sorted(p["collectives"], key=lambda c: -c["count"] * c["bytes"])[:5]:
        lines += [f"  {c['kind']:<17}{c['count']} of {c['bytes'] / 1e3:,.1f} kB among {c['group']} chips"]
    lines += [
        f"  a step           {ms['step']} ms: compute {ms['compute']}, memory {ms['memory']}, kernels "
        f"{ms['kernels']}, messages {ms['messages']}",
        f"  utilisation      {100 * p['utilisation']:.0f} % of the chips' peak",
        f"  speed            {p['images_per_second']:,.0f} images a second",
        f"  cost             {p['chip_hours']:,.1f} chip-hours for all epochs",
    ]
    for i, k in enumerate(p["kernels"]):
        lines += [f"  {p['kernels_by'] if i == 0 else '':<17}{100 * k['share']:.0f} %  {k['from']}"]
    return "\n".join(lines)


def gib(value: float) -> str:
    return f"{value / GIB:.1f} GiB"


def make_table(plans: list[dict[str, Any]]) -> Table:
    """Return a table with a row for each slice of a sweep; fits 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("slice", no_wrap=True)
    for name in ("chips", "batch", "GiB", "ms", "sent", "peak", "images/s", "kept", "hours"):
        table.add_column(name, justify="right", no_wrap=True)
    base = next((p["images_per_second"] / p["chips"] for p in plans if p["fits"]), None)
    for p in plans:
        row = [p["topology"], f"{p['chips']}", f"{p['batch_size']:,}", f"{p['memory_bytes'] / GIB:.1f}"]
        if p["fits"]:
            row += [f"{1e3 * p['seconds'][name]:.1f}" for name in ("step", "messages")]
            row += [f"{100 * p['utilisation']:.0f} %", f"{p['images_per_second']:,.0f}"]
            row += [f"{100 * p['images_per_second'] / p['chips'] / base:.0f} %", f"{p['chip_hours']:,.1f}"]
        table.add_row(*row, *["too large"] * (not p["fits"]))
    return table


def draw_sweep(plans: list[dict[str, Any]]) -> str:
    """Return an SVG of images per second over chips, with the line of perfect scaling from the first slice."""
    plans = [p for p in plans if p["fits"]]
    chips, speed = [p["chips"] for p in plans], [p["images_per_second"] for p in plans]
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(chips, [speed[0] * n / chips[0] for n in chips], color="0.6", linestyle="--", label="in proportion")
    axes.plot(chips, speed, color="C0", marker="o", label="planned")
    axes.set(xscale="log", yscale="log", xlabel="chips", ylabel="images a second")
    axes.set_xticks(chips, [p["topology"] + f"\n{p['chips']}" for p in plans], minor=False)
    axes.set_xticks([], minor=True)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
