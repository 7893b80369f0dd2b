"""A siamese network on 3,064 slices of brain MRI of 233 patients: meningioma, glioma, pituitary tumour.

    jaxssl run pairs_brain_tumor --config.data.manual_dir=data/brain_tumor

After a student project with 2,000 positive and 2,000 negative pairs (`jaxssl/config/presets.py`). The project drew them
once, by the true labels, and called that self-supervised; here a pair is two views of one image, or views of two
images, drawn anew in each epoch. `--config.pretrain.options.pairs_from=labels` draws by the labels, and then every
result is called supervised.

    jaxssl run pairs_brain_tumor:local --config.data.manual_dir=data/brain_tumor

64 px and half the channels, for two cores.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets


@presets.variants(local=presets.brain_tumor_on_two_cores)
def get_config() -> ConfigDict:
    c = fields.base()
    presets.brain_tumor(c)
    c.pretrain.objective = "pairs"
    c.pretrain.options.pairs_from = "augmentation"
    # Each image that is seen makes one pair of either kind.
    c.pretrain.images_per_epoch = 2000
    a = c.pretrain.augment
    a.crop_area = (0.3, 1.0)
    a.flip_horizontal = True
    a.jitter_probability = 0.8
    a.brightness, a.contrast = 0.4, 0.4
    return c
