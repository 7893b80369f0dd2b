"""Position embeddings of vision transformers: a computed table, and resampling to other grids of patches."""

import jax
import jax.numpy as jnp
import numpy as np


def sincos_positions(rows: int, columns: int, width: int) -> np.ndarray:
    """Return [rows * columns, width] float32: sines and cosines of column and row, at width / 4 frequencies each.

    The table of MAE's `get_2d_sincos_pos_embed`. It is computed and not learnt, so one encoder takes any image size.
    """
    frequency = 10000.0 ** (-np.arange(width // 4) / (width // 4))
    row, column = np.indices((rows, columns)).reshape(2, -1, 1) * frequency
    return np.concatenate([np.sin(column), np.cos(column), np.sin(row), np.cos(row)], -1).astype(np.float32)


def resample_positions(positions: jax.Array | np.ndarray, rows: int, columns: int) -> jax.Array:
    """Resample positions [1, R, C, D] to [1, rows, columns, D]: bicubic with antialiasing, as timm does."""
    if positions.shape[1:3] == (rows, columns):
        return jnp.asarray(positions)
    return jax.image.resize(positions, (1, rows, columns, positions.shape[3]), "cubic", antialias=True)
