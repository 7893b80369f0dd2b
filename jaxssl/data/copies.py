"""Exact copies of an image as one group, so that a split by group keeps them together."""

import hashlib
from collections.abc import Hashable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jaxssl.data.source import Source


def hash_image(image: np.ndarray) -> bytes:
    """Return a hash of the values of an image."""
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def group_copies(source: Source, within: np.ndarray | None = None) -> Source:
    """Join the groups of images that are equal, pixel for pixel.

    Args:
      source: the dataset.
      within: [N] the side of a given split: groups of different sides are not joined, since that split is kept. None:
        all copies are joined.

    Returns:
      The dataset with other `groups`: a joined group has the first of the names. `groups_known` is as before.
    """
    names, member = np.unique(source.groups, return_inverse=True)
    first: dict[Hashable, int] = {}
    pairs = []
    for i, image in enumerate(source.images):
        side = None if within is None else within[i].item()
        key = (side, hash_image(image))
        pairs.append((member[first.setdefault(key, i)], member[i]))
    a, b = np.array(pairs, np.int64).reshape(-1, 2).T
    links = coo_array((np.ones(len(a)), (a, b)), shape=(len(names), len(names)))
    count, component = connected_components(links, directed=False)
    if count == len(names):
        return source
    # The first name of each component: `names` is sorted.
    _, representative = np.unique(component, return_index=True)
    return source._replace(groups=names[representative[component[member]]])
