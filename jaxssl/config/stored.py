"""The config of a run as it is read back, also where it was written before a field of today existed."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxssl import files
from jaxssl.config import fields
from jaxssl.errors import UserError
from jaxssl.results import workdir as results
from jaxssl.results.schema import RunConfig


def read_config(workdir: Path, remedy: str = results.REMEDY) -> RunConfig:
    """Return the content of config.json, with all fields of today, see `complete`. UserError if it is damaged."""
    file = Path(workdir) / "config.json"
    content = results.read(file, remedy)
    try:
        return content | {"config": complete(content["config"])}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file} is damaged ({error!r}): {remedy}", code="damaged", field=str(file)) from error


def complete(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with the fields and options that it lacks, at `Field.before` or else at their default."""
    found = copy.deepcopy(dict(stored))
    for field in fields.FIELDS:
        section = found
        *sections, name = field.path.split(".")
        for part in sections:
            section = section.setdefault(part, {})
        section.setdefault(name, field.default if field.before is None else field.before)
    c = ConfigDict(found)
    fields.fill_options(c)
    return config_to_json(c)


def config_to_json(config: ConfigDict) -> dict[str, Any]:
    """Return the config as it reads back from JSON: tuples as lists."""
    return json.loads(json.dumps(files.nan_to_null(config.to_dict())))
