from jaxssl import config


def get_config(arg=""):
    c = config.base()
    c.data.name = "lenses"
    c.data.image_size = 64
    c.data.kw.images_per_class = 2000
    c.data.kw.substructure = 0.1
    c.model.kw.width = 16
    c.pretrain.epochs = 5
    c.pretrain.batch_size = 128
    c.pretrain.kw.hidden = 512
    c.pretrain.kw.projection = 128
    c.pretrain.kw.ema = 0.99
    a = c.pretrain.augment
    a.crop_area = (0.5, 1.0)
    a.rotate90 = True
    a.jitter_probability = 0.8
    a.brightness = 0.4
    a.contrast = 0.4
    a.noise = 0.05
    c.transfer.augment.rotate90 = True
    c.transfer.epochs = 5
    if arg == "local":
        c.data.kw.images_per_class = 500
        c.pretrain.epochs = 2
        c.transfer.epochs = 2
    return c
