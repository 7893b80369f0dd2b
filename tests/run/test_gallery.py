"""Pictures of networks and images made up here: every kind of encoder and of image, and what the pictures must show."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxssl import models, objectives
from jaxssl.augment import views as augment
from jaxssl.config import fields
from jaxssl.data import source
from jaxssl.inference import trained
from jaxssl.models import vit
from jaxssl.models.heads import Linear
from jaxssl.results.gallery import read_gallery
from jaxssl.run import gallery, heatmaps
from jaxssl.run.setup import Setup

RESNET = ("resnet18", {"stem": "small", "width": 4, "stages": (1, 1)})
VIT = ("vit_tiny", {"width": 8, "depth": 2, "heads": 2, "patch": 4})
ENCODERS = {
    "resnet": RESNET,
    "vit": VIT,
    "cls": ("vit_tiny", VIT[1] | {"pool": "cls", "registers": 2}),
    "conv_attention": ("conv_attention", {"widths": (4, 8), "heads": 2}),
    "autoencoder": ("autoencoder", {"widths": (4, 8)}),
}
PRETEXTS = {
    "byol": {"hidden": 8, "projection": 4},
    "mae": {"decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2},
    "inpaint": {"decoder_width": 2, "sides": (0.25, 0.5)},
    "rotation": {},
}


def make(
    workdir, encoder=RESNET, pretext="byol", channels=1, dtype=np.uint8, classes=("a", "b", "c"), images=60, size=16
):
    """A Setup of noise, of which the first half is for training and the other for testing."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (images, size, size, channels)).astype(dtype)
    labels = np.arange(images) % len(classes) if classes else np.full(images, source.UNLABELLED)
    ids = [f"i{i}" for i in range(images)]
    data = source.make(values, labels, ids, tuple(classes))
    network = models.find(encoder[0])(**encoder[1])
    kw = PRETEXTS[pretext]
    c = fields.base()
    c.data.image_size = size
    c.pretrain.objective, c.pretrain.options = pretext, ConfigDict(kw)
    pixels = augment.Pixels(0.0, 255.0, (0.5,), (0.3,))
    splits = {"train": np.arange(images // 2), "validation": np.arange(0), "test": np.arange(images // 2, images)}

    @jax.jit
    def encode(variables, batch):
        return network.apply(variables, augment.eval_transform(batch["image"], pixels, size), train=False)["pooled"]

    objective = objectives.make(pretext, network, {"classes": 3, "steps": 10}, kw)
    rows = splits["train"]
    return Setup(c, workdir, None, data, splits, rows, rows, objective, pixels, network, None, encode)


def networks(setup, seed=0):
    """Untrained ones, but that heads and decoders no longer say 0."""
    x = jnp.zeros((2, *setup.source.images.shape[1:]), jnp.float32)
    views = {"views": (x,) * setup.objective.views, "label": jnp.zeros(2, jnp.int32)}
    params, state, _ = jax.jit(setup.objective.init)(jax.random.key(seed), views)
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda p: np.asarray(p) + 0.1 * rng.normal(size=p.shape).astype(np.float32), params)
    variables = {"params": params["encoder"], **state["encoder"]}
    pooled = setup.encode(variables, {"image": x})
    head = {"linear": {"kernel": rng.normal(size=(pooled.shape[1], 3)), "bias": np.array([0.1, 0.0, -0.2])}}
    tuned = trained.Trained(setup.encoder, variables, head, setup.source.classes, setup.source.channels, True)
    known = setup.config.pretrain.objective in ("mae", "inpaint", "rotation")
    pretext = {"params": params, "model_state": state} if known else None
    return gallery.Networks("ssl", variables, pretext, tuned if setup.source.classes else None, "")


@functools.cache
def found(**kw):
    setup = make(None, **{k: ENCODERS.get(v, v) if k == "encoder" else v for k, v in kw.items()})
    made = networks(setup)
    return setup, made, *gallery.make_pictures(setup, made)


def check(setup, archive):
    for name, values in archive.items():
        if name.endswith("_images") or name == "heat":
            assert values.dtype == np.uint8, name
        if name.endswith("_images"):
            assert values.shape[-1] == (setup.source.channels if setup.source.channels in (1, 3) else 1)
    test = set(setup.source.ids[setup.splits["test"]].tolist())
    assert set(archive["map_ids"].tolist()) == test
    assert set(archive["views_ids"].tolist()) <= set(setup.source.ids[setup.pretraining_rows].tolist())
    (second,) = {"map_umap", "map_tsne"} & archive.keys()
    assert np.isfinite(archive["map_pca"]).all() and np.isfinite(archive[second]).all()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_kind_of_encoder_has_pictures(encoder):
    setup, _, archive, features = found(encoder=encoder)
    check(setup, archive)
    assert archive["views_images"].shape[:2] == (6, 3) and archive["near_images"].shape[:2] == (6, 6)
    assert archive["heat"].ndim == 3 and archive["heat"].max() == 255 and archive["heat"].min() == 0
    kind = "attention" if encoder in ("vit", "cls") else "class"
    assert json.loads(str(archive["about"])) == {"objective": "byol", "init": "ssl", "channels": 1, "heat": kind}
    assert features.shape == (30, setup.encode(networks(setup).encoder, {"image": setup.source.images[:1]}).shape[1])


@pytest.mark.slow
def test_efficientnet_has_pictures():
    setup, _, archive, _ = found(encoder=("efficientnet_lite0", {"stem": "small"}), size=32)
    check(setup, archive)
    assert archive["heat"].shape == (6, 2, 2)


@pytest.mark.parametrize(
    ("channels", "dtype", "classes"), [(3, np.uint8, ("only",)), (5, np.float32, ()), (2, np.uint16, ("a", "b", "c"))]
)
def test_every_kind_of_image_has_pictures(channels, dtype, classes):
    setup, _, archive, _ = found(channels=channels, dtype=dtype, classes=classes)
    check(setup, archive)
    assert ("heat" in archive) == bool(classes) and (archive["map_labels"] >= 0).all() == bool(classes)


def test_few_images_and_none_of_test_leave_sections_out():
    setup = make(None, images=4)
    archive, _ = gallery.make_pictures(setup, networks(setup))
    assert "map_ids" not in archive and archive["near_ids"].shape == (2, 3)
    setup.splits["test"] = np.arange(0)
    archive, features = gallery.make_pictures(setup, networks(setup))
    assert set(archive) == {"about", "views_ids", "views_images"} and features.size == 0


def test_a_collapsed_encoder_has_no_map():
    setup = make(None)
    assert gallery.make_map(setup, setup.splits["test"], np.ones((30, 8), np.float32)) == {}


def test_pictures_are_the_same_each_time():
    setup, made, archive, _ = found(encoder="resnet")
    again, _ = gallery.make_pictures(setup, made)
    assert again.keys() == archive.keys()
    for name, values in archive.items():
        np.testing.assert_array_equal(again[name], values)


def test_a_picture_is_what_was_stored():
    setup = make(None, channels=3)
    rows = setup.splits["test"][:4]
    np.testing.assert_array_equal(
        gallery.to_picture(setup, gallery.load_standardized(setup, rows)), setup.source.images[rows]
    )
    small = gallery.to_picture(setup, gallery.load_standardized(setup, rows), side=8)
    assert small.shape == (4, 8, 8, 3) and abs(small.mean() - setup.source.images[rows].mean()) < 8


def test_neighbours_are_the_nearest_by_cosine():
    setup, made, archive, _ = found(encoder="resnet")
    of = {
        name: np.asarray(setup.encode(made.encoder, {"image": setup.source.images[rows]}), np.float64)
        for name, rows in setup.splits.items()
        if len(rows)
    }
    for ids, cosines in zip(archive["near_ids"], archive["near_cosine"], strict=True):
        query = of["test"][int(ids[0][1:]) - 30]
        all_cosines = of["train"] @ query / np.linalg.norm(of["train"], axis=1) / np.linalg.norm(query)
        np.testing.assert_allclose(cosines, np.sort(all_cosines)[::-1][:5], rtol=1e-4)
        np.testing.assert_allclose(all_cosines[[int(i[1:]) for i in ids[1:]]], cosines, rtol=1e-4)


def test_class_activation_adds_up_to_the_logit_over_the_others():
    setup, made, _, _ = found(encoder="resnet")
    image = gallery.load_standardized(setup, setup.splits["test"])
    heat = jax.jit(functools.partial(heatmaps.compute_class_activation, setup.encoder))(*made.finetuned[1:3], image)
    pooled = setup.encode(made.finetuned.variables, {"image": setup.source.images[setup.splits["test"]]})
    plain = pooled @ made.finetuned.head["linear"]["kernel"]
    predicted = Linear(3).apply({"params": made.finetuned.head}, pooled, train=False).argmax(-1)
    expected = plain[np.arange(30), predicted] - plain.mean(1)
    np.testing.assert_allclose(heat.mean((1, 2)), expected, rtol=1e-3, atol=1e-4)


def norm(x, p):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


@pytest.mark.parametrize(("pool", "qk_norm"), [("mean", False), ("cls", False), ("cls", True)])
def test_attention_against_numpy(pool, qk_norm):
    """A transformer of one block, head by head and from token to token."""
    encoder = models.find("vit_tiny")(**VIT[1] | {"depth": 1, "pool": pool, "registers": 1, "qk_norm": qk_norm})
    image = np.random.default_rng(0).normal(size=(2, 8, 12, 1)).astype(np.float32)
    variables = jax.jit(functools.partial(encoder.init, train=False))(jax.random.key(0), image)
    variables = jax.tree.map(np.asarray, variables)
    p = variables["params"]
    tokens = np.asarray(vit.patchify(image, 4)) @ p["patch_embed"]["kernel"] + p["patch_embed"]["bias"]
    tokens = tokens + vit.sincos_positions(2, 3, 8)
    extra = np.concatenate([p["cls_token"], p["reg_token"]], 1)
    x = np.concatenate([np.repeat(extra, 2, 0), tokens], 1)
    block = p["blocks_0"]
    qkv = norm(x, block["norm1"]) @ block["qkv"]["kernel"] + block["qkv"]["bias"]
    expected = np.zeros((2, 6))
    for b in range(2):
        for head in range(2):
            q, k = (qkv[b, :, 8 * part + 4 * head : 8 * part + 4 * head + 4] for part in (0, 1))
            if qk_norm:
                q, k = norm(q, block["q_norm"]), norm(k, block["k_norm"])
            for asking in [0] if pool == "cls" else range(2, 8):
                weight = np.exp(k @ q[asking] / 2)
                expected[b] += (weight / weight.sum())[2:]
    expected /= 2 * (1 if pool == "cls" else 6)
    heat = jax.jit(functools.partial(heatmaps.compute_attention, encoder))(variables, image)
    np.testing.assert_allclose(heat, expected.reshape(2, 2, 3), rtol=1e-4)


@pytest.mark.parametrize(("pretext", "encoder"), [("mae", "vit"), ("inpaint", "autoencoder")])
def test_reconstructions_stand_in_the_holes_alone(pretext, encoder):
    setup, _, archive, _ = found(encoder=encoder, pretext=pretext)
    image, masked, made = np.moveaxis(archive["filled_images"].astype(int), 1, 0)
    rows = [int(name[1:]) for name in archive["filled_ids"]]
    np.testing.assert_array_equal(image, setup.source.images[rows])
    hidden = masked == round(255 * 0.5)
    assert 0.01 < hidden.mean() < 0.9
    np.testing.assert_array_equal(masked[~hidden], image[~hidden])
    np.testing.assert_array_equal(made[~hidden], image[~hidden])
    assert (made[hidden] != image[hidden]).mean() > 0.5


def test_rotated_images_are_told_by_the_head():
    setup, made, archive, _ = found(pretext="rotation")
    rows = [int(name[1:]) for name in archive["turned_ids"]]
    assert archive["turned_true"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    turned = np.stack(
        [np.rot90(setup.source.images[row], k) for row, k in zip(rows, archive["turned_true"], strict=True)]
    )
    np.testing.assert_array_equal(archive["turned_images"], turned)
    pooled = np.asarray(setup.encode(made.encoder, {"image": turned}))
    head = made.pretext["params"]["head"]["linear"]
    np.testing.assert_array_equal(archive["turned_said"], (pooled @ head["kernel"] + head["bias"]).argmax(1))


def test_a_gallery_is_written_once_and_its_failure_ends_no_run(tmp_path, monkeypatch, caplog):
    setup, made, _, _ = found(encoder="resnet")
    setup = setup._replace(workdir=tmp_path)
    gallery.collect(setup)
    assert "the report is without pictures" in caplog.text and not (tmp_path / "gallery.npz").exists()
    monkeypatch.setattr(gallery, "load_networks", lambda setup: made)
    gallery.collect(setup)
    before = (tmp_path / "gallery.npz").read_bytes()
    assert 1000 < len(before) < 3e6
    board = {file.name for file in (tmp_path / "tensorboard" / "gallery").rglob("*") if file.is_file()}
    assert {"tensors.tsv", "metadata.tsv", "sprite.png", "projector_config.pbtxt"} < board
    assert any(name.startswith("events") for name in board)
    monkeypatch.setattr(gallery, "make_pictures", None)
    gallery.collect(setup)
    assert (tmp_path / "gallery.npz").read_bytes() == before and len(caplog.records) == 1
    assert read_gallery(tmp_path).keys() >= {"map_ids", "near_ids", "heat", "about"}
