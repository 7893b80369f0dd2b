"""Supervised training, its frozen form, and the online probe."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.stats import beta

from jaxssl import models
from jaxssl.models import heads, vit
from jaxssl.objectives import byol, losses, supervised, with_average, with_online_probe
from jaxssl.training import sharding
from tests import tiny

KW = {"classes": 3}
KEYS = jax.random.split(jax.random.key(5))


def one_view():
    batch = tiny.two_views()
    return batch | {"views": batch["views"][:1]}


def test_the_first_loss_is_that_of_a_uniform_guess():
    objective = supervised.make(tiny.Encoder(), **KW)
    params, state, target = objective.init(jax.random.key(0), one_view())
    value, _ = objective.loss(params, state, target, one_view(), jax.random.key(1))
    assert value == pytest.approx(math.log(3), rel=1e-6)
    assert objective.first_loss(64) == pytest.approx(math.log(3))


def test_a_frozen_encoder_gets_no_gradient_and_keeps_its_statistics():
    objective = supervised.make(tiny.Encoder(), **KW, frozen=True)
    params, state, target = objective.init(jax.random.key(0), one_view())
    grad = jax.grad(objective.loss, has_aux=True)
    gradient, (new, _) = grad(params, state, target, one_view(), jax.random.key(1))
    jax.tree.map(lambda g: np.testing.assert_array_equal(g, 0), gradient["encoder"])
    assert np.abs(gradient["head"]["linear"]["kernel"]).max() > 0
    jax.tree.map(np.testing.assert_array_equal, new, state)


def test_frozen_batch_norm_trains_weights_on_the_statistics_it_came_with():
    objective = supervised.make(tiny.Encoder(), **KW, batch_norm="frozen")
    params, state, target = objective.init(jax.random.key(0), one_view())
    params["head"]["linear"]["kernel"] += 1.0 * np.eye(6, 3, dtype=np.float32)
    gradient, (new, _) = jax.grad(objective.loss, has_aux=True)(params, state, target, one_view(), jax.random.key(1))
    assert np.abs(gradient["encoder"]["linear"]["kernel"]).max() > 0
    jax.tree.map(np.testing.assert_array_equal, new, state)


def test_predictions_are_probabilities_of_the_head():
    objective = supervised.make(tiny.Encoder(), **KW)
    params, state, _ = objective.init(jax.random.key(0), one_view())
    params["head"]["linear"]["bias"] += np.log(np.array([0.2, 0.3, 0.5], np.float32))
    p = supervised.predict(tiny.Encoder(), 3, params, state, one_view()["views"][0])
    np.testing.assert_allclose(p, np.tile([0.2, 0.3, 0.5], (8, 1)), rtol=1e-5)


def images(size=8, height=12, width=10):
    """Image i has the value i: what is mixed into it, and where, is read off."""
    return np.broadcast_to(np.arange(size, dtype=np.float32)[:, None, None, None], (size, height, width, 2))


mix = jax.jit(supervised.mix, static_argnums=(2, 3))


def test_mixup_averages_each_image_with_its_partner():
    x = np.random.default_rng(0).normal(size=(8, 6, 5, 2)).astype(np.float32)
    for seed in range(5):
        mixed, partner, share = mix(jax.random.key(seed), x, 0.4, 0.0)
        np.testing.assert_array_equal(np.sort(partner), np.arange(8))
        np.testing.assert_allclose(mixed, share * x + (1 - share) * x[partner], atol=1e-6)


def test_cutmix_puts_a_box_of_the_partner_into_each_image_and_the_share_is_its_true_area():
    shares = []
    for seed in range(60):
        mixed, partner, share = map(np.asarray, mix(jax.random.key(seed), images(), 0.0, 1.0))
        np.testing.assert_array_equal(mixed[..., 0], mixed[..., 1])
        moved = partner != np.arange(8)
        foreign = mixed[..., 0] != images()[..., 0]
        assert not foreign[~moved].any()
        inside = foreign[moved][0]
        np.testing.assert_array_equal(foreign[moved], np.broadcast_to(inside, foreign[moved].shape))
        np.testing.assert_array_equal(mixed[..., 0], np.where(inside, images()[partner][..., 0], images()[..., 0]))
        # A box: what its rows and its columns have in common.
        np.testing.assert_array_equal(inside, inside.any(1)[:, None] & inside.any(0))
        assert all((np.diff(np.flatnonzero(line)) == 1).all() for line in (inside.any(0), inside.any(1)))
        np.testing.assert_allclose(share, 1 - inside.mean(), atol=1e-6)
        shares.append(float(share))
    # Uniform but for what the border cuts off, which leaves more of the image.
    assert 0.5 < np.mean(shares) < 0.8 and min(shares) < 0.2 and max(shares) > 0.95


def test_a_box_has_its_area_and_the_shape_of_the_image_where_the_border_does_not_cut_it():
    inside = jax.vmap(lambda key: supervised.box(key, 0.25, 40, 80))(jax.random.split(jax.random.key(0), 200))
    heights, widths = np.asarray(inside).any(2).sum(1), np.asarray(inside).any(1).sum(1)
    # Rounding moves each end by half a pixel.
    assert heights.max() in (20, 21) and widths.max() in (40, 41)
    assert heights.min() < 12 and widths.min() < 24
    # Anywhere: each corner of the image is covered at some time.
    assert all(inside[:, row, column].any() for row in (0, -1) for column in (0, -1))
    assert not supervised.box(jax.random.key(0), 0.0, 8, 8).any()


@pytest.mark.parametrize("alpha", [0.1, 1.0, 8.0])
def test_the_share_is_of_a_beta_distribution(alpha):
    keys = jax.random.split(jax.random.key(0), 2000)
    share = jax.jit(jax.vmap(lambda key: supervised.mix(key, jnp.zeros((2, 1, 1, 1)), alpha, 0.0)[2]))(keys)
    # At cuts rather than everywhere, since float32 rounds what is nearest to 1 to 1.
    for cut in (0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999):
        assert (share < cut).mean() == pytest.approx(beta(alpha, alpha).cdf(cut), abs=4 * np.sqrt(0.25 / 2000))
    assert share.mean() == pytest.approx(0.5, abs=4 * beta(alpha, alpha).std() / np.sqrt(2000))


def test_with_both_each_batch_takes_one_of_them():
    kinds = []
    for seed in range(200):
        mixed, partner, share = map(np.asarray, mix(jax.random.key(seed), images(), 8.0, 8.0))
        moved = partner != np.arange(8)
        boxed = np.isin(mixed, np.arange(8)).all()
        averaged = np.allclose(mixed, share * images() + (1 - share) * images()[partner], atol=1e-5)
        if moved.any() and 0 < share < 1:
            assert boxed != averaged
            kinds.append(boxed)
    assert len(kinds) > 180 and 0.38 < np.mean(kinds) < 0.62


def with_a_head(**options):
    objective = supervised.make(tiny.Encoder(), **KW, **options)
    params, state, target = objective.init(jax.random.key(0), one_view())
    params["head"]["linear"]["kernel"] += 3.0 * np.eye(6, 3, dtype=np.float32)
    return objective, params, state, target


@pytest.mark.parametrize(
    ("mixup", "cutmix", "options"),
    [
        (0.4, 0.0, {"label_smoothing": 0.1}),
        (0.0, 1.0, {}),
        (0.4, 1.0, {"frozen": True}),
        (0.4, 1.0, {"batch_norm": "frozen"}),
    ],
)
def test_labels_are_mixed_in_the_loss_as_the_images_are(mixup, cutmix, options):
    """Against NumPy, on the logits of the mixed images; one label is unknown and counts 0."""
    objective, params, state, target = with_a_head(mixup=mixup, cutmix=cutmix, **options)
    batch, key = one_view(), jax.random.key(3)
    batch["label"][2] = -1
    value, (new, metrics) = objective.loss(params, state, target, batch, key)
    mixed, partner, share = mix(key, batch["views"][0], mixup, cutmix)
    assert 0 < share < 1 and np.abs(mixed - batch["views"][0]).max() > 0.1
    plain = supervised.make(tiny.Encoder(), **KW, **options)
    _, (_, unmixed) = plain.loss(params, state, target, batch | {"views": (mixed,)}, key)
    np.testing.assert_allclose(metrics["features"], unmixed["features"], rtol=1e-5, atol=1e-6)
    logits = np.asarray(unmixed["features"], np.float64) @ params["head"]["linear"]["kernel"]
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    own, other = batch["label"], batch["label"][partner]
    smoothing = options.get("label_smoothing", 0.0)

    def nats(label):
        hot = np.eye(3)[label] * (1 - smoothing) + smoothing / 3
        return np.where(label >= 0, -(hot * log_p).sum(1), 0)

    share = float(share)
    assert value == pytest.approx(np.mean(share * nats(own) + (1 - share) * nats(other)), rel=1e-4)
    heavier = own if share >= 0.5 else other
    assert metrics["accuracy"] == pytest.approx((logits.argmax(1) == heavier).mean())
    if options.get("frozen") or options.get("batch_norm"):
        jax.tree.map(np.testing.assert_array_equal, new, state)
    gradient, _ = jax.grad(objective.loss, has_aux=True)(params, state, target, batch, key)
    assert (np.abs(gradient["encoder"]["linear"]["kernel"]).max() > 0) != bool(options.get("frozen"))


def test_without_mixing_the_key_changes_nothing_and_with_it_everything_follows_from_the_key():
    objective, *network = with_a_head()
    assert len({float(objective.loss(*network, one_view(), jax.random.key(k))[0]) for k in range(4)}) == 1
    objective, *network = with_a_head(mixup=1.0, cutmix=1.0)
    first, again = ([float(objective.loss(*network, one_view(), jax.random.key(k))[0]) for k in range(4)] for _ in "12")
    assert first == again and len(set(first)) == 4


def test_the_first_loss_of_mixed_images_is_that_of_a_uniform_guess():
    objective = supervised.make(tiny.Encoder(), **KW, mixup=0.2, cutmix=1.0)
    params, state, target = objective.init(jax.random.key(0), one_view())
    value, _ = objective.loss(params, state, target, one_view(), jax.random.key(1))
    assert value == pytest.approx(math.log(3), rel=1e-6) == objective.first_loss(64)


def test_one_device_and_eight_mix_alike():
    x = np.random.default_rng(0).normal(size=(16, 6, 6, 1)).astype(np.float32)
    sharded = jax.device_put(x, sharding.batch_sharding(sharding.make_mesh(8, 1)))
    for one, eight in zip(mix(jax.random.key(5), x, 0.5, 1.0), mix(jax.random.key(5), sharded, 0.5, 1.0), strict=True):
        np.testing.assert_allclose(one, jax.device_get(eight), atol=1e-6)


def test_the_online_probe_leaves_loss_and_gradients_of_the_objective_alone():
    plain = byol.make(tiny.Encoder(), steps=10, hidden=5, projection=4)
    probed = with_online_probe(plain, 3)
    batch, key = tiny.two_views(), jax.random.key(3)
    params, state, target = probed.init(jax.random.key(0), batch)
    params["online_probe"]["linear"]["kernel"] += np.eye(6, 3, dtype=np.float32)
    inner = {k: v for k, v in params.items() if k != "online_probe"}
    value, _ = plain.loss(inner, state, target, batch, key)
    expected = jax.grad(plain.loss, has_aux=True)(inner, state, target, batch, key)[0]
    gradient, (_, metrics) = jax.grad(probed.loss, has_aux=True)(params, state, target, batch, key)
    assert metrics["loss"] == value
    assert np.abs(gradient.pop("online_probe")["linear"]["kernel"]).max() > 0
    jax.tree.map(np.testing.assert_array_equal, gradient, expected)


def test_the_online_probe_ignores_unknown_labels():
    probed = with_online_probe(byol.make(tiny.Encoder(), steps=10, hidden=5, projection=4), 3)
    batch = tiny.two_views() | {"label": np.full(8, -1, np.int32)}
    params, state, target = probed.init(jax.random.key(0), batch)
    gradient, (_, metrics) = jax.grad(probed.loss, has_aux=True)(params, state, target, batch, jax.random.key(3))
    jax.tree.map(lambda g: np.testing.assert_array_equal(g, 0), gradient["online_probe"])
    assert metrics["online_probe_accuracy"] == 0


@pytest.mark.parametrize("options", [{"hidden": (7, 5)}, {"attentive": True}])
def test_larger_heads_begin_uniform_and_learn(options):
    objective = supervised.make(tiny.Encoder(), **KW, **options)
    params, state, _ = objective.init(jax.random.key(0), one_view())
    grad = jax.jit(jax.value_and_grad(lambda p: objective.loss(p, state, {}, one_view(), jax.random.key(1))[0]))
    loss, _ = grad(params)
    np.testing.assert_allclose(loss, np.log(3), rtol=1e-6)
    for _ in range(20):
        loss, grads = grad(params)
        params = jax.tree.map(lambda p, g: p - 0.3 * g, params, grads)
    assert loss < 0.9 * np.log(3)
    assert max(np.abs(g).max() for g in jax.tree.leaves(grads["head"])) > 0
    assert heads.classifier_of(3, params["head"]) == (
        heads.AttentiveClassifier(3) if "attentive" in options else heads.Classifier(3, (7, 5))
    )


def test_attention_reads_tokens_in_any_order():
    """And not the mean of them: tokens of equal mean are told apart."""
    head, rng = heads.AttentiveClassifier(2), np.random.default_rng(0)
    tokens = rng.normal(size=(1, 6, 8)).astype(np.float32)
    params = head.init(jax.random.key(0), {"tokens": tokens}, train=False)["params"]
    params = jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), params)
    read = [
        head.apply({"params": params}, {"tokens": x}, train=False)
        for x in (tokens, tokens[:, ::-1], tokens.mean(1, keepdims=True).repeat(6, 1))
    ]
    np.testing.assert_allclose(read[0], read[1], rtol=1e-4)
    assert np.abs(read[0] - read[2]).max() > 0.1


def test_drop_path_drops_branches_of_images_in_training_alone():
    encoder = models.make("vit_tiny", {}, {"width": 12, "depth": 2, "heads": 3, "patch": 2})
    batch = {
        "views": (np.random.default_rng(0).normal(size=(8, 4, 4, 1)).astype(np.float32),),
        "label": np.arange(8) % 3,
    }

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def features(rate, frozen, key):
        objective = supervised.make(encoder, **KW, drop_path=rate, frozen=frozen)
        params, state, _ = objective.init(jax.random.key(0), batch)
        return objective.loss(params, state, {}, batch, key)[1][1]["features"]

    off, a, b, frozen = (
        features(*arguments)
        for arguments in ((0.0, False, KEYS[0]), (0.5, False, KEYS[0]), (0.5, False, KEYS[1]), (0.5, True, KEYS[0]))
    )
    np.testing.assert_array_equal(frozen, off)
    assert (np.abs(a - b).max(1) > 1e-3).any() and (np.abs(a - off).max(1) > 1e-3).any()
    # The last block has rate 1/2 for each of two branches: a quarter of the images lose both.
    x = np.ones((1000, 2, 3), np.float32)

    class Drop(nn.Module):
        @nn.compact
        def __call__(self, x):
            return vit.drop_path(x, 0.25, True)

    kept = Drop().apply({}, x, rngs={"drop_path": KEYS[0]}).reshape(1000, -1)
    assert set(np.unique(kept)) == {0, np.float32(1 / 0.75)} and (kept.min(1) == kept.max(1)).all()
    assert abs((kept[:, 0] > 0).mean() - 0.75) < 0.05


def test_the_average_of_the_weights_by_hand():
    objective = with_average(supervised.make(tiny.Encoder(), **KW), 0.5)
    params, _, target = objective.init(jax.random.key(0), one_view())
    expected = np.asarray(params["head"]["linear"]["kernel"])
    for step, decay in enumerate((0.1, 2 / 11, 0.25, 4 / 13, 5 / 14, 0.4, 7 / 16, 8 / 17, 0.5, 0.5)):
        params = jax.tree.map(lambda p: p + 1, params)
        expected = decay * expected + (1 - decay) * np.asarray(params["head"]["linear"]["kernel"])
        target = objective.advance(target, params, step)
    np.testing.assert_allclose(target["head"]["linear"]["kernel"], expected, rtol=1e-5)


def test_several_labels_have_a_loss_each_and_unknown_ones_none():
    logits, labels = np.array([[2.0, -1.0, 0.5]]), np.array([[1, 0, -1]])
    p = 1 / (1 + np.exp(-logits[0, :2]))
    expected = (-np.log(p[0]) - np.log(1 - p[1])) / 2
    assert losses.binary_cross_entropy(logits, labels)[0] == pytest.approx(expected, rel=1e-6)
    weights = np.array([[3.0, 3.0, 3.0], [2.0, 2.0, 2.0]], np.float32)
    expected = (-2 * np.log(p[0]) - 3 * np.log(1 - p[1])) / 2
    assert losses.binary_cross_entropy(logits, labels, weights=weights)[0] == pytest.approx(expected, rel=1e-6)
    assert losses.binary_cross_entropy(logits, -np.ones((1, 3), int))[0] == 0


@pytest.mark.parametrize("task", ["multi", "value"])
def test_the_first_loss_and_the_predictions_of_a_task(task):
    objective = supervised.make(tiny.Encoder(), **KW, task=task, scale=(50.0, 10.0))
    label = np.tile([[1, 0, -1]], (8, 1)) if task == "multi" else np.full(8, 60.0, np.float32)
    batch = one_view() | {"label": label}
    params, state, target = objective.init(jax.random.key(0), batch)
    value, (new, metrics) = objective.loss(params, state, target, batch, jax.random.key(1))
    # Huber's loss of an error of one standard deviation.
    assert value == pytest.approx(math.log(2) if task == "multi" else 0.5, rel=1e-6)
    assert (task == "multi") == ("accuracy" in metrics) and new.keys() == state.keys()
    predicted = supervised.predict(tiny.Encoder(), 3, params, state, batch["views"][0], task)
    np.testing.assert_allclose(predicted, 0.5 if task == "multi" else 50.0)
