"""Losses: arrays in, one number an example out."""

import jax
import jax.numpy as jnp


def normalise(x: jax.Array) -> jax.Array:
    """[..., D] scaled to unit length in float32; a zero vector stays zero and its gradient finite."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(-1, keepdims=True), 1e-12))


def regression(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """[B, D], [B, D] -> [B]: 2 - 2 cos, between 0 and 4 (BYOL, arXiv:2006.07733, equation 2)."""
    return 2 - 2 * (normalise(prediction) * normalise(target)).sum(-1)


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """[B, C], [B] int -> [B] nats; 0 where the label is negative, that is unknown."""
    hot = jax.nn.one_hot(labels, logits.shape[-1])
    hot = (1 - smoothing) * hot + smoothing / logits.shape[-1]
    return -jnp.where(labels >= 0, (hot * jax.nn.log_softmax(logits.astype(jnp.float32))).sum(-1), 0.0)


def kullback_leibler(target: jax.Array, logits: jax.Array, temperature: float = 1.0) -> jax.Array:
    """[B, C] logits, [B, C] logits -> [B] nats: T^2 KL(softmax(target / T) || softmax(logits / T)).

    The factor keeps the size of the gradient, T (softmax(logits / T) - softmax(target / T)), which would else shrink as
    1 / T^2 (Hinton et al., 2015, arXiv:1503.02531, section 2).
    """
    log_p, log_q = (jax.nn.log_softmax(x.astype(jnp.float32) / temperature) for x in (target, logits))
    return temperature**2 * (jnp.exp(log_p) * (log_p - log_q)).sum(-1)


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """[B, C], [B] int -> scalar: share that is guessed right of those whose label is known, 0 where none is."""
    known = labels >= 0
    return ((logits.argmax(-1) == labels) & known).sum() / jnp.maximum(known.sum(), 1)


def spread(embedding: jax.Array) -> jax.Array:
    """[B, D] -> scalar: standard deviation of the unit-length embedding times sqrt(D), 0 if collapsed, 1 if isotropic.

    SimSiam (arXiv:2011.10566), figure 2, scaled by sqrt(D).
    """
    return normalise(embedding).std(0).mean() * jnp.sqrt(embedding.shape[-1])


def ntxent(first: jax.Array, second: jax.Array, temperature: float) -> jax.Array:
    """[B, D], [B, D] -> [B] nats: which of the 2B - 1 other embeddings is the partner (SimCLR, equation 1).

    The mean over both directions of each pair; embeddings of equal rows are partners, all others negatives.
    """
    z = normalise(jnp.concatenate([first, second]))
    logits = jnp.einsum("id,jd->ij", z, z, precision="highest") / temperature
    logits = jnp.where(jnp.eye(len(z), dtype=bool), -jnp.inf, logits)
    partner = jnp.roll(jnp.arange(len(z)), len(first))
    nats = -jnp.take_along_axis(jax.nn.log_softmax(logits), partner[:, None], 1)[:, 0]
    return nats.reshape(2, -1).mean(0)


def margin(first: jax.Array, second: jax.Array, margin: float, *, together: bool) -> jax.Array:
    """[B, D], [B, D] -> [B]: d^2 for pairs that belong together, else max(0, margin - d)^2, d being their distance.

    Hadsell et al. (2006, doi:10.1109/CVPR.2006.100), equation 4, without its factor 1/2.
    """
    square = jnp.square(first - second).sum(-1)
    if together:
        return square
    # The slope of a root is infinite at 0.
    return jnp.square(jnp.maximum(margin - jnp.sqrt(jnp.maximum(square, 1e-12)), 0))
