"""The report of a study, report.html: which arm is better, by how much and with what certainty.

To add a figure, write a function that draws it in `jaxssl.report.figures` and a section that shows it in
`jaxssl.report.sections`, and add the section to `SECTIONS`.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxssl import files
from jaxssl.config.stored import read_config
from jaxssl.errors import UserError
from jaxssl.report.blocks import Section
from jaxssl.report.render import render
from jaxssl.report.sections import study_arms, study_differences, study_folds, study_labels, study_learning, study_runs
from jaxssl.report.study_data import StudyData, StudyRun
from jaxssl.results import study_conclusions
from jaxssl.results.study_schema import Study
from jaxssl.results.study_verdict import judge_study
from jaxssl.results.words import format_count

MAX_SENTENCES = 5  # More can be opened.
# In the order of the page; a section that has nothing to show returns None.
SECTIONS: tuple[Callable[[StudyData], Section | None], ...] = (
    study_arms.section,
    study_differences.section,
    study_labels.section,
    study_folds.section,
    study_learning.section,
    study_runs.section,
    study_runs.basis_section,
)


def make_page(study: Study, folder: Path, runs: Sequence[StudyRun]) -> str:
    """Return the HTML of the report of a study.

    Args:
      study: the content of compare.json.
      folder: where the page will be; links to the pages of the runs are relative to it.
      runs: (workdir, content of results.json) of each run.
    """
    data = StudyData(study, folder, runs)
    verdict = judge_study(study, read_commands(runs))
    return render(
        "answer.html.j2",
        f"Comparison of {format_count(len(runs), 'run')} on {study['dataset']['name']}",
        [section(data) for section in SECTIONS],
        verdict=verdict,
        figures=study_differences.plot(data),
        answer=study_conclusions.answer(study),
        may=study["conclusion"]["may"],
        may_not=study["conclusion"]["may_not"] or ["No limits are known."],
        shown=MAX_SENTENCES,
    )


def read_commands(runs: Sequence[StudyRun]) -> dict[str, str]:
    """Return the commands of the sweep and, by pretraining objective, of the last run whose config.json is there."""
    commands = {}
    with contextlib.suppress(UserError, ValueError):  # No folder is common to drives of Windows.
        place = Path(os.path.commonpath([folder.absolute() for folder, _ in runs]))
        sweep = files.read_json(place / "sweep.json", "run the sweep again")
        commands["sweep"] = str(sweep.get("command", "")) if isinstance(sweep, dict) else ""
    for folder, results in runs:
        try:
            command = read_config(folder).get("command", "")
        except UserError:
            continue
        if results["pretrain"]:
            commands[results["pretrain"]["objective"]] = command
        commands["random"] = command
    return commands
