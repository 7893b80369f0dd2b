"""Convolution and pooling that are fast on the CPU: `conv.conv_general_dilated` and `max_pool.max_pool`.

XLA's convolution on the CPU is many times slower than necessary for certain shapes: 1x1 kernels, outputs of a few
pixels, strided input gradients, kernel gradients over large images, depthwise kernels. The forward pass, the input
gradient and the kernel gradient each take the fastest of a few forms, see `choice`. On GPU and TPU the native
convolution is the right one and is what runs: the choice is made when lowering.

    nn.Conv(features, (3, 3), conv_general_dilated=conv_general_dilated)
"""
