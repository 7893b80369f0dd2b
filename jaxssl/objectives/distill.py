"""Knowledge distillation: a student learns the output of a trained teacher for each view.

On logits Hinton et al. (2015, arXiv:1503.02531), on features FitNets (Romero et al., 2015, arXiv:1412.6550).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl.errors import UserError, check_range
from jaxssl.models.heads import Linear, classifier_of
from jaxssl.objectives import LossAndAux, Objective, Tree, apply_network, init_network, losses, pooled_like


class Teacher(NamedTuple):
    """A trained network.

    Attributes:
      name: for messages.
      apply: (variables, image [B, H, W, C] float32) -> pooled features [B, D], in evaluation mode.
      variables: of `apply`.
      channels: C.
      head: parameters of a `heads.Classifier` on the features; None for an encoder alone.
      classes: of the head, in its order.
      supervised: whether it was trained with labels.
    """

    name: str
    apply: Callable[[Tree, jax.Array], jax.Array]
    variables: Tree
    channels: int
    head: Tree | None = None
    classes: tuple[str, ...] = ()
    supervised: bool = False


def make(
    encoder: nn.Module,
    *,
    classes: int,
    teacher: Teacher,
    on: str = "features",
    temperature: float = 4.0,
    label_weight: float = 0.0,
) -> Objective:
    """The student sees the same view as the teacher, which is in evaluation mode and gets no gradient.

    On "features", a linear predictor maps the student's pooled features to the teacher's; the loss is their squared
    distance at unit length (FitNets' regression without the scale). Over the initial predictors, which are as likely as
    their negatives, it is 2 on average, with a standard deviation of at most 2 / sqrt(D) for D features of the teacher.

    On "logits", the loss is the KL divergence between the softened predictions of both heads, at weight
    1 - `label_weight`, plus the cross-entropy with the label, at weight `label_weight`. Images without a label enter
    only the former.

    Args:
      encoder: the student.
      classes: number of classes; 0 if they are not known yet.
      teacher: gets the images of the student, and scales them as its own were.
      on: "features" or "logits".
      temperature: divides the logits; the loss is multiplied by its square. Unused on "features".
      label_weight: in [0, 1]; 0 on "features".

    Raises:
      UserError: an option is out of its range or the teacher does not fit; from `init`, the views do not have the
        channels of the teacher.
    """
    check_options(on, temperature, label_weight)
    if on == "logits":
        check_head(teacher, classes)
    head = Linear(classes)

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        keys = jax.random.split(key)
        (image,) = batch["views"]
        check_channels(teacher, image.shape[-1])
        params, state = {}, {}
        params["encoder"], state["encoder"] = init_network(encoder, keys[0], image)
        pooled = pooled_like(encoder, image)
        # Copies, since a training step may donate the arrays that it is given.
        target = {"teacher_encoder": jax.tree.map(jnp.array, teacher.variables)}
        if on == "logits":
            params["head"], _ = init_network(head, keys[1], pooled)
            target["teacher_head"] = jax.tree.map(jnp.array, teacher.head)
        else:
            width = jax.eval_shape(teacher.apply, teacher.variables, image).shape[-1]
            params["predictor"] = nn.Dense(width).init(keys[1], pooled)["params"]
        return params, state, target

    def features_loss(params: Tree, target: Tree, pooled: jax.Array, expected: jax.Array, label: jax.Array):
        del target, label
        prediction: Any = nn.Dense(expected.shape[-1]).apply({"params": params["predictor"]}, pooled)
        return losses.regression(prediction, expected), {}

    def logits_loss(params: Tree, target: Tree, pooled: jax.Array, expected: jax.Array, label: jax.Array):
        logits, _ = apply_network(head, params["head"], {}, pooled, train=True)
        of_teacher = classifier_of(classes, target["teacher_head"])
        soft, _ = apply_network(of_teacher, target["teacher_head"], {}, {"pooled": expected}, train=False)
        value = (1 - label_weight) * losses.kl_divergence(soft, logits, temperature)
        value += label_weight * losses.cross_entropy(logits, label)
        return value, {"accuracy": losses.accuracy(logits, label)}

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array) -> LossAndAux:
        del key
        (image,), target = batch["views"], jax.lax.stop_gradient(target)
        expected = teacher.apply(target["teacher_encoder"], image)
        out, state = apply_network(encoder, params["encoder"], model_state["encoder"], image, train=True)
        compare = logits_loss if on == "logits" else features_loss
        value, metrics = compare(params, target, out["pooled"], expected, batch["label"])
        return value.mean(), ({"encoder": state}, {"features": out["pooled"]} | metrics)

    # Only the cross-entropy with labels has a known first value. The 2 on features holds for any teacher and images,
    # and with few features a single predictor is far from it by chance.
    first_loss = (lambda batch_size: math.log(classes)) if label_weight == 1 else None
    supervised = teacher.supervised or on == "logits"
    return Objective(init, loss, first_loss=first_loss, supervised=supervised, constant_target=True)


def check_options(on: str, temperature: float, label_weight: float) -> None:
    section = "pretrain.options"
    if on not in ("features", "logits"):
        raise UserError(
            f"{section}.on={on!r} is unknown: valid are 'features' and 'logits'",
            code="unknown-name",
            field=f"{section}.on",
        )
    check_range(f"{section}.temperature", temperature, "(0, inf)")
    check_range(f"{section}.label_weight", label_weight, "[0, 1]")
    if label_weight and on == "features":
        raise UserError(
            f"{section}.label_weight={label_weight} needs {section}.on='logits'",
            code="conflict",
            field=f"{section}.label_weight",
        )


def check_head(teacher: Teacher, classes: int) -> None:
    """Raise UserError unless the teacher has a head of so many classes; 0 for any number."""
    if teacher.head is None:
        raise UserError(
            f"pretrain.options.on='logits' needs a teacher with a head, and {teacher.name} has none: set "
            "pretrain.options.evaluation to a fine-tuning of that run, such as 'finetune_ssl', or "
            "pretrain.options.on='features'",
            code="mismatch",
            field="pretrain.options.evaluation",
        )
    if classes and len(teacher.classes) != classes:
        raise UserError(
            f"pretrain.options.teacher: {teacher.name} has {len(teacher.classes)} classes, and these images have "
            f"{classes}: set pretrain.options.on='features', or choose a teacher of these classes",
            code="mismatch",
            field="pretrain.options.teacher",
        )


def check_channels(teacher: Teacher, channels: int) -> None:
    """Raise UserError unless images are of the teacher's channels, or grey ones that it takes as RGB."""
    if channels != teacher.channels and (channels, teacher.channels) != (1, 3):
        raise UserError(
            f"pretrain.options.teacher: {teacher.name} takes images of {teacher.channels} channels, and these have "
            f"{channels}: choose a teacher of such images",
            code="mismatch",
            field="pretrain.options.teacher",
        )
