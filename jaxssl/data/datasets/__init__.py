"""Datasets: one file each, with a function `load`, found by its module name."""
