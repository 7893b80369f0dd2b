"""Export an encoder for PyTorch, or for any runtime of StableHLO.

    jaxssl export runs/mine --to=encoder.safetensors

.safetensors holds the weights in the naming of torchvision or timm. .stablehlo holds the computation with its weights:
`jax.export.deserialize(file.read_bytes()).call(images)` returns the features, on CPU, CUDA or TPU, without jaxssl.
"""

import argparse

from jaxssl.cli.parser import add_workdir_argument
from jaxssl.inference import export
from jaxssl.training import runtime

GROUP = "trained networks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workdir_argument(parser)
    parser.add_argument(
        "--to", required=True, metavar="FILE", help="Output file, .safetensors or .stablehlo; overwritten."
    )
    parser.add_argument(
        "--evaluation",
        default="",
        help="Export the encoder of this fine-tuning, such as finetune_ssl; else the pretrained one.",
    )


def run(options: argparse.Namespace) -> int:
    runtime.configure()
    print(export.export_encoder(options.workdir, options.to, options.evaluation))
    return 0
