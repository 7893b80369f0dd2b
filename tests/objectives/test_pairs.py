"""Pairs: the loss against slow loops, and who may be whose partner."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.objectives import losses, pairs
from tests import tiny
from tests.refusals import refuses

LABEL = np.array([0, 0, 1, 2, 2, 2, -1, -1])
KW = {"hidden": 16, "projection": 4}


def test_margin_loss_against_a_slow_loop():
    first, second = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    distance = [
        sum((a - b) ** 2 for a, b in zip(*rows, strict=True)) ** 0.5 for rows in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(
        losses.contrastive_margin(first, second, 1.3, positive=True), np.square(distance), rtol=1e-5
    )
    apart = [max(0, 1.3 - d) ** 2 for d in distance]
    np.testing.assert_allclose(losses.contrastive_margin(first, second, 1.3, positive=False), apart, rtol=1e-5)
    assert min(apart) == 0 < max(apart)


def test_alike_negatives_cost_the_squared_margin_and_have_finite_gradients():
    same = jnp.ones((2, 3))
    value, slope = jax.value_and_grad(lambda x: losses.contrastive_margin(x, same, 1.5, positive=False).sum())(same)
    assert value == pytest.approx(2 * 1.5**2, rel=1e-4) and np.isfinite(slope).all()


def test_candidates_by_augmentation_are_the_image_itself_and_all_others():
    positive, negative = pairs.candidates(LABEL, "augmentation")
    np.testing.assert_array_equal(positive, np.eye(8, dtype=bool))
    np.testing.assert_array_equal(negative, ~np.eye(8, dtype=bool))


def test_candidates_by_labels_against_a_slow_loop():
    positive, negative = pairs.candidates(LABEL, "labels")
    for i, a in enumerate(LABEL):
        for j, b in enumerate(LABEL):
            known = a >= 0 and b >= 0
            assert positive[i, j] == (known and a == b and i != j)
            assert negative[i, j] == (known and a != b)


def test_every_candidate_is_drawn_alike_and_none_else():
    mask = np.array([[0, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    column, found = jax.vmap(lambda key: pairs.draw(key, mask))(jax.random.split(jax.random.key(0), 3000))
    np.testing.assert_array_equal(found[0], [True, True, False, True])
    shares = np.stack([np.mean(column == j, axis=0) for j in range(4)], axis=1)
    np.testing.assert_allclose(
        shares[[0, 1, 3]], (mask / np.maximum(mask.sum(1, keepdims=True), 1))[[0, 1, 3]], atol=0.04
    )


def started(**kw):
    objective = pairs.make(tiny.Encoder(), **KW, **kw)
    return objective, *objective.init(jax.random.key(0), tiny.two_views(16))


def test_value_is_the_mean_over_both_kinds_of_pairs():
    objective, params, state, target = started(margin=2.0)
    batch, key = tiny.two_views(16), jax.random.key(1)
    embeddings, new = [], dict(state)
    for image in batch["views"]:
        features, of = tiny.Encoder().apply(
            {"params": params["encoder"], **new["encoder"]}, image, train=True, mutable=["batch_stats"]
        )
        x = np.asarray(features["pooled"]) @ np.asarray(params["projector"]["linear1"]["kernel"])
        x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
        linear = params["projector"]["linear2"]
        x = np.maximum(x, 0) @ np.asarray(linear["kernel"]) + np.asarray(linear["bias"])
        embeddings.append(x / np.linalg.norm(x, axis=1, keepdims=True))
        new["encoder"] = of
    _, negative = pairs.candidates(batch["label"], "augmentation")
    partner, _ = pairs.draw(jax.random.split(key)[1], negative)
    together = np.linalg.norm(embeddings[0] - embeddings[1], axis=1) ** 2
    apart = np.maximum(2.0 - np.linalg.norm(embeddings[0] - embeddings[1][partner], axis=1), 0) ** 2
    value, _ = objective.loss(params, state, target, batch, key)
    assert value == pytest.approx(np.concatenate([together, apart]).mean(), rel=1e-4)


@pytest.mark.parametrize("label", [np.zeros(16, int), np.full(16, -1)])
def test_batches_without_one_kind_of_pairs_have_finite_losses_and_gradients(label):
    objective, params, state, target = started(pairs_from="labels")
    batch = tiny.two_views(16) | {"label": label}
    (value, _), slopes = jax.value_and_grad(objective.loss, has_aux=True)(
        params, state, target, batch, jax.random.key(1)
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
    assert (value == 0) == (label[0] < 0)


def test_only_pairs_from_labels_read_labels():
    for source, reads in (("augmentation", False), ("labels", True)):
        objective, params, state, target = started(pairs_from=source)
        batch = tiny.two_views(16)
        other = batch | {"label": np.roll(batch["label"], 1)}
        values = [float(objective.loss(params, state, target, b, jax.random.key(1))[0]) for b in (batch, other)]
        assert (values[0] != values[1]) == reads == objective.supervised


def test_options_out_of_range_are_refused():
    with refuses("unknown-name", "pretrain.options.pairs_from", "'classes'"):
        pairs.make(tiny.Encoder(), **KW, pairs_from="classes")
    with refuses("out-of-range", "pretrain.options.margin", "3.0"):
        pairs.make(tiny.Encoder(), **KW, margin=3.0)
