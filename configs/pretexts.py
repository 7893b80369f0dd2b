"""All pretext tasks at one budget: what does each do for a linear probe, with the same images and number of steps?

    jaxssl run pretexts:byol --config.data.dir=data/pneumoniamnist.npz
    jaxssl run pretexts:ham10000,byol --config.data.manual_dir=data/ham10000

PneumoniaMNIST enlarged to 64 px for five epochs, or HAM10000 at 64 px for three: some 22,000 images each, in batches of
128 with AdamW 1e-3 and a cosine. ResNet-18 with 16 channels, except a vision transformer for `mae` and an autoencoder
for `inpaint`. Nothing is tuned for any of them. The results are in the documentation; each run takes minutes on two
cores.

The arguments are the names in `PRETEXTS`. `features` distils a teacher and needs the workdir of another run:
`--config.pretrain.options.teacher=runs/pretexts-ntxent`. `pretexts:local` is `ntxent` on PneumoniaMNIST.
"""

from ml_collections import ConfigDict

from jaxssl.config import fields, presets

HEADS = {"hidden": 512, "projection": 128}
NTXENT = HEADS | {"temperature": 0.2}
NO_AUGMENTATION = {"crop_area": (1.0, 1.0), "flip_horizontal": False, "jitter_probability": 0.0}
# {argument: changes to config.pretrain}
PRETEXTS = {
    "byol": {"objective": "byol", "options": HEADS | {"ema": 0.98}},
    "features": {"objective": "distill", "options": {"teacher": "runs/pretexts-ntxent"}},
    "inpaint": {"objective": "inpaint", "options": {"decoder_width": 8}},
    "mae": {"objective": "mae"},
    "mutual": {"objective": "mutual"},
    "ntxent": {"objective": "ntxent", "options": NTXENT},
    "ntxent_blur": {
        "objective": "ntxent",
        "options": NTXENT,
        "augment": NO_AUGMENTATION | {"blur_probability": (0.0, 1.0), "blur_sigma": (0.5, 4.0)},
    },
    "ntxent_noise": {"objective": "ntxent", "options": NTXENT, "augment": NO_AUGMENTATION | {"noise": 0.2}},
    "ntxent_rotation": {"objective": "ntxent", "options": NTXENT, "augment": NO_AUGMENTATION | {"rotation": 180.0}},
    "pairs": {"objective": "pairs", "options": HEADS},
    "pairs_labels": {"objective": "pairs", "options": HEADS | {"pairs_from": "labels"}},
    "rotation": {"objective": "rotation"},
    "supervised": {"epochs": 0},
}
# {argument: config.model}, RESNET for all others.
ENCODERS = {
    "inpaint": {"name": "autoencoder", "options": {"widths": (16, 32, 64, 64)}},
    "mae": {"name": "vit_tiny", "options": {"patch": 8}},
}
DATASETS = ("pneumoniamnist", "ham10000")
RESNET = {"name": "resnet18", "options": {"width": 16}}


def get_config(arg: str = "") -> ConfigDict:
    presets.check_argument(
        arg, ("", "local", *PRETEXTS, *(f"{name},{pretext}" for name in DATASETS for pretext in PRETEXTS))
    )
    dataset, _, pretext = {"": "ntxent", "local": "ntxent"}.get(arg, arg).rpartition(",")
    c = fields.base()
    c.data.image_size = 64
    c.model.update(ENCODERS.get(pretext, RESNET))
    c.pretrain.batch_size = 128
    c.pretrain.optimizer.warmup_epochs = 1
    a = c.pretrain.augment
    a.crop_area = (0.3, 1.0)
    a.flip_horizontal = True
    a.jitter_probability = 0.8
    a.brightness, a.contrast = 0.4, 0.4
    c.transfer.protocols = ("probe", "finetune") if pretext == "supervised" else ("probe",)
    c.transfer.augment.crop_area = (0.6, 1.0)
    c.transfer.augment.flip_horizontal = True
    if dataset == "ham10000":
        c.data.name = "ham10000"
        presets.images_as_in_0_1(c)
        c.pretrain.epochs = c.transfer.epochs = 3
        a.saturation, a.hue = 0.2, 0.02
    else:
        c.data.name = "npz"
        c.data.group_copies = False  # As the scores here were measured.
        c.data.dir = "data/pneumoniamnist.npz"
        c.pretrain.epochs = c.transfer.epochs = 5
    c.pretrain.update(PRETEXTS[pretext])
    return c
