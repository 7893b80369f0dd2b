"""The ViT against NumPy in float64, published parameter counts, and by what its visible patches must not see."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import models, objectives
from jaxssl.models import vit
from jaxssl.objectives import mae

SMALL = {"width": 8, "depth": 2, "heads": 2, "patch": 4}


def image(batch=2, height=8, width=12, channels=3, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, height, width, channels)).astype(np.float32)


def trained(module, *args, **kw):
    """Parameters away from their start, so that no bias is 0 and no scale 1."""
    return moved(jax.jit(lambda: module.init(jax.random.key(0), *args, **kw)["params"])())


def moved(params):
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda p: p + 0.2 * rng.normal(size=p.shape).astype(np.float32), params)


def run(encoder, params, *args, **kw):
    return jax.jit(lambda: encoder.apply({"params": params}, *args, train=True, **kw))()


def dense(p, x):
    return x @ np.asarray(p["kernel"], np.float64) + np.asarray(p["bias"], np.float64)


def layer_norm(p, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * np.asarray(p["scale"], np.float64) + np.asarray(p["bias"], np.float64)


def block(p, x, heads):
    """One image's tokens [T, D] through a block, head by head and query by query."""
    width = x.shape[1]
    of_head = width // heads
    qkv = dense(p["qkv"], layer_norm(p["norm1"], x))
    mixed = np.zeros_like(x)
    for h in range(heads):
        q, k, v = (qkv[:, part * width + h * of_head :][:, :of_head] for part in range(3))
        for t in range(len(x)):
            weight = np.array([math.exp(q[t] @ key / math.sqrt(of_head)) for key in k])
            mixed[t, h * of_head : (h + 1) * of_head] = weight @ v / weight.sum()
    x = x + dense(p["proj"], mixed)
    hidden = dense(p["fc1"], layer_norm(p["norm2"], x))
    return x + dense(p["fc2"], hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2)


def positions(rows, columns, width):
    """Position embedding by its closed form, number by number."""
    table = np.zeros((rows * columns, width))
    quarter = width // 4
    for row in range(rows):
        for column in range(columns):
            for i in range(quarter):
                frequency = 1 / 10000 ** (i / quarter)
                table[row * columns + column, i::quarter] = (
                    math.sin(column * frequency),
                    math.cos(column * frequency),
                    math.sin(row * frequency),
                    math.cos(row * frequency),
                )
    return table


def patches_of(picture, patch):
    """Flattened patches of one picture [H, W, C], by slices."""
    rows, columns = picture.shape[0] // patch, picture.shape[1] // patch
    return np.stack(
        [
            picture[r * patch : (r + 1) * patch, c * patch : (c + 1) * patch].reshape(-1)
            for r in range(rows)
            for c in range(columns)
        ]
    ).astype(np.float64)


def oracle(params, picture, encoder, keep=None):
    """Class token and patch tokens of one picture."""
    rows, columns = (side // encoder.patch for side in picture.shape[:2])
    x = dense(params["patch_embed"], patches_of(picture, encoder.patch)) + positions(rows, columns, encoder.width)
    extra = [np.asarray(params[name][0], np.float64) for name in ("cls_token", "reg_token") if name in params]
    x = np.concatenate([*extra, x if keep is None else x[keep]])
    for i in range(encoder.depth):
        x = block(params[f"blocks_{i}"], x, encoder.heads)
    x = layer_norm(params["norm"], x)
    return x[0], x[1 + encoder.registers :]


@pytest.mark.parametrize(("registers", "pool"), [(0, "mean"), (3, "cls")])
def test_against_numpy(registers, pool):
    encoder = vit.vit_tiny(**SMALL, registers=registers, pool=pool)
    params = trained(encoder, image(), train=False)
    out = run(encoder, params, image())
    for b in range(2):
        cls, tokens = oracle(params, image()[b], encoder)
        assert tokens.shape == (6, 8)
        np.testing.assert_allclose(out["tokens"][b], tokens, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out["cls"][b], cls, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out["pooled"][b], cls if pool == "cls" else tokens.mean(0), rtol=1e-4, atol=1e-5)


def test_kept_patches_against_numpy():
    encoder = vit.vit_tiny(**SMALL, registers=1)
    params = trained(encoder, image(), train=False)
    keep = np.array([[4, 1, 3], [0, 5, 2]])
    out = run(encoder, params, image(), keep=keep)
    for b in range(2):
        cls, tokens = oracle(params, image()[b], encoder, keep[b])
        np.testing.assert_allclose(out["tokens"][b], tokens, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out["cls"][b], cls, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out["pooled"][b], tokens.mean(0), rtol=1e-4, atol=1e-5)


def test_no_gradient_reaches_a_pixel_that_is_not_kept():
    encoder = vit.vit_tiny(**SMALL)
    params = trained(encoder, image(), train=False)
    keep = np.array([[4, 1, 3], [0, 5, 2]])

    def total(x):
        out = encoder.apply({"params": params}, x, train=True, keep=keep)
        return sum(jnp.sin(v).sum() for v in out.values())

    gradient = np.asarray(jax.jit(jax.grad(total))(image()))
    for b in range(2):
        for t, of_patch in enumerate(patches_of(gradient[b], 4)):
            assert np.all(of_patch != 0) if t in keep[b] else np.all(of_patch == 0)


def test_patches_and_back():
    x = image()
    patches = vit.patchify(x, 4)
    np.testing.assert_array_equal(patches, np.stack([patches_of(picture, 4) for picture in x]))
    np.testing.assert_array_equal(vit.unpatchify(patches, 4, 8, 12), x)


def test_an_image_between_two_sizes_is_filled_up_with_zeros():
    x = image(height=7, width=10)
    filled = np.pad(x, ((0, 0), (0, 1), (0, 2), (0, 0)))
    np.testing.assert_array_equal(vit.patchify(x, 4), vit.patchify(filled, 4))
    np.testing.assert_array_equal(vit.unpatchify(vit.patchify(x, 4), 4, 7, 10), x)


def test_positions_against_the_closed_form():
    np.testing.assert_allclose(vit.sincos_positions(3, 5, 12), positions(3, 5, 12), atol=1e-6)


def test_one_set_of_weights_takes_any_image_size():
    encoder = vit.vit_tiny(**SMALL)
    params = trained(encoder, image(), train=False)
    for height, width, tokens in ((4, 4, 1), (16, 8, 8), (9, 7, 6)):
        out = jax.eval_shape(lambda x: run(encoder, params, x), image(height=height, width=width))
        assert out["tokens"].shape == (2, tokens, 8) and out["pooled"].shape == (2, 8)


@pytest.mark.parametrize(
    ("name", "published"), [("vit_tiny", 5524416), ("vit_small", 21665664), ("vit_base", 85798656)]
)
def test_parameters_are_as_many_as_published(name, published):
    """timm's counts without a head; its position embedding of 197 tokens is learnt, ours is not."""
    encoder = models.make(name, {"stem": "small", "dtype": jnp.dtype("float32")})
    shapes = jax.eval_shape(lambda: encoder.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3)), train=False))
    assert set(shapes) == {"params"}
    assert sum(p.size for p in jax.tree.leaves(shapes)) == published - 197 * encoder.width
    assert encoder.smallest_image == 16


def test_bfloat16_computes_near_and_gives_float32():
    exact, coarse = (vit.vit_tiny(**SMALL, dtype=jnp.dtype(d)) for d in ("float32", "bfloat16"))
    params = trained(coarse, image(), train=False)
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(params))
    a, b = (run(e, params, image()) for e in (exact, coarse))
    assert all(v.dtype == jnp.float32 for v in b.values())
    assert 0 < np.abs(a["tokens"] - b["tokens"]).max() < 0.1


@pytest.mark.parametrize(
    ("name", "value"), [("heads", 3), ("width", 6), ("patch", 0), ("registers", -1), ("pool", "max"), ("depth", -1)]
)
def test_refuses_attributes_that_do_not_fit(name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        vit.vit_tiny(**SMALL | {name: value})


@pytest.mark.parametrize("name", ["byol", "ntxent", "supervised"])
def test_serves_objectives_that_know_no_tokens(name):
    encoder = vit.vit_tiny(**SMALL | {"depth": 1})
    objective = objectives.make(name, encoder, {"classes": 3, "steps": 10}, {})
    batch = {"views": (image(4), image(4, seed=1))[: objective.views], "label": np.array([0, 1, 2, 0])}
    params, state, target = jax.jit(objective.init)(jax.random.key(0), batch)
    if "head" in params:  # A head of zeros sends no gradient down.
        params["head"]["linear"]["kernel"] += np.arange(3.0)
    assert state["encoder"] == {}
    gradient, (new, metrics) = jax.jit(jax.grad(objective.loss, has_aux=True))(
        params, state, target, batch, jax.random.key(1)
    )
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert metrics["features"].shape == (4, 8)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
    assert np.abs(gradient["encoder"]["patch_embed"]["kernel"]).max() > 0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_attention_against_jax(dtype):
    """Values and gradients; jax.nn's is a form of its own."""
    x = jax.random.normal(jax.random.key(0), (4, 2, 5, 3, 8)).astype(dtype)

    def total(attention, qkv):
        return (attention(*qkv).astype(jnp.float32) * x[3].astype(jnp.float32)).sum()

    found, expected = (
        jax.jit(jax.value_and_grad(partial(total, form)))(tuple(x[:3]))
        for form in (vit.attention, jax.nn.dot_product_attention)
    )
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == jnp.float32 else {"rtol": 0.02, "atol": 0.02}
    assert {leaf.dtype for leaf in jax.tree.leaves(found[1])} == {jnp.dtype(dtype)}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(*map(np.float32, (a, b)), **tolerance), found, expected)


def test_gelu_keeps_its_input_alone():
    """The closed form x Phi(x), its derivative Phi(x) + x phi(x), and one array as large as the input kept for it."""
    x = np.linspace(-4, 4, 101)
    phi = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    cdf = np.array([(1 + math.erf(value / math.sqrt(2))) / 2 for value in x])
    y, gradient = jax.vjp(vit.gelu, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(y, x * cdf, atol=1e-6)
    np.testing.assert_allclose(gradient(jnp.ones(101))[0], cdf + x * phi, atol=1e-6)
    assert sum(np.size(leaf) == 101 for leaf in jax.tree.leaves(gradient)) == 1


def test_a_vit_without_class_token_is_pretrained_by_mae():
    """As SigLIP's and I-JEPA's: shapes alone."""
    objective = mae.make(
        vit.vit_tiny(**SMALL, class_token=False, registers=2), decoder_width=8, decoder_depth=1, decoder_heads=2
    )
    batch = {"views": (image(),)}
    params, state, target = jax.eval_shape(objective.init, jax.random.key(0), batch)
    assert "cls_token" not in params["encoder"]
    assert jax.eval_shape(objective.loss, params, state, target, batch, jax.random.key(1))[0].shape == ()
    with pytest.raises(ValueError, match="class token"):
        vit.vit_tiny(**SMALL, class_token=False, pool="cls")
