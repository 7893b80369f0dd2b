"""From a `Source` to batches on the devices, one batch ahead of the step.

Images in memory are gathered by index; those in records are read ahead by threads or processes, in the same order.
"""

from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import Mesh

from jaxssl.data import records
from jaxssl.data.source import Source
from jaxssl.training import sharding

_WORTH_PROCESSES = 64  # Batches; fewer are read by threads before processes have started.


def order(indices: np.ndarray, seed: int, epoch: int, count: int = 0) -> np.ndarray:
    """The images of one epoch in their random order, a function of (seed, epoch) and of nothing else.

    Where there are fewer than `count`, they come again in another order, and again, until there are as many.
    """
    rng = np.random.default_rng((seed, epoch))
    return np.concatenate([rng.permutation(indices) for _ in range(max(1, -(-count // len(indices))))])


def gather(source: Source, rows: np.ndarray) -> dict[str, np.ndarray]:
    """{"image" as stored, "label" int32, "index" int32, "mask" bool} of these rows, none of which is padding."""
    return _batch(source, rows, len(rows), source.images[rows])


def _batch(source: Source, rows: np.ndarray, real: int, images: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "image": images,
        "label": source.labels[rows],
        "index": rows.astype(np.int32),
        "mask": np.arange(len(rows)) < real,
    }


def batches(
    source: Source, rows: np.ndarray, *, batch_size: int, real: int, workers: int, mesh: Mesh
) -> Iterator[dict[str, jax.Array]]:
    """These rows in batches on the devices; the first `real` rows are no padding."""
    starts = range(0, len(rows), batch_size)
    parts = [rows[start : start + batch_size] for start in starts]
    images = _read(source, parts, workers, mesh)
    made = zip(starts, parts, images, strict=False)  # Not asked once more, `images` ends as this does.
    return ahead((_batch(source, part, real - start, image) for start, part, image in made), mesh)


def _read(source: Source, parts: list[np.ndarray], workers: int, mesh: Mesh) -> Iterator[np.ndarray]:
    """The images of each part. Of records, a process reads those alone that its devices hold, and leaves the others."""
    if not isinstance(source.images, records.Images):
        return (source.images[part] for part in parts)
    processes = workers if len(parts) >= _WORTH_PROCESSES else 0
    if jax.process_count() == 1:
        return records.stream(source.images, parts, processes)
    return _read_own(source.images, parts, processes, mesh)


def _read_own(images: records.Images, parts: list[np.ndarray], workers: int, mesh: Mesh) -> Iterator[np.ndarray]:
    own = [rows_here(len(part), mesh) for part in parts]
    read = records.stream(images, [part[here] for part, here in zip(parts, own, strict=True)], workers)
    for part, here, image in zip(parts, own, read, strict=False):
        whole = np.empty((len(part), *image.shape[1:]), image.dtype)
        whole[here] = image
        yield whole


def rows_here(count: int, mesh: Mesh) -> np.ndarray:
    """Which rows of a batch of so many the devices of this process hold."""
    slices = sharding.of_batch(mesh).addressable_devices_indices_map((count,)).values()
    return np.unique(np.concatenate([np.arange(count)[here] for here in slices]))


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
    source: Source,
    indices: np.ndarray,
    *,
    batch_size: int,
    steps: int,
    seed: int,
    epoch: int,
    skip: int,
    mesh: Mesh,
    workers: int = 0,
) -> Iterator[dict[str, jax.Array]]:
    """The first `steps` batches of one epoch but for `skip`; a short last one is left out, so nothing recompiles.

    Where the images do not fill so many, they come several times.

    Args:
      source: of the images.
      indices: rows of it to train on.
      batch_size: images a batch.
      steps: batches an epoch.
      seed: with `epoch`, of the order.
      epoch: from 0 on.
      skip: batches that are not even read.
      mesh: of the devices.
      workers: processes that read records; 0: threads of this one.
    """
    rows = order(indices, seed, epoch, steps * batch_size)[skip * batch_size : steps * batch_size]
    return batches(source, rows, batch_size=batch_size, real=len(rows), workers=workers, mesh=mesh)


def evaluation(
    source: Source, indices: np.ndarray, *, batch_size: int, mesh: Mesh, workers: int = 0
) -> Iterator[dict[str, jax.Array]]:
    """Every image once, in order; the last batch is padded with the first ones again, and "mask" says so."""
    rows = np.concatenate([indices, np.resize(indices, -len(indices) % batch_size)])
    return batches(source, rows, batch_size=batch_size, real=len(indices), workers=workers, mesh=mesh)
