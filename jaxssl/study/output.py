"""Writes the files of a comparison: report.html, compare.json, compare_arms.csv and compare_differences.csv."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxssl import files
from jaxssl.report import datasets as datasets_page
from jaxssl.report import study as study_page
from jaxssl.report.study_data import StudyData
from jaxssl.results import workdir as workdirs
from jaxssl.results.study_schema import Study
from jaxssl.study import tables
from jaxssl.study.runs import Run


def write_datasets(to: Path, studies: Mapping[str, tuple[Study, Sequence[Run]]]) -> list[Path]:
    """Write the files of each study to a folder of its name, and a page of all; return all paths.

    Args:
      to: output folder.
      studies: two or more by dataset, each as in `write`.

    Raises:
      UserError: a file cannot be written.
    """
    places = {name: to / re.sub(r"[^\w.-]+", "-", name) for name in studies}
    written = [path for name, (study, runs) in studies.items() for path in write(places[name], study, runs)]
    data = {
        name: StudyData(study, places[name], [(run.folder, run.results) for run in runs])
        for name, (study, runs) in studies.items()
    }
    with files.output_errors(to):
        files.write_text(to / "report.html", datasets_page.make_page(data, to))
    return [*written, to / "report.html"]


def write(to: Path, study: Study, runs: Sequence[Run]) -> list[Path]:
    """Write all files of a comparison and return their paths.

    Args:
      to: output folder. In the workdir of a run, report.html is that of the run and stays.
      study: from `analysis.analyze`.
      runs: the runs it compares.

    Raises:
      UserError: a file cannot be written.
    """
    texts = {
        "compare_arms.csv": tables.arms_csv(study),
        "compare_differences.csv": tables.differences_csv(study),
    }
    if not (to / "results.json").exists():
        texts["report.html"] = study_page.make_page(study, to, [(run.folder, run.results) for run in runs])
    with files.output_errors(to):
        workdirs.write(to / "compare.json", study)
        for name, text in texts.items():
            files.write_text(to / name, text)
    return [to / name for name in ("compare.json", *texts)]
