"""The table that a run prints at its end: its scores next to those of random weights and of the majority class."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jaxssl.config.stored import read_config
from jaxssl.results import run_conclusions, words
from jaxssl.results.predictions import Differences
from jaxssl.results.schema import Evaluation, Results
from jaxssl.results.verdict import Verdict, judge_run


def summarize(results: Results, workdir: Path, differences: Differences | None = None) -> RenderableType:
    """Return the scores of a run, the answer, and the paths of its files, in at most 80 columns.

    Args:
      results: the content of results.json.
      workdir: of the run.
      differences: from `results.predictions.compute_differences`, for an answer by paired differences.
    """
    parts: list[RenderableType] = []
    if results["evaluations"]:
        parts += [*make_score_tables(results), Text()]
    parts += [Text(line) for line in describe_episodes(results)]
    parts += [Text(run_conclusions.answer(results, differences)), Text()]
    if results["pretrain"] and results["pretrain"]["collapse"]["verdict"] != "healthy":
        parts += [Text(words.describe_collapse(results["pretrain"]), style="bold yellow"), Text()]
    written = ("report.html", "results.json", "predictions.csv", "segmentations.csv")
    names = (name for name in written if (Path(workdir) / name).exists())
    # One path per line, not broken at spaces, so that terminals link it and it can be copied.
    parts += [Text(str(Path(workdir) / name), overflow="fold", no_wrap=False, style="dim") for name in names]
    config = read_config(workdir) if (Path(workdir) / "config.json").exists() else None
    return Group(*parts, Text(), *show_verdict(judge_run(results, differences or {}, config)))


def describe_episodes(results: Results) -> list[str]:
    """Return a line for each number of labels of few-shot episodes, and an empty one after them."""
    found = results.get("episodes", [])
    lines = []
    for shots in dict.fromkeys(e["shots"] for e in found):
        of = (e for e in found if e["shots"] == shots)
        scores = (f"{words.init_name(e['init'], results)} {words.format_estimate(e['accuracy'])}" for e in of)
        lines.append(f"{shots} labels a class, mean accuracy of {found[0]['draws']:,} draws: {', '.join(scores)}")
    return [*lines, ""] if lines else []


def show_verdict(verdict: Verdict) -> list[Text]:
    """Return the verdict and the next step of a run or a study, as the report has them."""
    step = verdict.next_step
    lines = [Text(verdict.words, style="bold"), Text(f"Next: {step.text}")]
    # Commands are folded and not broken at spaces, so that they can be copied.
    return lines + [Text(line, overflow="fold", style="dim") for line in step.command.splitlines()]


def make_score_tables(results: Results) -> list[Table]:
    """Return a table for each primary metric: classes and masks have scores of their own."""
    return [_make_score_table(results, of) for of in words.group_by_metric(results["evaluations"]).values()]


def _make_score_table(results: Results, evaluations: Sequence[Evaluation]) -> Table:
    """Return a table with one row per evaluation, grouped by protocol, and one of the majority class."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    table.add_column("initialization")
    shown = words.headline_metrics(evaluations)
    for metric in shown:
        table.add_column(words.METRIC_NAMES[metric], justify="right", no_wrap=True)
    digits = {m: words.count_common_digits(words.get_score(e, m) for e in evaluations) for m in shown}
    for protocol, of in words.group_by_protocol(evaluations).items():
        table.add_row(Text(words.protocol_name(protocol).capitalize(), style="bold"))
        for e in of:
            mark = "*" if e["constant_predictor"] else ""
            cells = [words.format_estimate(words.get_score(e, metric), digits[metric]) for metric in shown]
            name = words.clean_text(words.init_name(e["init"], results))
            table.add_row(Text(name + mark), *cells, end_section=e is of[-1])
    first = evaluations[0]
    if first.get("majority_accuracy") is not None and "accuracy" in shown:
        table.add_row(Text("majority class"), "", words.format_number(first["majority_accuracy"]))
    if background := first.get("all_background"):
        cells = [words.format_number(background[m], digits[m]) if m in background else "" for m in shown]
        table.add_row(Text("no pixel of any class"), *cells)
    if "constant_mae" in first:
        table.add_row(Text("always the median"), words.format_number(first["constant_mae"], digits["mae"]), "")
    if any(e["constant_predictor"] for e in evaluations):
        one = words.predicted_noun(results)
        table.caption = Text(f"* predicts one {one} for every image", style="bold yellow")
    return table
