"""The files of one finished run, read for its page."""

from pathlib import Path
from typing import NamedTuple, cast

from jaxssl.config.stored import read_config
from jaxssl.results import workdir as workdirs
from jaxssl.results.audit_schema import Audit
from jaxssl.results.gallery import Gallery, read_gallery
from jaxssl.results.predictions import Differences, Predictions, compute_differences, read_predictions
from jaxssl.results.schema import MetricsRow, Results, RunConfig, Splits
from jaxssl.results.segmentations import read_segmentations
from jaxssl.training import metrics


class RunData(NamedTuple):
    """What the files of a workdir hold; `gallery` may be empty, `audit` None."""

    results: Results
    config: RunConfig
    splits: Splits
    rows: list[MetricsRow]
    predictions: dict[str, Predictions]
    differences: Differences
    gallery: Gallery
    audit: Audit | None


def read(workdir: Path, differences: Differences | None = None) -> RunData:
    """Read the files of a finished run.

    Args:
      workdir: of the run.
      differences: from `compute_differences`, where known: computing them takes most of the time.

    Raises:
      UserError: a file is missing or damaged.
    """
    results = workdirs.read_results(workdir)
    config, splits = read_config(workdir), workdirs.read_splits(workdir)
    predictions = read_predictions(workdir, results)
    if differences is None:
        differences = compute_differences(results, predictions, read_segmentations(workdir, results))
    audit = workdirs.read_audit(workdir) if (workdir / "audit.json").exists() else None
    rows = cast(list[MetricsRow], metrics.read(workdir))
    return RunData(results, config, splits, rows, predictions, differences, read_gallery(workdir), audit)
