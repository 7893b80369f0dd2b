"""BYOL, bootstrap your own latent (Grill et al., 2020, arXiv:2006.07733), and SimSiam."""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl.errors import check_range
from jaxssl.models.heads import make_mlp
from jaxssl.objectives import (
    LossAndAux,
    Objective,
    Tree,
    apply_network,
    deinterleave,
    init_network,
    init_projected,
    interleave,
    losses,
    project,
)


def make(
    encoder: nn.Module,
    *,
    steps: int,
    hidden: int = 4096,
    projection: int = 256,
    ema: float = 0.996,
    predictor_rate: float = 1.0,
) -> Objective:
    """The online network predicts, from one view, the projection of the other view by the target network.

    The target network is the moving average of the online network.

    Args:
      encoder: the network to train.
      steps: of the whole training; the moving average no longer changes at its end.
      hidden: width of the hidden layer of projector and predictor.
      projection: width of their output.
      ema: decay of the moving average in the first step; rises to 1 along a cosine (section 3.3). With 0, which
        stays 0, the target is the online network itself: SimSiam (arXiv:2011.10566).
      predictor_rate: factor of the learning rate for the predictor. Above 1 it stays nearer to the best predictor of
        the changing targets, which keeps features from collapsing to few directions (section 5; `byol_ham:local`).

    Raises:
      UserError: `ema` or `predictor_rate` is out of its range.
    """
    check_range("pretrain.options.ema", ema, "[0, 1]")
    check_range("pretrain.options.predictor_rate", predictor_rate, "(0, inf)")
    projector, predictor = make_mlp(encoder, hidden, projection), make_mlp(encoder, hidden, projection)

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        keys = jax.random.split(key, 3)
        params, state = init_projected(encoder, projector, keys, batch["views"][0])
        params["predictor"], state["predictor"] = init_network(predictor, keys[2], jnp.zeros((1, projection)))
        target = {name: jax.tree.map(jnp.copy, params[name]) for name in ("encoder", "projector")}
        state["target"] = {name: jax.tree.map(jnp.copy, state[name]) for name in target}
        return params, state, target

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array) -> LossAndAux:
        del key
        image, state = interleave(batch["views"]), model_state
        pooled, z, online = project(encoder, projector, params, state, image, views=2)
        p, of_predictor = apply_network(predictor, params["predictor"], state["predictor"], z, train=True, views=2)
        _, t, of_target = project(encoder, projector, jax.lax.stop_gradient(target), state["target"], image, views=2)
        (p1, p2), (t1, t2) = deinterleave(p, 2), deinterleave(jax.lax.stop_gradient(t), 2)
        value = losses.regression(p1, t2) + losses.regression(p2, t1)
        metrics = {"features": deinterleave(pooled, 2)[0], "embedding_std": losses.embedding_std(t1)}
        return value.mean(), (online | {"predictor": of_predictor, "target": of_target}, metrics)

    def advance(target: Tree, params: Tree, step: jax.Array) -> Tree:
        tau = 1 - (1 - ema) * (jnp.cos(jnp.pi * step / steps) + 1) / 2 if ema else 0.0
        return optax.incremental_update({name: params[name] for name in target}, target, step_size=1 - tau)

    rates = () if predictor_rate == 1 else (("predictor", predictor_rate),)
    return Objective(init, loss, advance, views=2, rates=rates)
