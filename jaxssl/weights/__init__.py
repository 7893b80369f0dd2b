"""Pretrained weights: files of other libraries, their layouts, and what is known of their origin.

`load.load` reads a file into the variables of an encoder. `layouts` has one file per family of networks.
"""
