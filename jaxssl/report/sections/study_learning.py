"""Whether the arms of a study overfit: log loss on training and validation images."""

import numpy as np

from jaxssl.report import figures
from jaxssl.report.blocks import Body, Cell, Grid, Key, Legend, Panel, Row, Section, Table, Text, cells
from jaxssl.report.study_data import StudyData
from jaxssl.results.study_schema import Arm
from jaxssl.results.words import arm_title, clean_text, format_ends, format_labels, format_number, protocol_name

TEXT = (
    "Log loss on training images, not augmented, and on validation images, means over runs. Validation far above "
    "training is overfitting; pretraining prevents some of it if the gap is smaller than that of random weights."
)
CAPTION = "At the chosen epoch; 95 % intervals of the gap over runs."
HEAD = ("Arm", "training", "validation", "gap")


def section(data: StudyData) -> Section | None:
    """Return the gaps of all arms and, for fine-tuning, a panel of all learning curves."""
    arms = [arm for arm in data.study["arms"] if arm["overfitting"]]
    if not arms:
        return None
    bodies: dict[str, list[Row]] = {}
    for arm in arms:
        bodies.setdefault(_title(arm), []).append(_row(arm))
    table = Table("Overfitting of the arms", CAPTION, HEAD, [Body(*item) for item in bodies.items()], "scores")
    blocks = [Text(TEXT), table]
    names = list(dict.fromkeys(arm["name"] for arm in arms if arm["learning"]))
    panels = []
    for title in bodies:
        shown = [arm for arm in arms if arm["learning"] and _title(arm) == title]
        if shown:
            panels.append(_panel(title, names, shown))
    if panels:
        keys = [Key(arm_title(name), kind=kind) for kind, name in enumerate(names)]
        blocks += [Text("Solid: validation. Dashed: training."), Legend(keys), Grid(panels)]
    return Section("learning", "Overfitting", blocks)


def _title(arm: Arm) -> str:
    return f"{protocol_name(arm['protocol']).capitalize()}, {format_labels(arm['labels'])}"


def _row(arm: Arm) -> Row:
    of = arm["overfitting"]
    assert of
    gap = Cell(format_number(of["gap"]["value"]), format_ends(of["gap"]))
    return Row(
        Cell(arm_title(arm["name"])),
        [*cells(format_number(of["train_loss"]), format_number(of["validation_loss"])), gap],
    )


def _panel(title: str, names: list[str], arms: list[Arm]) -> Panel:
    lines, texts = [], []
    for arm in arms:
        learning = arm["learning"]
        assert learning
        x = np.array(learning["epochs"], float)
        kind = names.index(arm["name"])
        for side, stroke in (("validation_loss", "solid"), ("train_loss", (0, (4, 2)))):
            y = np.array(learning[side])
            lines.append((kind, stroke, figures.Line(arm["name"], x, y)))
        texts.append(f"{arm_title(arm['name'])} validation {format_number(learning['validation_loss'][-1])} at last")
    label = clean_text(f"Log loss by epoch, {title}: {'; '.join(texts)}")
    name = f"losses-{arms[0]['protocol']}-{round(1e6 * arms[0]['label_fraction'])}"
    return Panel(title, figures.draw_losses(name, label, lines))
