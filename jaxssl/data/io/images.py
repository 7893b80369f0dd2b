"""One image from a file to a square array, and many of them in threads.

What becomes of a file, so that all images of a dataset are arrays of one kind:

| in the file | in the array |
|---|---|
| 8 or 16 bits unsigned | uint8 or uint16, never scaled |
| any other number | float32 |
| one bit | uint8, 0 and 255 |
| palette, CMYK, YCbCr, Lab | RGB |
| alpha | dropped where opaque everywhere, else composited on black, the background of medical images |
| EXIF orientation | applied |
| TIFF of several pages or samples | channels |
| [C, H, W] | [H, W, C], where the first axis is at most 16 and smaller than both others |
| DICOM in grey | modality LUT, or rescale slope and intercept: float32 unless they are 1 and 0 |
| DICOM in MONOCHROME1 | inverted within its stored bits, before it is rescaled |
| DICOM in palette or YBR colour | RGB |
| FITS | its first image of two or three axes, BSCALE and BZERO applied; BLANK is NaN |

A 16-bit PNG with colour or alpha is refused, as Pillow reads 8 of its bits; so is a DICOM file of several frames, which
are slices or moments and not channels. The window of a DICOM file is not applied: what is dark and bright is for
`jaxssl.run.setup.measure_pixels` to find. FITS rows stay in their order, which is from the bottom of the sky upwards.
"""

import gzip
import importlib
import io
import itertools
import logging as std_logging
import math
import os
import sys
import unicodedata
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tifffile
from absl import logging
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.console import Console
from rich.progress import track

from jaxssl.data import records
from jaxssl.errors import UserError

PICTURES = (".jpeg", ".jpg", ".npy", ".png", ".tif", ".tiff")
EXTENSIONS = (".dcm", ".dicom", ".fit", ".fits", ".fits.fz", ".fits.gz", *PICTURES)
MAX_PIXELS = 100_000_000
ON_BAD_FILE = ("stop", "skip")
NAN = ("refuse", "zero", "median")

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_COLOUR_TIFF = ("RGB", "PALETTE", "SEPARATED", "YCBCR", "CIELAB")
_DICOM_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_DEFLATED_DICOM = b"1.2.840.10008.1.2.1.99"
_LISTED = 10
_AHEAD = 64  # Images that are decoded or waited for at a time.


def find(root: Path) -> list[str]:
    """All files under `root` as sorted paths relative to it with "/", without hidden ones and `__MACOSX`.

    Linked folders are followed, each once.
    """
    seen, found = set(), []
    for folder, inner, files in os.walk(root, followlinks=True):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name != "__MACOSX")
        if os.path.realpath(folder) in seen:
            inner.clear()
            continue
        seen.add(os.path.realpath(folder))
        relative = Path(folder).relative_to(root)
        found += [(relative / name).as_posix() for name in files if not name.startswith(".")]
    return sorted(found)


def check_names(root: Path, paths: Sequence[str]) -> None:
    """UserError at a path that no table can hold: it is not UTF-8, or has control characters such as a line's end."""
    for path in paths:
        # Bytes that are no UTF-8 become surrogates, of the category Cs.
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in path):
            raise UserError(f"{root}: the name {path!a} is not UTF-8 text in one line: rename the file")


def is_image(path: Path) -> bool:
    """Whether a file is one of images by its extension or, where the name has none, by the mark of DICOM.

    A number at the end of a name is no extension: names of DICOM files are often made of numbers and points.
    """
    name = path.name.lower()
    if name.endswith(EXTENSIONS):
        return True
    if name == "dicomdir" or not (path.suffix[1:].isdecimal() or not path.suffix) or not path.is_file():
        return False
    try:
        with open(path, "rb") as opened:
            return _is_dicom(opened.read(132))
    except OSError:
        return False


def as_image(array: np.ndarray) -> np.ndarray:
    """One image as [H, W, C] in uint8, uint16 or float32 from [H, W], [H, W, C] or [C, H, W] of any real dtype.

    Raises:
      ValueError: the array is not one image, or does not hold numbers.
    """
    if array.dtype.kind not in "biuf":
        raise ValueError(f"holds {array.dtype}, not numbers")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"an array of shape {array.shape} is not one image")
    first, height, last = array.shape
    if first <= 16 and first < min(height, last):
        array = np.moveaxis(array, 0, -1)
    elif last > 16 and last >= min(first, height):
        raise ValueError(f"no axis of shape {array.shape} can be told to be the channels: save it as [H, W, C]")
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype in (np.uint8, np.dtype(np.uint16).newbyteorder(), np.uint16):
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def read(file: Path | bytes, size: int | None = None) -> np.ndarray:
    """Decodes a PNG, JPEG, TIFF, npy, DICOM or FITS file, told apart by their content, not by their name.

    Args:
      file: a path, or the bytes of a file.
      size: where given, a JPEG may be decoded at a fraction of its size, both sides at least twice `size`.

    Returns:
      [H, W, C] uint8, uint16 or float32; see the table of this module.

    Raises:
      UserError: the package that reads DICOM or FITS is not installed.
      Exception: of many kinds, as the decoders have it, for a file that is broken or not one image.
    """
    with io.BytesIO(file) if isinstance(file, bytes) else open(file, "rb") as opened:
        head = opened.read(1024)
        opened.seek(0)
        # First, as what stands ahead of its mark may be the head of a TIFF.
        if _is_dicom(head):
            return _read_dicom(opened, head)
        if head.startswith(b"\x93NUMPY"):
            image = as_image(np.load(opened, allow_pickle=False))
            _check_pixels(image.shape[1], image.shape[0])
            return image
        if head.startswith(_TIFF):
            return _read_tiff(opened)
        if head.startswith((b"SIMPLE  =", b"\x1f\x8b")):
            return _read_fits(opened)
        if head.startswith(b"\x89PNG") and len(head) > 25 and head[24] == 16 and head[25] != 0:
            raise ValueError("a 16-bit PNG in colour would be cut to 8 bits: save it as TIFF or npy")
        return _read_pillow(opened, ("JPEG", "PNG"), size)


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """The centre square of an image at size x size, by antialiased Lanczos.

    Args:
      image: [H, W, C] uint8, uint16 or float32; 16 bits and floats are resampled in float32.
      size: pixels a side.

    Returns:
      [size, size, C] of the same dtype; untouched where it has that size. Floats may overshoot at sharp edges.
    """
    height, width, channels = image.shape
    if height == width == size:
        return image
    short = min(height, width)
    left, top = (width - short) // 2, (height - short) // 2
    square = image[top : top + short, left : left + short]
    if short == size:
        return square
    if image.dtype == np.uint8 and channels == 3:
        return np.asarray(Image.fromarray(np.ascontiguousarray(square)).resize((size, size), Image.Resampling.LANCZOS))
    kind = np.uint8 if image.dtype == np.uint8 else np.float32
    bands = [Image.fromarray(np.ascontiguousarray(square[..., c], kind)) for c in range(channels)]
    resized = np.stack([np.asarray(band.resize((size, size), Image.Resampling.LANCZOS)) for band in bands], axis=-1)
    return np.rint(resized).clip(0, 65535).astype(np.uint16) if image.dtype == np.uint16 else resized


def stack(
    read_one: Callable[[int], np.ndarray],
    names: Sequence[str],
    size: int,
    *,
    on_bad_file: str = "stop",
    nan: str = "refuse",
    cache: records.Cache | None = None,
) -> tuple[np.ndarray | records.Images, np.ndarray]:
    """Reads, fills and fits many images in threads.

    Grey images among RGB ones become RGB. Any other mixture is an error: 255, 65535 and 1.0 are all white, so that
    widening one dtype to another would give values that mean different things.

    Args:
      read_one: image i as [H, W, C] uint8, uint16 or float32; whatever it raises makes image i a bad file.
      names: of the images, for the messages.
      size: pixels a side.
      on_bad_file: "stop" at bad files, or "skip" them with a warning.
      nan: "refuse" float images with NaN or infinities, or fill these with "zero" or the image's finite "median",
        before the image is resized; an image without any finite value is a bad file.
      cache: where images go that are too many for the memory, not to be read again by the next run; None: they are
        never too many.

    Returns:
      images: [M, size, size, C], in memory or in records.
      kept: [M] int64, which of the names these are.

    Raises:
      UserError: bad files that stop, images that are not finite, dtypes or channels that do not go together, a cache
        that is damaged or cannot be written, or what `read_one` raises as such.
    """
    for field, value, known in (("on_bad_file", on_bad_file, ON_BAD_FILE), ("nan", nan, NAN)):
        if value not in known:
            raise UserError(f"data.{field} is '{value}': it must be one of {', '.join(known)}")
    file = cache and cache.file(size, nan, len(names))
    if file and file.is_file():
        stored, about = records.load(file)
        rows = [i for i, _ in about["bad"]]
        # What was bad may be good by now: a plugin was missing, or the leave to read.
        if all(why for _, _, why in decode(lambda k: read_one(rows[k]), len(rows), size, nan)):
            _report_bad([f"{names[i]} ({why})" for i, why in about["bad"]], len(names), on_bad_file)
            return stored[:] if cache.holds(stored.nbytes) else stored, _others(about["bad"], len(names))
    bad, holed, kinds = [], [], {}

    def check() -> None:
        _report_bad([f"{names[i]} ({why})" for i, why in bad], len(names), on_bad_file)
        if holed and nan == "refuse":
            raise UserError(
                f"{names[holed[0][0]]}: {holed[0][1]} of its values are NaN or infinite, as in {len(holed)} of "
                f"{len(names)} images: set data.nan to 'zero' or 'median', or mend the files"
            )
        _check_together(kinds, names)

    def decoded() -> Iterator[np.ndarray]:
        for i, (image, count, why) in enumerate(decode(read_one, len(names), size, nan)):
            if count:
                holed.append((i, count))
            if why:
                bad.append((i, why))
            else:
                kinds.setdefault((str(image.dtype), image.shape[-1]), i)
                yield image
        check()

    def about() -> dict[str, Any]:
        dtype = next(iter(kinds))[0]
        shape = (len(names) - len(bad), size, size, max(channels for _, channels in kinds))
        return {"shape": shape, "dtype": dtype, "bad": bad}

    with closing(decoded()) as found:
        held, rest = _hold(found, len(names), cache)
        if rest is not None:
            records.write(file, rest, about)
            held, _ = records.load(file)
    return held, _others(bad, len(names))


def decode(
    read_one: Callable[[int], np.ndarray], total: int, size: int, nan: str
) -> Iterator[tuple[np.ndarray | None, int, str]]:
    """Of each image its square, how many values were not finite, and why it cannot be read; in order, in threads.

    The arguments are those of `stack`, but that "refuse" is for the caller to do.
    """

    def one(i: int) -> tuple[np.ndarray | None, int, str]:
        # Decoders raise nearly anything at a broken file, and one file must not hide what is wrong with the others.
        try:
            image = read_one(i)
            if np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all():
                image, count = _fill(image, nan)
                return fit(image, size), count, ""
            return fit(image, size), 0, ""
        except UserError:
            raise
        except Exception as error:
            return None, 0, reason(error)

    with strict_decoders(), ThreadPoolExecutor(os.cpu_count()) as pool:
        quiet = total <= 1000 or not sys.stderr.isatty()
        console = Console(stderr=True)
        results = _map_ahead(pool, one, total)
        yield from track(results, "images", total, transient=True, disable=quiet, console=console)


def _map_ahead(pool: ThreadPoolExecutor, function: Callable[[int], Any], total: int) -> Iterator[Any]:
    """As `pool.map` over range(total), but for no more than some images that wait in memory."""
    waiting = deque()
    try:
        for i in range(total):
            waiting.append(pool.submit(function, i))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _hold(
    images: Iterator[np.ndarray], total: int, cache: records.Cache | None
) -> tuple[np.ndarray | None, Iterable[np.ndarray] | None]:
    """All of up to `total` images as one array; or, where so many are too many for the memory, to iterate over."""
    held, count = np.empty(0), 0
    for image in images:
        if cache and not cache.holds(total * image.nbytes):
            return None, itertools.chain(held[:count], [image], images)
        if not count:
            held = np.empty((total, *image.shape), image.dtype)
        elif image.shape[-1] == 3 and held.shape[-1] == 1:
            grey, held = held, np.empty((total, *image.shape), held.dtype)
            held[:count] = grey[:count]
        # What does not go together is refused at the end, when all that is wrong is known.
        if image.dtype == held.dtype and image.shape[-1] in (1, held.shape[-1]):
            held[count] = image
        count += 1
    return held[:count], None


def _others(bad: Sequence[tuple[int, str]], total: int) -> np.ndarray:
    return np.setdiff1d(np.arange(total), [i for i, _ in bad])


def _check_together(kinds: Mapping[tuple[str, int], int], names: Sequence[str]) -> None:
    """UserError unless images have one dtype, and one number of channels but for grey among RGB.

    Args:
      kinds: dtype and channels, with the first image of each kind, in the order of the images.
      names: of the images.
    """
    rgb = any(channels == 3 for _, channels in kinds)
    first, *others = [((dtype, 3 if rgb and channels == 1 else channels), i) for (dtype, channels), i in kinds.items()]
    for what in (0, 1):
        other = next((kind for kind in others if kind[0][what] != first[0][what]), None)
        if other:
            raise UserError(
                f"images differ in {('dtype', 'channels')[what]}: {names[first[1]]} has {first[0][what]} and "
                f"{names[other[1]]} has {other[0][what]}: convert them to one kind, or load them apart"
            )


def _fill(image: np.ndarray, nan: str) -> tuple[np.ndarray, int]:
    finite = np.isfinite(image)
    if not finite.any():
        raise ValueError("holds no finite value")
    value = np.median(image[finite]) if nan == "median" else 0.0
    return np.where(finite, image, np.float32(value)), int((~finite).sum())


def _report_bad(bad: list[str], total: int, on_bad_file: str) -> None:
    if not bad:
        return
    some = "; ".join(bad[:_LISTED]) + (f"; and {len(bad) - _LISTED} more" if len(bad) > _LISTED else "")
    what = f"{len(bad)} of {total} files cannot be read: {some}"
    if on_bad_file == "stop" or len(bad) == total:
        mend = "" if len(bad) == total else ", or set data.on_bad_file to 'skip'"
        raise UserError(f"{what}: mend or remove them{mend}")
    logging.warning("skipped (data.on_bad_file): %s", what)


def reason(error: Exception) -> str:
    """Why a file cannot be read, in one short line."""
    # The name of the file stands before the reason already.
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = " ".join(said.split())
    if not isinstance(error, (OSError, ValueError)):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= 150 else text[:147] + "..."


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels, above the limit of {MAX_PIXELS // 10**6} million")


@contextmanager
def strict_decoders() -> Iterator[None]:
    """Around the threads and not inside them, as the filters of `warnings` belong to the whole process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL|astropy|pydicom")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _read_pillow(opened: io.IOBase, formats: tuple[str, ...], size: int | None) -> np.ndarray:
    try:
        image = Image.open(opened, formats=formats)
    except UnidentifiedImageError:
        raise ValueError("neither PNG, JPEG, TIFF, npy, DICOM nor FITS, or its head is broken") from None
    _check_pixels(*image.size)
    if size is not None and image.format == "JPEG":
        image.draft(None, (2 * size, 2 * size))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return as_image(np.asarray(image).astype(np.uint16))
    if image.mode == "F":
        return as_image(np.asarray(image))
    if image.mode in ("1", "L", "LA", "La"):
        grey = "LA" if image.mode != "1" and image.has_transparency_data else "L"
        return _without_alpha(np.atleast_3d(np.asarray(image.convert(grey))))
    colour = "RGBA" if image.has_transparency_data else "RGB"
    return _without_alpha(np.asarray(image.convert(colour)))


def _read_tiff(opened: io.IOBase) -> np.ndarray:
    """By Pillow where it keeps every bit and channel, as it knows more compressions; else by tifffile."""
    # tifffile logs what it then also raises.
    std_logging.getLogger("tifffile").setLevel(std_logging.CRITICAL)
    with tifffile.TiffFile(opened) as tiff:
        # Pages beside those of the first series are thumbnails and the like.
        page, series = tiff.pages[0], tiff.series[0]
        _check_pixels(page.imagewidth, page.imagelength)
        alpha = tuple(map(int, page.extrasamples)) in ((1,), (2,))
        grey = page.samplesperpixel == 1 and page.dtype in (np.dtype(t) for t in (bool, "u1", "u2", "f4"))
        colour = page.bitspersample <= 8 and page.photometric.name in _COLOUR_TIFF and (alpha or not page.extrasamples)
        inverted = page.photometric.name == "MINISWHITE" and page.dtype.kind == "u"
        # Around the highest value there is; of 32 bits it would leave nothing of small ones in a float32.
        highest = 2**page.bitspersample - 1 if page.bitspersample <= 16 else 0.0
        if len(series.pages) > 1 or not (grey or colour):
            array = series.asarray()
            if array.ndim == 3 and series.axes[-1] != "S":
                if array.shape[0] > 16:
                    raise ValueError(f"a stack of {array.shape[0]} pages is not one image")
                array = np.moveaxis(array, 0, -1)
            tag = page.tags.get("Orientation")
            image = _upright(as_image(highest - array if inverted else array), tag.value if tag else 1)
            return _without_alpha(image) if alpha and image.shape[-1] in (2, 4) else image
    opened.seek(0)
    image = _read_pillow(opened, ("TIFF",), None)
    # Pillow inverts 8 bits and fewer itself.
    return highest - image if inverted and image.dtype == np.uint16 else image


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """[H, W, C] turned and mirrored as tag 274 of TIFF and EXIF says, by 1 to 8."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return image[::rows, ::columns]


def _package(name: str, extra: str) -> ModuleType:
    """A package that jaxssl does without where no file needs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"{extra.upper()} files need the package {name.split('.')[0]}: pip install 'jaxssl[{extra}]'"
        ) from error


def _is_dicom(head: bytes) -> bool:
    return head[128:132] == b"DICM"


def _read_dicom(opened: io.IOBase, head: bytes) -> np.ndarray:
    pydicom = _package("pydicom", "dicom")
    pixels = importlib.import_module("pydicom.pixels")
    # pydicom logs what it then also raises, and what it mends.
    std_logging.getLogger("pydicom").setLevel(std_logging.CRITICAL)
    if _DEFLATED_DICOM in head:
        raise ValueError("deflated DICOM has no limit to its size and is refused: save it as Explicit VR Little Endian")
    data = pydicom.dcmread(opened)
    if "Rows" not in data or "Columns" not in data:
        raise ValueError(f"a DICOM file without an image ({data.get('Modality') or 'of no modality'})")
    _check_pixels(data.Columns, data.Rows)
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ValueError(f"{frames} frames are not one image: save each as a file")
    syntax = data.file_meta.TransferSyntaxUID
    if not pixels.get_decoder(syntax).is_available:
        raise ValueError(f"{syntax.name} needs a plugin of pydicom, such as pylibjpeg, or save the file uncompressed")
    colours, array = data.PhotometricInterpretation, pixels.pixel_array(data)
    if colours == "PALETTE COLOR":
        return as_image(pixels.apply_color_lut(array, data))
    if colours in _DICOM_COLOUR:
        return as_image(array)
    if colours not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(f"photometric interpretation '{colours}' is not known")
    return as_image(_grey_dicom(array, data))


def _grey_dicom(array: np.ndarray, data: Any) -> np.ndarray:
    """The values that the stored ones of a `pydicom.Dataset` stand for (DICOM PS3.3, C.7.6.3.1.2 and C.11.1)."""
    bits = data.get("BitsStored")
    if data.get("ModalityLUTSequence"):
        array = importlib.import_module("pydicom.pixels").apply_modality_lut(array, data)
        bits = 8 * array.itemsize
    if data.PhotometricInterpretation == "MONOCHROME1":
        # The lowest and the highest value that so many bits can hold change places: with a sign their sum is -1.
        array = (-1 if array.dtype.kind == "i" else 2**bits - 1) - array
    if data.get("BitsAllocated") == 1:
        return array.astype(bool)
    # Files of the enhanced kind hold slope and intercept deeper.
    deeper = [data.get(f"{which}FunctionalGroupsSequence") for which in ("PerFrame", "Shared")]
    found = [groups[0].get("PixelValueTransformationSequence") for groups in deeper if groups]
    holder = next((sequence[0] for sequence in found if sequence), data)
    slope, intercept = holder.get("RescaleSlope"), holder.get("RescaleIntercept")
    slope, intercept = 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)
    return array if (slope, intercept) == (1, 0) else (array * slope + intercept).astype(np.float32)


def _read_fits(opened: io.IOBase) -> np.ndarray:
    fits = _package("astropy.io.fits", "fits")
    if opened.read(2) == b"\x1f\x8b":
        # Read with a limit, as a small file may hold any number of zeros.
        opened.seek(0)
        content = gzip.GzipFile(fileobj=opened).read(8 * MAX_PIXELS + 1)
        if len(content) > 8 * MAX_PIXELS:
            raise ValueError(f"unpacks to more than the limit of {8 * MAX_PIXELS // 10**6} million bytes")
        if not content.startswith(b"SIMPLE  ="):
            raise ValueError("a gzip file that does not hold FITS")
        opened = io.BytesIO(content)
    opened.seek(0)
    with fits.open(opened, memmap=False) as units:
        for unit in units:
            shape = list(unit.shape) if unit.is_image else []
            while len(shape) > 2 and shape[0] == 1:
                shape.pop(0)
            if len(shape) in (2, 3):
                _check_pixels(*sorted(shape)[-2:])
                if math.prod(shape) > 16 * MAX_PIXELS:
                    raise ValueError(
                        f"{math.prod(shape)} values, above the limit of {16 * MAX_PIXELS // 10**6} million"
                    )
                return as_image(unit.data.reshape(shape))
    raise ValueError("a FITS file without an image of two or three axes")


def _without_alpha(image: np.ndarray) -> np.ndarray:
    """[H, W, 1 or 3] of [H, W, 1 to 4] in grey, grey and alpha, RGB, or RGB and alpha."""
    if image.shape[-1] in (1, 3):
        return image
    values, alpha = image[..., :-1], image[..., -1:]
    opaque = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1.0
    if (alpha == opaque).all():
        return values
    blended = values * (alpha / opaque)
    return (np.rint(blended) if image.dtype.kind == "u" else blended).astype(image.dtype)
