"""Knowledge distillation: a student learns what a trained teacher makes of each view (Hinton et al., 2015,
arXiv:1503.02531; on features Romero et al., 2015, FitNets, arXiv:1412.6550)."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxssl.errors import UserError
from jaxssl.inference import trained
from jaxssl.inference.trained import Trained
from jaxssl.models.heads import Linear
from jaxssl.objectives import LossAndAux, Objective, Tree, apply_network, init_network, losses, pooled_like


def make(
    encoder: nn.Module,
    *,
    classes: int,
    steps: int,
    teacher: str = "",
    evaluation: str = "",
    on: str = "features",
    temperature: float = 4.0,
    label_weight: float = 0.0,
) -> Objective:
    """The student sees the very view that the teacher sees, which is in evaluation mode and gets no gradient.

    On "features", a linear predictor of the student's pooled features meets those of the teacher: the squared distance
    of both at unit length, FitNets' regression without the scale. Over the initial predictors, which are as likely as
    their negatives, it is 2 on average, with a standard deviation of 2 / sqrt(D) or less for D features of the teacher.

    On "logits", the student's head meets the softened prediction of the teacher's, at weight 1 - `label_weight`, and
    the label, at weight `label_weight`. An image without a label has no share in the latter.

    Args:
      encoder: the student.
      classes: width of the student's head, and of the teacher's.
      steps: unused.
      teacher: workdir of a finished run. Its encoder may be any, of images with as many channels; it sees them scaled
        as the student does.
      evaluation: which network of that run, as `trained.load` has it: "" is its pretrained encoder, without a head.
      on: "features" or "logits".
      temperature: by which logits are divided; the loss is multiplied by its square. Unused on "features".
      label_weight: in [0, 1]; 0 on "features".

    Raises:
      UserError: an option is out of its range, or the teacher is missing or does not fit; from `init`, if the views
        have other channels than the teacher takes.
    """
    del steps
    check_options(teacher, on, temperature, label_weight)
    known = load_teacher(teacher, evaluation, classes if on == "logits" else 0)
    head = Linear(classes)

    def init(key: jax.Array, batch: dict) -> tuple[Tree, Tree, Tree]:
        keys = jax.random.split(key)
        (image,) = batch["views"]
        if image.shape[-1] != known.channels:
            raise UserError(
                f"pretrain.options.teacher={teacher!r} takes images with channels={known.channels}, and these have "
                f"channels={image.shape[-1]}; take a teacher of such images"
            )
        params, state = {}, {}
        params["encoder"], state["encoder"] = init_network(encoder, keys[0], image)
        pooled, wanted = pooled_like(encoder, image), pooled_like(known.encoder, image)
        # Copies, since a training step may use up the arrays that it is given.
        target = {"teacher_encoder": jax.tree.map(jnp.array, known.variables)}
        if on == "logits":
            params["head"], _ = init_network(head, keys[1], pooled)
            target["teacher_head"] = jax.tree.map(jnp.array, known.head)
        else:
            params["predictor"] = nn.Dense(wanted.shape[-1]).init(keys[1], pooled)["params"]
        return params, state, target

    def of_features(params: Tree, target: Tree, pooled: jax.Array, wanted: jax.Array, label: jax.Array):
        del target, label
        prediction = nn.Dense(wanted.shape[-1]).apply({"params": params["predictor"]}, pooled)
        return losses.regression(prediction, wanted), {}

    def of_logits(params: Tree, target: Tree, pooled: jax.Array, wanted: jax.Array, label: jax.Array):
        logits, _ = apply_network(head, params["head"], {}, pooled, train=True)
        soft, _ = apply_network(head, target["teacher_head"], {}, wanted, train=False)
        value = (1 - label_weight) * losses.kullback_leibler(soft, logits, temperature)
        value += label_weight * losses.cross_entropy(logits, label)
        return value, {"accuracy": losses.accuracy(logits, label)}

    def loss(params: Tree, model_state: Tree, target: Tree, batch: dict, key: jax.Array) -> LossAndAux:
        del key
        (image,), target = batch["views"], jax.lax.stop_gradient(target)
        wanted = known.encoder.apply(target["teacher_encoder"], image, train=False)["pooled"]
        out, state = apply_network(encoder, params["encoder"], model_state["encoder"], image, train=True)
        compare = of_logits if on == "logits" else of_features
        value, metrics = compare(params, target, out["pooled"], wanted, batch["label"])
        return value.mean(), ({"encoder": state}, {"features": out["pooled"]} | metrics)

    # A uniform first prediction tells the cross-entropy alone. On features the 2 would tell nothing: it is the same for
    # any teacher and any images, and with few features one predictor is far from it by chance.
    first_loss = (lambda batch_size: math.log(classes)) if label_weight == 1 else None
    return Objective(
        init,
        loss,
        first_loss=first_loss,
        supervised=on == "logits" or known.supervised,
        constant_target=True,
    )


def check_options(teacher: str, on: str, temperature: float, label_weight: float) -> None:
    """UserError at the first that cannot work."""
    if not teacher:
        raise UserError("pretrain.options.teacher='' names no teacher: give the workdir of a finished run")
    if on not in ("features", "logits"):
        raise UserError(f"pretrain.options.on={on!r} is not known: it takes 'features', 'logits'")
    if not 0 < temperature < math.inf:
        raise UserError(f"pretrain.options.temperature={temperature} should be a number above 0")
    if not 0 <= label_weight <= 1:
        raise UserError(f"pretrain.options.label_weight={label_weight} lies outside [0, 1]")
    if on == "features" and label_weight:
        raise UserError(f"pretrain.options.label_weight={label_weight} needs pretrain.options.on='logits'; set it to 0")


def load_teacher(teacher: str, evaluation: str, classes: int) -> Trained:
    """The teacher. UserError where there is none, or where its head has not so many classes; 0: it needs none."""
    try:
        known = trained.load(teacher, evaluation)
    except UserError as error:
        raise UserError(
            f"pretrain.options.teacher={teacher!r}, pretrain.options.evaluation={evaluation!r}: {error}"
        ) from error
    if classes and known.head is None:
        raise UserError(
            f"pretrain.options.evaluation={evaluation!r} is an encoder without a head, and pretrain.options.on='logits' needs "
            "one: take a fine-tuning of that run, such as 'finetune_ssl', or pretrain.options.on='features'"
        )
    if classes and len(known.classes) != classes:
        raise UserError(
            f"pretrain.options.teacher={teacher!r} tells {len(known.classes)} classes apart, and these images have "
            f"{classes}; take pretrain.options.on='features', or a teacher of these classes"
        )
    return known
