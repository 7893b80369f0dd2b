"""Trained networks applied to new images."""
