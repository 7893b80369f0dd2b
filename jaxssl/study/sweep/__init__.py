"""Runs the experiments of a sweep that are not done, on this machine or by Slurm.

Each cell of a sweep is an ordinary run in a folder of its own, and is done when its results.json exists. Cells that
differ only in what pretraining does not depend on share one pretraining, unless it reads labels: the first of them
pretrains, and the others wait for it and start from a copy of its encoder.
"""
