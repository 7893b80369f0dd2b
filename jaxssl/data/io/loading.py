"""Many images decoded in threads, resized to one size, and held in memory or in records."""

import itertools
import os
import sys
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from PIL import Image
from rich.console import Console
from rich.progress import track

from jaxssl.data import records
from jaxssl.data.io import resize
from jaxssl.errors import UserError

ON_BAD_FILE = ("stop", "skip")
NAN = ("refuse", "zero", "median")

_LISTED = 10
_AHEAD = 64  # Images that are decoded or waited for at a time,
_AHEAD_BYTES = 2**30  # and of large ones so many bytes, in three channels of float32.
_MAX_REASON = 300  # Characters.


class Decoded(NamedTuple):
    """One image.

    Attributes:
      image: [size, size, C] uint8, uint16 or float32, or None if it cannot be read.
      nonfinite: number of NaN and infinite values that the file holds.
      reason: why it cannot be read, "" otherwise.
      cropped: share of its pixels that are cropped away.
    """

    image: np.ndarray | None
    nonfinite: int
    reason: str
    cropped: float = 0.0


class Stack(NamedTuple):
    """Many images of one size.

    Attributes:
      images: [M, size, size, C], in memory or in records.
      kept: [M] int64, the indices of these images in the list of all.
      unread: what of the images is not used, a line each.
    """

    images: np.ndarray | records.Images
    kept: np.ndarray
    unread: tuple[str, ...]


def stack(
    read_one: Callable[[int], np.ndarray],
    names: Sequence[str],
    size: int,
    *,
    on_bad_file: str = "stop",
    nan: str = "refuse",
    fit: str = "pad",
    cache: records.Cache | None = None,
    mask: bool = False,
) -> Stack:
    """Read many images, fill values that are not finite, and resize.

    Grey images among RGB ones become RGB. Any other mixture is an error: 255, 65535 and 1.0 are all white, so that
    converting one dtype to another would give values that mean different things.

    Args:
      read_one: returns image i as [H, W, C] uint8, uint16 or float32; if it raises, image i is a bad file.
      names: names of the images, for the messages.
      size: pixels a side.
      on_bad_file: "stop" at bad files, or "skip" them with a warning.
      nan: "refuse" float images with NaN or infinities, or fill these with "zero" or the image's finite "median",
        before the image is resized; an image without any finite value is a bad file.
      fit: how images that are not square are fitted, see `resize.fit`.
      cache: where images are kept that exceed the memory, so that the next run need not decode them; None: all are held
        in memory.
      mask: whether the images are masks, see `resize.fit`.

    Raises:
      UserError: bad files that stop, values that are not finite, dtypes or channels that differ, a cache that is
        damaged or cannot be written; or raised by `read_one`.
    """
    _check_policies(on_bad_file, nan, fit)
    found = _Found(names, on_bad_file, nan)
    # Caches of older versions are those of "crop".
    options = [*([] if fit == "crop" else [fit]), *(["mask"] if mask else [])]
    file = cache and cache.file(size, nan, len(names), *options)
    if cache and file and file.is_file():
        stored, about = records.load(file)
        rows = [i for i, _ in about["bad"]]
        # Bad files may be readable by now, with a plugin or a permission that was missing.
        if all(one.reason for one in decode(lambda k: read_one(rows[k]), len(rows), size, nan, fit, mask)):
            found.bad, found.cropped = about["bad"], about.get("cropped", [])
            found.report_bad()
            return Stack(stored[:] if cache.holds(stored.nbytes) else stored, found.kept(), found.unread())
    with closing(found.collect(decode(read_one, len(names), size, nan, fit, mask))) as images:
        held, rest = _hold(images, len(names), cache)
        if file and rest is not None:
            records.write(file, rest, lambda: found.describe(size))
            held, _ = records.load(file)
    return Stack(held, found.kept(), found.unread())


def _check_policies(on_bad_file: str, nan: str, fit: str) -> None:
    for name, value, known in (("on_bad_file", on_bad_file, ON_BAD_FILE), ("nan", nan, NAN), ("fit", fit, resize.FITS)):
        if value not in known:
            raise UserError(
                f"data.{name} is '{value}': it must be one of {', '.join(known)}",
                code="unknown-name",
                field=f"data.{name}",
            )


@dataclass
class _Found:
    """What decoding has found so far: bad files, values that are not finite, dtypes and channels."""

    names: Sequence[str]
    on_bad_file: str
    nan: str
    bad: list[tuple[int, str]] = field(default_factory=list)
    nonfinite: list[tuple[int, int]] = field(default_factory=list)
    cropped: list[float] = field(default_factory=list)  # Shares of the pixels that are cropped away, if any.
    kinds: dict[tuple[str, int], list[int]] = field(default_factory=dict)  # Images by (dtype, channels).

    def collect(self, decoded: Iterator[Decoded]) -> Generator[np.ndarray]:
        """Yield the images that can be read; at the end raise UserError for all that is wrong."""
        for i, (image, nonfinite, reason, cropped) in enumerate(decoded):
            if cropped:
                self.cropped.append(round(cropped, 4))
            if nonfinite:
                self.nonfinite.append((i, nonfinite))
            if image is None:
                self.bad.append((i, reason))
            else:
                self.kinds.setdefault((str(image.dtype), image.shape[-1]), []).append(i)
                yield image
        self.report_bad()
        self._check_finite()
        self._check_kinds()

    def describe(self, size: int) -> dict[str, Any]:
        """Return what `records.write` keeps of the images."""
        dtype = next(iter(self.kinds))[0]
        channels = max(channels for _, channels in self.kinds)
        shape = (len(self.names) - len(self.bad), size, size, channels)
        return {"shape": shape, "dtype": dtype, "bad": self.bad, "cropped": self.cropped}

    def unread(self) -> tuple[str, ...]:
        """Return what of the images is not used."""
        if not self.cropped:
            return ()
        return (
            f"the rims of {len(self.cropped)} of {len(self.names)} images that are not square, up to "
            f"{max(self.cropped):.0%} of the pixels (data.fit='crop')",
        )

    def kept(self) -> np.ndarray:
        """Return the indices [M] of the images that can be read."""
        return np.setdiff1d(np.arange(len(self.names)), [i for i, _ in self.bad])

    def report_bad(self) -> None:
        """Raise UserError for bad files, or warn where they are skipped."""
        if not self.bad:
            return
        total = len(self.names)
        listed = "; ".join(f"{self.names[i]} ({why})" for i, why in self.bad[:_LISTED])
        more = f"; and {len(self.bad) - _LISTED} more" if len(self.bad) > _LISTED else ""
        what = f"{len(self.bad)} of {total} files cannot be read: {listed}{more}"
        if self.on_bad_file == "stop" or len(self.bad) == total:
            skip = "" if len(self.bad) == total else ", or set data.on_bad_file to 'skip'"
            raise UserError(f"{what}: repair or remove them{skip}", code="unreadable", field="data.on_bad_file")
        logging.warning("skipped (data.on_bad_file): %s", what)

    def _check_finite(self) -> None:
        if self.nonfinite and self.nan == "refuse":
            i, count = self.nonfinite[0]
            raise UserError(
                f"{self.names[i]}: {count} of its values are NaN or infinite, as in {len(self.nonfinite)} of "
                f"{len(self.names)} images: set data.nan to 'zero' or 'median', or repair the files",
                code="unsupported",
                field="data.nan",
            )

    def _check_kinds(self) -> None:
        """Raise UserError unless images have one dtype, and one number of channels except for grey among RGB."""
        rgb = any(channels == 3 for _, channels in self.kinds)
        merged: dict[tuple[str, int], list[int]] = {}
        for (dtype, channels), rows in self.kinds.items():
            merged.setdefault((dtype, 3 if rgb and channels == 1 else channels), []).extend(rows)
        for axis, what in enumerate(("dtype", "channels")):
            if len({kind[axis] for kind in merged}) > 1:
                found = [
                    f"{kind[axis]} ({len(rows):,}, such as {self.names[min(rows)]})" for kind, rows in merged.items()
                ]
                raise UserError(
                    f"images differ in {what}: {', '.join(found)}: convert them to one kind, or load them separately",
                    code="mismatch",
                    field="data.dir",
                )


def decode(
    read_one: Callable[[int], np.ndarray], total: int, size: int, nan: str, fit: str, mask: bool = False
) -> Iterator[Decoded]:
    """Read and resize images in threads, and yield them in order. The arguments are those of `stack`.

    With `nan="refuse"`, values that are not finite are filled with zeros and counted; the caller refuses them.
    """

    def one(i: int) -> Decoded:
        # Decoders raise nearly any exception at a broken file, and one file must not hide the faults of the others.
        try:
            image, nonfinite = _fill(read_one(i), nan)
            height, width, _ = image.shape
            cropped = 1 - min(height, width) / max(height, width) if fit == "crop" else 0.0
            return Decoded(resize.fit(image, size, fit, mask), nonfinite, "", cropped)
        except UserError:
            raise
        except Exception as error:
            return Decoded(None, 0, reason(error) or type(error).__name__)

    with strict_decoders(), ThreadPoolExecutor(os.cpu_count()) as pool:
        quiet = total <= 1000 or not sys.stderr.isatty()
        console = Console(stderr=True)
        results = _map_ahead(pool, one, total, min(_AHEAD, 2 + _AHEAD_BYTES // (12 * size * size)))
        yield from track(results, "images", total, transient=True, disable=quiet, console=console)


def _map_ahead(pool: ThreadPoolExecutor, function: Callable[[int], Any], total: int, ahead: int) -> Iterator[Any]:
    """Like `pool.map` over range(total), but with at most `ahead` results that wait in memory."""
    waiting = deque()
    try:
        for i in range(total):
            waiting.append(pool.submit(function, i))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _hold(
    images: Iterator[np.ndarray], total: int, cache: records.Cache | None
) -> tuple[np.ndarray, Iterable[np.ndarray] | None]:
    """Collect up to `total` images in one array; if that many exceed the memory, return an iterable of all instead."""
    held, count = np.empty(0), 0
    for image in images:
        if cache and not cache.holds(total * image.nbytes):
            return held, itertools.chain(held[:count], [image], images)
        if not count:
            held = np.empty((total, *image.shape), image.dtype)
        elif image.shape[-1] == 3 and held.shape[-1] == 1:
            grey, held = held, np.empty((total, *image.shape), held.dtype)
            held[:count] = grey[:count]
        # Mixtures are refused at the end, when all that is wrong is known.
        if image.dtype == held.dtype and image.shape[-1] in (1, held.shape[-1]):
            held[count] = image
        count += 1
    return held[:count], None


def _fill(image: np.ndarray, nan: str) -> tuple[np.ndarray, int]:
    """Replace values that are not finite, and count them."""
    if not np.issubdtype(image.dtype, np.floating) or (finite := np.isfinite(image)).all():
        return image, 0
    if not finite.any():
        raise ValueError("holds no finite value")
    value = np.median(image[finite]) if nan == "median" else 0.0
    return np.where(finite, image, np.float32(value)), int((~finite).sum())


def reason(error: Exception) -> str:
    """Return why a file cannot be read, in one short line."""
    # The messages name the file already.
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = " ".join(message.split())
    if not isinstance(error, (OSError, ValueError)):
        text = f"{type(error).__name__}: {text}"
    # The end often says what to do.
    return text if len(text) <= _MAX_REASON else f"{text[: _MAX_REASON // 2]} ... {text[-_MAX_REASON // 2 :]}"


@contextmanager
def strict_decoders() -> Iterator[None]:
    """Silence the warnings of decoders, and turn those of decompression bombs into errors.

    To be used around the threads and not inside them: the filters of `warnings` belong to the whole process.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL|astropy|pydicom")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
