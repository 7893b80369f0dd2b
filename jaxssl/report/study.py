"""The report of a study, report.html: which arm is better, by how much and with what certainty.

To add a figure, write a function that draws it in `jaxssl.report.figures` and a section that shows it in
`jaxssl.report.sections`, and add the section to `SECTIONS`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from jaxssl.report.blocks import Section
from jaxssl.report.render import render
from jaxssl.report.sections import study_arms, study_differences, study_labels, study_runs
from jaxssl.report.study_data import StudyData, StudyRun
from jaxssl.results import study_conclusions
from jaxssl.results.study_schema import Study

MAX_SENTENCES = 5  # More can be opened.
# In the order of the page; a section that has nothing to show returns None.
SECTIONS: tuple[Callable[[StudyData], Section | None], ...] = (
    study_arms.section,
    study_differences.section,
    study_labels.section,
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
    name = study["dataset"]["name"]
    subject = f"{len(runs)} runs on {name}" if len(runs) != 1 else name
    data = StudyData(study, folder, runs)
    return render(
        "study.html.j2",
        f"Comparison of {subject}",
        [section(data) for section in SECTIONS],
        subject=subject,
        answer=study_conclusions.answer(study),
        may=study["conclusion"]["may"],
        may_not=study["conclusion"]["may_not"],
        shown=MAX_SENTENCES,
    )
