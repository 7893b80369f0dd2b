"""The table on which the choice of forms in `jaxssl/models/conv.py` rests: milliseconds on this CPU.

For each convolution of the encoders, the forward pass, the input gradient and the kernel gradient in each
form; `*` marks the one that is chosen. Each number is the least of several rounds, the forms taking turns, so
that another program on the machine disturbs them alike. At the end, whole training steps of a ResNet-18.

    python launch/benchmarks/measure_conv.py                  # everything, about six minutes on two cores
    python launch/benchmarks/measure_conv.py --only narrow    # one group: resnet18 resnet50 small narrow depthwise pool steps
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
from jax import lax

from jaxssl.models import conv

# px, channels in, channels out, kernel, stride
SHAPES = {
    "resnet18": (
        (64, 3, 64, 7, 2),
        (16, 64, 64, 3, 1),
        (16, 64, 128, 3, 2),
        (16, 64, 128, 1, 2),
        (8, 128, 128, 3, 1),
        (8, 128, 256, 3, 2),
        (8, 128, 256, 1, 2),
        (4, 256, 256, 3, 1),
        (4, 256, 512, 3, 2),
        (4, 256, 512, 1, 2),
        (2, 512, 512, 3, 1),
        (1, 512, 512, 3, 1),
    ),
    "resnet50": (
        (16, 64, 64, 1, 1),
        (16, 64, 256, 1, 1),
        (16, 256, 64, 1, 1),
        (16, 256, 512, 1, 2),
        (8, 512, 128, 1, 1),
        (4, 256, 1024, 1, 1),
        (2, 512, 2048, 1, 1),
        (2, 2048, 512, 1, 1),
    ),
    "small": (
        (28, 1, 16, 3, 1),
        (32, 3, 64, 3, 1),
        (64, 3, 32, 3, 1),
        (32, 64, 64, 3, 1),
        (32, 64, 128, 3, 2),
        (64, 32, 32, 3, 1),
    ),
    "narrow": (
        (64, 3, 16, 7, 2),
        (28, 16, 16, 3, 1),
        (16, 16, 16, 3, 1),
        (16, 16, 32, 3, 2),
        (8, 32, 32, 3, 1),
        (8, 32, 64, 3, 2),
        (4, 64, 64, 3, 1),
        (4, 64, 128, 3, 2),
        (2, 128, 128, 3, 1),
        (16, 16, 32, 1, 2),
    ),
    "depthwise": (
        (32, 96, 96, 3, 1),
        (32, 96, 96, 3, 2),
        (16, 144, 144, 5, 1),
        (16, 144, 144, 5, 2),
        (8, 480, 480, 3, 1),
    ),
}


def milliseconds(forms: dict[str, Callable], *args: jax.Array, rounds: int = 5) -> dict[str, float]:
    """The least time of each form over the rounds, compilation apart."""
    compiled = {name: jax.jit(form) for name, form in forms.items()}
    least = dict.fromkeys(forms, float("inf"))
    for form in compiled.values():
        jax.block_until_ready(form(*args))
    for _ in range(rounds):
        for name, form in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(form(*args))
            least[name] = min(least[name], 1e3 * (time.perf_counter() - start))
    return least


def shifted_matmuls(x: jax.Array, w: jax.Array, geometry: conv.Geometry) -> jax.Array:
    products = zip(conv.taps(x, w.shape, geometry), w.reshape(-1, *w.shape[2:]), strict=True)
    return sum(view @ tap for view, tap in products)


def gradient_of(form: Callable, argument: int) -> Callable:
    """The input (0) or kernel (1) gradient of a forward form, by differentiating it."""

    def gradient(kept, g, geometry, x_shape, w_shape):
        shape = (x_shape, w_shape)[argument]
        both = (lambda a: form(a, kept, geometry)) if argument == 0 else (lambda a: form(kept, a, geometry))
        return jax.linear_transpose(both, jax.ShapeDtypeStruct(shape, g.dtype))(g)[0]

    return gradient


def candidates(x_shape: tuple, w_shape: tuple, geometry: conv.Geometry) -> tuple[dict[str, Callable], ...]:
    """The forms of the forward pass, the input gradient and the kernel gradient that fit the shape."""
    if geometry.groups > 1:
        return (
            {"native": conv.native, "shifted": conv.shifted_multiply_adds},
            {"native": conv.native_input_gradient, "shifted": conv.shifted_multiply_adds_input_gradient},
            {"native": conv.native_kernel_gradient, "shifted": conv.shifted_multiply_adds_kernel_gradient},
        )
    if conv.is_pointwise(w_shape, geometry):
        return (
            {"native": conv.native, "matmul": conv.pointwise},
            {"native": conv.native_input_gradient, "matmul": conv.pointwise_input_gradient},
            {"native": conv.native_kernel_gradient, "matmul": conv.pointwise_kernel_gradient},
        )
    forward = {"native": conv.native, "im2col": conv.im2col, "shifted": shifted_matmuls}
    input_gradient = {
        "native": conv.native_input_gradient,
        "im2col": conv.im2col_input_gradient,
        "shifted": gradient_of(shifted_matmuls, 0),
    }
    kernel_gradient = {
        "native": conv.native_kernel_gradient,
        "im2col": gradient_of(conv.im2col, 1),
        "chunks": conv.chunked_kernel_gradient,
    }
    if conv.fits_winograd(w_shape, geometry):
        forward["winograd"] = conv.winograd
        input_gradient["winograd"] = conv.winograd_input_gradient
        kernel_gradient["winograd"] = conv.winograd_kernel_gradient
    if math.prod(x_shape[1:3]) <= 16:
        forward["dense"] = conv.dense
        input_gradient["dense"] = conv.dense_input_gradient
        kernel_gradient["dense"] = conv.dense_kernel_gradient
    return forward, input_gradient, kernel_gradient


def measure(batch: int, px: int, channels: int, features: int, k: int, stride: int, groups: int) -> str:
    """One line of the table."""
    geometry = conv.Geometry((stride, stride), ((k // 2, k // 2),) * 2, groups, None)
    x = jax.random.normal(jax.random.key(0), (batch, px, px, channels))
    w = jax.random.normal(jax.random.key(1), (k, k, channels // groups, features)) / k
    g = conv.native(x, w, geometry)
    static = dict(geometry=geometry, x_shape=x.shape, w_shape=w.shape)
    forward, input_gradient, kernel_gradient = candidates(x.shape, w.shape, geometry)
    columns = (
        (forward, conv.choose_forward, (x, w), dict(geometry=geometry)),
        (input_gradient, conv.choose_input_gradient, (w, g), static),
        (kernel_gradient, conv.choose_kernel_gradient, (x, g), static),
    )
    cells = []
    for forms, choose, args, kw in columns:
        chosen = choose(x.shape, w.shape, geometry)
        times = milliseconds({name: partial(form, **kw) for name, form in forms.items()}, *args)
        cells.append("  ".join(f"{name} {times[name]:6.1f}{'*' if forms[name] == chosen else ' '}" for name in forms))
    kind = "dw" if groups > 1 else f"{k}x{k}"
    gflop = 2e-9 * g.size * k * k * channels / groups
    return f"{px:2d}px {channels:4d}->{features:<4d} {kind} s{stride} {gflop:5.2f} GFLOP | " + " | ".join(cells)


class Block(nn.Module):
    features: int
    stride: int
    convolve: Callable

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv_ = partial(nn.Conv, use_bias=False, conv_general_dilated=self.convolve)
        norm = partial(nn.BatchNorm, use_running_average=False)
        strides, pad = (self.stride, self.stride), ((1, 1), (1, 1))
        y = nn.relu(norm()(conv_(self.features, (3, 3), strides, padding=pad)(x)))
        y = norm()(conv_(self.features, (3, 3), padding=pad)(y))
        if x.shape != y.shape:
            x = norm()(conv_(self.features, (1, 1), strides, padding=((0, 0), (0, 0)))(x))
        return nn.relu(x + y)


class ResNet18(nn.Module):
    convolve: Callable
    pool: Callable
    width: int = 64

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        pad = ((3, 3), (3, 3))
        stem = nn.Conv(self.width, (7, 7), (2, 2), pad, use_bias=False, conv_general_dilated=self.convolve)
        x = self.pool(nn.relu(nn.BatchNorm(use_running_average=False)(stem(x))))
        for i in range(8):
            stride = 2 if i in (2, 4, 6) else 1
            x = Block(self.width * 2 ** (i // 2), stride, self.convolve)(x)
        return nn.Dense(10)(x.mean((1, 2)))


def step(batch: int, model: ResNet18) -> float:
    """Milliseconds of a forward and backward pass of the model at 64 px."""
    x = jax.random.normal(jax.random.key(0), (batch, 64, 64, 3))
    variables = jax.jit(model.init)(jax.random.key(0), x)
    params, stats = variables["params"], variables["batch_stats"]

    def loss(params, x):
        y, _ = model.apply({"params": params, "batch_stats": stats}, x, mutable=["batch_stats"])
        return (y**2).mean()

    return milliseconds({"step": jax.grad(loss)}, params, x)["step"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--only", choices=(*SHAPES, "pool", "steps"))
    args = parser.parse_args()
    wanted = (*SHAPES, "pool", "steps") if args.only is None else (args.only,)
    for name, shapes in SHAPES.items():
        if name in wanted:
            print(f"{name}, batch {args.batch}: milliseconds forward | input gradient | kernel gradient")
            for shape in shapes:
                print(measure(args.batch, *shape, groups=shape[1] if name == "depthwise" else 1), flush=True)
    if "pool" in wanted:
        x = nn.relu(jax.random.normal(jax.random.key(0), (args.batch, 32, 32, 64)))
        forms = {"native": conv.native_max_pool, "shifted": conv.max_pool}
        backward = {name: lambda x, f=form: jax.vjp(f, x)[1](f(x))[0] for name, form in forms.items()}
        print(f"max_pool 32px 64 channels, forward and backward: {milliseconds(backward, x)}", flush=True)
    if "steps" in wanted:
        for label, convolve, pool, width in (
            ("native", lax.conv_general_dilated, conv.native_max_pool, 64),
            ("ours", conv.conv_general_dilated, conv.max_pool, 64),
            ("native, width 16", lax.conv_general_dilated, conv.native_max_pool, 16),
            ("ours, width 16", conv.conv_general_dilated, conv.max_pool, 16),
        ):
            taken = step(args.batch, ResNet18(convolve, pool, width))
            print(f"ResNet-18 step, {label}: {taken:.0f} ms, {1e3 * args.batch / taken:.0f} images/s", flush=True)


if __name__ == "__main__":
    main()
