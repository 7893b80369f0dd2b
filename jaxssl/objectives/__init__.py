"""Training objectives: one file per objective, each with a function `make(encoder, *, ...) -> Objective`.

Keyword arguments of `make` that are named in `CONTEXT` come from the caller; all others are options of the objective,
which the config sets in `pretrain.options`. To add an objective is to add a file.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import option_calls
from jaxssl.errors import UserError, did_you_mean
from jaxssl.models import heads
from jaxssl.objectives import losses

Tree = Any
LossAndAux = tuple[jax.Array, tuple[Tree, dict[str, jax.Array]]]  # loss, (model_state, metrics)

CONTEXT = ("classes", "steps", "teacher")
"""Number of classes, steps of the whole training, and a trained network (`distill.Teacher`)."""

TEACHER_OPTIONS = {"teacher": "", "evaluation": "", "teacher_size": 0}
"""Options of an objective with a teacher: the workdir of a finished run and one of its networks ("": the pretrained
encoder), or a file of weights and the prefix of one network in it; the side in pixels of the teacher's images (0: that
of its run, or of the student with published weights). The caller of `make` loads it."""

_SHARED = ("losses", "segmentation")  # Modules here that are no objectives of pretraining.


def keep_target(target: Tree, params: Tree, step: jax.Array) -> Tree:
    """The `advance` of a constant target."""
    del params, step
    return target


class Objective(NamedTuple):
    """Pure functions of a training objective, as `GradientTransformation` is of an optimizer in optax.

    A batch holds "views", a tuple of `views` augmented versions [B, H, W, C] float32 of the same images, and "label"
    [B] int32 (negative: unknown). `params` and `model_state` (batch statistics) are dictionaries by network; "encoder"
    is the one that is kept after training. The metrics are scalars, and "features" [B, D] for the online probe.

    Attributes:
      init: (key, batch) -> params, model_state, target.
      loss: (params, model_state, target, batch, key) -> loss, (model_state, metrics).
      advance: (target, params, step) -> target; the identity except for a moving average.
      views: number of augmented views of each image that the loss takes.
      first_loss: batch size -> the loss that theory expects of an untrained network; None if unknown.
      supervised: whether the loss reads labels. Training then uses only images whose labels may be used, and no result
        calls the encoder self-supervised.
      constant_target: whether `init` makes the same target each time and nothing changes it, such as a teacher;
        checkpoints do not hold it.
      min_images: images that a part of a batch must hold: 2 if the other images are the negatives.
      rates: (name, factor of the learning rate) of each network that learns faster or slower than the others.
    """

    init: Callable[[jax.Array, dict], tuple[Tree, Tree, Tree]]
    loss: Callable[[Tree, Tree, Tree, dict, jax.Array], LossAndAux]
    advance: Callable[[Tree, Tree, jax.Array], Tree] = keep_target
    views: int = 1
    first_loss: Callable[[int], float] | None = None
    supervised: bool = False
    constant_target: bool = False
    min_images: int = 1
    rates: tuple[tuple[str, float], ...] = ()


def available() -> list[str]:
    """Return the names of all objectives, sorted."""
    return sorted({module.name for module in pkgutil.iter_modules(__path__)} - {*_SHARED})


def find(name: str) -> Callable[..., Objective]:
    """Return the function `make` of an objective.

    Raises:
      UserError: there is no objective of this name.
    """
    if name not in available():
        raise UserError(
            f"pretrain.objective={name!r} is unknown: {did_you_mean(name, available())}"
            f"valid names: {', '.join(available())}",
            code="unknown-name",
            field="pretrain.objective",
        )
    return importlib.import_module(f"{__name__}.{name}").make


def has_teacher(name: str) -> bool:
    """Return whether an objective needs a teacher in its context."""
    return "teacher" in option_calls.defaults(find(name), ())


def options(name: str) -> dict[str, Any]:
    """Return the options of an objective (`pretrain.options`) with their defaults, from the signature of its `make`.

    >>> options("ntxent")
    {'hidden': 512, 'projection': 128, 'temperature': 0.1, 'dense': 0.0}

    Raises:
      UserError: there is no objective of this name.
    """
    of_teacher = TEACHER_OPTIONS if has_teacher(name) else {}
    return of_teacher | option_calls.defaults(find(name), CONTEXT)


def make(name: str, encoder: nn.Module, context: Mapping[str, Any], options: Mapping[str, Any]) -> Objective:
    """Make an objective.

    Args:
      name: one of `available()`.
      encoder: the network to train.
      context: values for `CONTEXT`; those that the objective does not use may be missing.
      options: see `options`.

    Raises:
      UserError: the name or an option is unknown, or an option is out of its range.
    """
    if has_teacher(name):
        options = {key: value for key, value in options.items() if key not in TEACHER_OPTIONS}
    return option_calls.call(
        find(name),
        encoder,
        context=dict.fromkeys(CONTEXT) | dict(context),
        options=options,
        no_options=CONTEXT,
        section="pretrain.options",
        name=name,
    )


def init_network(module: nn.Module, key: jax.Array, x: jax.Array | dict[str, jax.Array]) -> tuple[Tree, Tree]:
    """Return parameters and state (batch statistics, or {}) of a linen module that takes `x` and `train`."""
    variables = module.init(key, x, train=False)
    return variables["params"], {k: v for k, v in variables.items() if k != "params"}


def output_like(encoder: nn.Module, image: jax.Array) -> dict[str, jax.Array]:
    """Return zeros of the shapes of the encoder's output, to initialize the heads on it."""
    shapes = jax.eval_shape(lambda key: encoder.init_with_output(key, image, train=False)[0], jax.random.key(0))
    return {name: jnp.zeros(shapes[name].shape) for name in ("pooled", "tokens", "map") if name in shapes}


def pooled_like(encoder: nn.Module, image: jax.Array) -> jax.Array:
    """Return zeros of the shape of the encoder's pooled features."""
    return output_like(encoder, image)["pooled"]


@partial(jax.jit, static_argnums=0, static_argnames=("train", "views"))
def apply_network(
    module: nn.Module,
    params: Tree,
    state: Tree,
    x: jax.Array | dict[str, jax.Array],
    *,
    train: bool,
    views: int = 1,
    drop_path_key: jax.Array | None = None,
) -> tuple[Any, Tree]:
    """Return output and state of a linen module; the state changes only in training."""
    if not train:
        return module.apply({"params": params, **state}, x, train=False), state
    kw: dict[str, Any] = {"views": views} if views > 1 else {}
    if drop_path_key is not None:
        kw["rngs"] = {"drop_path": drop_path_key}
    return module.apply({"params": params, **state}, x, train=True, mutable=list(state), **kw)


def init_projected(encoder: nn.Module, projector: nn.Module, keys: jax.Array, image: jax.Array) -> tuple[Tree, Tree]:
    """Return parameters and state of an "encoder" and of a "projector" on its pooled features, of one key each."""
    params, state = {}, {}
    params["encoder"], state["encoder"] = init_network(encoder, keys[0], image)
    params["projector"], state["projector"] = init_network(projector, keys[1], pooled_like(encoder, image))
    return params, state


def interleave(views: Sequence[jax.Array]) -> jax.Array:
    """V arrays [B, ...] -> [B * V, ...]: the views of an image one after the other, so that they stay on its device."""
    return jnp.stack(views, axis=1).reshape(-1, *views[0].shape[1:])


def deinterleave(x: jax.Array, views: int) -> list[jax.Array]:
    """Inverse of `interleave`: [B * V, ...] -> V arrays [B, ...]."""
    x = x.reshape(-1, views, *x.shape[1:])
    return [x[:, i] for i in range(views)]


def project(
    encoder: nn.Module, projector: nn.Module, params: Tree, state: Tree, image: jax.Array, views: int
) -> tuple[jax.Array, jax.Array, Tree]:
    """Return pooled features and projections of interleaved views, in one pass, and the state after this batch.

    Batch statistics are computed per view, as if the views were passed one after the other.
    """
    out, of_encoder = apply_network(encoder, params["encoder"], state["encoder"], image, train=True, views=views)
    pooled = out["pooled"]
    z, of_projector = apply_network(projector, params["projector"], state["projector"], pooled, train=True, views=views)
    return pooled, z, state | {"encoder": of_encoder, "projector": of_projector}


def with_average(objective: Objective, decay: float) -> Objective:
    """Keep an exponential moving average of all parameters as the target (Polyak and Juditsky, 1992), to be evaluated.

    After step t it keeps min(decay, (1 + t) / (10 + t)) of itself, as TensorFlow's `ExponentialMovingAverage`, so that
    it does not stay at the initial weights in a short training. The objective must not use its target.
    """

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        params, model_state, _ = objective.init(key, batch)
        return params, model_state, jax.tree.map(jnp.copy, params)

    def advance(target: Tree, params: Tree, step: jax.Array) -> Tree:
        return optax.incremental_update(params, target, 1 - jnp.minimum(decay, (1 + step) / (10 + step)))

    return objective._replace(init=init, advance=advance)


def with_online_probe(objective: Objective, classes: int) -> Objective:
    """Add an online linear probe to an objective: a linear classifier on its features, without gradient to the encoder.

    The probe learns in the same step from the labels of the batch; its loss is not part of the reported loss.
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
