"""The cells of a sweep: which there are, the command of each, and copies of pretrained encoders between them."""

import json
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxssl import data, files
from jaxssl.config import checks
from jaxssl.config.fields import changes_pretraining
from jaxssl.config.load import call, defines, find_config, load_config
from jaxssl.errors import UserError, escape_controls
from jaxssl.results.workdir import read_results
from jaxssl.run.reuse import ENCODER, copy_encoder
from jaxssl.run.workdir import check_config
from jaxssl.study.sweep.expand import NO_REPEAT, Repeat, expand
from jaxssl.training.metrics import parse_row


class Cell(NamedTuple):
    """One run of a sweep.

    Attributes:
      name: its name, and that of its folder.
      folder: its workdir.
      fields: {config field: value} set on the command line.
    """

    name: str
    folder: Path
    fields: dict[str, Any]

    @property
    def pretraining(self) -> str:
        """A key that is equal for cells that may share their pretraining."""
        return json.dumps({k: repr(v) for k, v in sorted(self.fields.items()) if changes_pretraining(k)})

    @property
    def done(self) -> bool:
        return (self.folder / "results.json").exists()


def list_cells(config: str, workdir: Path, fields: dict[str, str], repeat: Repeat = NO_REPEAT) -> list[Cell]:
    """Return the cells that `sweep()` of a config file describes, in its order.

    A config without `sweep()` has one cell, if that is repeated.

    Args:
      config: name or path of a config and, after a colon, the argument for `sweep`.
      workdir: of the whole sweep.
      fields: {config field: value} set in every cell.
      repeat: seeds, folds and values over which each cell is repeated.

    Raises:
      UserError: the file is missing or fails; it defines no sweep; two cells have one name, or a name is not one of a
        folder.
    """
    path, _ = find_config(config)
    try:
        alone = repeat != NO_REPEAT and not defines(config, "sweep")
        listed = [(path.stem, {})] if alone else call(config, "sweep")
        cells = [Cell(name, workdir / name, {**values, **fields}) for name, values in expand(listed, repeat)]
    except (TypeError, ValueError, AttributeError) as error:
        message = f"{path}: sweep() must return a list of (name, {{field: value}}): {error}"
        raise UserError(message, code="unsupported", field=str(path)) from error
    for name, count in Counter(cell.name for cell in cells).items():
        if name in ("", ".", "..") or Path(name).name != name or escape_controls(name) != name:
            message = f"{path}: cell {name!r} cannot be a folder: use a name without a slash"
            raise UserError(message, code="unsupported", field=str(path))
        if count > 1:
            raise UserError(f"{path}: two cells are called {name!r}: rename one", code="conflict", field=str(path))
    if not cells:
        raise UserError(f"{path}: sweep() has no cells", code="too-few", field=str(path))
    return cells


def command(config: str, cell: Cell) -> list[str]:
    """Return the command line that runs a cell."""
    return [sys.executable, "-m", "jaxssl.main", f"--config={config}", f"--workdir={cell.folder}", *assignments(cell)]


def assignments(cell: Cell) -> list[str]:
    """Return the fields of a cell as on the command line."""
    return [f"--config.{field}={value}" for field, value in cell.fields.items()]


def list_commands(config: str, workdir: Path, fields: dict[str, str], repeat: Repeat = NO_REPEAT) -> list[str]:
    """Return the commands of the cells that are not done; arguments as of `list_cells`."""
    return [shlex.join(command(config, cell)) for cell in list_cells(config, workdir, fields, repeat) if not cell.done]


def check_settings(config: str, cells: Sequence[Cell]) -> None:
    """Raise UserError if the settings of a cell cannot work, or are others than those that it was started with.

    With others it would count as done, and lend its encoder.
    """
    for cell in cells:
        settings = load_config(config, assignments(cell))
        checks.check(settings)
        place = settings.data.dir
        if settings.data.name in data.OWN and not (place and files.expand_user(place).exists()):
            message = f"data.dir={place} does not exist: set it to a folder, a table or an .npz archive"
            raise UserError(message, code="missing", field="data.dir")
        if (cell.folder / "config.json").exists():
            check_config(settings, cell.folder)


def share_pretraining(cell: Cell, donor: Cell) -> bool:
    """Copy the pretrained encoder of a finished cell into one that has not started. Return whether it was copied."""
    if (cell.folder / "config.json").exists() or not (donor.folder / ENCODER).is_dir():
        return False
    try:
        pretraining = read_results(donor.folder)["pretrain"]
        lines = (donor.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except (UserError, OSError, ValueError):
        return False  # A damaged donor: the cell pretrains by itself.
    rows = [parse_row(line) for line in lines]
    if not pretraining or pretraining["supervised"] or None in rows:
        return False
    copy_encoder(donor.folder, cell.folder)
    return True
