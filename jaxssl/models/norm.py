"""Batch normalisation (Ioffe and Szegedy, 2015, arXiv:1502.03167) of images that are several views of one another."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax


class BatchNorm(nn.Module):
    """[B * V, ..., C] -> the same: as `nn.BatchNorm`, but with the statistics of each of V views apart.

    The views of an image stand one after the other. The running averages take one view after the other, so that all of
    it is as if the views had passed one by one; in one pass they take half the program, and less time and memory.

    Attributes:
      train: whether the batch's own statistics are used, and enter the running averages.
      views: V; 1 is plain batch normalisation.
      momentum: what each view leaves of the running averages.
      epsilon: added to the variance.
      dtype: of the result; parameters and statistics are float32.
    """

    train: bool
    views: int = 1
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        y = x.reshape(-1, self.views, *x.shape[1:])
        if self.train:
            mean, var = statistics(y)
            if not self.is_initializing():
                for i in range(self.views):
                    for running, new in ((running_mean, mean[i]), (running_var, var[i])):
                        running.value = self.momentum * running.value + (1 - self.momentum) * new
        else:
            mean, var = (jnp.broadcast_to(of.value, (self.views, *channels)) for of in (running_mean, running_var))
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        mean, factor = (
            jnp.expand_dims(of, range(1, y.ndim - 2)) for of in (mean, lax.rsqrt(var + self.epsilon) * scale)
        )
        return ((y - mean) * factor + bias).astype(self.dtype).reshape(x.shape)


def statistics(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance [V, C] float32 of [B, V, ..., C], in one pass."""
    x, pixels = x.astype(jnp.float32), tuple(range(2, x.ndim - 1))
    mean, square = (of.mean(pixels).mean(0) for of in (x, x * x))
    # Rounding can take the difference below 0.
    return mean, jnp.maximum(0, square - mean * mean)
