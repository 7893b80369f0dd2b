"""One file a public dataset: a TFDS builder and `load`, found by its module name."""
