"""What a network is trained for: one file an objective, each a bundle of pure functions."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl.models import heads
from jaxssl.objectives import losses

Tree = Any
_SHARED = ("losses",)  # Modules here that are no objective.
LossAndAux = tuple[jax.Array, tuple[Tree, dict[str, jax.Array]]]  # loss, (model_state, metrics)


def keep_target(target: Tree, params: Tree, step: jax.Array) -> Tree:
    """The `advance` of a target that nothing moves."""
    del params, step
    return target


class Objective(NamedTuple):
    """To jaxssl what `GradientTransformation` is to optax.

    A batch holds "views", a tuple of `views` augmented versions [B, H, W, C] float32 of the same images, and "label"
    [B] int32 (negative: unknown). `params` and `model_state` (batch statistics) are dictionaries by network, of which
    "encoder" is the one that is carried on. The metrics are scalars, and "features" [B, D] for the online probe.

    Attributes:
      init: (key, batch) -> params, model_state, target.
      loss: (params, model_state, target, batch, key) -> loss, (model_state, metrics).
      advance: (target, params, step) -> target; the identity but for a moving average.
      views: how many augmented views of each image the loss wants.
      first_loss: batch size -> the loss that theory expects of an untrained network, or None.
      supervised: whether the loss reads labels. Then training sees those images alone whose labels may be used, and
        no result calls the encoder self-supervised.
      constant_target: whether `init` makes the same target each time and nothing moves it, such as a teacher:
        checkpoints do not hold it.
    """

    init: Callable[[jax.Array, dict], tuple[Tree, Tree, Tree]]
    loss: Callable[[Tree, Tree, Tree, dict, jax.Array], LossAndAux]
    advance: Callable[[Tree, Tree, jax.Array], Tree] = keep_target
    views: int = 1
    first_loss: Callable[[int], float] | None = None
    supervised: bool = False
    constant_target: bool = False


def available() -> list[str]:
    return sorted({module.name for module in pkgutil.iter_modules(__path__)} - {*_SHARED})


def load(name: str) -> Callable[..., Objective]:
    """The `make(encoder, *, classes, steps, **kw)` of the objective called `name`."""
    return importlib.import_module(f"{__name__}.{name}").make


def options(name: str) -> dict[str, Any]:
    """Return the options of an objective (`pretrain.options`) with their defaults, from the signature of its `make`.

    >>> options("ntxent")
    {'hidden': 512, 'projection': 128, 'temperature': 0.1}
    """
    parameters = inspect.signature(load(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind == p.KEYWORD_ONLY and p.default is not p.empty}


def init_network(module: nn.Module, key: jax.Array, x: jax.Array) -> tuple[Tree, Tree]:
    """Parameters and state (batch statistics, or {}) of a linen module that takes `x` and `train`."""
    variables = module.init(key, x, train=False)
    return variables["params"], {k: v for k, v in variables.items() if k != "params"}


def pooled_like(encoder: nn.Module, image: jax.Array) -> jax.Array:
    """Zeros of the shape of the encoder's pooled features, for initialising what stands on it."""
    shapes = jax.eval_shape(lambda key: encoder.init_with_output(key, image, train=False)[0], jax.random.key(0))
    return jnp.zeros(shapes["pooled"].shape)


@partial(jax.jit, static_argnums=0, static_argnames=("train", "views"))
def apply_network(
    module: nn.Module, params: Tree, state: Tree, x: jax.Array, *, train: bool, views: int = 1
) -> tuple[Any, Tree]:
    """Output and new state of a linen module; the state is new only when training."""
    if not train:
        return module.apply({"params": params, **state}, x, train=False), state
    kw = {"views": views} if views > 1 else {}
    return module.apply({"params": params, **state}, x, train=True, mutable=list(state), **kw)


def init_projected(encoder: nn.Module, projector: nn.Module, keys: jax.Array, image: jax.Array) -> tuple[Tree, Tree]:
    """Parameters and state of an "encoder" and of a "projector" on its pooled features; of `keys` one for each."""
    params, state = {}, {}
    params["encoder"], state["encoder"] = init_network(encoder, keys[0], image)
    params["projector"], state["projector"] = init_network(projector, keys[1], pooled_like(encoder, image))
    return params, state


def interleave(views: Sequence[jax.Array]) -> jax.Array:
    """V arrays [B, ...] as one [B * V, ...]: the views of an image one after the other, so all stay on its device."""
    return jnp.stack(views, axis=1).reshape(-1, *views[0].shape[1:])


def deinterleave(x: jax.Array, views: int) -> list[jax.Array]:
    """What `interleave` made one."""
    x = x.reshape(-1, views, *x.shape[1:])
    return [x[:, i] for i in range(views)]


def project(
    encoder: nn.Module, projector: nn.Module, params: Tree, state: Tree, image: jax.Array, views: int
) -> tuple[jax.Array, jax.Array, Tree]:
    """Pooled features and their projection of interleaved views, in one pass, and the state after this batch.

    Batch statistics are of each view apart, as if one view after the other had passed.
    """
    out, of_encoder = apply_network(encoder, params["encoder"], state["encoder"], image, train=True, views=views)
    pooled = out["pooled"]
    z, of_projector = apply_network(projector, params["projector"], state["projector"], pooled, train=True, views=views)
    return pooled, z, state | {"encoder": of_encoder, "projector": of_projector}


def with_online_probe(objective: Objective, classes: int) -> Objective:
    """The same objective beside a linear classifier on its features, through which no gradient reaches the encoder.

    The probe learns in the same step from the labels at hand; its loss is not part of the loss that is reported.
    """
    head = heads.Linear(classes)

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        params, model_state, target = objective.init(key, batch)
        _, (_, metrics) = jax.eval_shape(objective.loss, params, model_state, target, batch, key)
        features = jnp.zeros(metrics["features"].shape)
        return params | {"online_probe": init_network(head, key, features)[0]}, model_state, target

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array) -> LossAndAux:
        value, (model_state, metrics) = objective.loss(params, model_state, target, batch, key)
        features = jax.lax.stop_gradient(metrics.pop("features"))
        logits, _ = apply_network(head, params["online_probe"], {}, features, train=False)
        count = jnp.maximum((batch["label"] >= 0).sum(), 1)
        probe_loss = losses.cross_entropy(logits, batch["label"]).sum() / count
        metrics |= {"loss": value, "online_probe_accuracy": losses.accuracy(logits, batch["label"])}
        return value + probe_loss, (model_state, metrics)

    return objective._replace(init=init, loss=loss)
