"""Gathers, at the end of a run, the pictures of its report: these need the images and the networks, which a workdir
alone does not give back.

They stand in gallery.npz. A picture is [H, W, 1 or 3] uint8 of what the encoder sees, scaled down to `SIDE` at most;
images of another number of channels are grey, as the mean of these. `page` takes labels and predictions from
predictions.csv, by the image ids that are here. What a run has nothing for is left out:
  about: JSON of {objective, init: whose features these are, channels, heat: "attention" or "class"}
  map_ids, map_groups [N], map_labels [N] (-1: unknown), map_images: test images, small
  map_pca, map_tsne [N, 2] float32; map_share [2]: of the variance of the features along each axis of map_pca
  views_ids [K], views_images [K, 1 + views, ...]: an image of the pretraining and how it was shown
  filled_ids [K], filled_images [K, 3, ...]: an image, what was left of it, what the decoder made of it (mae, inpaint)
  turned_ids, turned_true, turned_said [K], turned_images: quarter turns anticlockwise (rotation)
  near_ids, near_labels [Q, 1 + K], near_cosine [Q, K], near_images: a test image and those of training next to it
  wrong_ids [K], wrong_images, wrong_evaluation: the surest mistakes of that evaluation
  heat_ids [K], heat_images, heat [K, h, w] uint8: where the network looks, or what speaks for the class it predicts
"""

import functools
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from jaxssl import files, objectives
from jaxssl.augment import views as augment
from jaxssl.inference import trained
from jaxssl.models.heads import Linear
from jaxssl.objectives import inpaint, mae, rotation
from jaxssl.report import page, words
from jaxssl.run.setup import Setup, every_nth
from jaxssl.training import checkpoint, metrics

Tree = Any
log = logging.getLogger(__name__)
MAPPED = 256  # Test images on the map.
SEARCHED = 1024  # Training images among which neighbours are looked for.
FEW = 6  # Examples of most kinds,
NEAREST = 5  # training images of each,
MANY = 8  # mistakes and rotated images.
SIDE, SMALL = 96, 40  # Of a picture and of one of the map, in pixels.
BATCH = 64
WITH_DECODER = ("mae", "inpaint", "rotation")


class Networks(NamedTuple):
    """What a run trained, as far as pictures need it, in NumPy arrays."""

    init: str
    encoder: Tree | None  # Variables; the features are its.
    pretext: dict[str, Tree] | None  # "params" and "model_state" of an objective of which there are pictures.
    tuned: trained.Trained | None  # The fine-tuning that started from `encoder`.
    evaluation: str  # The one whose mistakes are shown; "" for none.


def collect(setup: Setup) -> None:
    """Writes gallery.npz, and what TensorBoard shows of it, unless it is there.

    A run has its results by now: what goes wrong here is told as a warning.
    """
    file = setup.workdir / "gallery.npz"
    if file.exists():
        return
    try:
        found, features = pictures(setup, load(setup))
        stream = io.BytesIO()
        np.savez_compressed(stream, **found)
        labels = [words.clean(setup.source.classes[i]) if i >= 0 else "" for i in found.get("map_labels", ())]
        metrics.write_pictures(setup.workdir, strips(found), features, labels, found.get("map_images"))
        files.write_bytes(file, stream.getvalue())
    except Exception as error:
        log.warning("the report is without pictures: %r", error)


def load(setup: Setup) -> Networks:
    """Reads the networks of a run that has its results."""
    results = files.read_json(setup.workdir / "results.json", page.NEEDED)
    c = setup.config.pretrain
    names = [e["name"] for e in results["evaluations"]]
    inits = [e["init"] for e in results["evaluations"]]
    init = inits[0] if inits else "ssl"
    order = [f"{protocol}_{init}" for protocol in ("finetune", "probe", "knn")]
    evaluation = next((name for name in order if name in names), "")
    tuned = trained.load(setup.workdir, order[0]) if order[0] in names else None
    pretext = None
    if c.epochs and c.objective in WITH_DECODER:
        pretext = checkpoint.read(setup.workdir / "checkpoints" / "pretrain")
    encoder = trained.load(setup.workdir).variables if c.epochs else jax.device_get(setup.given)
    return Networks(init, encoder, pretext, tuned, evaluation)


def pictures(setup: Setup, networks: Networks) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The content of gallery.npz, and the features [N, D] float32 of the images on its map."""
    c, found = setup.config, {}
    about = {"objective": c.pretrain.objective if c.pretrain.epochs else "", "init": networks.init}
    about |= {"channels": setup.source.channels}
    features = np.zeros((0, 0), np.float32)
    test = setup.splits["test"]
    if c.pretrain.epochs:
        found |= views(setup)
    if networks.pretext is not None:
        found |= pretext_pictures(setup, networks.pretext)
    if len(test):
        see, mapped = seer(setup), every_nth(test, MAPPED)
        shown = spread(setup, mapped)
        if networks.encoder is not None:
            found |= embedding(setup, mapped, features := see(networks.encoder, mapped))
            found |= neighbours(setup, see, networks.encoder, shown)
        if networks.evaluation:
            found |= mistakes(setup, networks.evaluation)
        if heat := heat_maps(setup, networks, shown):
            about["heat"], found = heat[0], found | heat[1]
    return found | {"about": np.array(json.dumps(about))}, features


# Images.


def picture(setup: Setup, image: np.ndarray, side: int = SIDE) -> np.ndarray:
    """[..., S, S, C] standardised -> [..., s, s, 1 or 3] uint8."""
    image = np.asarray(image)
    unit = image * np.asarray(setup.pixels.std) + np.asarray(setup.pixels.mean)
    if image.shape[-1] not in (1, 3):
        unit = unit.mean(-1, keepdims=True)
    eight = np.rint(255 * np.clip(np.nan_to_num(unit), 0, 1)).astype(np.uint8)
    if eight.shape[-2] <= side:
        return eight
    flat = eight.reshape(-1, *eight.shape[-3:])
    small = [Image.fromarray(one.squeeze(-1) if one.shape[-1] == 1 else one).resize((side, side)) for one in flat]
    return np.stack([np.asarray(one) for one in small]).reshape(*eight.shape[:-3], side, side, -1)


def plain(setup: Setup, rows: np.ndarray) -> jax.Array:
    """[N, S, S, C] float32 as evaluation sees these images."""
    return augment.plain(jnp.asarray(setup.source.images[rows]), setup.pixels, setup.config.data.image_size)


def spread(setup: Setup, rows: np.ndarray, count: int = FEW) -> np.ndarray:
    """`count` of these rows, from as many classes as can be."""
    ordered = rows[np.argsort(setup.source.labels[rows], kind="stable")]
    return ordered[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))]


def batches(setup: Setup, rows: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Stored images of `BATCH` rows each, the last filled up, and how many count."""
    for start in range(0, len(rows), BATCH):
        of = rows[start : start + BATCH]
        yield setup.source.images[np.resize(of, BATCH)], len(of)


def seer(setup: Setup) -> Callable[[Tree, np.ndarray], np.ndarray]:
    """(variables, rows) -> pooled features [N, D] float32 of these images."""

    def see(variables: Tree, rows: np.ndarray) -> np.ndarray:
        parts = [np.asarray(setup.encode(variables, {"image": of}))[:n] for of, n in batches(setup, rows)]
        return np.concatenate(parts)

    return see


# What pretraining saw.


def views(setup: Setup) -> dict[str, np.ndarray]:
    c = setup.config
    rows = every_nth(setup.seen, FEW)
    view = augment.make(setup.pixels, size=c.data.image_size, views=max(2, setup.pretext.views), **c.pretrain.augment)
    batch = jax.jit(view)(jax.random.key(c.seed), {"image": jnp.asarray(setup.source.images[rows])})
    shown = np.stack([plain(setup, rows), *batch["views"]], axis=1)
    return {"views_ids": setup.source.ids[rows], "views_images": picture(setup, shown)}


def pretext_pictures(setup: Setup, state: dict[str, Tree]) -> dict[str, np.ndarray]:
    """What the trained objective makes of test images, or of training images where there are none of test."""
    name, kw, key = setup.config.pretrain.objective, setup.config.pretrain.options, jax.random.key(setup.config.seed)
    rows = setup.splits["test"] if len(setup.splits["test"]) else setup.seen
    # Orbax leaves out what is empty.
    params, of = state["params"], {"encoder": (state.get("model_state") or {}).get("encoder") or {}}
    if name == "rotation":
        rows = spread(setup, rows, MANY)
        turns = jnp.arange(len(rows)) % rotation.ROTATIONS
        turned, said = jax.jit(functools.partial(predict_turns, setup.encoder))(params, of, plain(setup, rows), turns)
        return {
            "turned_ids": setup.source.ids[rows],
            "turned_images": picture(setup, turned),
            "turned_true": np.asarray(turns),
            "turned_said": np.asarray(said),
        }
    rows = spread(setup, rows)
    options = objectives.options(name) | dict(kw)
    fill = functools.partial((mae if name == "mae" else inpaint).reconstruct, setup.encoder, **options)
    image = plain(setup, rows)
    made = jax.jit(fill)(params, of, image, key)
    shown = np.stack([image, made["masked"], made["image"]], axis=1)
    return {"filled_ids": setup.source.ids[rows], "filled_images": picture(setup, shown)}


def predict_turns(encoder: Any, params: Tree, state: Tree, image: jax.Array, turns: jax.Array) -> tuple:
    """The images turned so often, and how often the network says that they were."""
    turned = rotation.rotate(image, turns)
    pooled = encoder.apply({"params": params["encoder"], **state["encoder"]}, turned, train=False)["pooled"]
    return turned, Linear(rotation.ROTATIONS).apply({"params": params["head"]}, pooled, train=False).argmax(-1)


# What the features hold together.


def unit(features: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(length > 0, length, 1)


def embedding(setup: Setup, rows: np.ndarray, features: np.ndarray) -> dict[str, np.ndarray]:
    """The map: both projections of features of length 1, whose distances are those of the nearest neighbours."""
    source, x = setup.source, unit(features.astype(np.float64))
    most = min(50, *x.shape)
    if len(x) < 5 or most < 2 or x.std(0).max() < 1e-6:
        return {}  # Too few, or a collapsed encoder: there is nothing to project.
    with threadpool_limits(1):
        pca = PCA(most, svd_solver="full").fit(x)
        low = pca.transform(x)
        # t-SNE and not UMAP: scikit-learn has it, where umap-learn brings a compiler (numba) with it.
        tsne = TSNE(perplexity=min(30, (len(x) - 1) / 3), init="pca", random_state=0).fit_transform(low)
    return {
        "map_ids": source.ids[rows],
        "map_groups": source.groups[rows],
        "map_labels": source.labels[rows],
        "map_images": picture(setup, plain(setup, rows), SMALL),
        "map_pca": low[:, :2].astype(np.float32),
        "map_share": pca.explained_variance_ratio_[:2],
        "map_tsne": PCA(2, svd_solver="full").fit_transform(tsne).astype(np.float32),  # Turned to lie along the page.
    }


def neighbours(setup: Setup, see: Callable, variables: Tree, shown: np.ndarray) -> dict[str, np.ndarray]:
    """The training images next to each of these, by cosine."""
    rows = every_nth(setup.splits["train"], SEARCHED)
    cosine = unit(see(variables, shown)) @ unit(see(variables, rows)).T
    nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :NEAREST]
    table = np.column_stack([shown, rows[nearest]])
    images = np.asarray(plain(setup, table.ravel()))
    return {
        "near_ids": setup.source.ids[table],
        "near_labels": setup.source.labels[table],
        "near_cosine": np.take_along_axis(cosine, nearest, axis=1).astype(np.float32),
        "near_images": picture(setup, images.reshape(*table.shape, *images.shape[1:])),
    }


def mistakes(setup: Setup, evaluation: str) -> dict[str, np.ndarray]:
    """The wrong predictions of highest probability."""
    results = files.read_json(setup.workdir / "results.json", page.NEEDED)
    of = page.read_predictions(setup.workdir, results)[evaluation]
    wrong = np.flatnonzero(of.probabilities.argmax(1) != of.labels)
    surest = wrong[np.argsort(-of.probabilities[wrong].max(1), kind="stable")[:MANY]]
    if not len(surest):
        return {}
    place = {
        image: row for row, image in zip(setup.splits["test"], setup.source.ids[setup.splits["test"]], strict=True)
    }
    rows = np.array([place[of.ids[i]] for i in surest])
    return {
        "wrong_ids": setup.source.ids[rows],
        "wrong_images": picture(setup, plain(setup, rows)),
        "wrong_evaluation": np.array(evaluation),
    }


def heat_maps(setup: Setup, networks: Networks, rows: np.ndarray) -> tuple[str, dict[str, np.ndarray]] | None:
    """("attention", of the encoder) for one of tokens, ("class", of the fine-tuned network) for one with a map."""
    image = plain(setup, rows)
    shapes = jax.eval_shape(lambda key: setup.encoder.init_with_output(key, image, train=False)[0], jax.random.key(0))
    if "tokens" in shapes and networks.encoder is not None and setup.encoder.depth:
        kind, heat = "attention", jax.jit(functools.partial(attention, setup.encoder))(networks.encoder, image)
    elif "map" in shapes and networks.tuned is not None:
        activation = jax.jit(functools.partial(class_activation, setup.encoder))
        kind, heat = "class", activation(networks.tuned.variables, networks.tuned.head, image)
    else:
        return None
    heat = np.asarray(heat, np.float64)
    low, high = (end(axis=(1, 2), keepdims=True) for end in (heat.min, heat.max))
    heat = (heat - low) / np.where(high > low, high - low, 1)
    eight = np.rint(255 * heat).astype(np.uint8)
    return kind, {"heat_ids": setup.source.ids[rows], "heat_images": picture(setup, image), "heat": eight}


def attention(encoder: Any, variables: Tree, image: jax.Array) -> jax.Array:
    """[B, rows, columns]: what each patch gets of the attention in the last block, mean over the heads.

    From the class token where this is the feature, else from all patches.
    """
    last = f"blocks_{encoder.depth - 1}"
    _, state = encoder.apply(variables, image, train=False, capture_intermediates=lambda m, _: m.name == "qkv")
    (qkv,) = state["intermediates"][last]["qkv"]["__call__"]
    q, k, _ = jnp.moveaxis(qkv.reshape(*qkv.shape[:2], 3, encoder.heads, -1), 2, 0)
    weight = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(q.shape[-1]))
    extra = 1 + encoder.registers
    asking = weight[:, :, :1] if encoder.pool == "cls" else weight[:, :, extra:]
    patches = asking[..., extra:].mean((1, 2))
    return patches.reshape(len(image), -(-image.shape[1] // encoder.patch), -1)


def class_activation(encoder: Any, variables: Tree, head: Tree, image: jax.Array) -> jax.Array:
    """[B, H', W']: what each place of the map adds to the logit of the predicted class, beyond that of the others.

    Zhou et al., 2016, arXiv:1512.04150, equation 2; less the mean over the classes, which the softmax does not see.
    """
    out = encoder.apply(variables, image, train=False)
    kernel, bias = head["linear"]["kernel"], head["linear"]["bias"]
    predicted = (out["pooled"] @ kernel + bias).argmax(-1)
    kernel = kernel - kernel.mean(1, keepdims=True)
    return jnp.einsum("bhwd,db->bhw", out["map"], kernel[:, predicted])


# TensorBoard.


def strips(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The examples of pretraining as one picture [H, W, 3] each, an image a row."""
    rows = {name: found[f"{name}_images"] for name in ("views", "filled") if f"{name}_images" in found}
    if "turned_images" in found:
        rows["turned"] = found["turned_images"][None]
    joined = {name: np.concatenate(np.concatenate(list(of), axis=1), axis=1) for name, of in rows.items()}
    return {name: np.broadcast_to(of, (*of.shape[:2], 3)) for name, of in joined.items()}
