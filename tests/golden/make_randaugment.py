"""Writes randaugment.npz with torchvision 0.29.1: `python tests/golden/make_randaugment.py`; the tests do without it.

Each operation once each way at magnitude 27 of 30, on 8-bit values. What torchvision defines on floats it computes on
floats in [0, 1], free of its rounding between steps. Geometric operations are of the first channel and come with
"<name>_inside": the pixels whose source lies inside the image, where how the outside is filled does not matter.
"""

from pathlib import Path

import numpy as np
import torch
from torchvision.transforms import InterpolationMode, RandAugment
from torchvision.transforms.autoaugment import _apply_op

BIN, HEIGHT, WIDTH = 27, 20, 16
NAMES = {
    "rotate": "Rotate",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "brightness": "Brightness",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "solarize": "Solarize",
    "posterize": "Posterize",
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
    "color": "Color",
}
EIGHT_BITS = ("posterize", "equalize")
GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")

rng = np.random.default_rng(0)
# Skewed and short of the whole range, in each channel otherwise, so that no operation leaves it as it is.
image = (rng.random((HEIGHT, WIDTH, 3)) ** [1, 2, 3] * [200, 220, 150] + [20, 30, 60]).astype(np.uint8)
pixels = torch.from_numpy(image).permute(2, 0, 1)
space = RandAugment(magnitude=BIN)._augmentation_space(31, (HEIGHT, WIDTH))
golden = {"image": image}


def changed(x: torch.Tensor, name: str, magnitude: float) -> np.ndarray:
    return _apply_op(x, name, magnitude, InterpolationMode.BILINEAR, None).permute(1, 2, 0).numpy()


for ours, theirs in NAMES.items():
    magnitudes, signed = space[theirs]
    magnitude = float(magnitudes[BIN]) if magnitudes.ndim else 0.0
    for sign in (1, -1) if signed else (1,):
        key = f"{ours}_{'plus' if sign == 1 else 'minus'}"
        if ours in EIGHT_BITS:
            golden[key] = changed(pixels, theirs, magnitude)
            continue
        # Solarize compares with a threshold in the values of the image.
        scaled = magnitude / 255 if ours == "solarize" else magnitude
        golden[key] = changed(pixels / 255, theirs, sign * scaled)
        if ours in GEOMETRIC:
            golden[key] = golden[key][..., :1]
            ones = changed(torch.ones(1, HEIGHT, WIDTH), theirs, sign * scaled)
            golden[f"{key}_inside"] = ones[..., 0] > 1 - 1e-4
np.savez_compressed(Path(__file__).with_name("randaugment.npz"), **golden)
