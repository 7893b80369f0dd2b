"""`transfer.class_weights="balanced"`, for classes of few images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.evaluation import probe
from jaxssl.objectives import losses, supervised
from jaxssl.run.transfer import balance_classes
from tests import tiny


def test_weights_are_inverse_to_the_frequency_and_average_one():
    labels = np.array([0] * 98 + [2] * 2)
    weights = balance_classes(labels, 3)
    assert weights == pytest.approx((100 / 196, 0.0, 25.0)) and np.mean(np.array(weights)[labels]) == pytest.approx(1)
    assert balance_classes(np.array([0, 1] * 5), 2) == (1.0, 1.0)


def test_the_loss_of_each_image_has_the_weight_of_its_class():
    rng = np.random.default_rng(0)
    batch = {
        "views": (jnp.asarray(rng.normal(size=(6, 8, 8, 1)), jnp.float32),),
        "label": jnp.array([0, 1, 2, 1, 0, -1]),
    }
    plain = supervised.make(tiny.Encoder(), classes=3)
    weighted = supervised.make(tiny.Encoder(), classes=3, class_weights=(1.0, 5.0, 0.5))
    params, state, target = plain.init(jax.random.key(0), batch)
    each = []
    for label in range(6):
        alone = {"views": batch["views"], "label": jnp.where(jnp.arange(6) == label, batch["label"], -1)}
        each.append(6 * float(plain.loss(params, state, target, alone, jax.random.key(1))[0]))
    got = float(weighted.loss(params, state, target, batch, jax.random.key(1))[0])
    assert got == pytest.approx(np.dot(each, [1.0, 5.0, 0.5, 5.0, 1.0, 0.0]) / 6, rel=1e-5)
    assert losses.cross_entropy(jnp.zeros((1, 3)), jnp.array([-1]))[0] == 0


def test_a_balanced_probe_finds_a_rare_class():
    rng = np.random.default_rng(0)

    def draw(count, share):
        labels = (rng.random(count) < share).astype(int)
        return rng.normal(size=(count, 4)) + 1.2 * labels[:, None], labels

    train, validation, test = draw(1000, 0.02), draw(400, 0.02), draw(2000, 0.5)
    recall = {}
    for balanced in (False, True):
        fitted = probe.fit(*train, *validation, classes=2, balanced=balanced)
        recall[balanced] = (probe.predict_proba(fitted, test[0]).argmax(1) == 1)[test[1] == 1].mean()
    assert recall[False] < 0.4 and recall[True] > 0.7
