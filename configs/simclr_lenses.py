"""SimCLR (arXiv:2002.05709) on simulated gravitational lenses: is there dark substructure, and of which kind?

    python -m jaxssl.main --config=configs/simclr_lenses.py

What `make demo` runs. The images, data and arguments are those of configs/byol_lenses.py; NT-Xent takes the place of
BYOL, which wants more steps than a demo has.
"""

from ml_collections import ConfigDict

from configs import byol_lenses


def get_config(arg: str = "") -> ConfigDict:
    c = byol_lenses.get_config(arg)
    c.pretrain.objective = "ntxent"
    c.pretrain.kw = ConfigDict({"hidden": 512, "projection": 128, "temperature": 0.2})
    c.pretrain.optimizer.name = "adamw"
    c.pretrain.optimizer.learning_rate = 1e-3
    c.pretrain.optimizer.weight_decay = 1e-4
    return c
