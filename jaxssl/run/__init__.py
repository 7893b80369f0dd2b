"""One experiment from images to results."""
