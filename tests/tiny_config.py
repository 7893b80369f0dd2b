"""The smallest experiment that goes through every phase: 120 simulated lenses of 16 px, a ResNet of two blocks."""

from ml_collections import ConfigDict

from jaxssl.config import fields


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    c.data.name = "lenses"
    c.data.image_size = 16
    c.data.options.images_per_class = 40
    c.model.stem = "small"
    c.model.dtype = "float32"
    c.model.options.width = 4
    c.model.options.stages = (1, 1)
    c.mesh.data = 1
    c.checkpoints.optimizer_state = True
    c.pretrain.epochs = 2
    c.pretrain.batch_size = 16
    c.pretrain.save_every = 2
    if arg in ("", "pairs"):
        c.pretrain.options.hidden = 16
        c.pretrain.options.projection = 8
    c.pretrain.augment.rotate90 = True
    c.pretrain.augment.noise = 0.05
    c.transfer.epochs = 2
    c.transfer.batch_size = 16
    c.transfer.freeze_epochs = 1
    if arg == "pairs":
        c.pretrain.objective = "pairs"
        c.pretrain.options.pairs_from = "labels"
        c.data.label_fraction = 0.5
        c.transfer.protocols = ("probe",)
    return c
