"""The precision of a run whose config has model.dtype='auto'."""

import logging
from pathlib import Path

import jax
from ml_collections import ConfigDict

from jaxssl.models import precision
from jaxssl.run.workdir import read_intact

log = logging.getLogger(__name__)


def choose_precision(config: ConfigDict, workdir: Path) -> tuple[ConfigDict, dict[str, str]]:
    """Replace model.dtype='auto' by the fastest precision on this machine, or by that of the run in the workdir.

    Returns:
      The config, and {"model.dtype": "auto"} if that was requested.
    """
    if config.model.dtype != "auto":
        return config, {}
    chosen, stored = config.copy_and_resolve_references(), read_intact(workdir / "config.json")
    m = chosen.model
    m.dtype = (
        stored["config"]["model"]["dtype"] if stored else precision.choose(m.name, m.options, jax.default_backend())
    )
    log.info("model.dtype=%s was chosen", m.dtype)
    return chosen, {"model.dtype": "auto"}
