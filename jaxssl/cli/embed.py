"""Write the features of images to a file.

    jaxssl embed runs/mine data/new --to=features.parquet

IMAGES are folders, files (PNG, JPEG, TIFF, npy, DICOM, FITS) of any size, or .npz archives. By the ending of FILE:

  .parquet  columns id, group, features (a list of float32) and, with --features=patches, patch; a row an image or patch
  .csv      the same, with a column for each feature: f0, f1, ...
  .npz      arrays id [N], group [N] and features [N, D] or, with --features=patches, [N, P, D]

Without --group_pattern each image is a group of its own. Patches are numbered by rows, from 0. Images that cannot be
read are named on stderr with the reason, and skipped.
"""

import argparse

from jaxssl.cli.parser import add_image_arguments
from jaxssl.inference import embed
from jaxssl.training import runtime

GROUP = "trained networks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_image_arguments(parser, ".parquet, .csv or .npz")
    parser.add_argument(
        "--evaluation",
        default="",
        help="Use the encoder of this fine-tuning, such as finetune_ssl; else the pretrained one.",
    )
    parser.add_argument("--features", choices=embed.FEATURES, default="pooled", help="Of the image, or of each patch.")
    parser.add_argument("--group_pattern", default="", help="A regular expression with one group, searched in each id.")


def run(options: argparse.Namespace) -> int:
    runtime.configure()
    o = options
    print(embed.write_features(o.workdir, o.images, o.to, o.features, o.group_pattern, o.evaluation))
    return 0
