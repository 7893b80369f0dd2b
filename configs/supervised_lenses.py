"""ResNet-18 with labels, from scratch, on gravitational lenses: no substructure, subhaloes, or a vortex; five folds.

    for fold in 0 1 2 3 4; do
      python -m jaxssl.main --config=configs/supervised_lenses.py --config.data.manual_dir=data/deeplense \\
        --config.data.fold=$fold --workdir=runs/supervised_lenses/$fold
    done

The level to be reached by everything else, after a student project: DeepLense's common test at 150 px, SGD 0.1, batches
of 64, six epochs. There one network was carried through all five folds, so that it had seen each test image in
training; here each fold is a run of its own, from fresh weights. For one accelerator; not run to its end by us.

`--config=configs/supervised_lenses.py:local` simulates its images, of 64 px, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


def get_config(arg: str = "") -> ConfigDict:
    c = fields.base()
    presets.lens_views(c, "deeplense")
    c.data.folds = 5
    c.pretrain.epochs = 0
    c.transfer.protocols = ("finetune",)
    c.transfer.epochs = 6
    c.transfer.optimizer.name = "sgd"
    c.transfer.optimizer.learning_rate = 0.1
    if arg == "local":
        presets.simulated_lenses(c, images_per_class=1000)
        c.model.options.width = 16
    elif arg:
        raise ValueError(f"supervised_lenses takes no argument but local, not {arg!r}")
    return c
