"""Supervised ResNet-18 from scratch on gravitational lenses: no substructure, subhaloes or a vortex; five folds.

    for fold in 0 1 2 3 4; do
      jaxssl run supervised_lenses --config.data.manual_dir=data/deeplense --config.data.fold=$fold \\
        --workdir=runs/supervised_lenses/$fold
    done

The baseline for all methods on lenses, after a student project: the common test of DeepLense at 150 px, SGD 0.1,
batches of 64, six epochs. The project trained one network through all five folds, so that it had seen every test
image; here each fold is a run of its own, from new weights. Hardware: one accelerator; we have not run it to the end.

    jaxssl run supervised_lenses:local

Simulated images of 64 px, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def local(c: ConfigDict) -> None:
    presets.simulated_lenses(c, images_per_class=1000)
    c.model.options.width = 16


@presets.variants(local=local)
def get_config() -> ConfigDict:
    c = fields.base()
    presets.lens_views(c, "deeplense")
    c.data.folds = 5
    c.pretrain.epochs = 0
    c.transfer.protocols = ("finetune",)
    c.transfer.epochs = 6
    c.transfer.optimizer.name = "sgd"
    c.transfer.optimizer.learning_rate = 0.1
    return c
