"""Figures for a paper: vector files of the asked width, in real colors, with the data that the page shows."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from jaxssl.cli.parser import main
from jaxssl.report import export, figures, forest
from tests.report.test_report import make
from tests.study.test_compare import run as make_run


def read_table(file):
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


def test_each_figure_of_a_run_has_svg_pdf_and_data(tmp_path, capsys):
    results = make(tmp_path / "run", protocols=("probe", "finetune"))
    assert main(["figures", str(tmp_path / "run")]) == 0
    written = capsys.readouterr().out.split()
    stems = {name.rpartition(".")[0] for name in written}
    assert len(written) == 3 * len(stems) and any(stem.endswith("differences") for stem in stems)
    for stem in stems:
        drawing = Path(f"{stem}.svg").read_text()
        (width,) = re.findall(r'<svg [^>]*width="([\d.]+)pt"', drawing.replace("\n", " "))
        assert float(width) == pytest.approx(88 / 25.4 * 72, abs=0.1)
        assert not re.findall("#0000[01][0-9]", drawing) and "#0b5cad" in drawing
        assert set(re.findall(r"font-size: ([\d.]+)px", drawing)) == {"8"}
        assert Path(f"{stem}.pdf").read_bytes().startswith(b"%PDF")
    rows = read_table(tmp_path / "run" / "figures" / "roc-probe-1.csv")
    assert {row["series"] for row in rows} == {"pretrained by BYOL", "random weights"} and any(
        row["low"] for row in rows
    )
    auc = read_table(tmp_path / "run" / "figures" / "differences.csv")
    values = [e["metrics"]["auc_macro"]["value"] for e in results["evaluations"]]
    assert float(auc[0]["difference"]) == pytest.approx(values[0] - values[2])


@pytest.mark.parametrize("width", [88.0, 180.0])
@pytest.mark.parametrize("name", ["short", "weights of another hospital + ntxent"])
def test_no_legend_covers_a_figure(tmp_path, name, width):
    series = ("random", "ssl", "imagenet", "imagenet+ssl")
    lines = [figures.Line(init, np.arange(5.0), np.arange(5.0) + i) for i, init in enumerate(series)]
    with figures.collect_drawings() as drawings:
        figures.draw_curves("loss", "Loss over epochs", lines)
    export.export(drawings, [], tmp_path, dict.fromkeys(series, name), width)
    (figure,) = (drawing.figure for drawing in drawings)
    (legend,), (axes,) = figure.legends, figure.axes
    box, plot = legend.get_window_extent(), axes.get_tightbbox()
    assert box.y1 <= plot.y0 + 1 and plot.y1 <= figure.bbox.y1
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and figure.bbox.y0 <= box.y0


def test_rows_of_a_forest_plot_stand_below_their_headings(tmp_path):
    shares = ("100 %", "10 %")
    rows = [forest.Difference("NT-Xent", "", 0.1, (0.0, 0.2), "", group=share) for share in shares]
    export.export([], [forest.make_forest("Difference", "", rows, "", "")], tmp_path, {})
    assert [row["condition"] for row in read_table(tmp_path / "differences.csv")] == list(shares)
    drawn = re.findall(r">\s*([^<>]+?)\s*</text>", (tmp_path / "differences.svg").read_text())
    assert [text for text in drawn if text in (*shares, "NT-Xent")] == ["100 %", "NT-Xent", "10 %", "NT-Xent"]


def test_the_figures_of_a_study(tmp_path, capsys):
    for seed in range(2):
        for share in (0.1, 1.0):
            make_run(tmp_path / f"{seed}-{share}", seed, share=share, config={})
    assert main(["figures", str(tmp_path), f"--to={tmp_path / 'to'}", "--width=180"]) == 0
    rows = read_table(tmp_path / "to" / "labels-auc-macro-probe.csv")
    assert {row["series"] for row in rows} == {"BYOL", "random weights"}
    assert len(read_table(tmp_path / "to" / "differences.csv")) == 2
    assert main(["figures", str(tmp_path), "--width=1"]) == 2
    assert "--width=1 mm is out of range" in capsys.readouterr().err
