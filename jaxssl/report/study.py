"""What a comparison of runs says: the verdict on each difference, and what may not be concluded."""

from typing import Any

from jaxssl.evaluate.compare import LEAST_SEEDS, LEVEL
from jaxssl.report import words

TOO_FEW = f"fewer than {LEAST_SEEDS} seeds"


def verdict(d: dict[str, Any]) -> tuple[str, str]:
    """The verdict on one difference and the sentence that says it.

    "higher" and "lower" need both kinds of chance: p over seeds below 5 % after Holm's correction, and an interval over
    the test groups on the same side of 0.
    """
    groups, mean, p = d["over_groups"], d["mean"], d["over_runs"]["p_holm"]
    where = f"in {words.METRICS[d['metric']]} by {words.protocol_name(d['protocol'])} with {budget(d['labels'])}"
    if mean is None:
        return "open", f"{d['a']} and {d['b']} cannot be compared {where}: it is undefined."
    sided = words.bounded(groups) and (groups["low"] > 0 or groups["high"] < 0)
    found = f"{words.signed(mean)} ({evidence(d)})"
    if sided and p is not None and p < LEVEL and (groups["low"] > 0) == (mean > 0):
        kind, said = ("higher", "better") if mean > 0 else ("lower", "worse")
        return kind, f"{d['a']} is {said} than {d['b']} {where}: {found}."
    if sided:
        above = "above" if groups["low"] > 0 else "below"
        limit = "for other seeds that is open" if p is not None else f"of other seeds that says nothing: {untested(d)}"
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
    if d["seeds"] < LEAST_SEEDS:
        return f"a p-value needs {LEAST_SEEDS} seeds and there {'is' if d['seeds'] == 1 else 'are'} {d['seeds']}"
    return "all of them gave the same difference"


def evidence(d: dict[str, Any]) -> str:
    runs, groups = d["over_runs"], d["over_groups"]
    said = [f"95 % over {counted(d['runs'], 'run')} {span(runs)}" if words.bounded(runs) else counted(d["runs"], "run")]
    if words.bounded(groups):
        said.append(f"over test groups {span(groups)}")
    if runs["p_holm"] is not None:
        said.append(f"{p_in_words(runs['p_holm'])} after Holm's correction")
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


def cautions(study: dict[str, Any], groups: int, repeated: int, fields: list[str]) -> list[str]:
    """What may not be concluded from the whole study, a sentence each."""
    found, said = study["differences"], []
    if not found:
        said.append("No two arms share a protocol, a share of the labels, a seed and a fold: nothing was compared.")
    if found and min(d["seeds"] for d in found) < LEAST_SEEDS:
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
            "leakage, and intervals over the test groups may be too narrow."
        )
    if groups < words.FEW_GROUPS:
        said.append(f"The test images are of {counted(groups, 'group')}: intervals from so few are rough.")
    if any(d["mcnemar"] and d["mcnemar"]["without"] not in (None, TOO_FEW) for d in found):
        said.append(
            "Groups hold several test images, which are not independent: McNemar's test is left out, and the interval "
            "over test groups stands in its place."
        )
    if len({(tuple(arm["seeds"]), tuple(arm["folds"])) for arm in study["arms"]}) > 1:
        said.append(
            "Not all arms have the same seeds and folds: means of arms are of other runs, differences of those alone "
            "that both have."
        )
    if study["unfinished"]:
        said.append(f"{counted(study['unfinished'], 'run')} had not ended and is missing here.")
    if repeated:
        said.append(
            f"{counted(repeated, 'evaluation')} of an arm, seed and fold that another run has too found something "
            "else: the first counts, the other is left out."
        )
    if fields:
        said.append(f"Arms differ in {words.listed(fields)} too: a difference between them may come from that.")
    return said
