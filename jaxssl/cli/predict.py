"""Write the class probabilities of images to a table, or their masks to a folder.

    jaxssl predict runs/mine data/new --to=predictions.csv
    jaxssl predict runs/mine data/new --masks --to=masks

IMAGES are folders, files (PNG, JPEG, TIFF, npy, DICOM, FITS) of any size, or .npz archives. The table has the columns
image_id, predicted and p_CLASS, as the run's own predictions.csv, and calibrated_CLASS where the run has fitted a
temperature on the validation split. Images that cannot be read are named on stderr with the reason, and skipped. The
number of images that the run was trained or validated on is printed: a score on those says nothing. So are the score of
the network on the run's test split, and what makes it doubtful.

With --masks, each image has an indexed PNG of its size in the folder --to, whose indices are the classes, each NIfTI
volume a volume, and annotations.json has the connected components with their scores in the format of COCO.
"""

import argparse

from jaxssl.cli.parser import add_image_arguments
from jaxssl.inference import masks, predict
from jaxssl.training import runtime

GROUP = "trained networks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_image_arguments(parser, ".csv, or a folder with --masks")
    parser.add_argument("--masks", action="store_true", help="Write masks instead of class probabilities.")
    parser.add_argument(
        "--evaluation", default="", help="A network of results.json; the best on validation by default."
    )


def run(options: argparse.Namespace) -> int:
    runtime.configure()
    write = masks.write_masks if options.masks else predict.write_predictions
    print(write(options.workdir, options.images, options.to, options.evaluation))
    return 0
