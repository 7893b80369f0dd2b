"""Export an encoder or a classifier for PyTorch, ONNX or StableHLO.

    jaxssl export runs/mine --to=encoder.safetensors
    jaxssl export runs/mine --to=classifier.onnx --evaluation=finetune_ssl --classifier

.safetensors holds the weights in the naming of torchvision and timm, or of Hugging Face. .onnx and .stablehlo hold the
computation with its weights: `onnxruntime` runs the first; for the second,
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
        "--to", required=True, metavar="FILE", help="Output file, .safetensors, .onnx or .stablehlo; overwritten."
    )
    parser.add_argument(
        "--evaluation",
        default="",
        help="Export the encoder of this fine-tuning, such as finetune_ssl; else the pretrained one.",
    )

    parser.add_argument(
        "--naming", default="timm", choices=export.NAMINGS, help="Names of the tensors of .safetensors; default timm."
    )
    parser.add_argument(
        "--classifier", action="store_true", help="Export the head of the fine-tuning, too, with its classes."
    )


def run(options: argparse.Namespace) -> int:
    runtime.configure()
    print(
        export.export_encoder(
            options.workdir, options.to, options.evaluation, naming=options.naming, classifier=options.classifier
        )
    )
    return 0
