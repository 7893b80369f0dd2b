"""The encoder of a run as a scikit-learn transformer: `make_pipeline(Encoder("runs/mine"), LogisticRegression())`."""

import functools
from pathlib import Path
from typing import Any, cast

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import validate_data

from jaxssl.inference import network


class Encoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Computes pooled features of images by `jaxssl.load(workdir).encode`. Fitting only checks the input.

    X is a list of paths of image files, or an array [N, H, W, C], or [N, H, W] of grey images; or [N, H * W * C] with
    one flattened image per row, if `shape` is given. Values must be finite; see `jaxssl.inference.network.Network` for
    their scale.

    With shape=(1, -1, 1), which accepts any row as an image, it passes scikit-learn's `check_estimator` on a run with
    grey or RGB float images. On a run with integer images the checks with floats in [0, 1] fail; without `shape`, those
    whose rows are not images.

    Attributes:
      workdir: of a finished run.
      evaluation: "" for its pretrained encoder, or the name of a fine-tuning in results.json.
      shape: (H, W, C) of flattened rows; one of the three may be -1, as in `numpy.reshape`.
    """

    def __init__(self, workdir: str | Path, evaluation: str = "", shape: tuple[int, int, int] | None = None):
        self.workdir = workdir
        self.evaluation = evaluation
        self.shape = shape

    def fit(self, X: np.ndarray, y: object = None) -> "Encoder":
        """Check the shape of X. Raises ValueError if X is not images, UserError if the run cannot be loaded."""
        self._images(X, reset=True)
        self._n_features_out = self._network().width
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return features [N, D] float32. ValueError if X is not images, UserError if they do not fit the run."""
        images = self._images(X, reset=False)
        return self._network().encode(images)

    def _images(self, X: Any, *, reset: bool) -> list[np.ndarray] | list[str | Path]:
        if _are_paths(X):
            return list(X)
        checked: Any = validate_data(self, cast(Any, X), reset=reset, dtype="numeric", allow_nd=True)
        X = checked
        if X.ndim > 2:
            return list(X)
        if self.shape is None:
            raise ValueError(f"rows of {X.shape[1]} values are not images: give [N, H, W, C], or shape=(H, W, C)")
        return list(X.reshape(len(X), *self.shape))

    def _network(self) -> network.Network:
        return _load(str(self.workdir), self.evaluation)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _are_paths(X: Any) -> bool:
    one_dimensional = isinstance(X, list | tuple) or (isinstance(X, np.ndarray) and X.ndim == 1)
    return one_dimensional and len(X) > 0 and all(isinstance(x, str | Path) for x in X)


@functools.lru_cache(maxsize=4)
def _load(workdir: str, evaluation: str) -> network.Network:
    """Load a network. Not an attribute of the estimators, which are copied and pickled by their parameters."""
    return network.load(workdir, evaluation)
