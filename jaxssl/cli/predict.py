"""Write the class probabilities of images to a table.

    jaxssl predict runs/mine data/new --to=predictions.csv

IMAGES are folders, files (PNG, JPEG, TIFF, npy, DICOM, FITS) of any size, or .npz archives. The table has the columns
image_id, predicted and p_CLASS, as the run's own predictions.csv, and calibrated_CLASS where the run has fitted a
temperature on the validation split. Images that cannot be read are named on stderr with the reason, and skipped. The
number of images that the run was trained or validated on is printed: a score on those says nothing.
"""

import argparse

from jaxssl.cli.parser import add_image_arguments
from jaxssl.inference import predict
from jaxssl.training import runtime

GROUP = "trained networks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_image_arguments(parser, ".csv")
    parser.add_argument("--evaluation", default="", help="A fine-tuning of results.json; the first by default.")


def run(options: argparse.Namespace) -> int:
    runtime.configure()
    print(predict.write_predictions(options.workdir, options.images, options.to, options.evaluation))
    return 0
