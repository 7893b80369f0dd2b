"""Measure the speed of training on this machine, and where the time goes, as one JSON line.

    python launch/bench.py --method byol --model resnet18 --size 64 --batch 128

Trains a few steps on random uint8 images. An image counts once, however many views the method makes of it:
  images_per_second             end to end: reading, augmentation, step, and the metrics of the step before
  images_per_second_step_only   with views made beforehand; for "features", the encoder alone
  peak_rss_mib                  peak memory of the process
Without --brief there is more: `read` and `augment`, images per second of these alone; `seconds` of a step by its parts;
`share_of_step`, of products, reductions, elementwise operations and moving data, by XLA's own profile;
`gflop_a_step` (counting convolutions as such, whatever form they take here) and `share_of_peak`, relative to a matrix
product; `first_step_seconds` from the start of the process, without and with the compilation cache.

    python launch/bench.py --grow batch        # or size, depth, images: seconds per step, and their exponent
    python launch/bench.py --all --turns 5 --peer "peer/bin/python peer_lightly.py" --torch "peer/bin/python"

--all alternates with the same work in PyTorch, each run in a process of its own, ours in float32 and mixed precision,
theirs in float32 and under bfloat16 autocast, and prints medians, ranges and the ratio of the medians to the better of
theirs. --peer is a script with the flags of this one for lightly's SimCLR, BYOL and MAE; --torch a Python
with torch, torchvision and timm, which runs launch/benchmarks/torch_steps.py.
"""

from jaxssl.training import runtime

if __name__ == "__main__":
    runtime.restart()

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import against_torch, measure
from benchmarks.work import METHODS

SCRIPT = [sys.executable, __file__]


def make_parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--method", choices=METHODS, default="simclr")
    p.add_argument("--model", default="resnet18", help="an encoder of jaxssl/models")
    p.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    p.add_argument("--patch", type=int, default=8, help="patch size of a ViT")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--steps", type=int, default=6)
    p.add_argument("--images", type=int, default=2048, help="number of images in the dataset")
    p.add_argument("--depth", type=int, default=0, help="blocks in each stage of a ResNet; 0: as published")
    p.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "mixed"))
    p.add_argument("--streamed", action="store_true", help="read from records on the disk")
    p.add_argument("--brief", action="store_true", help="speed and memory only")
    p.add_argument("--first", action="store_true", help="run one step and print its end, in seconds since 1970")
    p.add_argument("--grow", choices=measure.GROWTH)
    p.add_argument("--cpu-seconds", action="store_true", help="measure CPU seconds: on a CPU that others use, too")
    p.add_argument("--all", action="store_true")
    p.add_argument("--turns", type=int, default=5)
    p.add_argument("--peer", default="", help="command of lightly's script")
    p.add_argument("--torch", default="", help="Python with torch, torchvision and timm")
    return p


def main(arguments: Sequence[str]) -> None:
    a = make_parser().parse_args(arguments)
    runtime.configure()
    if a.cpu_seconds:
        measure.clock = time.process_time
    if a.all:
        print(against_torch.compare(a, SCRIPT))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps((measure.measure_growth if a.grow else measure.measure)(a, SCRIPT, Path(folder))))


if __name__ == "__main__":
    main(sys.argv[1:])
