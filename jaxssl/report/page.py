"""The report of one run, report.html: what was found, how certain it is, and what it rests on.

The page is one HTML file that needs no network, and a function of the files in the workdir: written again, it has the
same bytes. To add a figure, write a function that draws it in `jaxssl.report.figures` and a section that shows it in
`jaxssl.report.sections`, and add the section to `SECTIONS`.
"""

from collections.abc import Callable
from pathlib import Path

from jaxssl import files
from jaxssl.report import run_data
from jaxssl.report.blocks import Section
from jaxssl.report.render import render
from jaxssl.report.run_data import RunData
from jaxssl.report.sections import (
    by_label,
    calibration,
    class_curves,
    confusion,
    differences,
    episodes,
    examples,
    feature_map,
    images,
    learning,
    overlays,
    predicted_values,
    provenance,
    scores,
    thresholds,
)
from jaxssl.results import run_conclusions
from jaxssl.results.predictions import Differences
from jaxssl.results.verdict import judge_run

MAX_SENTENCES = 5  # Cautions; more can be opened.
# In the order of the page, what matters first; a section that has nothing to show returns None.
SECTIONS: tuple[Callable[[RunData], Section | None], ...] = (
    scores.section,
    differences.section,
    episodes.section,
    overlays.section,
    overlays.lesion_section,
    predicted_values.section,
    by_label.section,
    learning.section,
    class_curves.roc_section,
    class_curves.precision_section,
    confusion.section,
    thresholds.section,
    calibration.section,
    feature_map.section,
    examples.pretraining_section,
    examples.neighbor_section,
    examples.mistake_section,
    examples.heat_section,
    images.section,
    provenance.section,
)


def write(workdir: Path, found: Differences | None = None) -> Path:
    """Write `workdir`/report.html from the other files there, and return its path.

    Args:
      workdir: of a finished run.
      found: from `results.predictions.compute_differences`, where known: computing them takes most of the time.

    Raises:
      UserError: a file is missing or cannot be read.
    """
    workdir = Path(workdir)
    file = workdir / "report.html"
    files.write_text(file, make_page(run_data.read(workdir, found)))
    return file


def make_page(run: RunData) -> str:
    """Return the HTML of the report."""
    verdict = judge_run(run.results, run.differences, run.config)
    answer, _, rest = run_conclusions.answer(run.results, run.differences).partition(f" {run_conclusions.ONE_RUN}")
    return render(
        "answer.html.j2",
        verdict.question,
        [section(run) for section in SECTIONS],
        verdict=verdict,
        figures=differences.plot(run),
        answer=answer + rest,
        may=[],
        may_not=run_conclusions.cautions(run.results),
        shown=MAX_SENTENCES,
    )
