"""Detection of representation collapse: spread and effective rank of the features, and a verdict."""

import numpy as np

from jaxssl.evaluation import scores

# Pooled features after a ReLU share a large mean, so that healthy encoders have a spread of only 0.1 to 0.3, and random
# ones less; a collapsed one goes to 0. Below 0.01 images differ by less than augmentation noise.
COLLAPSED_FEATURE_STD = 0.01
# One direction gives rank 1, two equal ones rank 2: below 1.5 the features lie close to a line.
COLLAPSED_EFFECTIVE_RANK = 1.5
# The embedding in the loss has no ReLU, and no common mean when healthy: 1 is isotropic (SimSiam's 1 / sqrt(D)).
COLLAPSED_EMBEDDING_STD = 0.05
WEAK_EMBEDDING_STD = 0.2
# Pretraining multiplies the rank of a random encoder; a rank below half of the initial one is a loss of information.
WEAK_RANK_RATIO = 0.5


def diagnose(features: np.ndarray) -> dict[str, float]:
    """Compute spread and effective rank of features.

    Args:
      features: [N, D] float of a few hundred images; the effective rank is at most N - 1.

    Returns:
      feature_std: sqrt(D) times the standard deviation over images of the l2-normalised features, averaged over
        dimensions (SimSiam, arXiv:2011.10566, section 4.1, fig. 2): 1 for isotropic features, 0 if all are equal.
      effective_rank: exp(-Σ p_k log p_k) with p_k = σ_k / Σ σ, the singular values of the centred features (Roy &
        Vetterli 2007; RankMe, arXiv:2210.02885, eq. 1): from 1 to min(N - 1, D); 1 if all are equal.

    Raises:
      ValueError: if there are fewer than two images.
      TrainingFailedError: if a feature is not finite.
    """
    features = scores.check_finite("features", features)
    if len(features) < 2:
        raise ValueError(f"features must be of at least two images, not {len(features)}")
    feature_std = scores.to_unit_length(features).std(axis=0).mean() * np.sqrt(features.shape[1])
    singular = np.linalg.svd(features - features.mean(axis=0), compute_uv=False)
    # Float32 rounding of equal features is noise of full rank: singular values of its size do not count.
    singular = singular[singular > np.finfo(np.float32).eps * np.linalg.norm(features)]
    share = singular / singular.sum()
    return {"feature_std": float(feature_std), "effective_rank": float(np.exp(-(share * np.log(share)).sum()))}


def verdict(diagnosis: dict[str, float], first: dict[str, float], embedding_std: float | None = None) -> str:
    """Return "healthy", "weak" or "collapsed".

    Args:
      diagnosis: result of `diagnose` for the encoder.
      first: result of `diagnose` for the same encoder before training, on the same images.
      embedding_std: `feature_std` of the embedding that the loss compares; None if the objective has none. A projection
        head can collapse while the encoder's features do not.
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
