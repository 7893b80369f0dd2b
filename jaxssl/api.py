"""The commands `run` and `compare` in Python, for notebooks.

network = jaxssl.pretrain("data/mine", "runs/mine", config="own:quick")
study = jaxssl.compare("runs/study")
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxssl import files
from jaxssl.config.load import load_config
from jaxssl.inference.network import Network, load
from jaxssl.run import experiment
from jaxssl.study import analysis, output
from jaxssl.study.runs import find_runs
from jaxssl.training import runtime

Paths = str | Path | Sequence[str | Path]


def pretrain(
    images: str | Path, workdir: str | Path, config: str = "own", fields: Mapping[str, Any] | None = None
) -> Network:
    """Pretrain on images, evaluate, and return the trained network, as `jaxssl run` does. The same call resumes.

    Args:
      images: a folder, a table or an archive, see `data.dir`.
      workdir: output directory.
      config: name or path of a config.
      fields: {config field: value}, such as {"pretrain.objective": "byol", "data.labels_per_class": 4}.

    Raises:
      UserError: invalid input, as the command reports it.
      TrainingFailedError: the loss is not finite, or the encoder collapsed and `on_collapse` is "stop".
    """
    assignments = [f"{field}={value}" for field, value in {"data.dir": images, **(fields or {})}.items()]
    settings = load_config(config, assignments)
    runtime.configure(settings.deterministic)
    experiment.run(settings, files.expand_user(workdir))
    return load(workdir)


def compare(folders: Paths, to: str | Path | None = None, against: str | None = None) -> dict[str, Any]:
    """Compare the arms of all finished runs below the folders, and return the content of compare.json.

    Args:
      folders: one or several folders with runs in them, at any depth.
      to: where to write report.html, compare.json and the tables; None: nothing is written.
      against: name of an arm, such as "random", with which all others are compared; None: all pairs.

    Raises:
      UserError: there is no finished run, or the runs do not fit together.
    """
    given = [folders] if isinstance(folders, str | Path) else folders
    runs, unfinished = find_runs([files.expand_user(folder) for folder in given])
    study = analysis.analyze(runs, unfinished, against)
    if to is not None:
        output.write(files.expand_user(to), study, runs)
    return dict(study)
