"""The typed descriptions: what runs and studies write agrees with them, and the manual can print them."""

import csv
import json

import pytest

from jaxssl.cli.parser import main
from jaxssl.results import description, schema, study_schema, workdir
from tests.refusals import refuses
from tests.study.test_compare import run as make_run


@pytest.mark.parametrize("name", ["results.json", "config.json", "splits.json", "audit.json"])
def test_the_files_of_a_run_agree_with_their_schema(run, name):
    content = json.loads((run.workdir / name).read_text())
    assert description.check(content, description.FILES[name]) == []
    assert content["schema_version"] == schema.VERSIONS[name]


def test_each_evaluation_and_each_line_of_metrics_agrees(run):
    for file in (run.workdir / "evaluations").glob("*.json"):
        if file.name.endswith(".sha256.json"):
            continue
        assert description.check(json.loads(file.read_text()), schema.Evaluation) == []
    for line in (run.workdir / "metrics.jsonl").read_text().splitlines():
        assert description.check(json.loads(line), schema.MetricsRow) == []


def test_predictions_have_the_described_columns(run):
    with open(run.workdir / "predictions.csv", newline="") as stream:
        header = next(csv.reader(stream))
    fields = [field.path for field in next(d for d in description.describe() if d.name == "predictions.csv").fields]
    assert header[:5] == fields[:5] and all(name.startswith("p_") for name in header[5:])


def test_a_comparison_agrees_with_its_schema(tmp_path, capsys):
    for seed in range(5):
        for share in (0.1, 1.0):
            make_run(tmp_path / f"{seed}-{share}", seed, share=share)
    assert main(["compare", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "compare.json").read_text())
    assert description.check(content, study_schema.Study) == []
    capsys.readouterr()


def test_check_names_what_differs():
    content = {"value": 1.0, "low": "0.5", "more": 1}
    assert description.check(content, schema.Estimate) == [
        ".high: missing",
        ".more: unknown",
        ".low: '0.5' is no float",
    ]


def test_every_field_is_described_for_the_manual():
    text = description.to_markdown()
    for file in description.describe():
        assert f"## {file.name}" in text and file.about and file.fields
        assert [field.path for field in file.fields if not field.meaning] == []


def test_a_file_of_another_version_is_refused(tmp_path):
    for content, part in (({}, "no schema_version"), ({"schema_version": 99}, "install a newer jaxssl")):
        (tmp_path / "results.json").write_text(json.dumps(content))
        with refuses("mismatch", "schema_version", part):
            workdir.read_results(tmp_path)
    (tmp_path / "results.json").write_text("[1]")
    with refuses("damaged", str(tmp_path / "results.json"), "no JSON object"):
        workdir.read_results(tmp_path)
    workdir.write(tmp_path / "results.json", {"dataset": 1})
    assert workdir.read_results(tmp_path) == {"schema_version": 1, "dataset": 1}
