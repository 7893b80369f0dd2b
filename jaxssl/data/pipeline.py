"""Batches of a `Source` on the devices, sent one ahead of the step that uses them.

Images in memory are indexed; images in records are read ahead by threads or processes, in the same order.
"""

from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import Sharding

from jaxssl.data import records
from jaxssl.data.source import Source

MIN_BATCHES_FOR_PROCESSES = 64  # With fewer, threads are done before processes have started.


def order(indices: np.ndarray, seed: int, epoch: int, count: int = 0, kinds: np.ndarray | None = None) -> np.ndarray:
    """Return the images of one epoch in random order, a pure function of (seed, epoch).

    If there are fewer than `count`, further permutations of them follow until there are at least `count`. With the
    class of each image, `kinds`, all classes are equally frequent: images of rare ones repeat, others are left out.
    """
    rng = np.random.default_rng((seed, epoch))
    if kinds is not None:
        count = max(count, len(indices))
        classes = [indices[kinds == kind] for kind in np.unique(kinds)]
        share = -(-count // len(classes))
        drawn = [np.concatenate([rng.permutation(of) for _ in range(-(-share // len(of)))])[:share] for of in classes]
        return rng.permutation(np.concatenate(drawn))[:count]
    return np.concatenate([rng.permutation(indices) for _ in range(max(1, -(-count // len(indices))))])


def gather(source: Source, rows: np.ndarray, masks: bool = False) -> dict[str, np.ndarray]:
    """Return {"image" as stored, "label" int32} of these rows, with `masks` also "mask" uint8."""
    batch = {"image": source.images[rows], "label": source.labels[rows]}
    return batch | ({"mask": masks_of(source)[rows]} if masks else {})


def masks_of(source: Source) -> np.ndarray | records.Images:
    """Return the masks of a source that has some."""
    assert source.masks is not None  # `run.prepare` refuses to segment images without masks.
    return source.masks


def training(
    source: Source,
    indices: np.ndarray,
    *,
    batch_size: int,
    steps: int,
    seed: int,
    epoch: int,
    skip: int,
    sharding: Sharding,
    workers: int = 0,
    masks: bool = False,
    balanced: bool = False,
) -> Iterator[dict[str, jax.Array]]:
    """Yield the batches {"image", "label"} of one epoch. All have the same size, so that nothing recompiles.

    Args:
      source: the dataset.
      indices: its rows to train on; if they do not fill the steps, they repeat.
      batch_size: images per batch, over all devices.
      steps: batches per epoch.
      seed: seed of the order, together with `epoch`.
      epoch: from 0.
      skip: number of batches at the start of the epoch to leave out; they are not read.
      sharding: sharding of the batch axis.
      workers: number of processes that read records; 0: threads of this process.
      masks: whether batches hold "mask", too.
      balanced: whether all classes are equally frequent, see `Source.kinds`; with `masks` `Source.mask_kinds`.
    """
    kinds = (source.mask_kinds if masks else source.kinds)[indices] if balanced else None
    rows = order(indices, seed, epoch, steps * batch_size, kinds)[skip * batch_size : steps * batch_size]
    batches = _batches(rows, batch_size)
    labels = ({"label": source.labels[of]} for of in batches)
    # `zip` stops at the end of `labels` and does not ask for images again.
    read = zip(labels, _read_all(source, batches, workers, sharding, masks), strict=False)
    return send_ahead((batch | label for label, batch in read), sharding)


def evaluation(
    source: Source,
    indices: np.ndarray,
    *,
    batch_size: int,
    sharding: Sharding,
    workers: int = 0,
    masks: bool = False,
) -> Iterator[dict[str, jax.Array]]:
    """Yield the batches {"image"} of all images in order, with `masks` {"image", "mask"}.

    The last one is padded with the first images.
    """
    rows = np.concatenate([indices, np.resize(indices, -len(indices) % batch_size)])
    return send_ahead(_read_all(source, _batches(rows, batch_size), workers, sharding, masks), sharding)


def _read_all(
    source: Source, batches: list[np.ndarray], workers: int, sharding: Sharding, masks: bool
) -> Iterator[dict[str, np.ndarray]]:
    """Yield {"image"} of each batch, with `masks` {"image", "mask"}."""
    images = _read(source.images, batches, workers, sharding)
    if not masks:
        return ({"image": image} for image in images)
    # Masks are small: threads read them.
    pairs = zip(images, _read(masks_of(source), batches, 0, sharding), strict=False)
    return ({"image": image, "mask": mask} for image, mask in pairs)


def _batches(rows: np.ndarray, batch_size: int) -> list[np.ndarray]:
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


def _read(
    images: np.ndarray | records.Images, batches: list[np.ndarray], workers: int, sharding: Sharding
) -> Iterator[np.ndarray]:
    """Yield the images of each batch. A process reads only the records that its own devices hold."""
    if not isinstance(images, records.Images):
        return (images[batch] for batch in batches)
    processes = workers if len(batches) >= MIN_BATCHES_FOR_PROCESSES else 0
    if jax.process_count() == 1:
        return records.stream(images, batches, processes)
    return _read_local(images, batches, processes, sharding)


def _read_local(
    images: records.Images, batches: list[np.ndarray], workers: int, sharding: Sharding
) -> Iterator[np.ndarray]:
    """Yield whole batches in which only the rows of this process are filled."""
    local = [local_rows(len(batch), sharding) for batch in batches]
    read = records.stream(images, [batch[rows] for batch, rows in zip(batches, local, strict=True)], workers)
    for batch, rows, image in zip(batches, local, read, strict=False):
        whole = np.empty((len(batch), *image.shape[1:]), image.dtype)
        whole[rows] = image
        yield whole


def local_rows(count: int, sharding: Sharding) -> np.ndarray:
    """Return the rows of a batch of `count` images that the devices of this process hold."""
    slices = sharding.addressable_devices_indices_map((count,)).values()
    return np.unique(np.concatenate([np.arange(count)[rows] for rows in slices]))


def put(batch: dict[str, np.ndarray], sharding: Sharding) -> dict[str, jax.Array]:
    """Send a batch to the devices without blocking. Each process sends only the rows that its devices hold."""
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    return {k: jax.make_array_from_callback(v.shape, sharding, v.__getitem__) for k, v in batch.items()}


def send_ahead(batches: Iterator[dict[str, np.ndarray]], sharding: Sharding) -> Iterator[dict[str, jax.Array]]:
    """Yield the batches from the devices, sending each before the previous one is yielded."""
    previous = None
    for batch in batches:
        sent = put(batch, sharding)
        if previous is not None:
            yield previous
        previous = sent
    if previous is not None:
        yield previous
