"""BYOL (arXiv:2006.07733) on simulated gravitational lenses: no substructure, subhaloes or a vortex?

    jaxssl run byol_lenses

Six minutes on two cores. BYOL does not help here: it ends with an effective rank of 9. Macro AUC of the probe .572
(.548-.595) against .674 (.649-.697) with random weights, fine-tuned .869 (.855-.883) against .975 (.968-.981). The
other settings that we tried were no better; it seems to need more steps. `simclr_lenses` helps on the same images.

6,000 images of 64 px, simulated in seconds: no substructure, 25 subhaloes, or a vortex of 25 points. Substructure has
20 % of the lens mass, far more than in nature, so that a small network learns it in minutes; with 2 % it stays at
chance. Small crops make pretraining look at the arcs: with views of the whole ring it learns the size and place of the
ring, and a linear probe is then worse than with random weights.

    jaxssl run byol_lenses:local

A quarter of the images and four epochs: some 70 seconds on two cores; probe .546 (.501-.592) against .586
(.536-.637).
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


@presets.variants(local=presets.quarter_of_lens_crops)
def get_config() -> ConfigDict:
    c = fields.base()
    presets.lens_crops(c)
    c.pretrain.objective = "byol"
    c.pretrain.options.ema = 0.98
    c.pretrain.optimizer.name = "lars"
    c.pretrain.optimizer.learning_rate = 2.0
    c.pretrain.optimizer.weight_decay = 1.5e-6
    c.pretrain.optimizer.warmup_epochs = 1
    return c
