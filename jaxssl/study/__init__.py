"""Comparisons of several runs, and sweeps."""
