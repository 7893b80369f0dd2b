"""An encoder small enough to be written out in NumPy, and what it takes to train it."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxssl.augment import views as augment
from jaxssl.models.norm import BatchNorm

PIXELS = augment.Pixels(0.0, 255.0, (0.5,), (0.25,))


class Encoder(nn.Module):
    """Flattened image, linear, batch norm, ReLU."""

    width: int = 6
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool, views: int = 1) -> dict[str, jax.Array]:
        x = nn.Dense(self.width, name="linear")(image.reshape(len(image), -1))
        x = BatchNorm(train, views, name="bn")(x)
        return {"pooled": nn.relu(x), "map": nn.relu(x)[:, None, None]}


def batch(size: int = 16, side: int = 4, channels: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (size, side, side, channels), np.uint8),
        "label": rng.integers(0, 3, size).astype(np.int32),
    }


def two_views(size: int = 8, seed: int = 1) -> dict:
    rng = np.random.default_rng(seed)
    views = tuple(rng.normal(size=(size, 2, 2, 1)).astype(np.float32) for _ in range(2))
    return {"views": views, "label": rng.integers(0, 3, size).astype(np.int32)}
