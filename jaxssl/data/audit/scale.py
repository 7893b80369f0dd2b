"""Images of different scale: 1.0 or 255 for white, or the highest values of 10, 12 and 16 bits, in one dataset."""

import itertools
from typing import Any

import numpy as np

from jaxssl.data.audit.inspect import Row

# Highest values that an image can have by its number of bits; 1 of floats.
FULL_SCALES = (1, 255, 1023, 4095, 16383, 65535)
_GAP = 3.0  # Between scales, no image has a highest value within this factor.


def find_scales(rows: list[Row]) -> list[dict[str, Any]]:
    """Group images by their highest value, where these leave a gap below a full scale.

    A few dark images are not a scale of their own: the highest value of a group below another must be near a full scale
    (`FULL_SCALES`), within 50 %, or within 3 % if it is one image.

    Args:
      rows: the images, see `inspect.inspect_image`.

    Returns:
      Of each scale, from the lowest: "highest" value, number of "images", their "classes", and the "path" of one; empty
      if all images are of one scale.
    """
    fine = [row for row in rows if row["high"] is not None and row["high"] > 0]
    order = sorted(fine, key=lambda row: row["high"])
    highs = np.array([row["high"] for row in order], float)
    cuts = [i for i in np.flatnonzero(highs[1:] > _GAP * highs[:-1]) + 1 if _is_full(highs[:i])]
    if not cuts:
        return []
    bounds = itertools.pairwise([0, *cuts, len(order)])
    return [
        {
            "highest": order[end - 1]["high"],
            "images": int(end - start),
            "classes": sorted(
                {row["class"] for row in order[start:end] if row["class"] is not None and "classes" not in row}
            ),
            "path": order[start]["path"],
        }
        for start, end in bounds
    ]


def _is_full(highs: np.ndarray) -> bool:
    """Return whether the highest of these sorted values is near a full scale."""
    top = highs[-1]
    near = int((highs > top / _GAP).sum())
    tolerance = 0.5 if near > 1 else 0.03
    return any(top * (1 - 1e-3) <= scale and top >= (1 - tolerance) * scale for scale in FULL_SCALES)
