"""What a comparison of runs says: the verdict on each difference, what may not be concluded, and the page of it all.

`study` is always what compare.json holds.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from jaxssl.evaluation.significance import ALPHA, MIN_SEEDS
from jaxssl.report import figures, words
from jaxssl.report.markup import (
    bdi,
    definitions,
    escape,
    glyph,
    grid,
    panel,
    scrolling,
    stated,
    table_head,
    table_row,
    whole,
)

TOO_FEW = f"fewer than {MIN_SEEDS} seeds"
SHOWN = ("auc_macro", "accuracy")
# Of differences that stand open on the page; of more, those against random weights do.
MOST_ROWS = 24
MOST_SENTENCES = 5
VERDICTS = {
    "higher": "higher",
    "lower": "lower",
    "these runs": "these networks alone",
    "open": "open",
}
SPLITS = {
    "one run": "one run of each arm",
    "fixed": "all runs have the same test images",
    "resplit": "runs have other test images of the same data",
    "simulated": "each seed has images of its own",
}


def verdict(d: dict[str, Any]) -> tuple[str, str]:
    """The verdict on one difference and the sentence that says it.

    "higher" and "lower" are said of other seeds and of other test groups alike: p, the larger of both, is below 5 %
    after Holm's correction, and the interval over the test groups is on the same side of 0.
    """
    groups, mean, p = d["over_groups"], d["mean"], d["p_holm"]
    where = f"in {words.METRICS[d['metric']]} by {words.protocol_name(d['protocol'])} with {budget(d['labels'])}"
    if mean is None:
        return "open", f"{d['a']} and {d['b']} cannot be compared {where}: it is undefined."
    sided = words.bounded(groups) and (groups["low"] > 0 or groups["high"] < 0)
    found = f"{words.signed(mean)} ({evidence(d)})"
    if sided and p is not None and p < ALPHA and (groups["low"] > 0) == (mean > 0):
        kind, said = ("higher", "better") if mean > 0 else ("lower", "worse")
        return kind, f"{d['a']} is {said} than {d['b']} {where}: {found}."
    if sided:
        above = "above" if groups["low"] > 0 else "below"
        limit = f"of other seeds that says nothing: {untested(d)}"
        if p is not None:
            limit = "for other seeds and test groups, among so many differences, that is open"
        return (
            "these runs",
            f"The networks trained here score {above} with {d['a']} than with {d['b']} {where}: {found}; {limit}.",
        )
    return (
        "open",
        f"{d['a']} and {d['b']} cannot be told apart {where}: {found}, which does not say that they are alike.",
    )


def untested(d: dict[str, Any]) -> str:
    """Why a difference has no p-value over seeds."""
    if d["seeds"] < MIN_SEEDS:
        return f"a p-value needs {MIN_SEEDS} seeds and there {'is' if d['seeds'] == 1 else 'are'} {d['seeds']}"
    return "all of them gave the same difference"


def evidence(d: dict[str, Any]) -> str:
    runs, groups = d["over_runs"], d["over_groups"]
    said = [f"95 % over {counted(d['runs'], 'run')} {span(runs)}" if words.bounded(runs) else counted(d["runs"], "run")]
    if words.bounded(groups):
        said.append(f"over test groups {span(groups)}")
    if d["p_holm"] is not None:
        said.append(f"{p_in_words(d['p_holm'])} after Holm's correction")
    if d["mcnemar"] and d["mcnemar"]["p_holm"] is not None:
        said.append(f"by McNemar's test of these networks {p_in_words(d['mcnemar']['p_holm'])}")
    return "; ".join(said)


def span(ends: dict[str, float | None]) -> str:
    return f"{words.signed(ends['low'])} to {words.signed(ends['high'])}"


def p_in_words(p: float) -> str:
    return "p < .001" if p < 0.001 else f"p = {words.number(p)}"


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def budget(labels: str) -> str:
    return f"{labels} of the labels" if labels.endswith("%") else f"labels of {labels.replace(' a class', '')} a class"


def cautions(study: dict[str, Any], groups: int, repeated: int, fields: list[str] | None) -> list[str]:
    """What may not be concluded from the whole study, a sentence each; `fields` are None where no config is known."""
    found, said = study["differences"], []
    if not found:
        said.append("No two arms share a protocol, a share of the labels, a seed and a fold: nothing was compared.")
    if found and min(d["seeds"] for d in found) < MIN_SEEDS:
        said.append(
            f"Where there are {TOO_FEW}, no p-value is given, and the interval over runs, if any, is rough: a "
            "difference there may be one of seeds."
        )
    if found:
        said.append(
            f"{counted(len(found), 'difference')} were looked at; p-values are corrected for that by Holm's method, "
            "intervals are not: each has its own 95 %."
        )
    if study["split"] == "fixed":
        said.append("All runs have the same test images: another split may rank the arms otherwise.")
    if study["split"] == "resplit":
        said.append(
            "The runs divide the same images in different ways. Their intervals and p-values are corrected for the "
            "training images that they share (Nadeau and Bengio), which is an approximation."
        )
    if not study["dataset"]["groups_known"]:
        said.append(
            "It is not known which images are of the same patient, object or series: grouping unknown is not no "
            "leakage, and intervals over the test groups and p-values may be too small."
        )
    if groups < words.FEW_GROUPS:
        said.append(f"The test images are of {counted(groups, 'group')}: intervals from so few are rough.")
    if any(d["mcnemar"] and d["mcnemar"]["without"] not in (None, TOO_FEW) for d in found):
        said.append(
            "Groups hold several test images, which are not independent: McNemar's test is left out, and the interval "
            "over test groups stands in its place."
        )
    said += cautions_of_arms(study["arms"])
    if len({(tuple(arm["seeds"]), tuple(arm["folds"])) for arm in study["arms"]}) > 1:
        said.append(
            "Not all arms have the same seeds and folds: means of arms are of other runs, differences of those alone "
            "that both have."
        )
    if study["unfinished"]:
        are = "is" if study["unfinished"] == 1 else "are"
        said.append(f"{counted(study['unfinished'], 'run')} had not ended and {are} missing here.")
    if repeated:
        said.append(
            f"{counted(repeated, 'evaluation')} of an arm, seed and fold that another run has too found something "
            "else: the first counts, the other is left out."
        )
    if fields is None:
        said.append("No run has its config.json: whether arms differ in epochs, batches or anything else is not known.")
    if fields:
        said.append(f"Arms differ in {words.listed(fields)} too: a difference between them may come from that.")
    return said


def cautions_of_arms(arms: Sequence[dict[str, Any]]) -> list[str]:
    said = []
    if constant := [arm for arm in arms if arm["constant_runs"]]:
        listed = words.listed([f"{place(arm)} ({arm['constant_runs']} of {arm['runs']} runs)" for arm in constant])
        said.append(f"One and the same class is predicted for every image by {listed}.")
    accuracy = {place(arm): arm["metrics"]["accuracy"]["mean"] - arm["majority_accuracy"] for arm in arms}
    if low := [name for name, above in accuracy.items() if above <= 0]:
        said.append(f"No more accurate than always predicting the commonest class: {words.listed(low)}.")
    if any(arm["label_fraction"] < 1 for arm in arms):
        said.append(
            "A share of the labels is one of the training images: those of validation, by which epochs, learning rates "
            "and penalties are chosen, keep all of theirs."
        )
    return said


def place(arm: dict[str, Any]) -> str:
    return f"{words.short(arm['name'])} by {words.protocol_name(arm['protocol'])} with {budget(arm['labels'])}"


# The page.


def document(study: dict[str, Any], to: Path, runs: Sequence[tuple[Path, dict[str, Any]]]) -> str:
    """The page of a comparison, with links from the folder `to` to each of the `runs`: (folder, its results.json)."""
    subject = f"{len(runs)} runs on {study['dataset']['name']}" if len(runs) != 1 else study["dataset"]["name"]
    may, may_not = study["conclusion"]["may"], study["conclusion"]["may_not"]
    header = (
        f"<h1>Comparison of {bdi(subject)}</h1>"
        f"{stated(answer(study))}"
        f'<h2 class="minor">What may be concluded</h2>{sentences(may or ["Nothing."])}'
        f'<h2 class="minor">What may not be concluded</h2>{sentences(may_not or ["Nothing more is known."])}'
    )
    sections = [
        ("Arms", arm_table(study)),
        ("Differences, run by run", difference_tables(study)),
        ("Label efficiency", label_efficiency(study)),
        ("Runs", run_table(to, runs)),
        ("What this rests on", foundations(study)),
    ]
    return whole(f"Comparison of {subject}", header, sections)


def answer(study: dict[str, Any]) -> str:
    """The surest difference in macro AUC, and how many there are of each kind."""
    found = [d for d in study["differences"] if d["metric"] == SHOWN[0]]
    if not found:
        return "No two arms can be compared, so nothing can be concluded."
    first = min(found, key=importance)
    sure, here, undecided = (
        sum(d["verdict"] in kinds for d in found) for kinds in (("higher", "lower"), ("these runs",), ("open",))
    )
    if undecided == len(found):
        return (
            f"None of {counted(len(found), 'difference')} in macro AUC can be concluded: the arms may be alike, or not."
        )
    told = (
        ""
        if len(found) == 1
        else (
            f" Of {len(found)} differences in macro AUC, {sure} hold for other seeds and test groups, {here} for the "
            f"networks trained here alone, and {undecided} are open."
        )
    )
    return first["sentence"] + told


def importance(d: dict[str, Any]) -> tuple:
    """Orders differences, the surest and largest against random weights first."""
    sure = max(1, list(VERDICTS).index(d["verdict"]))  # "higher" and "lower" alike.
    return sure, SHOWN.index(d["metric"]), d["b"] != "random", -d["label_fraction"], -abs(d["mean"] or 0)


def sentences(texts: Sequence[str]) -> str:
    """A list; what is beyond its first few can be opened."""

    def items(of: Iterable[str]) -> str:
        return f'<ul class="limits">{"".join(f"<li>{bdi(text)}</li>" for text in of)}</ul>'

    more = texts[MOST_SENTENCES:]
    return items(texts[:MOST_SENTENCES]) + (
        f"<details><summary>{len(more)} more</summary>{items(more)}</details>" if more else ""
    )


def arm_table(study: dict[str, Any]) -> str:
    head = [*(words.METRICS[metric] for metric in SHOWN), "runs", "pretraining"]
    bodies: dict[str, list[str]] = {}
    for arm in study["arms"]:
        scored = [both_intervals(arm["metrics"][metric], words.number) for metric in SHOWN]
        seconds = arm["pretrain_seconds"]
        took = "" if not seconds else f"{seconds / 60:.1f} min"
        place = f"{words.protocol_name(arm['protocol']).capitalize()}, {budget(arm['labels'])}"
        bodies.setdefault(place, []).append(table_row(bdi(words.short(arm["name"])), [*scored, arm["runs"], took]))
    body = "".join(
        f'<tbody><tr class="of"><th scope="rowgroup" colspan="{len(head) + 1}">{escape(place)}</th></tr>'
        f"{''.join(lines)}</tbody>"
        for place, lines in bodies.items()
    )
    caption = "Means over runs. 95 % intervals: over runs in brackets [ ], over the groups of the test images in ( )."
    table = f'<table class="scores"><caption>{caption}</caption>{table_head("Arm", head)}{body}</table>'
    return scrolling(table, "Scores of the arms")


def both_intervals(of: dict[str, Any], said: Any) -> str:
    if of["mean"] is None:
        return words.UNDEFINED
    ends = [
        f"{opening}{said(of[kind]['low'])}–{said(of[kind]['high'])}{closing}".replace("–", " to ")
        for kind, (opening, closing) in (("over_runs", "[]"), ("over_groups", "()"))
        if words.bounded(of[kind])
    ]
    return f"{said(of['mean'])} <span>{' '.join(ends)}</span>"


def difference_tables(study: dict[str, Any]) -> str:
    if not study["differences"]:
        return ""
    text = (
        "The dot is the mean over runs, the broad line the 95 % interval over the groups of the test images, the thin "
        "one that over runs. Each p-value is the larger of that for other seeds and that for other test groups, "
        "corrected by Holm's method over all that there are; what is called higher or lower is so for both."
    )
    parts = [f"<p>{escape(text)}</p>"]
    for metric in SHOWN:
        found = [d for d in study["differences"] if d["metric"] == metric]
        first = [d for d in found if d["b"] == "random"] if len(found) > MOST_ROWS else found
        rest = [d for d in found if d not in first]
        if first:
            parts.append(difference_table(first, metric))
        if rest:
            inside = difference_table(rest, metric)
            parts.append(f"<details><summary>{len(rest)} more differences</summary>{inside}</details>")
    return "".join(parts)


def difference_table(found: Sequence[dict[str, Any]], metric: str) -> str:
    ends = [
        abs(end)
        for d in found
        for kind in ("over_groups", "over_runs")
        for end in (d[kind]["low"], d[kind]["high"])
        if end is not None
    ]
    # Intervals over two or three runs may be many times as wide as all others, and are cut.
    reach = max(1.2 * float(np.percentile(ends, 90)) if ends else 0, *(1.2 * abs(d["mean"] or 0) for d in found), 1e-3)
    lines = []
    for d in found:
        where = f"{words.protocol_name(d['protocol'])}, {budget(d['labels'])}"
        name = f"{bdi(words.short(d['a']))} less {bdi(words.short(d['b']))} <small>{escape(where)}</small>"
        if d["mean"] is None:
            lines.append(table_row(name, ["", words.UNDEFINED, "", "open"]))
            continue
        groups, over_runs = ((d[kind]["low"], d[kind]["high"]) for kind in ("over_groups", "over_runs"))
        drawn = figures.interval(
            words.clean(f"{words.signed(d['mean'])} ({evidence(d)})"), d["mean"], groups, over_runs, reach
        )
        p = d["p_holm"]
        cells = [drawn, both_intervals(d, words.signed), "" if p is None else p_in_words(p), VERDICTS[d["verdict"]]]
        lines.append(table_row(name, cells))
    head = table_head("Difference", ["drawn", "mean", "Holm", "verdict"])
    caption = f"Differences in {words.METRICS[metric]}"
    table = (
        f'<table class="scores differences"><caption>{caption}</caption>{head}<tbody>{"".join(lines)}</tbody></table>'
    )
    return scrolling(table, caption)


def label_efficiency(study: dict[str, Any]) -> str:
    if not study["curves"]:
        return ""
    names = list(dict.fromkeys(curve["name"] for curve in study["curves"]))
    panels = []
    for metric in SHOWN:
        for protocol in dict.fromkeys(curve["protocol"] for curve in study["curves"]):
            of = [c for c in study["curves"] if (c["metric"], c["protocol"]) == (metric, protocol)]
            if drawn := efficiency_panel(names, of, metric, protocol):
                panels.append(drawn)
    items = "".join(f"<li>{glyph(kind)} {bdi(words.short(name))}</li>" for kind, name in enumerate(names))
    text = "Means by the share of the labels that transfer may use; bands are 95 % over runs, or else over test groups."
    return f'<p>{text}</p><ul class="legend">{items}</ul>{grid(panels)}'


def efficiency_panel(names: Sequence[str], of: Sequence[dict[str, Any]], metric: str, protocol: str) -> str:
    lines, said, ticks = [], [], {}
    for curve in of:
        points = [point for point in curve["points"] if point["mean"] is not None]
        if not points:
            continue
        x, y = (np.array([point[field] for point in points]) for field in ("label_fraction", "mean"))
        kind = "over_runs" if all(words.bounded(point["over_runs"]) for point in points) else "over_groups"
        band = None
        if all(words.bounded(point[kind]) for point in points):
            band = (x, *(np.array([point[kind][end] for point in points]) for end in ("low", "high")))
        lines.append((names.index(curve["name"]), figures.Line(curve["name"], x, y, band)))
        ticks |= {point["label_fraction"]: point["labels"].replace(" %", "%") for point in points}
        said.append(f"{words.short(curve['name'])} {words.number(y[0])} to {words.number(y[-1])}")
    if not lines:
        return ""
    title = f"{words.protocol_name(protocol).capitalize()}, {words.METRICS[metric]}"
    label = words.clean(f"{title} over the share of the labels: {'; '.join(said)}")
    return panel(title, figures.efficiency(f"labels-{metric}-{protocol}".replace("_", "-"), label, lines, ticks))


def run_table(to: Path, runs: Sequence[tuple[Path, dict[str, Any]]]) -> str:
    lines = []
    for folder, results in runs:
        place = os.path.relpath(folder, Path(to).resolve())
        name = bdi(place)
        if (folder / "report.html").exists():
            name = f'<a href="{quote(os.fsencode(place))}/report.html">{name}</a>'
        evaluations = results["evaluations"]
        seeds = ", ".join(map(str, sorted({e["seed"] for e in evaluations})))
        folds = ", ".join(map(str, sorted({e["fold"] for e in evaluations if e["fold"] is not None})))
        pretraining = words.method(results) if results["pretrain"] else "none"
        shares = ", ".join(f"{100 * share:.3g} %" for share in sorted({e["label_fraction"] for e in evaluations}))
        lines.append(table_row(name, [bdi(pretraining), seeds, folds, shares]))
    head = table_head("Run", ["pretraining", "seed", "fold", "labels"])
    caption = "The runs, with a link to the report of each that has one"
    table = f'<table class="runs"><caption>{caption}</caption>{head}<tbody>{"".join(lines)}</tbody></table>'
    return scrolling(table, "List of the runs")


def foundations(study: dict[str, Any]) -> str:
    dataset = study["dataset"]
    facts = {
        "Dataset": dataset["name"],
        "Classes": ", ".join(words.shortened(dataset["classes"])) or "no labels",
        "Data fingerprints": ", ".join(dataset["fingerprints"]),
        "Test images": SPLITS[study["split"]],
        "Resamples of the groups": f"{study['resamples']:,}",
        "Tests that Holm's correction counts": f"{study['tests']:,}",
        "Runs that had not ended": f"{study['unfinished']:,}",
    }
    return f"{definitions(facts.items(), 'facts')}<p>All numbers are in compare.json, and in its tables beside it.</p>"
