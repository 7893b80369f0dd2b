"""Batch normalization (Ioffe and Szegedy, 2015, arXiv:1502.03167) with statistics per view."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike


class BatchNorm(nn.Module):
    """Normalize [B * V, ..., C] like `nn.BatchNorm`, but with separate statistics for each of V views.

    The views of an image follow one another. The running averages are updated with one view after the other, as if the
    views were passed one by one; a single pass needs half the program and less memory.

    Attributes:
      train: whether the statistics of the batch are used, and update the running averages.
      views: V; 1 is plain batch normalization.
      momentum: share of the running averages that each view keeps.
      epsilon: added to the variance.
      dtype: of the result; parameters and statistics are float32.
    """

    train: bool
    views: int = 1
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        # A single view gets no axis of its own, which would make a step of EfficientNet-Lite0 a third slower on CPUs.
        y = x.reshape(-1, self.views, *x.shape[1:]) if self.views > 1 else x
        if self.train:
            axes = tuple(axis for axis in range(y.ndim - 1) if axis != 1 or self.views == 1)
            mean, var = statistics(y, axes)
            if not self.is_initializing():
                for running, of_views in ((running_mean, mean), (running_var, var)):
                    for new in of_views.reshape(-1, *channels):
                        running.value = self.momentum * running.value + (1 - self.momentum) * new
        else:
            mean, var = running_mean.value, running_var.value
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        y = (y - mean) * (lax.rsqrt(var + self.epsilon) * scale) + bias
        return y.astype(self.dtype).reshape(x.shape)


def statistics(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Return mean and variance over these axes (kept with size 1), in float32 and in one pass."""
    x = x.astype(jnp.float32)
    mean, square = (of.mean(axes, keepdims=True) for of in (x, x * x))
    # Rounding can take the difference below 0.
    return mean, jnp.maximum(0, square - mean * mean)
