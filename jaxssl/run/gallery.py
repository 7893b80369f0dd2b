"""Pictures for the report, computed at the end of a run: they need the images and the networks.

gallery.npz holds them. A picture is [H, W, 1 or 3] uint8 of what the encoder sees, at most `SIDE` pixels wide; with
another number of channels, it shows their mean in grey. The report takes labels and predictions from predictions.csv,
by image id. What a run has nothing for is left out:
  about: JSON of {objective, init: whose features these are, channels, heat: "attention" or "class", kinds: what the
    labels here number, where images do not have one class each}
  map_ids, map_groups [N], map_labels [N] (-1: unknown), map_images: test images, small
  map_pca, map_umap or map_tsne [N, 2] float32
  map_share [2]: share of the variance of the features along each axis of map_pca
  views_ids [K], views_images [K, 1 + views, ...]: images of the pretraining and their augmented views
  filled_ids [K], filled_images [K, 3, ...]: image, masked image, reconstruction (objectives with `reconstruct`)
  turned_ids, turned_true, turned_said [K], turned_images: true and predicted quarter turns, anticlockwise (objectives
    with `predict_rotations`)
  near_ids, near_labels [Q, 1 + K], near_cosine [Q, K], near_images: a test image and its nearest training images
  wrong_ids [K], wrong_images, wrong_evaluation: the wrong predictions of highest probability, of that evaluation
  heat_ids [K], heat_images, heat [K, h, w] uint8: attention, or activation of the predicted class
  mask_ids, mask_cases [K], mask_images, mask_true [K, s, s] uint8, mask_evaluations [A], mask_predicted [A, K, s, s]
    uint8, mask_dice [A, K]: see `overlays`
"""

import contextlib
import functools
import importlib.util
import inspect
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
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.inference import trained
from jaxssl.results import words
from jaxssl.results.gallery import read_gallery
from jaxssl.results.predictions import read_predictions
from jaxssl.results.workdir import read_results
from jaxssl.run.heatmaps import compute_heat_maps
from jaxssl.run.overlays import make_overlays
from jaxssl.run.setup import Setup, every_nth
from jaxssl.training import checkpoint, lora, metrics

Tree = Any
Arrays = dict[str, np.ndarray]
log = logging.getLogger(__name__)
MAX_MAPPED = 256  # Test images on the map.
MAX_SEARCHED = 1024  # Training images among which neighbours are searched.
EXAMPLES = 6  # Images of most kinds of pictures.
NEIGHBORS = 5
MANY_EXAMPLES = 8  # Wrong predictions and rotated images.
SIDE, SMALL_SIDE = 96, 40  # Pixels of a picture, and of one on the map.
MASK_SIDE = 192  # Of a picture with masks, at most.
BATCH = 64


class Networks(NamedTuple):
    """The networks of a run that pictures need, as NumPy arrays.

    Attributes:
      init: the initialization whose features are shown.
      encoder: its variables; None if it is random.
      pretext: "params" and "model_state" of the pretraining, if its objective has pictures.
      finetuned: the fine-tuning of `init`; None if there is none.
      evaluation: name of the evaluation whose wrong predictions are shown; "" for none.
    """

    init: str
    encoder: Tree | None
    pretext: dict[str, Tree] | None
    finetuned: trained.Trained | None
    evaluation: str


def collect(setup: Setup) -> None:
    """Write gallery.npz and the pictures in TensorBoard, unless they exist. A failure is only logged as a warning."""
    file = setup.workdir / "gallery.npz"
    with contextlib.suppress(UserError):  # A damaged one is made again.
        if read_gallery(setup.workdir):
            return
    try:
        gallery, features = make_pictures(setup, load_networks(setup))
        stream = io.BytesIO()
        np.savez_compressed(stream, **gallery)  # pyright: ignore[reportArgumentType]
        kinds = kinds_of(setup.source)[1]
        labels = [words.clean_text(kinds[i]) if i >= 0 else "" for i in gallery.get("map_labels", ())]
        metrics.write_pictures(setup.workdir, make_strips(gallery), features, labels, gallery.get("map_images"))
        files.write_bytes(file, stream.getvalue())
    except Exception as error:
        log.warning("the report is without pictures: %r", error)


def load_networks(setup: Setup) -> Networks:
    """Load the networks of a run whose results.json is written."""
    results = read_results(setup.workdir)
    c = setup.config.pretrain
    names = [e["name"] for e in results["evaluations"]]
    init = results["evaluations"][0]["init"] if names else "ssl"
    preferred = [f"{protocol}_{init}" for protocol in ("finetune", "probe", "knn")]
    evaluation = next((name for name in preferred if name in names), "")
    finetuned = trained.load(setup.workdir, preferred[0]) if preferred[0] in names else None
    pretext = None
    if c.epochs and has_pictures(c.objective):
        pretext = checkpoint.load_numpy(setup.workdir / "checkpoints" / "pretrain")
        if pretext is not None:
            pretext["params"] = lora.merge(pretext["params"], c.lora.alpha)
    encoder = trained.load(setup.workdir).variables if c.epochs else jax.device_get(setup.weights)
    return Networks(init, encoder, pretext, finetuned, evaluation)


def find_module(objective: str) -> Any:
    """Return the module of an objective, which may define `reconstruct` or `predict_rotations` for pictures."""
    return inspect.getmodule(objectives.find(objective))


def has_pictures(objective: str) -> bool:
    """Return whether there are pictures of what this objective learns."""
    module = find_module(objective)
    return hasattr(module, "reconstruct") or hasattr(module, "predict_rotations")


def make_pictures(setup: Setup, networks: Networks) -> tuple[Arrays, np.ndarray]:
    """Return the content of gallery.npz, and the features [N, D] float32 of the images on the map."""
    c, gallery = setup.config, {}
    about = {"objective": c.pretrain.objective if c.pretrain.epochs else "", "init": networks.init}
    about |= {"channels": setup.source.channels}
    if setup.source.task in ("multi", "value"):
        about |= {"kinds": kinds_of(setup.source)[1]}
    features = np.zeros((0, 0), np.float32)
    test = setup.splits["test"]
    if c.pretrain.epochs:
        gallery |= make_views(setup)
    if networks.pretext is not None:
        gallery |= make_pretext_pictures(setup, networks.pretext)
    if len(test):
        encode, mapped = make_encode(setup), every_nth(test, MAX_MAPPED)
        shown = spread_over_classes(setup, mapped, EXAMPLES)
        if networks.encoder is not None:
            features = encode(networks.encoder, mapped)
            gallery |= make_map(setup, mapped, features)
            gallery |= find_neighbors(setup, encode, networks.encoder, shown)
        if networks.evaluation:
            gallery |= find_mistakes(setup, networks.evaluation)
        if setup.source.masks is not None:
            draw = lambda rows: to_picture(setup, load_standardized(setup, rows), MASK_SIDE)  # noqa: E731
            gallery |= make_overlays(setup, read_results(setup.workdir), draw)
        image = load_standardized(setup, shown)
        if heat := compute_heat_maps(setup.encoder, networks.encoder, networks.finetuned, image):
            about["heat"] = heat[0]
            gallery |= {
                "heat_ids": setup.source.ids[shown],
                "heat_images": to_picture(setup, image),
                "heat": heat[1],
            }
    return gallery | {"about": np.array(json.dumps(about))}, features


# Images.


def to_picture(setup: Setup, image: np.ndarray | jax.Array, side: int = SIDE) -> np.ndarray:
    """Convert standardized images [..., S, S, C] to pictures [..., s, s, 1 or 3] uint8."""
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


def load_standardized(setup: Setup, rows: np.ndarray) -> jax.Array:
    """Return these images as evaluation sees them: [N, S, S, C] float32."""
    return augment.eval_transform(jnp.asarray(setup.source.images[rows]), setup.pixels, setup.config.data.image_size)


def kinds_of(source: Source) -> tuple[np.ndarray, list[str]]:
    """Return one class for each image [N] int, -1 where unknown, and the names of the classes.

    Of several labels it is the rarest that the image has, of values the fifth of all values that it is in.
    """
    if source.task not in ("multi", "value"):
        return source.labels, list(source.classes)
    names = [*source.classes, "none"]
    if source.task == "value":
        fifths = [source.labels[of] for of in source.strata.T]
        names = [f"{of.min():.4g} to {of.max():.4g}" if len(of) else "" for of in fifths]
    return source.kinds, names


def spread_over_classes(setup: Setup, rows: np.ndarray, count: int) -> np.ndarray:
    """Return `count` of these rows, from as many classes as possible."""
    by_class = rows[np.argsort(kinds_of(setup.source)[0][rows], kind="stable")]
    return by_class[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))]


def read_batches(setup: Setup, rows: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Yield stored images in batches of `BATCH`, the last one padded, and how many of them count."""
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        yield setup.source.images[np.resize(part, BATCH)], len(part)


def make_encode(setup: Setup) -> Callable[[Tree, np.ndarray], np.ndarray]:
    """Return (variables, rows) -> pooled features [N, D] float32."""

    def encode(variables: Tree, rows: np.ndarray) -> np.ndarray:
        batches = read_batches(setup, rows)
        return np.concatenate([np.asarray(setup.encode(variables, {"image": image}))[:n] for image, n in batches])

    return encode


# Pretraining.


def make_views(setup: Setup) -> Arrays:
    """Draw augmented views of training images."""
    c = setup.config
    rows = every_nth(setup.pretraining_rows, EXAMPLES)
    count = max(2, setup.objective.views if setup.objective else 0)
    view = augment.make(setup.pixels, size=c.data.image_size, views=count, **c.pretrain.augment)
    batch = jax.jit(view)(jax.random.key(c.seed), {"image": jnp.asarray(setup.source.images[rows])})
    images = np.stack([load_standardized(setup, rows), *batch["views"]], axis=1)
    return {"views_ids": setup.source.ids[rows], "views_images": to_picture(setup, images)}


def make_pretext_pictures(setup: Setup, state: dict[str, Tree]) -> Arrays:
    """Show what the trained objective predicts of test images, or of training images if there are none."""
    rows = setup.splits["test"] if len(setup.splits["test"]) else setup.pretraining_rows
    # Orbax leaves out what is empty.
    model_state = {"encoder": (state.get("model_state") or {}).get("encoder") or {}}
    module = find_module(setup.config.pretrain.objective)
    if hasattr(module, "predict_rotations"):
        rows = spread_over_classes(setup, rows, MANY_EXAMPLES)
        turns = jnp.arange(len(rows)) % module.ROTATIONS
        predict = jax.jit(functools.partial(module.predict_rotations, setup.encoder))
        rotated, predicted = predict(state["params"], model_state, load_standardized(setup, rows), turns)
        return {
            "turned_ids": setup.source.ids[rows],
            "turned_images": to_picture(setup, rotated),
            "turned_true": np.asarray(turns),
            "turned_said": np.asarray(predicted),
        }
    c = setup.config.pretrain
    rows = spread_over_classes(setup, rows, EXAMPLES)
    options = objectives.options(c.objective) | dict(c.options)
    image, key = load_standardized(setup, rows), jax.random.key(setup.config.seed)
    reconstruct = jax.jit(functools.partial(module.reconstruct, setup.encoder, **options))
    output = reconstruct(state["params"], model_state, image, key)
    images = np.stack([image, output["masked"], output["image"]], axis=1)
    return {"filled_ids": setup.source.ids[rows], "filled_images": to_picture(setup, images)}


# Features.


def l2_normalize(features: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(length > 0, length, 1)


def make_map(setup: Setup, rows: np.ndarray, features: np.ndarray) -> Arrays:
    """Project l2-normalized features by PCA and UMAP or t-SNE; {} for too few images or a collapsed encoder."""
    source, x = setup.source, l2_normalize(features.astype(np.float64))
    components = min(50, *x.shape)
    if len(x) < 5 or components < 2 or x.std(0).max() < 1e-6:
        return {}
    with threadpool_limits(1):
        pca = PCA(components, svd_solver="full").fit(x)
        projected = pca.transform(x)
        name, points = project_nonlinear(projected)
    return {
        "map_ids": source.ids[rows],
        "map_groups": source.groups[rows],
        "map_labels": kinds_of(source)[0][rows],
        "map_images": to_picture(setup, load_standardized(setup, rows), SMALL_SIDE),
        "map_pca": projected[:, :2].astype(np.float32),
        "map_share": pca.explained_variance_ratio_[:2],
        # Rotated so that its longest axis is horizontal.
        name: PCA(2, svd_solver="full").fit_transform(points).astype(np.float32),
    }


def project_nonlinear(x: np.ndarray) -> tuple[str, np.ndarray]:
    """Project [N, D] to [N, 2]: ("map_umap", points) where umap-learn is installed, else ("map_tsne", points)."""
    if importlib.util.find_spec("umap"):
        umap = importlib.import_module("umap")
        return "map_umap", umap.UMAP(n_neighbors=min(15, len(x) - 1), random_state=0, n_jobs=1).fit_transform(x)
    return "map_tsne", TSNE(perplexity=min(30, (len(x) - 1) / 3), init="pca", random_state=0).fit_transform(x)


def find_neighbors(setup: Setup, encode: Callable, variables: Tree, shown: np.ndarray) -> Arrays:
    """Find the training images with the highest cosine similarity to each of these images."""
    rows = every_nth(setup.splits["train"], MAX_SEARCHED)
    cosine = l2_normalize(encode(variables, shown)) @ l2_normalize(encode(variables, rows)).T
    nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :NEIGHBORS]
    table = np.column_stack([shown, rows[nearest]])
    images = np.asarray(load_standardized(setup, table.ravel()))
    return {
        "near_ids": setup.source.ids[table],
        "near_labels": kinds_of(setup.source)[0][table],
        "near_cosine": np.take_along_axis(cosine, nearest, axis=1).astype(np.float32),
        "near_images": to_picture(setup, images.reshape(*table.shape, *images.shape[1:])),
    }


def find_mistakes(setup: Setup, evaluation: str) -> Arrays:
    """Find the wrong predictions of highest probability; {} where images do not have one class each."""
    if setup.source.task in ("multi", "value"):
        return {}
    predictions = read_predictions(setup.workdir, read_results(setup.workdir))[evaluation]
    wrong = np.flatnonzero(predictions.probabilities.argmax(1) != predictions.labels)
    worst = wrong[np.argsort(-predictions.probabilities[wrong].max(1), kind="stable")[:MANY_EXAMPLES]]
    if not len(worst):
        return {}
    test = setup.splits["test"]
    row_of = dict(zip(setup.source.ids[test].tolist(), test.tolist(), strict=True))
    rows = np.array([row_of[predictions.ids[i]] for i in worst])
    return {
        "wrong_ids": setup.source.ids[rows],
        "wrong_images": to_picture(setup, load_standardized(setup, rows)),
        "wrong_evaluation": np.array(evaluation),
    }


# TensorBoard.


def make_strips(gallery: Arrays) -> Arrays:
    """Return the pictures of pretraining as one picture [H, W, 3] of each kind, one row per image."""
    rows = {name: gallery[f"{name}_images"] for name in ("views", "filled") if f"{name}_images" in gallery}
    if "turned_images" in gallery:
        rows["turned"] = gallery["turned_images"][None]
    joined = {name: np.concatenate(np.concatenate(list(images), axis=1), axis=1) for name, images in rows.items()}
    return {name: np.broadcast_to(image, (*image.shape[:2], 3)) for name, image in joined.items()}
