"""Figures for a paper: vector files of the asked width, in real colors, with the data that the page shows."""

import csv
import re
from pathlib import Path

import pytest

from jaxssl.cli.parser import main
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
