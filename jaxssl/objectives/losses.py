"""Losses and metrics as functions of arrays: one number per example, or a scalar."""

import jax
import jax.numpy as jnp
import optax


def normalize(x: jax.Array) -> jax.Array:
    """Scale [..., D] to unit length, in float32. A zero vector stays zero, and its gradient is finite.

    >>> [f"{value:.2f}" for value in normalize(jnp.array([3.0, 4.0]))]
    ['0.60', '0.80']
    """
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(-1, keepdims=True), 1e-12))


def regression(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Squared distance of [B, D] and [B, D] at unit length, 2 - 2 cos, as [B] (BYOL, arXiv:2006.07733, equation 2).

    >>> regression(jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 1.0]])).tolist()
    [2.0]
    """
    return 2 - 2 * (normalize(prediction) * normalize(target)).sum(-1)


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy of logits [B, C] and labels [B] int, as [B] nats; 0 where the label is negative (unknown).

    >>> [f"{nats:.3f}" for nats in cross_entropy(jnp.zeros((2, 4)), jnp.array([1, -1]))]
    ['1.386', '0.000']
    """
    one_hot = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return jnp.where(labels >= 0, optax.softmax_cross_entropy(logits.astype(jnp.float32), one_hot), 0.0)


def binary_cross_entropy(
    logits: jax.Array, labels: jax.Array, smoothing: float = 0.0, weights: jax.Array | None = None
) -> jax.Array:
    """Mean binary cross-entropy [B] nats over the labels [B, C] int that are 1 or 0; negative ones are unknown.

    Args:
      logits: [B, C] float.
      labels: [B, C] int.
      smoothing: share of the target that becomes 1/2.
      weights: [2, C] float, factors of the loss where a label is absent and where it is present; None for 1.

    >>> [f"{nats:.3f}" for nats in binary_cross_entropy(jnp.zeros((2, 2)), jnp.array([[1, -1], [-1, -1]]))]
    ['0.693', '0.000']
    """
    known = labels >= 0
    target = labels * (1 - smoothing) + smoothing / 2
    nats = optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), target)
    if weights is not None:
        nats = nats * jnp.where(labels == 1, weights[1], weights[0])
    return jnp.where(known, nats, 0.0).sum(-1) / jnp.maximum(known.sum(-1), 1)


def kl_divergence(target: jax.Array, logits: jax.Array, temperature: float = 1.0) -> jax.Array:
    """T^2 KL(softmax(target / T) || softmax(logits / T)) of logits [B, C] and [B, C], as [B] nats.

    The factor T^2 keeps the size of the gradient, T (softmax(logits / T) - softmax(target / T)), which would otherwise
    shrink as 1 / T^2 (Hinton et al., 2015, arXiv:1503.02531, section 2).

    >>> logits = jnp.array([[1.0, 2.0, 4.0]])
    >>> kl_divergence(logits, logits, temperature=2.0).tolist()
    [0.0]
    """
    log_p, log_q = (jax.nn.log_softmax(x.astype(jnp.float32) / temperature) for x in (target, logits))
    return temperature**2 * optax.losses.kl_divergence_with_log_targets(log_q, log_p)


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Share of correct predictions among known labels (0 or more): [B, C], [B] int -> scalar; 0 if none is known.

    >>> accuracy(jnp.eye(3), jnp.array([0, 2, -1])).item()
    0.5
    """
    known = labels >= 0
    return ((logits.argmax(-1) == labels) & known).sum() / jnp.maximum(known.sum(), 1)


def embedding_std(embedding: jax.Array) -> jax.Array:
    """Standard deviation of the unit-length embeddings [B, D] times sqrt(D): 0 if collapsed, 1 if isotropic.

    SimSiam (arXiv:2011.10566), figure 2, scaled by sqrt(D). NaN for one embedding, which has no spread to be measured.

    >>> embedding_std(jnp.ones((8, 4))).item()
    0.0
    """
    if len(embedding) < 2:
        return jnp.full((), jnp.nan)
    return normalize(embedding).std(0).mean() * jnp.sqrt(embedding.shape[-1])


def ntxent(first: jax.Array, second: jax.Array, temperature: float) -> jax.Array:
    """NT-Xent: [B, D], [B, D] -> [B] nats (SimCLR, arXiv:2002.05709, equation 1).

    Cross-entropy of finding the partner among the 2B - 1 other embeddings, averaged over both directions of each pair.
    Rows of equal index are partners, all others are negatives.

    >>> [f"{nats:.3f}" for nats in ntxent(jnp.ones((2, 4)), jnp.ones((2, 4)), 0.5)]
    ['1.099', '1.099']
    """
    z = normalize(jnp.concatenate([first, second]))
    logits = jnp.einsum("id,jd->ij", z, z, precision="highest") / temperature
    logits = jnp.where(jnp.eye(len(z), dtype=bool), -jnp.inf, logits)
    partner = jnp.roll(jnp.arange(len(z)), len(first))
    nats = -jnp.take_along_axis(jax.nn.log_softmax(logits), partner[:, None], 1)[:, 0]
    return nats.reshape(2, -1).mean(0)


def dense_ntxent(
    first_features: jax.Array,
    second_features: jax.Array,
    first: jax.Array,
    second: jax.Array,
    temperature: float,
) -> jax.Array:
    """NT-Xent of places in feature maps: features [B, S, D] twice, embeddings [B, S, P] twice -> [B] nats.

    Of each place, the partner is the place of the other view whose features are most similar (DenseCL,
    arXiv:2011.09157, equations 2 to 4); the negatives are the mean embeddings of the other views of the B - 1 other
    images. Averaged over places and both directions.

    >>> same = jnp.ones((4, 3, 2))
    >>> [f"{nats:.3f}" for nats in dense_ntxent(same, same, same, same, 0.5)]
    ['1.386', '1.386', '1.386', '1.386']
    """

    def one_way(features: jax.Array, others: jax.Array, z: jax.Array, w: jax.Array) -> jax.Array:
        matched = jnp.einsum("bsd,btd->bst", features, others, precision="highest").argmax(-1)
        partners = jnp.take_along_axis(w, matched[..., None], axis=1)
        means = normalize(w.mean(1))
        negatives = jnp.einsum("bsp,np->bsn", z, means, precision="highest")
        negatives = jnp.where(jnp.eye(len(z), dtype=bool)[:, None], -jnp.inf, negatives)
        logits = jnp.concatenate([(z * partners).sum(-1, keepdims=True), negatives], axis=-1) / temperature
        return -jax.nn.log_softmax(logits)[..., 0].mean(1)

    f, g, z, w = (normalize(x) for x in (first_features, second_features, first, second))
    return (one_way(f, g, z, w) + one_way(g, f, w, z)) / 2


def contrastive_margin(first: jax.Array, second: jax.Array, margin: float, *, positive: bool) -> jax.Array:
    """Contrastive margin loss, [B, D], [B, D] -> [B]: d^2 at distance d, or max(0, margin - d)^2 for negative pairs.

    Hadsell et al. (2006, doi:10.1109/CVPR.2006.100), equation 4, without its factor 1/2.

    >>> first, second = jnp.array([[0.0, 0.0]]), jnp.array([[0.0, 0.5]])
    >>> [contrastive_margin(first, second, 1.0, positive=p).tolist() for p in (True, False)]
    [[0.25], [0.25]]
    """
    square = jnp.square(first - second).sum(-1)
    if positive:
        return square
    # The gradient of the square root is infinite at 0.
    return jnp.square(jnp.maximum(margin - jnp.sqrt(jnp.maximum(square, 1e-12)), 0))
