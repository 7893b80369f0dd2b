"""`jaxssl.load(WORKDIR)`: what a run trained, for new images. In a notebook:

network = jaxssl.load("runs/mine")
features = network.encode(["a.png", "b.dcm"])  # [2, D]
probabilities = network.predict(images)  # [N, classes]
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxssl import files
from jaxssl.augment import views
from jaxssl.data.io import images as pictures
from jaxssl.errors import UserError
from jaxssl.evaluation import calibration
from jaxssl.inference import trained
from jaxssl.inference.trained import Trained
from jaxssl.objectives import supervised
from jaxssl.training import sharding

Tree = Any
BATCH = 64
_TWELVE_BITS = 4096
_LISTED = 5

Images = np.ndarray | str | Path | Sequence[np.ndarray | str | Path]


@dataclass(frozen=True, eq=False)
class Network:
    """What a run trained, with all that turns an image into what it was trained on.

    Images are a list of paths of PNG, JPEG, TIFF, npy, DICOM or FITS files, a list of arrays [H, W, C] or [H, W] of any
    sizes, an array [N, H, W, C], or a single image; of grey ones also [N, H, W]. Their centre squares are resized as
    those of the run's own images were. Values are as stored, in the dtype of the run's images; beside these

    - grey images where the run's are RGB become RGB;
    - floats where the run's are integers are rounded to them, unless they lie in [0, 1], which is refused;
    - 16 bits where the run's are 8 are divided by 257, so that white stays white, unless they do not reach 4096 and so
      are of fewer bits, which is refused;
    - what else differs is refused: its scale is not known.

    Attributes:
      workdir: of the run.
      encoder: of `encode`.
      evaluation: the fine-tuning of results.json whose network `predict` is of; "" where no head was trained.
      classes: in the order of the columns of `predict`.
      channels: of the images.
      size: side in pixels at which the run held its images.
      image_size: side in pixels of what the encoder sees.
      dtype: of the run's images; None where an older config.json does not tell, and then no dtype is refused.
      nan: "refuse", "zero" or "median" for values that are not finite.
      pixels: scaling of the stored values.
      temperature: of `predict(calibrated=True)`, found on validation; None where there is none.
      batch_size: images at a time, of which the last are padded, so that nothing is compiled twice.
      mesh: the devices, all of them, over which a batch is split.
    """

    workdir: Path
    encoder: Trained
    evaluation: str
    classes: tuple[str, ...]
    channels: int
    size: int
    image_size: int
    dtype: str | None
    nan: str
    pixels: views.Pixels
    temperature: float | None
    batch_size: int
    mesh: Mesh

    def encode(self, images: Images, *, preprocess: bool = True, patches: bool = False) -> np.ndarray:
        """Features of images, equal to those that the run evaluated.

        Args:
          images: as above; without `preprocess`, [N, image_size, image_size, channels] float32, scaled as in training
            by `jaxssl.augment.views.plain`.
          preprocess: whether they are to be resized and scaled.
          patches: whether those of each patch are wanted: the tokens of a transformer but its class token, or the
            positions of a CNN's last map.

        Returns:
          [N, D] float32, or with `patches` [N, P, D], the patches row by row.

        Raises:
          UserError: no image, or one that cannot be read or does not fit.
        """
        run = self.patch_features if patches else self.features
        if preprocess:
            return together(run, self, images)
        scaled, side = np.asarray(images, np.float32), self.image_size
        if scaled.ndim != 4 or scaled.shape[1:] != (side, side, self.channels) or not len(scaled):
            raise UserError(
                f"images of shape {scaled.shape}: without preprocessing they are [N, {side}, {side}, {self.channels}]"
            )
        return in_batches(self, functools.partial(run, scaled=True), scaled)

    def predict(self, images: Images, *, calibrated: bool = False) -> np.ndarray:
        """Probabilities of the classes, equal to those of the run's predictions.csv.

        Args:
          images: as above.
          calibrated: whether they are softmax(log(p) / T) instead, with the temperature T that was found on validation
            (Guo et al. 2017, arXiv:1706.04599, section 4.2).

        Returns:
          [N, classes] float32 in [0, 1]; rows sum to 1.

        Raises:
          UserError: the run trained no head, or has no temperature where one is asked for; no image, or one that cannot
            be read or does not fit.
        """
        run = self.probabilities
        if calibrated and self.temperature is None:
            raise UserError(f"{self.workdir}: {self.evaluation} has no temperature in results.json to calibrate with")
        found = together(run, self, images)
        return calibration.apply_temperature(found, self.temperature).astype(np.float32) if calibrated else found

    @functools.cached_property
    def classifier(self) -> Trained:
        """The network of `predict`, read once it is wanted. UserError where the run trained none."""
        if not self.evaluation:
            raise UserError(
                f"{self.workdir} has no network with a trained head to predict with: it takes labels and 'finetune' "
                "among transfer.protocols"
            )
        return self.encoder if self.encoder.head is not None else trained.load(self.workdir, self.evaluation)

    @functools.cached_property
    def width(self) -> int:
        """D of `encode`."""
        image = jax.ShapeDtypeStruct((1, self.size, self.size, self.channels), np.uint8)
        return jax.eval_shape(self.features, image).shape[-1]

    # Programs: a batch on the devices -> what it gives. Compiled once each.

    @functools.cached_property
    def features(self) -> Callable[..., jax.Array]:
        return self._program(lambda out: out["pooled"])

    @functools.cached_property
    def patch_features(self) -> Callable[..., jax.Array]:
        def flat(out: dict[str, jax.Array]) -> jax.Array:
            found = out["tokens"] if "tokens" in out else out["map"]
            return found.reshape(len(found), -1, found.shape[-1])

        return self._program(flat)

    @functools.cached_property
    def probabilities(self) -> Callable[..., jax.Array]:
        module, classes, variables = self.classifier.encoder, len(self.classes), dict(self.classifier.variables)
        params = {"encoder": variables.pop("params"), "head": self.classifier.head}
        network = jax.device_put((params, {"encoder": variables}), sharding.replicated(self.mesh))

        @jax.jit
        def apply(network: Tree, image: jax.Array) -> jax.Array:
            return supervised.predict(module, classes, *network, views.plain(image, self.pixels, self.image_size))

        return functools.partial(apply, network)

    def _program(self, wanted: Callable[[dict[str, jax.Array]], jax.Array]) -> Callable[..., jax.Array]:
        variables = jax.device_put(self.encoder.variables, sharding.replicated(self.mesh))

        @functools.partial(jax.jit, static_argnames="scaled")
        def apply(variables: Tree, image: jax.Array, scaled: bool = False) -> jax.Array:
            image = image if scaled else views.plain(image, self.pixels, self.image_size)
            return wanted(self.encoder.encoder.apply(variables, image, train=False))

        return functools.partial(apply, variables)


def load(workdir: str | Path, evaluation: str = "", batch_size: int = BATCH) -> Network:
    """What the run in `workdir` trained.

    By default `encode` is by the pretrained encoder, and `predict` by the first fine-tuned network of results.json,
    which is that of the pretrained encoder, or of the untrained one where nothing was pretrained. `encode` is by it,
    too, where nothing was pretrained.

    Args:
      workdir: of a run that ended.
      evaluation: the name of a fine-tuning in results.json, such as "finetune_random": both are by its network.
      batch_size: images at a time, rounded up to fill all devices.

    Raises:
      UserError: no run is there, it has not ended, it trained no such network, or a checkpoint is damaged.
    """
    workdir = Path(workdir).expanduser()
    results = files.read_json(workdir / "results.json", "give the workdir of a run that ended")
    config = files.read_json(workdir / "config.json", "give the workdir of a run, which holds one")
    try:
        finetuned = {e["name"]: e.get("temperature") for e in results["evaluations"] if e["protocol"] == "finetune"}
        data = config["config"]["data"]
        pixels = views.Pixels(**config["pixels"])
        first = "" if results["pretrain"] else next(iter(finetuned), "")
        stored = {"size": data["stored_size"] or data["image_size"], "image_size": data["image_size"]}
        stored |= {"nan": data["nan"], "dtype": config.get("dtype")}
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{workdir} is not of a jaxssl run that this version can read: {error!r}") from error
    encoder = trained.load(workdir, evaluation or first)
    evaluation = evaluation or next(iter(finetuned), "")
    mesh = sharding.make_mesh(-1, 1)
    return Network(
        workdir=workdir,
        encoder=encoder,
        evaluation=evaluation,
        classes=encoder.classes,
        channels=encoder.channels,
        pixels=pixels,
        temperature=finetuned.get(evaluation),
        batch_size=-(-max(1, batch_size) // mesh.size) * mesh.size,
        mesh=mesh,
        **stored,
    )


def together(run: Callable[[jax.Array], jax.Array], network: Network, images: Images) -> np.ndarray:
    """What a program gives for all of these images. UserError where one cannot be read."""
    given = listed(images, network.channels)
    if not given:
        raise UserError("no image is given")
    found = list(predict_iter(run, network, lambda i: read(given[i], network.size), len(given)))
    names = [image if isinstance(image, str | Path) else f"image {i}" for i, image in enumerate(given)]
    bad = [f"{name} ({why})" for name, (_, why) in zip(names, found, strict=True) if why]
    if bad:
        more = f"; and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
        raise UserError(
            f"{len(bad)} of {len(given)} images cannot be taken: {'; '.join(bad[:_LISTED])}{more}: mend them or leave "
            "them out"
        )
    return np.stack([one for one, _ in found])


def listed(images: Images, channels: int) -> list[np.ndarray | str | Path]:
    """Images of `Network` one by one."""
    if isinstance(images, str | Path):
        return [images]
    if isinstance(images, Sequence):
        return list(images)
    array = np.asarray(images)
    grey = array.ndim == 3 and channels == 1 and 1 not in (array.shape[0], array.shape[-1])
    return list(array) if array.ndim == 4 or grey else [array]


def read(image: np.ndarray | str | Path, size: int) -> np.ndarray:
    """[H, W, C] uint8, uint16 or float32 of a file or an array, as the loaders of `jaxssl.data` read it."""
    return pictures.read(Path(image), size) if isinstance(image, str | Path) else pictures.as_image(np.asarray(image))


def predict_iter(
    run: Callable[[jax.Array], jax.Array], network: Network, read_one: Callable[[int], np.ndarray], total: int
) -> Iterator[tuple[np.ndarray | None, str]]:
    """What a program gives for each image, or None and why it cannot be taken; in order, images read ahead in threads.

    Args:
      run: a program of the network.
      network: whose run's images they should be like.
      read_one: image i as [H, W, C] uint8, uint16 or float32; what it raises says why it cannot be taken.
      total: how many there are.
    """
    squares = prepared(network, read_one, total)
    while some := list(itertools.islice(squares, network.batch_size)):
        good = [image for image, _ in some if image is not None]
        found = iter(in_batches(network, run, np.stack(good)) if good else ())
        yield from ((None, why) if image is None else (next(found), "") for image, why in some)


def prepared(
    network: Network, read_one: Callable[[int], np.ndarray], total: int
) -> Iterator[tuple[np.ndarray | None, str]]:
    """Each image at the size and in the dtype and channels in which the run held its own, or None and why not."""

    def one(i: int) -> np.ndarray:
        image = read_one(i)
        check_channels(image, network.channels)
        return as_stored(image, network.dtype)

    for image, holes, why in pictures.decode(one, total, network.size, network.nan):
        if holes and network.nan == "refuse":
            why = why or f"{holes} of its values are NaN or infinite"
        yield (None, why) if why else (np.broadcast_to(image, (*image.shape[:2], network.channels)), "")


def check_channels(image: np.ndarray, channels: int) -> None:
    """ValueError unless the image has so many, or is a grey one among RGB."""
    found = image.shape[-1]
    if found != channels and (found, channels) != (1, 3):
        raise ValueError(f"has {found} channel{'s' * (found > 1)}, and the run's images have {channels}")


def as_stored(image: np.ndarray, dtype: str | None) -> np.ndarray:
    """The same in the dtype of the run's images. ValueError where the scale of its values is not known."""
    if dtype is None or image.dtype == dtype:
        return image
    highest = image.max()
    if image.dtype == np.float32 and np.issubdtype(dtype, np.integer):
        most = np.iinfo(dtype).max
        if image.min() >= 0 and highest <= 1:
            raise ValueError(f"holds values in [0, 1], and the run's images in [0, {most}]: multiply it by {most}")
        if not np.isfinite(image).all():
            raise ValueError("holds NaN or infinities, and the run's images integers")
        return np.rint(image).clip(0, most).astype(dtype)
    if image.dtype == np.uint16 and dtype == "uint8":
        if highest < _TWELVE_BITS:
            raise ValueError(f"has 16 bits that reach only {highest}, and the run's images have 8: bring it to these")
        return np.rint(image / 257).astype(np.uint8)
    raise ValueError(f"holds {image.dtype}, and the run's images {dtype}: save it in that, in the values of those")


def in_batches(network: Network, run: Callable[[jax.Array], jax.Array], images: np.ndarray) -> np.ndarray:
    """A program over [N, ...] images, N above 0, in batches of one size."""
    size, parts = network.batch_size, []
    for start in range(0, len(images), size):
        part = images[start : start + size]
        filled = np.resize(part, (size, *part.shape[1:]))
        parts.append(np.asarray(run(jax.device_put(filled, sharding.of_batch(network.mesh))), np.float32)[: len(part)])
    return np.concatenate(parts)
