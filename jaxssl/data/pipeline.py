"""From a `Source` in memory to batches on the devices: an index gather, one batch ahead of the step."""

from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import Mesh

from jaxssl import sharding
from jaxssl.data.source import Source


def order(indices: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The images of one epoch in their random order, a function of (seed, epoch) and of nothing else."""
    return np.random.default_rng((seed, epoch)).permutation(indices)


def gather(source: Source, rows: np.ndarray, real: int | None = None) -> dict[str, np.ndarray]:
    """{"image" as stored, "label" int32, "index" int32, "mask" bool} of these rows, of which `real` are no padding."""
    return {
        "image": source.images[rows],
        "label": source.labels[rows],
        "index": rows.astype(np.int32),
        "mask": np.arange(len(rows)) < (len(rows) if real is None else real),
    }


def ahead(batches: Iterator[dict], mesh: Mesh) -> Iterator[dict[str, jax.Array]]:
    """The same on the devices, the next one sent before the last is asked back."""
    waiting = None
    for batch in batches:
        sent = sharding.put(batch, mesh)
        if waiting is not None:
            yield waiting
        waiting = sent
    if waiting is not None:
        yield waiting


def training(
    source: Source, indices: np.ndarray, *, batch_size: int, steps: int, seed: int, epoch: int, skip: int, mesh: Mesh
) -> Iterator[dict[str, jax.Array]]:
    """The first `steps` batches of one epoch but for `skip`; a short last one is left out, so nothing recompiles."""
    rows = order(indices, seed, epoch)
    starts = range(skip * batch_size, steps * batch_size, batch_size)
    return ahead((gather(source, rows[i : i + batch_size]) for i in starts), mesh)


def evaluation(source: Source, indices: np.ndarray, *, batch_size: int, mesh: Mesh) -> Iterator[dict[str, jax.Array]]:
    """Every image once, in order; the last batch is padded with the first ones again, and "mask" says so."""
    padding = -len(indices) % batch_size
    rows = np.concatenate([indices, np.resize(indices, padding)])
    starts = range(0, len(rows), batch_size)
    return ahead((gather(source, rows[i : i + batch_size], len(indices) - i) for i in starts), mesh)
