"""Is the encoder alive? Spread and rank of its features, and one word for what they say."""

import numpy as np

from jaxssl.evaluation import scores

# Pooled features after a ReLU share a large mean, so that healthy encoders have a spread of .1 to .3 only, and random
# ones less still; a collapsed one goes to 0. Below one hundredth the images differ by less than augmentation noise.
COLLAPSED_FEATURE_STD = 0.01
# One direction gives 1 and two equal ones 2: nothing but a line is left.
COLLAPSED_EFFECTIVE_RANK = 1.5
# The loss's own embedding has no ReLU and no common mean when healthy: 1 is isotropic (SimSiam's 1 / sqrt(D)).
COLLAPSED_EMBEDDING_STD = 0.05
WEAK_EMBEDDING_STD = 0.2
# Pretraining raises the rank of a random encoder several times over; to halve it is to lose what it had at birth.
WEAK_RANK_RATIO = 0.5


def diagnose(features: np.ndarray) -> dict[str, float]:
    """Spread and effective rank of [N, D] features, of a few hundred images: both are bounded by the N given.

    Returns:
      feature_std: the standard deviation over images of the l2-normalised features, mean over dimensions, times sqrt(D)
        (SimSiam, arXiv:2011.10566, section 4.1, fig. 2): 1 for isotropic features, 0 where all are the same.
      effective_rank: exp of the entropy of the singular values, divided by their sum, of the features less their mean
        (Roy & Vetterli 2007; RankMe, arXiv:2210.02885, eq. 1): between 1 and min(N - 1, D); 1 where all are the same.

    Raises:
      ValueError: if there are fewer than two images.
      TrainingFailedError: if a feature is not finite.
    """
    features = scores.finite("features", features)
    if len(features) < 2:
        raise ValueError(f"the spread of features needs at least two images, not {len(features)}")
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(norm > 0, norm, 1)
    feature_std = unit.std(axis=0).mean() * np.sqrt(features.shape[1])

    singular = np.linalg.svd(features - features.mean(axis=0), compute_uv=False)
    # What rounding to float32 alone may leave of features that are all the same is noise, and of full rank.
    singular = singular[singular > np.finfo(np.float32).eps * np.linalg.norm(features)]
    share = singular / singular.sum()
    return {"feature_std": float(feature_std), "effective_rank": float(np.exp(-(share * np.log(share)).sum()))}


def verdict(diagnosis: dict[str, float], first: dict[str, float], embedding_std: float | None = None) -> str:
    """One of "healthy", "weak" and "collapsed".

    Args:
      diagnosis: of the encoder, from `diagnose`.
      first: of the same encoder before training, on the same images.
      embedding_std: `feature_std` of the embedding that the loss compares, where the objective has one. A projector can
        collapse while the encoder's features still spread.
    """
    embedding = np.inf if embedding_std is None else embedding_std
    if (
        diagnosis["feature_std"] < COLLAPSED_FEATURE_STD
        or diagnosis["effective_rank"] < COLLAPSED_EFFECTIVE_RANK
        or embedding < COLLAPSED_EMBEDDING_STD
    ):
        return "collapsed"
    if diagnosis["effective_rank"] < WEAK_RANK_RATIO * first["effective_rank"] or embedding < WEAK_EMBEDDING_STD:
        return "weak"
    return "healthy"
