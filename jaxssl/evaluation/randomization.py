"""Paired randomization test: under the null hypothesis the two arms can be swapped within each test group."""

import numpy as np

EXACT_GROUPS = 13  # Up to so many groups, all swaps are counted: 2^12 with one sign fixed by symmetry.
DRAWS = (1999, 9999)  # Seeded draws for more groups; the second number where p is not well above the level.
MAX_UNITS = 1000  # More groups are swapped in so many blocks: as valid, and quick for any test set.
_CHUNK = 2**22
_CLEAR = 0.2  # A p-value above this is known well enough.
_TOLERANCE = 1e-12  # A smaller difference is rounding.


def swap_p_value(contributions: np.ndarray, *, seed: int = 0) -> float | None:
    """Return the two-sided p-value of the hypothesis that two arms are equally good.

    Each group's contribution to the difference keeps or changes its sign, all 2^G ways alike. That is exact, whatever
    the number of groups and however unequal they are, if arms that are equally good can be exchanged; with more than
    `EXACT_GROUPS` groups a fixed number of draws stands for all ways, and counts the observed one.

    Args:
      contributions: [G] float, the sum of `influence.swap_contributions` over the images of each group; the mean over
        runs where there are several.
      seed: seed of the draws.

    Returns:
      p in (0, 1]; None where the difference is undefined. It is 2^(1-G) at least, so that five groups give no p below
      .05, whatever they show.
    """
    if not len(contributions) or np.isnan(contributions).any():
        return None
    values = contributions[np.abs(contributions) > _TOLERANCE]
    observed = abs(values.sum()) - _TOLERANCE
    if observed <= 0:
        return 1.0
    if len(values) <= EXACT_GROUPS:
        bits = (np.arange(2 ** (len(values) - 1))[:, None] >> np.arange(len(values) - 1)) & 1
        sums = values[0] + (1 - 2 * bits) @ values[1:]
        return float(np.mean(np.abs(sums) >= observed))
    values = np.bincount(np.arange(len(values)) % MAX_UNITS, values)
    rng, reached, drawn = np.random.default_rng(seed), 0, 0
    for draws in DRAWS:
        reached += _count_reached(values, observed, draws - drawn, rng)
        drawn = draws
        if reached > _CLEAR * drawn:
            break
    return (1 + reached) / (1 + drawn)


def _count_reached(values: np.ndarray, observed: float, draws: int, rng: np.random.Generator) -> int:
    """Return how many of so many draws of signs give a sum as far from 0 as the observed one."""
    reached, rows = 0, max(1, _CHUNK // len(values))
    for start in range(0, draws, rows):
        shape = min(rows, draws - start), len(values)
        bits = np.unpackbits(np.frombuffer(rng.bytes(-(-shape[0] * shape[1] // 8)), np.uint8))
        signs = 1.0 - 2.0 * bits[: shape[0] * shape[1]].reshape(shape)
        reached += int((np.abs(signs @ values) >= observed).sum())
    return reached


def least_p_value(groups: int) -> float:
    """Return the smallest p-value that the test can give with this number of groups."""
    return 2.0 ** (1 - groups) if groups <= EXACT_GROUPS else 0.0
