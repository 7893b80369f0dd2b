"""The CPU-fast convolution against `jax.lax.conv_general_dilated` and flax's own pooling: values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxssl.models.cpu_conv import choice, conv, depthwise, matmul, max_pool, native, winograd
from jaxssl.models.cpu_conv.geometry import Geometry, column_bytes
from jaxssl.models.linear import MIXED

ROUNDING = 2.0**-9  # Half of the largest relative error of rounding to bfloat16: sums stay within half their bound.
DIMENSIONS = ("NHWC", "HWIO", "NHWC")
FORMS = {**vars(native), **vars(matmul), **vars(winograd), **vars(depthwise)}


def arrays(*shapes, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def values_and_gradients(convolve, x, w, *, absolute=False, **kw):
    kw = {"dimension_numbers": DIMENSIONS, **kw}

    def run(x, w):
        y, pullback = jax.vjp(lambda x, w: convolve(x, w, **kw), x, w)
        g = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape).astype(y.dtype)
        return y, *pullback(jnp.abs(g) if absolute else g)

    return jax.jit(run)(x, w)


def reference(x, w, *, padding, **kw):
    """The native one of an image that is padded beforehand: it reads past its image where it is to crop it."""
    if not isinstance(padding, str) and "lhs_dilation" not in kw:
        x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*of, 0) for of in padding), (0, 0, 0)))
        padding = "VALID"
    return lax.conv_general_dilated(x, w, padding=padding, **kw)


def assert_same(x, w, tolerance=1e-4, **kw):
    ours = values_and_gradients(conv.conv_general_dilated, x, w, **kw)
    native = values_and_gradients(reference, x, w, **kw)
    for a, b, name in zip(ours, native, ("value", "input gradient", "kernel gradient"), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype, name
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(initial=0), 1e-3), err_msg=name)


# batch, px, channels in, channels out, kernel, stride, depthwise: each rule of choice on both its sides
ENCODERS = (
    (2, 64, 3, 64, 7, 2, False),
    (8, 32, 3, 64, 3, 1, False),
    (2, 28, 1, 16, 3, 1, False),
    (8, 16, 64, 64, 3, 1, False),
    (2, 16, 16, 16, 3, 1, False),
    (6, 16, 64, 128, 3, 2, False),
    (2, 4, 64, 128, 3, 2, False),
    (2, 2, 128, 128, 3, 1, False),
    (2, 1, 64, 64, 3, 1, False),
    (2, 16, 64, 32, 1, 1, False),
    (2, 9, 64, 128, 1, 2, False),
    (2, 16, 24, 24, 3, 1, True),
    (2, 9, 24, 24, 3, 2, True),
    (2, 8, 24, 24, 5, 1, True),
    (2, 7, 24, 24, 5, 2, True),
)


@pytest.mark.parametrize(("n", "px", "c", "d", "k", "stride", "depthwise"), ENCODERS)
def test_the_shapes_of_the_encoders(n, px, c, d, k, stride, depthwise):
    x, w = arrays((n, px, px, c), (k, k, 1 if depthwise else c, d))
    padding = ((k // 2, k // 2),) * 2
    assert_same(x, w, window_strides=(stride, stride), padding=padding, feature_group_count=c if depthwise else 1)


@pytest.mark.parametrize(
    ("px", "c", "d", "k", "stride", "rounded"),
    [
        (9, 24, 16, 1, 2, (True, True)),
        (2, 16, 24, 3, 1, (True, True)),
        (9, 3, 32, 5, 2, (True, True)),
        (12, 64, 64, 3, 2, (True, True)),
        (6, 16, 64, 3, 1, (False, False)),
    ],
)
def test_in_mixed_precision_values_and_gradients_are_within_the_error_of_rounded_operands(px, c, d, k, stride, rounded):
    """|fl(x) * fl(w) - x * w| <= (2 u + u^2) |x| * |w|; `rounded` are the value and the gradient of the image.

    They are where the convolution is one product, and are not in the native form.
    """
    x, w = arrays((2, px, px, c), (k, k, c, d))
    kw = {"window_strides": (stride, stride), "padding": ((k // 2, k // 2),) * 2}
    mixed = values_and_gradients(conv.conv_general_dilated, x, w, precision=MIXED, **kw)
    exact = values_and_gradients(reference, x, w, **kw)
    sums = values_and_gradients(reference, jnp.abs(x), jnp.abs(w), absolute=True, **kw)
    for a, b, bound in zip(mixed, exact, sums, strict=True):
        assert a.dtype == jnp.float32
        assert (jnp.abs(a - b) <= (2 * ROUNDING + ROUNDING**2 + 1e-4) * bound).all()
    for a, b, expected in zip(mixed[:2], exact[:2], rounded, strict=True):
        assert (jnp.abs(a - b).max() > 1e-3 * jnp.abs(b).max()) == expected


@pytest.mark.parametrize(("precision", "rounding"), [(MIXED, ROUNDING), (None, 2.0**-20)])
def test_winograd_is_within_the_error_of_rounded_tiles(precision, rounding):
    """|A' [fl(U) * fl(V) - U * V] A| <= (2 u + u^2) |A|' [|U| * |V|] |A|, U and V the transformed kernel and tile."""
    x, w = arrays((2, 8, 8, 64), (3, 3, 64, 64))
    kw = {"window_strides": (1, 1), "padding": ((1, 1), (1, 1))}
    found = values_and_gradients(conv.conv_general_dilated, x, w, precision=precision, **kw)
    exact = values_and_gradients(reference, x, w, **kw)
    tiles = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (6, 6), (1, 2))
    a, b, g = winograd.WINOGRAD_OUTPUT, winograd.WINOGRAD_INPUT, winograd.WINOGRAD_KERNEL
    v = np.einsum("ai,nyxcij,bj->nyxabc", b, tiles[:, ::4, ::4], b, optimize=True)
    u = np.einsum("ai,ijcd,bj->abcd", g, w, g, optimize=True)
    bound = np.einsum("pa,nyxabc,abcd,qb->nypxqd", *map(np.abs, (a, v, u, a)), optimize=True).reshape(2, 8, 8, 64)
    error = np.abs(found[0] - exact[0])
    assert (error <= (2 * rounding + rounding**2) * bound).all()
    for ours, theirs, rounded in zip(found, exact, (True, True, False), strict=True):
        error = float(jnp.linalg.norm(ours - theirs) / jnp.linalg.norm(theirs))
        assert (0.005 < error < 0.02) if rounded and precision == MIXED else error < 1e-5


def test_what_has_no_form_in_mixed_precision_is_computed_in_float32():
    x, w = arrays((1, 7, 7, 2), (3, 3, 2, 4))
    kw = {"window_strides": (1, 1), "padding": "SAME", "rhs_dilation": (2, 2), "dimension_numbers": DIMENSIONS}
    found = conv.conv_general_dilated(x, w, precision=MIXED, **kw)
    np.testing.assert_array_equal(found, lax.conv_general_dilated(x, w, **kw))


def test_every_form_is_chosen_by_some_shape_of_the_encoders():
    chosen = set()
    for n, px, c, d, k, stride, by_channel in ENCODERS:
        geometry = Geometry((stride, stride), ((k // 2, k // 2),) * 2, c if by_channel else 1, None)
        shapes = (n, px, px, c), (k, k, 1 if by_channel else c, d), geometry
        chosen |= {choice.choose_forward(*shapes)}
        chosen |= {choice.choose_input_gradient(*shapes), choice.choose_kernel_gradient(*shapes)}
    both_ways = ("native", "pointwise", "dense", "winograd", "shifted_multiply_adds")
    expected = {FORMS[form + part] for form in (*both_ways, "im2col") for part in ("", "_input_gradient")}
    expected |= {matmul.joined_im2col}
    assert chosen == expected | {FORMS[form + "_kernel_gradient"] for form in (*both_ways, "chunked", "transposed")}


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(7, 11), st.integers(7, 11)),
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.sampled_from(["SAME", "VALID"]) | st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2),
    groups=st.sampled_from([1, 3]),
    form=st.sampled_from(["chosen", "im2col", "joined_im2col", "dense"]),
)
def test_any_plain_or_depthwise_convolution(size, kernel, strides, padding, groups, form):
    x, w = arrays((2, *size, 3), (*kernel, 3 // groups, 3))
    kw = dict(window_strides=strides, padding=padding, feature_group_count=groups)
    if form == "chosen" or groups > 1:
        assert_same(x, w, **kw)
    else:
        assert_form_is_right(form, x, w, **kw)


@settings(max_examples=3, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(3, 11), st.integers(3, 11)),
    padding=st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2),
    images=st.integers(1, 3),
)
def test_winograd_of_any_size_and_padding(size, padding, images):
    x, w = arrays((images, *size, 3), (3, 3, 3, 5))
    assert_form_is_right("winograd", x, w, window_strides=(1, 1), padding=padding)


def assert_form_is_right(form, x, w, *, window_strides, padding, feature_group_count=1):
    """A form must be right also for shapes that are not given to it."""
    kw = dict(window_strides=window_strides, padding=padding, feature_group_count=feature_group_count)
    size, kernel, strides = x.shape[1:3], w.shape[:2], window_strides
    explicit = lax.padtype_to_pads(size, kernel, strides, padding) if isinstance(padding, str) else padding
    geometry = Geometry(strides, tuple(map(tuple, explicit)), 1, None)
    y, dx, dw = values_and_gradients(reference, x, w, **kw)
    g = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)

    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * float(jnp.abs(b).max()) + 1e-7)

    close(FORMS[form](x, w, geometry), y)
    if form == "joined_im2col":
        return
    kernel_gradients = ("chunked", "transposed") if form == "im2col" else (form,)
    close(FORMS[f"{form}_input_gradient"](w, g, geometry, x.shape, w.shape), dx)
    for name in kernel_gradients:
        close(FORMS[f"{name}_kernel_gradient"](x, g, geometry, x.shape, w.shape), dw)


@pytest.mark.parametrize(("px", "c", "k", "groups"), [(16, 64, 3, 1), (2, 64, 3, 1), (8, 32, 1, 1), (8, 32, 3, 32)])
def test_bfloat16(px, c, k, groups):
    x, w = arrays((2, px, px, c), (k, k, c // groups, c), dtype=jnp.bfloat16)
    padding = ((k // 2, k // 2),) * 2
    assert_same(x, w, tolerance=2e-2, window_strides=(1, 1), padding=padding, feature_group_count=groups)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "kw"),
    [
        ((2, 8, 8, 4), (3, 3, 4, 4), {"rhs_dilation": (2, 2)}),
        ((2, 8, 8, 4), (3, 3, 4, 4), {"lhs_dilation": (2, 1), "padding": ((1, 1), (1, 1))}),
        ((2, 8, 8, 4), (3, 3, 2, 4), {"feature_group_count": 2}),
        ((2, 8, 8, 4), (3, 3, 1, 8), {"feature_group_count": 4}),
        ((2, 4, 8, 8), (4, 4, 3, 3), {"dimension_numbers": ("NCHW", "OIHW", "NCHW")}),
        ((2, 8, 4), (3, 4, 4), {"dimension_numbers": ("NWC", "WIO", "NWC"), "window_strides": (2,)}),
        ((4, 8, 8, 4), (3, 3, 4, 4), {"batch_group_count": 2}),
    ],
)
def test_the_unusual_is_native(x_shape, w_shape, kw):
    kw = {"window_strides": (1, 1), "padding": "SAME", **kw}
    x, w = arrays(x_shape, w_shape)
    assert_same(x, w, tolerance=0, **kw)


def test_linen_takes_it_and_a_negative_padding_crops():
    x, w = arrays((2, 9, 9, 3), (3, 3, 3, 4))
    for padding in (((-1, 2), (0, -2)), ((-1, 1), (4, -1))):
        assert_same(x, w, window_strides=(1, 1), padding=padding)
    native, layer = (nn.Conv(4, (3, 3), 2, conv_general_dilated=f) for f in (None, conv.conv_general_dilated))
    variables = native.init(jax.random.key(0), x)
    ours = layer.apply(variables, x)
    np.testing.assert_allclose(ours, native.apply(variables, x), atol=1e-5)
    shape = jax.eval_shape(lambda x: layer.apply(variables, x), x)
    assert (shape.shape, shape.dtype) == (ours.shape, ours.dtype)


def test_a_batch_that_does_not_divide_and_images_larger_than_a_chunk(monkeypatch):
    for columns, tiles in ((4 * 4 * 64 * 9 * 16, 4 * 4 * 36 * 64), (1, 1)):
        monkeypatch.setattr(matmul, "CHUNK_BYTES", columns)
        monkeypatch.setattr(winograd, "TILE_BYTES", tiles)
        monkeypatch.setattr(winograd, "GRADIENT_TILE_BYTES", 2 * tiles)
        jax.clear_caches()  # Of forms that were traced with other limits.
        for n in (7, 8):
            assert_same(*arrays((n, 16, 16, 64), (3, 3, 64, 64)), window_strides=(2, 2), padding="SAME")
            assert_same(*arrays((n, 4, 4, 64), (3, 3, 64, 64)), window_strides=(1, 1), padding="SAME")
        assert_same(*arrays((3, 16, 16, 3), (3, 3, 3, 8)), window_strides=(2, 2), padding="SAME")


def test_columns_of_a_whole_batch_are_never_made():
    geometry = Geometry((2, 2), ((1, 1), (1, 1)), 1, None)
    x, w = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1024, 32, 32, 64), (3, 3, 64, 64)))
    program = jax.jit(lambda x, w: matmul.im2col(x, w, geometry)).lower(x, w).compile()
    assert program.memory_analysis().temp_size_in_bytes < 100 << 20 < column_bytes(x.shape, w.shape, geometry)


def test_on_the_cpu_a_1x1_is_no_convolution_and_elsewhere_it_is():
    x, w = arrays((2, 8, 8, 4), (1, 1, 4, 8))

    def text(convolve, platform):
        def loss(x, w):
            return (convolve(x, w, (2, 2), "SAME", dimension_numbers=DIMENSIONS) ** 2).sum()

        return jax.jit(jax.grad(loss)).trace(x, w).lower(lowering_platforms=(platform,)).as_text()

    for platform, convolve, convolutions in (
        ("cpu", conv.conv_general_dilated, 0),
        ("cpu", lax.conv_general_dilated, 2),
        ("cuda", conv.conv_general_dilated, 2),
        ("tpu", conv.conv_general_dilated, 2),
    ):
        assert text(convolve, platform).count("stablehlo.convolution") == convolutions
    assert "dot_general" not in text(conv.conv_general_dilated, "tpu")


@pytest.mark.skipif(
    jax.device_count() < 8, reason="needs 8 devices: XLA_FLAGS=--xla_force_host_platform_device_count=8"
)
@pytest.mark.parametrize(
    ("px", "c", "k", "stride", "groups"),
    [(16, 64, 3, 1, 1), (2, 64, 3, 1, 1), (16, 64, 3, 2, 1), (8, 32, 1, 2, 1), (8, 32, 3, 1, 32)],
)
def test_one_and_eight_devices_agree(px, c, k, stride, groups):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    x, w = arrays((16, px, px, c), (k, k, c // groups, c))
    kw = dict(window_strides=(stride, stride), padding=((k // 2, k // 2),) * 2, feature_group_count=groups)
    one = values_and_gradients(conv.conv_general_dilated, x, w, **kw)
    x = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    w = jax.device_put(w, NamedSharding(mesh, PartitionSpec()))
    eight = values_and_gradients(conv.conv_general_dilated, x, w, **kw)
    assert len(eight[0].sharding.device_set) == 8
    for a, b in zip(one, eight, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * float(jnp.abs(a).max()))


def test_max_pool_makes_no_choice_by_platform_where_it_is_not_differentiated():
    """ONNX has none."""
    assert "platform_index" not in str(jax.make_jaxpr(max_pool.max_pool)(jnp.zeros((1, 8, 8, 3))))


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (2, 7, 9, 3), (1, 1, 2, 1)])
def test_max_pool(shape):
    (x,) = arrays(shape)
    x = jnp.round(x.at[0].set(jnp.maximum(x[0], 0)), 1)  # with many ties, as after relu
    y, pullback = jax.vjp(lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))), x)
    ours, our_pullback = jax.vjp(max_pool.max_pool, x)
    np.testing.assert_array_equal(ours, y)
    np.testing.assert_array_equal(max_pool.max_pool(x), y)
    (g,) = arrays(y.shape)
    np.testing.assert_allclose(our_pullback(g)[0], pullback(g)[0], atol=1e-6)
