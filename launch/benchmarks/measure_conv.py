"""Time the forms of each convolution on this CPU: the table behind the choices in `jaxssl/models/cpu_conv/choice.py`.

Prints the milliseconds of the forward pass, the input gradient and the kernel gradient of each convolution of the
encoders, in each form; `*` marks the form that jaxssl chooses. Each number is the minimum of several rounds. The forms
alternate, so that other programs on the machine disturb them alike. At the end: whole training steps of a ResNet-18.

    python launch/benchmarks/measure_conv.py                  # all, about six minutes on two cores
    python launch/benchmarks/measure_conv.py --only narrow    # one of GROUPS
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
from jax import lax

from jaxssl import models
from jaxssl.models import resnet
from jaxssl.models.cpu_conv import choice, conv, depthwise, matmul, max_pool, native, winograd
from jaxssl.models.cpu_conv.geometry import Geometry, is_pointwise
from jaxssl.models.linear import MIXED
from jaxssl.training import runtime

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
GROUPS = (*SHAPES, "pool", "steps")


def time_forms(forms: dict[str, Callable], *args: jax.Array, rounds: int = 5) -> dict[str, float]:
    """Return the shortest time of each form in milliseconds, without compilation."""
    compiled = {name: jax.jit(form) for name, form in forms.items()}
    shortest = dict.fromkeys(forms, float("inf"))
    for form in compiled.values():
        jax.block_until_ready(form(*args))
    for _ in range(rounds):
        for name, form in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(form(*args))
            shortest[name] = min(shortest[name], 1e3 * (time.perf_counter() - start))
    return shortest


def candidates(x_shape: tuple, w_shape: tuple, geometry: Geometry) -> tuple[dict[str, Callable], ...]:
    """Return {name: form} of the forward pass, the input gradient and the kernel gradient that fit the shape."""
    if geometry.groups > 1:
        return (
            {"native": native.native, "shifted": depthwise.shifted_multiply_adds},
            {"native": native.native_input_gradient, "shifted": depthwise.shifted_multiply_adds_input_gradient},
            {"native": native.native_kernel_gradient, "shifted": depthwise.shifted_multiply_adds_kernel_gradient},
        )
    if is_pointwise(w_shape, geometry):
        return (
            {"native": native.native, "matmul": matmul.pointwise},
            {"native": native.native_input_gradient, "matmul": matmul.pointwise_input_gradient},
            {"native": native.native_kernel_gradient, "matmul": matmul.pointwise_kernel_gradient},
        )
    forward = {"native": native.native, "im2col": matmul.im2col}
    input_gradient = {"native": native.native_input_gradient, "im2col": matmul.im2col_input_gradient}
    kernel_gradient = {
        "native": native.native_kernel_gradient,
        "chunks": matmul.chunked_kernel_gradient,
        "transposed": matmul.transposed_kernel_gradient,
    }
    if geometry.strides != (1, 1):
        forward["joined"] = matmul.joined_im2col
    if winograd.fits_winograd(w_shape, geometry):
        forward["winograd"] = winograd.winograd
        input_gradient["winograd"] = winograd.winograd_input_gradient
        kernel_gradient["winograd"] = winograd.winograd_kernel_gradient
    if math.prod(x_shape[1:3]) <= 16:
        forward["dense"] = matmul.dense
        input_gradient["dense"] = matmul.dense_input_gradient
        kernel_gradient["dense"] = matmul.dense_kernel_gradient
    return forward, input_gradient, kernel_gradient


def measure(
    batch: int, px: int, channels: int, features: int, k: int, stride: int, *, groups: int, precision: Any
) -> str:
    """Return one line of the table."""
    geometry = Geometry((stride, stride), ((k // 2, k // 2),) * 2, groups, precision)
    x = jax.random.normal(jax.random.key(0), (batch, px, px, channels))
    w = jax.random.normal(jax.random.key(1), (k, k, channels // groups, features)) / k
    g = native.native(x, w, geometry)
    static = dict(geometry=geometry, x_shape=x.shape, w_shape=w.shape)
    forward, input_gradient, kernel_gradient = candidates(x.shape, w.shape, geometry)
    columns = (
        (forward, choice.choose_forward, (x, w), dict(geometry=geometry)),
        (input_gradient, choice.choose_input_gradient, (w, g), static),
        (kernel_gradient, choice.choose_kernel_gradient, (x, g), static),
    )
    cells = []
    for forms, choose, args, kw in columns:
        chosen = choose(x.shape, w.shape, geometry)
        times = time_forms({name: partial(form, **kw) for name, form in forms.items()}, *args)
        cells.append("  ".join(f"{name} {times[name]:6.1f}{'*' if forms[name] == chosen else ' '}" for name in forms))
    kind = "dw" if groups > 1 else f"{k}x{k}"
    gflop = 2e-9 * g.size * k * k * channels / groups
    return f"{px:2d}px {channels:4d}->{features:<4d} {kind} s{stride} {gflop:5.2f} GFLOP | " + " | ".join(cells)


def time_step(batch: int, width: int, convolve: Callable, pool: Callable) -> float:
    """Return the milliseconds of a forward and backward pass of a ResNet-18 at 64 px."""
    x = jax.random.normal(jax.random.key(0), (batch, 64, 64, 3))
    with mock.patch.multiple(resnet, conv_general_dilated=convolve, max_pool=pool):
        model = models.find("resnet18")(stem="imagenet", width=width)
        variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), x)

        def loss(params: dict, x: jax.Array) -> jax.Array:
            y, _ = model.apply(variables | {"params": params}, x, train=True, mutable=["batch_stats"])
            return (y["pooled"] ** 2).mean()

        return time_forms({"step": jax.grad(loss)}, variables["params"], x)["step"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--only", choices=GROUPS)
    parser.add_argument("--mixed", action="store_true", help="convolutions in mixed precision")
    args = parser.parse_args()
    runtime.configure()
    precision = MIXED if args.mixed else None
    wanted = GROUPS if args.only is None else (args.only,)
    for name, shapes in SHAPES.items():
        if name in wanted:
            print(f"{name}, batch {args.batch}: milliseconds forward | input gradient | kernel gradient")
            for shape in shapes:
                groups = shape[1] if name == "depthwise" else 1
                print(measure(args.batch, *shape, groups=groups, precision=precision), flush=True)
    if "pool" in wanted:
        x = nn.relu(jax.random.normal(jax.random.key(0), (args.batch, 32, 32, 64)))
        forms = {"native": max_pool.native_max_pool, "shifted": max_pool.max_pool}
        backward = {name: lambda x, f=form: jax.vjp(f, x)[1](f(x))[0] for name, form in forms.items()}
        print(f"max_pool 32px 64 channels, forward and backward: {time_forms(backward, x)}", flush=True)
    if "steps" in wanted:
        for width in (64, 16):
            for label, *forms in (
                ("native", lax.conv_general_dilated, max_pool.native_max_pool),
                ("jaxssl", conv.conv_general_dilated, max_pool.max_pool),
            ):
                ms = time_step(args.batch, width, *forms)
                speed = f"{ms:.0f} ms, {1e3 * args.batch / ms:.0f} images/s"
                print(f"ResNet-18 step, width {width}, {label}: {speed}", flush=True)


if __name__ == "__main__":
    runtime.restart()
    main()
