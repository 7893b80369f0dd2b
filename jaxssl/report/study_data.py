"""What the page of a study is made of."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxssl.results.schema import Results
from jaxssl.results.study_schema import Study

StudyRun = tuple[Path, Results]  # Workdir, and the content of its results.json.


class StudyData(NamedTuple):
    """The content of compare.json, the folder of the page, and the runs."""

    study: Study
    folder: Path
    runs: Sequence[StudyRun]
