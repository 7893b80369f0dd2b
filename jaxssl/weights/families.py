"""Scaling of the images that published families of weights were trained on, by the name of the weights."""

import re

from jaxssl.augment.views import Pixels

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_RAD_DINO = ((0.5307, 0.5307, 0.5307), (0.2583, 0.2583, 0.2583))

# Mean and standard deviation by channel of images in [0, 1], by a regular expression of the name; the first one counts.
FAMILIES = (
    (r"rad-?dino", _RAD_DINO),
    (r"clip", _CLIP),
    (r"augreg|google-vit", _HALF),
    (r"dino|mae|moco|deit|convnext|torchvision|resnet", _IMAGENET),
)


def find_scaling(name: str, pixels: Pixels) -> Pixels | None:
    """Return `pixels` with mean and standard deviation of the family that a name such as "dinov2_vits14" is of.

    Images with other than three channels get the averages over the three. None if the family is not known.
    """
    for pattern, (mean, std) in FAMILIES:
        if re.search(pattern, name.lower()):
            if len(pixels.mean) == 3:
                return pixels._replace(mean=mean, std=std)
            return pixels._replace(mean=(sum(mean) / 3,), std=(sum(std) / 3,))
    return None
