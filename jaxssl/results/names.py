"""Names as the literature writes them. Commands, configs and result files have the names that are typed."""

NAMES = {
    "byol": "BYOL",
    "distill": "distillation",
    "inpaint": "inpainting",
    "mae": "MAE",
    "mutual": "mutual learning",
    "ntxent": "NT-Xent",
    "pairs": "contrastive pairs",
    "rotation": "rotation prediction",
    "imagenet": "ImageNet",
    "random": "random weights",
    "autoencoder": "convolutional autoencoder",
    "conv_attention": "convolutions with attention",
    "convnext_small": "ConvNeXt-Small",
    "convnext_tiny": "ConvNeXt-Tiny",
    "efficientnet_lite0": "EfficientNet-Lite0",
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "vit_base": "ViT-Base",
    "vit_large": "ViT-Large",
    "vit_small": "ViT-Small",
    "vit_tiny": "ViT-Tiny",
}


def display_name(name: str) -> str:
    """Return the name to show of an objective, an encoder or given weights: "NT-Xent" for "ntxent"."""
    return NAMES.get(name, name)


def display_arm(name: str) -> str:
    """Return the name to show of an arm of a study: "ImageNet, then BYOL" for "imagenet+byol"."""
    start, comma, settings = name.partition(", ")
    parts = []
    for part in start.split("+"):
        method, space, note = part.partition(" ")  # "byol (supervised)"
        parts.append(f"{display_name(method)}{space}{note}")
    return f"{', then '.join(parts)}{comma}{display_name(settings)}"
