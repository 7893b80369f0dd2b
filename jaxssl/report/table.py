"""What ends a run in the terminal: its scores beside those of random weights and of no model at all."""

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jaxssl.report import words


def summary(results: dict[str, Any], workdir: Path, differences: words.Differences | None = None) -> RenderableType:
    """The scores of a run, the answer, and where its files are; fits 80 columns.

    Args:
      results: the content of results.json.
      workdir: where it is.
      differences: from `page.differences`, for an answer by paired differences.
    """
    parts: list[RenderableType] = []
    if results["evaluations"]:
        parts += [scores(results), Text()]
    parts += [Text(words.answer(results, differences)), Text()]
    if results["pretrain"] and results["pretrain"]["collapse"]["verdict"] != "healthy":
        parts += [Text(words.collapse_in_words(results["pretrain"]), style="bold yellow"), Text()]
    names = (name for name in ("report.html", "results.json", "predictions.csv") if (Path(workdir) / name).exists())
    # One path a line, never broken by a space, so that a terminal makes a link of it and it can be copied.
    parts += [Text(str(Path(workdir) / name), overflow="fold", no_wrap=False, style="dim") for name in names]
    return Group(*parts)


def scores(results: dict[str, Any]) -> Table:
    """One row an evaluation, with its protocols together, and one of the majority."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    table.add_column("initialisation")
    table.add_column("protocol")
    table.add_column("macro AUC", justify="right", no_wrap=True)
    table.add_column("accuracy", justify="right", no_wrap=True)
    evaluations = results["evaluations"]
    constant = False
    for protocol, of in words.by_protocol(results["evaluations"]).items():
        for e in of:
            mark = "*" if e["constant_predictor"] else ""
            constant |= e["constant_predictor"]
            cells = [words.interval(words.score(e, metric)) for metric in ("auc_macro", "accuracy")]
            init = words.initialisation(e["init"], results)
            table.add_row(Text(words.clean(init) + mark), Text(protocol), *cells, end_section=e is of[-1])
    table.add_row(Text("always the commonest class"), "", "", words.number(evaluations[0]["majority_accuracy"]))
    if constant:
        table.caption = Text("* predicts one class for every image", style="bold yellow")
    return table
