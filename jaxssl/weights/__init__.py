"""Weights of other libraries: layouts, files, notes of origin."""
