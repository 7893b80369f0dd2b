"""Layers of the encoders by depth, for learning rates that fall with it.

Layer 0 is the stem: class token, registers, positions and patch embedding of a ViT, the first convolution elsewhere.
Then each block of a ViT, ResNet or EfficientNet is a layer, as in BEiT (Bao et al., 2022, arXiv:2106.08254), MAE and
timm; three consecutive blocks of a stage of a ConvNeXt, with the downsampling before them, as in its paper
(arXiv:2201.03545, appendix A); each stage of the other encoders. The last layer holds what follows the blocks, such as
the last norm.
"""

import re
from typing import Any

import jax

Tree = Any

# Regular expressions of the paths of parameters, and how many blocks of a stage are one layer; the first one counts.
BLOCKS = (
    (r"stages_(\d+)/blocks_(\d+)/", 3),  # ConvNeXt
    (r"stages_(\d+)/()", 1),
    (r"(?:layer|blocks_)(\d+)_(\d+)/", 1),  # ResNet, EfficientNet
    (r"(?:blocks_|stage)(\d+)[/_]()", 1),  # ViT; autoencoder, conv_attention
)
AFTER_BLOCKS = re.compile(r"(norm|fc_norm|norm_pool|conv_head|bn2|attention)/")


def layers_of(params: Tree) -> Tree:
    """Return the layer of each parameter of a training state as an int; the last one for all that is no encoder.

    Args:
      params: by network. "encoder" has those of an encoder, "lora" those of `jaxssl.training.lora`, if any.

    Raises:
      ValueError: the encoder has no blocks with such names.
    """

    def block_of(path: tuple) -> tuple[int, ...] | None:
        network, *rest = (str(key.key) for key in path)
        name = "/".join(rest)
        if network not in ("encoder", "lora") or AFTER_BLOCKS.match(name):
            return None
        for pattern, together in BLOCKS:
            if match := re.match(pattern, name):
                stage, block = match.groups()
                return int(stage), int(block or 0) // together
        return ()

    blocks = [block_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    order = {block: layer for layer, block in enumerate(sorted({()} | {b for b in blocks if b is not None}))}
    if len(order) == 1:
        raise ValueError("the encoder has no blocks with the names of jaxssl.models.depth")
    return jax.tree.unflatten(jax.tree.structure(params), [len(order) if b is None else order[b] for b in blocks])
