"""A run's encoder as a transformer of scikit-learn: `make_pipeline(Encoder("runs/mine"), LogisticRegression())`."""

import functools
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import validate_data

from jaxssl.inference import network


class Encoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Pooled features of images, as of `jaxssl.load(workdir).encode`. There is nothing to fit: the run did that.

    X is an array [N, H, W, C], or [N, H, W] of grey images; or [N, H * W * C], a flattened image in each row, where
    `shape` says how they are to be unfolded. Values are those of the run's images, as `inference.Network` has them, and
    finite.

    With shape=(1, -1, 1), which makes an image of any row, if an odd one, it passes scikit-learn's `check_estimator` on
    a run whose images are floats and grey or RGB. On a run of integers those of the checks fail that give floats in
    [0, 1]; without `shape` those fail whose rows are no images.

    Attributes:
      workdir: of a run that ended.
      evaluation: "" for its pretrained encoder, or the name of a fine-tuning in results.json.
      shape: (H, W, C) of flat rows; one of the three may be -1, as in `numpy.reshape`.
    """

    def __init__(self, workdir: str | Path, evaluation: str = "", shape: tuple[int, int, int] | None = None):
        self.workdir = workdir
        self.evaluation = evaluation
        self.shape = shape

    def fit(self, X: np.ndarray, y: object = None) -> "Encoder":
        """Looks at the shape of X. Raises ValueError for what are no images, UserError for what is no such run."""
        self._images(X, reset=True)
        self._n_features_out = self._network().width
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """[N, D] float32. Raises ValueError for what are no images, UserError for images that do not fit the run."""
        images = self._images(X, reset=False)
        return self._network().encode(images)

    def _images(self, X: np.ndarray, *, reset: bool) -> list[np.ndarray]:
        X = validate_data(self, X, reset=reset, dtype="numeric", allow_nd=True)
        if X.ndim > 2:
            return list(X)
        if self.shape is None:
            raise ValueError(f"rows of {X.shape[1]} values are no images: give [N, H, W, C], or shape=(H, W, C)")
        return list(X.reshape(len(X), *self.shape))

    def _network(self) -> network.Network:
        return _load(str(self.workdir), self.evaluation)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


@functools.lru_cache(maxsize=4)
def _load(workdir: str, evaluation: str) -> network.Network:
    """Beside the estimators, which are copied and pickled by their parameters alone."""
    return network.load(workdir, evaluation)
