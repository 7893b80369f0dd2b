"""A trained network of a finished run, for new images.

network = jaxssl.load("runs/mine")
features = network.encode(["a.png", "b.dcm"])  # [2, D]
probabilities = network.predict(images)  # [N, classes]
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax.sharding import Mesh

from jaxssl import files
from jaxssl.augment import views
from jaxssl.config.stored import read_config
from jaxssl.data.copies import hash_image
from jaxssl.data.io import arrays, loading
from jaxssl.data.io import images as image_files
from jaxssl.errors import UserError
from jaxssl.evaluation import calibration
from jaxssl.inference import trained
from jaxssl.inference.conversion import convert
from jaxssl.inference.trained import Trained
from jaxssl.objectives import segmentation, supervised
from jaxssl.results.schema import Evaluation, Results
from jaxssl.results.words import is_segmentation
from jaxssl.results.workdir import read_results
from jaxssl.training import sharding

Tree = Any
BATCH_SIZE = 64
_MAX_LISTED = 5  # Images named in an error.

Images = np.ndarray | str | Path | Sequence[np.ndarray | str | Path]


@dataclass(frozen=True, eq=False, repr=False)
class Network:
    """A trained network with everything that turns an image into its input.

    Images are given as a list of paths of PNG, JPEG, TIFF, npy, DICOM or FITS files, a list of arrays [H, W, C] or
    [H, W] of any sizes, an array [N, H, W, C] ([N, H, W] if the run has one channel), or a single image. Their central
    squares are resized as the run's own images were. Values are stored ones, in the dtype of the run's images. Besides:

    - Grey images become RGB if the run's images are RGB.
    - Floats are rounded if the run's images are integers. Floats in [0, 1] are refused: their scale is ambiguous.
    - 16-bit images are divided by 257 if the run's images have 8 bits. They are refused if no value reaches 4096, as
      they have fewer than 16 bits then.
    - Other dtypes are refused: their scale is unknown.

    Attributes:
      workdir: of the run.
      encoder: the network of `encode`.
      evaluation: name in results.json of the fine-tuning whose network `predict` uses; "" without a trained head.
      classes: columns of `predict`.
      channels: of the images.
      size: side in pixels at which the run held its images.
      image_size: side in pixels of the encoder's input.
      dtype: of the run's images; None if an older config.json lacks it: then every dtype is accepted.
      nan: "refuse", "zero" or "median", for values that are not finite.
      fit: "pad", "crop" or "squash", for images that are not square.
      fits_extension: extension of FITS files that holds the image, see `jaxssl.data.io.fits.read`.
      pixels: scaling of the stored values.
      temperature: of `predict(calibrated=True)`, fitted on validation; None if there is none.
      batch_size: images per batch; the last batch is padded, so that nothing is compiled twice.
      mesh: all devices, over which a batch is split.
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
    fit: str
    fits_extension: str
    pixels: views.Pixels
    temperature: float | None
    batch_size: int
    mesh: Mesh

    def __repr__(self) -> str:
        head = f"{len(self.classes)} classes by {self.evaluation}" if self.evaluation else "no head"
        encoder, side = type(self.encoder.encoder).__name__, self.image_size
        return f"Network({str(self.workdir)!r}: {encoder}, {side} x {side} x {self.channels} images, {head})"

    def encode(self, images: Images, *, preprocess: bool = True, patches: bool = False) -> np.ndarray:
        """Compute features, equal to those that the run evaluated.

        Args:
          images: see `Network`; without `preprocess`, [N, image_size, image_size, channels] float32, scaled by
            `jaxssl.augment.views.eval_transform`.
          preprocess: whether to resize and scale the images.
          patches: whether to return the features of each patch: the tokens of a transformer without the class token,
            or the positions of a CNN's last feature map.

        Returns:
          [N, D] float32, or [N, P, D] for patches, row by row.

        Raises:
          UserError: there is no image, or one cannot be read or does not fit.
        """
        program = self.patch_features if patches else self.features
        if preprocess:
            return predict_all(program, self, images)
        scaled, side = np.asarray(images, np.float32), self.image_size
        if scaled.ndim != 4 or scaled.shape[1:] != (side, side, self.channels) or not len(scaled):
            raise UserError(
                f"images of shape {scaled.shape}: without preprocessing they must be [N, {side}, {side}, "
                f"{self.channels}]",
                code="mismatch",
                field="images",
            )
        return apply_in_batches(self, functools.partial(program, scaled=True), scaled)

    def predict(self, images: Images, *, calibrated: bool = False) -> np.ndarray:
        """Compute class probabilities, or values, equal to those in predictions.csv.

        Args:
          images: see `Network`.
          calibrated: whether to return softmax(log(p) / T) with the temperature T fitted on validation (Guo et al.
            2017, arXiv:1706.04599, section 4.2).

        Returns:
          [N, classes] float32 in [0, 1]; rows sum to 1, unless an image may have several labels. Of a run on values
          [N, 1] float32.

        Raises:
          UserError: the run has no trained head, or no temperature for `calibrated`; there is no image, or one cannot
            be read or does not fit.
        """
        program = self.probabilities
        if calibrated and self.temperature is None:
            message = f"{self.workdir}: {self.evaluation} has no temperature in results.json to calibrate with"
            raise UserError(message, code="missing", field="calibrated")
        p = predict_all(program, self, images)
        return (
            calibration.apply_temperature(p, self.temperature).astype(np.float32)
            if self.temperature and calibrated
            else p
        )

    @functools.cached_property
    def classifier(self) -> Trained:
        """The network of `predict`, loaded on first use. UserError if the run has none."""
        if not self.evaluation:
            raise UserError(
                f"{self.workdir} has no network with a trained head to predict with: that needs labels, and 'finetune' "
                "among transfer.protocols",
                code="missing",
                field="transfer.protocols",
            )
        if self.encoder.decoder is not None:
            message = f"{self.workdir}: {self.evaluation} predicts masks, not classes: use --masks"
            raise UserError(message, code="conflict", field="evaluation")
        return self.encoder if self.encoder.head is not None else trained.load(self.workdir, self.evaluation)

    @functools.cached_property
    def width(self) -> int:
        """Number of features D."""
        image = jax.ShapeDtypeStruct((1, self.size, self.size, self.channels), np.uint8)
        return jax.eval_shape(self.features, image).shape[-1]

    # Programs: functions of a batch on the devices, each compiled once.

    @functools.cached_property
    def features(self) -> Callable[..., jax.Array]:
        return self._program(lambda out: out["pooled"])

    @functools.cached_property
    def patch_features(self) -> Callable[..., jax.Array]:
        def flat(out: dict[str, jax.Array]) -> jax.Array:
            features = out["tokens"] if "tokens" in out else out["map"]
            return features.reshape(len(features), -1, features.shape[-1])

        return self._program(flat)

    @functools.cached_property
    def probabilities(self) -> Callable[..., jax.Array]:
        module, classes, variables = self.classifier.encoder, len(self.classes), dict(self.classifier.variables)
        params = {"encoder": variables.pop("params"), "head": self.classifier.head}
        network = jax.device_put((params, {"encoder": variables}), sharding.replicated(self.mesh))

        @jax.jit
        def apply(network: Tree, image: jax.Array) -> jax.Array:
            scaled = views.eval_transform(image, self.pixels, self.image_size)
            params, model_state = network
            return supervised.predict(module, classes, params, model_state, scaled, self.encoder.task)

        return functools.partial(apply, network)

    @functools.cached_property
    def masks(self) -> Callable[..., jax.Array]:
        """From images [B, H, W, C] as stored to probabilities [B, H, W, K] of the K classes of masks."""
        of = self.encoder
        if of.decoder is None:
            message = f"{self.workdir}: {self.evaluation or 'its encoder'} predicts no masks"
            raise UserError(message, code="missing", field="evaluation")
        trained, decoder = {"encoder": dict(of.variables), "decoder": dict(of.decoder_variables or {})}, of.decoder
        params = {name: variables.pop("params") for name, variables in trained.items()}
        network = jax.device_put((params, trained), sharding.replicated(self.mesh))

        @jax.jit
        def apply(network: Tree, image: jax.Array) -> jax.Array:
            params, model_state = network
            scaled = views.eval_transform(image, self.pixels, self.image_size)
            return segmentation.predict(of.encoder, decoder, params, model_state, scaled, image.shape[1])

        return functools.partial(apply, network)

    def _program(self, select: Callable[[dict[str, jax.Array]], jax.Array]) -> Callable[..., jax.Array]:
        variables = jax.device_put(self.encoder.variables, sharding.replicated(self.mesh))

        @functools.partial(jax.jit, static_argnames="scaled")
        def apply(variables: Tree, image: jax.Array, scaled: bool = False) -> jax.Array:
            image = image if scaled else views.eval_transform(image, self.pixels, self.image_size)
            out: Any = self.encoder.encoder.apply(variables, image, train=False)
            return select(out)

        return functools.partial(apply, variables)


def load(workdir: str | Path, evaluation: str = "", batch_size: int = BATCH_SIZE) -> Network:
    """Load what a finished run trained.

    By default `encode` uses the pretrained encoder, without pretraining the first fine-tuned network; and `predict`
    the fine-tuned network, or the probe of the pretrained encoder, that is best on validation.

    Args:
      workdir: of the run.
      evaluation: name of a fine-tuning in results.json, such as "finetune_random", or of the probe of the pretrained
        encoder, whose network both shall use.
      batch_size: images per batch, rounded up to a multiple of the devices.

    Raises:
      UserError: there is no run, it has not finished, it has no such network, or a checkpoint is damaged.
    """
    workdir = files.expand_user(workdir)
    results, config = read_results(workdir), read_config(workdir)
    try:
        heads = list_heads(workdir, results)
        segmented = [e["name"] for e in results["evaluations"] if is_segmentation(e)]
        data = config["config"]["data"]
        pixels = views.Pixels(**cast(dict[str, Any], config["pixels"]))
        first = "" if results["pretrain"] else next(iter([*heads, *segmented]), "")
        size, image_size, nan = data["stored_size"] or data["image_size"], data["image_size"], data["nan"]
        fit = data.get("fit", "crop")  # What runs did before there was this field.
    except (KeyError, TypeError, AttributeError) as error:
        raise trained.unreadable(workdir, error) from error
    encoder = trained.load(workdir, evaluation or first)
    evaluation = evaluation or choose_best(heads)
    mesh = sharding.make_mesh(-1, 1)
    return Network(
        workdir=workdir,
        encoder=encoder,
        evaluation=evaluation,
        classes=encoder.classes,
        channels=encoder.channels,
        size=size,
        image_size=image_size,
        dtype=config.get("dtype"),
        nan=nan,
        fit=fit,
        fits_extension=(data.get("options") or {}).get("fits_extension", ""),
        pixels=pixels,
        temperature=heads[evaluation].get("temperature") if evaluation in heads else None,
        batch_size=-(-max(1, batch_size) // mesh.size) * mesh.size,
        mesh=mesh,
    )


def list_heads(workdir: Path, results: Results) -> dict[str, Evaluation]:
    """Return the evaluations whose network is kept and predicts: fine-tunings, and probes of the pretrained encoder."""
    probes = trained.list_probes(workdir, results)
    return {e["name"]: e for e in results["evaluations"] if e["protocol"] == "finetune" or e["name"] in probes}


def choose_best(heads: Mapping[str, Evaluation]) -> str:
    """Return the one that is best on validation, of equal ones a fine-tuning, and then the first; "" if there is none.

    Runs of earlier versions lack the score, and of those it is the first fine-tuning.
    """

    def rank(name: str) -> tuple[float, bool]:
        score = heads[name].get("validation")
        return -math.inf if score is None else score, heads[name]["protocol"] == "finetune"

    return max(heads, key=rank, default="")


class Output(NamedTuple):
    """What a program gives for one image.

    Attributes:
      value: its output; None if the image cannot be used.
      reason: why it cannot.
      pixels: hash of the image as the run holds its own, see `jaxssl.data.copies.hash_image`.
    """

    value: np.ndarray | None
    reason: str = ""
    pixels: str = ""


def predict_all(program: Callable[[jax.Array], jax.Array], network: Network, images: Images) -> np.ndarray:
    """Return the output of a program for all images. UserError if there is none or one cannot be used."""
    sources = list_images(images, network.channels)
    if not sources:
        raise UserError("no image is given", code="too-few", field="images")
    outputs = list(predict_iter(program, network, lambda i: read_image(sources[i], network), len(sources)))
    names = [image if isinstance(image, str | Path) else f"image {i}" for i, image in enumerate(sources)]
    bad = [f"{name} ({output.reason})" for name, output in zip(names, outputs, strict=True) if output.reason]
    if bad:
        more = f"; and {len(bad) - _MAX_LISTED} more" if len(bad) > _MAX_LISTED else ""
        raise UserError(
            f"{len(bad)} of {len(sources)} images cannot be used: {'; '.join(bad[:_MAX_LISTED])}{more}: correct them "
            "or leave them out",
            code="unreadable",
            field="images",
        )
    return np.stack([output.value for output in outputs if output.value is not None])


def list_images(images: Images, channels: int) -> list[np.ndarray | str | Path]:
    """Return images, given in one of the forms of `Network`, as a list."""
    if isinstance(images, str | Path):
        return [images]
    if isinstance(images, Sequence):
        return list(images)
    array = np.asarray(images)
    grey = array.ndim == 3 and channels == 1 and 1 not in (array.shape[0], array.shape[-1])
    return list(array) if array.ndim == 4 or grey else [array]


def read_image(image: np.ndarray | str | Path, network: Network) -> np.ndarray:
    """Return a file or an array as [H, W, C] uint8, uint16 or float32, as the run read its images."""
    if isinstance(image, str | Path):
        return image_files.read(Path(image), network.size, network.fits_extension)
    return arrays.as_image(np.asarray(image))


def predict_iter(
    program: Callable[[jax.Array], jax.Array], network: Network, read_one: Callable[[int], np.ndarray], total: int
) -> Iterator[Output]:
    """Yield the output for each image in order.

    Images are read ahead in threads.

    Args:
      program: a program of the network.
      network: the network.
      read_one: returns image i as [H, W, C] uint8, uint16 or float32; the message of its exception is the reason.
      total: number of images.
    """
    squares = _prepare_images(network, read_one, total)
    while some := list(itertools.islice(squares, network.batch_size)):
        good = [image for image, _ in some if image is not None]
        outputs = iter(apply_in_batches(network, program, np.stack(good)) if good else ())
        for image, reason in some:
            yield Output(None, reason) if image is None else Output(next(outputs), pixels=hash_image(image).hex())


def _prepare_images(
    network: Network, read_one: Callable[[int], np.ndarray], total: int
) -> Iterator[tuple[np.ndarray | None, str]]:
    """Yield each image with the size, dtype and channels of the run's images, or None and the reason."""

    def read(i: int) -> np.ndarray:
        return convert(read_one(i), network.channels, network.dtype)

    for image, holes, reason, _ in loading.decode(read, total, network.size, network.nan, network.fit):
        if holes and network.nan == "refuse":
            reason = reason or f"{holes} of its values are NaN or infinite"
        if reason or image is None:
            yield None, reason
        else:
            yield np.broadcast_to(image, (*image.shape[:2], network.channels)), ""


def apply_in_batches(network: Network, program: Callable[[jax.Array], jax.Array], images: np.ndarray) -> np.ndarray:
    """Return the output of a program for images [N, ...], N > 0, computed in batches of one size."""
    size, place, parts = network.batch_size, sharding.batch_sharding(network.mesh), []
    for start in range(0, len(images), size):
        part = images[start : start + size]
        padded = jax.device_put(np.resize(part, (size, *part.shape[1:])), place)
        parts.append(np.asarray(program(padded), np.float32)[: len(part)])
    return np.concatenate(parts)
