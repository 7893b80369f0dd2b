"""Fields that pretraining and fine-tuning share: optimizer, batches, augmentation."""

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

from jaxssl.augment import views
from jaxssl.config.field import Field, Phase
from jaxssl.training import lora, optimizers


def _meanings(make: Callable[..., Any]) -> dict[str, str]:
    """{argument: description} from the "Args" or "Attributes" section of a docstring."""
    section = re.search(r"^(?:Args|Attributes):\n((?:[ ]+.*\n?|\n)+)", inspect.getdoc(make) or "", re.MULTILINE)
    entries = re.findall(r"^  (\w+): ((?:.*\n?)(?:   +.*\n?)*)", section[1] if section else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def training_fields(phase: Phase, epochs: int, batch_size: int) -> tuple[Field, ...]:
    """Fields that pretraining and fine-tuning share."""
    fields = (
        Field("epochs", epochs, "Epochs to train; 0 skips the phase.", range="[0, inf)"),
        Field("batch_size", batch_size, "Images per step, over all devices.", range="[1, inf)"),
        Field("images_per_epoch", 0, "Images per epoch, drawn anew for each; 0: all.", range="[0, inf)"),
        Field(
            "min_steps_per_epoch",
            0,
            "Least number of steps per epoch; with fewer images than that takes, images repeat within the epoch.",
            range="[0, inf)",
        ),
        Field(
            "gradient_accumulation",
            1,
            "Parts into which a batch is split to save memory; contrastive losses and batch norm see one at a time.",
            range="[1, inf)",
        ),
        Field(
            "save_every",
            0,
            "Steps between checkpoints within an epoch; 0: only at its end.",
            "record",
            range="[0, inf)",
        ),
        Field(
            "log_every",
            1,
            "Steps between rows of metrics.jsonl; the first and the last step of an epoch always have one.",
            "record",
            range="[1, inf)",
        ),
    )
    return tuple(
        field._replace(path=f"{phase}.{field.path}") for field in (*fields, *optimizer_fields(), *augment_fields())
    )


def optimizer_fields() -> tuple[Field, ...]:
    """Fields of the optimizer, and of what it trains."""
    return (
        Field("optimizer.name", "adamw", "Optimizer.", choices=tuple(optimizers.OPTIMIZERS)),
        Field("optimizer.learning_rate", 1e-3, "Peak learning rate.", range="[0, inf)"),
        Field(
            "optimizer.scale_learning_rate",
            False,
            "Whether learning_rate is for a batch of 256 and scales linearly with batch_size.",
        ),
        Field("optimizer.warmup_epochs", 0, "Epochs of linear learning-rate warm-up.", range="[0, inf)"),
        Field("optimizer.decay", "cosine", "Learning-rate schedule after warm-up.", choices=("cosine", "constant")),
        Field(
            "optimizer.weight_decay",
            1e-4,
            "Weight decay of kernels and matrices; biases and norms have none.",
            range="[0, inf)",
        ),
        Field("optimizer.momentum", 0.9, "Momentum of 'sgd' and 'lars'.", range="[0, 1)"),
        Field("optimizer.beta1", 0.9, "Decay of the first moment of 'adam' and 'adamw'.", range="[0, 1)"),
        Field("optimizer.beta2", 0.999, "Decay of their second moment.", range="[0, 1)"),
        Field(
            "optimizer.clip_norm",
            0.0,
            "Largest global norm of the gradient, which is scaled down to it; 0: any.",
            range="[0, inf)",
        ),
        Field(
            "optimizer.layer_decay",
            1.0,
            "Factor of the learning rate from each layer of the encoder to the one before it; 1: one rate.",
            range="(0, 1]",
        ),
        Field(
            "lora.rank",
            0,
            "Rank of LoRA: the encoder is frozen but for low-rank updates of its dense layers; 0: all is trained.",
            "method",
            range="[0, inf)",
        ),
        Field("lora.alpha", 16.0, "Factor of these updates, times the rank.", "method", range="(0, inf)"),
        Field(
            "lora.on",
            ("q", "v"),
            "Dense layers that get an update: of the attention, and 'fc1' and 'fc2' of the MLP.",
            "method",
            lora.PRODUCTS,
            item=str,
            lengths=(1, math.inf),
            distinct=True,
        ),
    )


def augment_fields() -> tuple[Field, ...]:
    """Fields of the augmentation: names, defaults and meanings are those of `jaxssl.augment.views.make`."""
    ranges = {
        "crop_area": "(0, 1]",
        "crop_lesions": "[0, 1]",
        "crop_ratio": "(0, inf)",
        "blur_sigma": "(0, inf)",
        "rotation": "[0, 180]",
        "randaugment_operations": "[0, inf)",
        "randaugment_magnitude": "[0, 10]",
        "brightness": "[0, inf)",
        "contrast": "[0, inf)",
        "saturation": "[0, inf)",
        "hue": "[0, 0.5]",
        "noise": "[0, inf)",
    }
    meanings = _meanings(views.make)
    fields = []
    for name, default in _augment_defaults().items():
        is_probability = name.endswith("probability")
        # A probability may be given for each view; the other tuples are a smallest and a largest value.
        lengths = (1, math.inf) if is_probability else (2, 2)
        fields.append(
            Field(
                f"augment.{name}",
                default,
                meanings.get(name, ""),
                range="[0, 1]" if is_probability else ranges.get(name, ""),
                lengths=lengths,
            )
        )
    return tuple(fields)


def _augment_defaults() -> dict[str, Any]:
    parameters = inspect.signature(views.make).parameters.values()
    return {p.name: p.default for p in parameters if p.kind == p.KEYWORD_ONLY and p.default is not p.empty}
