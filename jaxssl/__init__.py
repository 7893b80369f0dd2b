"""jaxssl: does self-supervised pretraining help on my images, by how much, and am I sure?"""
