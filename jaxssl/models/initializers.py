"""Initial weights of convolutions (He et al., 2015, arXiv:1502.01852)."""

from flax.linen import initializers

# As torchvision has it.
he_normal = initializers.variance_scaling(2.0, "fan_out", "normal")
# Flax counts the channels of a depthwise kernel among its outputs, of which each channel has one.
he_normal_depthwise = initializers.variance_scaling(2.0, "fan_in", "normal")
he_truncated = initializers.variance_scaling(2.0, "fan_in", "truncated_normal")
