"""HAM10000 (Tschandl et al. 2018, Sci. Data 5:180161): 10,015 dermatoscopic images of 7,470 skin lesions, 7 classes."""

import csv
from pathlib import Path

import tensorflow_datasets as tfds

from jaxssl.data import images
from jaxssl.data.builders import prepared
from jaxssl.data.source import Source
from jaxssl.errors import UserError

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
DOWNLOAD = "HAM10000 from Harvard Dataverse DBW86T (https://doi.org/10.7910/DVN/DBW86T)"
METADATA = "HAM10000_metadata"
_COLUMNS = ("lesion_id", "image_id", "dx")


class Ham10000(tfds.core.GeneratorBasedBuilder):
    """The download as TFDS examples; the group of an image is its lesion."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Download {DOWNLOAD} and unpack it: the metadata and both image folders."

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Dermatoscopic images of pigmented skin lesions.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=CLASSES),
                    "image_id": tfds.features.Text(),
                    "group": tfds.features.Text(),
                }
            ),
            metadata=tfds.core.MetadataDict(groups_known=True),
            homepage="https://doi.org/10.7910/DVN/DBW86T",
            license="CC BY-NC 4.0",
            citation="""@article{tschandl2018ham10000,
  author = {Tschandl, Philipp and Rosendahl, Cliff and Kittler, Harald},
  title = {The {HAM10000} dataset, a large collection of multi-source dermatoscopic images of common pigmented skin
    lesions},
  journal = {Scientific Data}, volume = {5}, pages = {180161}, year = {2018}, doi = {10.1038/sdata.2018.161}
}""",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        return {split: self._generate_examples(rows) for split, rows in examples(dl_manager.manual_dir).items()}

    def _generate_examples(self, rows: list) -> list:
        return rows


def load(*, manual_dir: str, cache_dir: str, size: int, on_bad_file: str = "stop") -> Source:
    """Loads HAM10000 from the folder its files were unpacked into, in any arrangement of sub-folders.

    Args:
      manual_dir: holds `HAM10000_metadata.csv` (or `.tab`) and the images `ISIC_*.jpg`.
      cache_dir: where the prepared dataset is kept.
      size: side in pixels at which images are held.
      on_bad_file: "stop" or "skip".

    Returns:
      The dataset in the order of its image ids, grouped by lesion, without an official split.

    Raises:
      UserError: a file, column or class is missing or unknown, or images cannot be read.
    """
    found = examples(manual_dir)
    return prepared.load(
        Ham10000, found, manual_dir=manual_dir, cache_dir=cache_dir, size=size, on_bad_file=on_bad_file
    )


def examples(manual_dir: str | Path) -> prepared.Examples:
    """All images as examples of the one split; images without a row in the metadata are left out."""
    root = Path(manual_dir)
    files = images.find(root) if str(manual_dir) and root.is_dir() else []
    metadata = [file for file in files if Path(file).stem.lower() == METADATA.lower()]
    metadata = [file for file in metadata if Path(file).suffix.lower() in (".csv", ".tab", "")]
    if not metadata:
        raise prepared.missing(f"{METADATA}.csv", manual_dir, DOWNLOAD)
    rows = _rows(root / metadata[0])
    # Mirrors hold the images twice; the folders of the original come first in this order.
    places = {}
    for file in sorted(files, key=lambda file: ("HAM10000_images" not in file, file)):
        if file.lower().endswith(".jpg"):
            places.setdefault(Path(file).stem, root / file)
    absent = [row["image_id"] for row in rows if row["image_id"] not in places]
    if absent:
        what = f"{absent[0]}.jpg ({len(absent)} of the {len(rows)} images that {metadata[0]} lists)"
        raise prepared.missing(what, manual_dir, DOWNLOAD)
    return {
        "train": [
            (
                row["image_id"],
                {
                    "image": places[row["image_id"]],
                    "label": row["dx"],
                    "image_id": row["image_id"],
                    "group": row["lesion_id"],
                },
            )
            for row in rows
        ]
    }


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8: download it again") from error
    reader = csv.DictReader(lines, delimiter="\t" if lines and "\t" in lines[0] else ",")
    rows, seen = [], set()
    for line, row in enumerate(reader, 2):
        if any(not row.get(column) for column in _COLUMNS):
            raise UserError(f"{path} line {line} lacks one of {', '.join(_COLUMNS)}: download it again")
        if row["dx"] not in CLASSES:
            raise UserError(f"{path} line {line}: dx is '{row['dx']}', not one of {', '.join(CLASSES)}")
        if row["image_id"] in seen:
            raise UserError(f"{path} line {line}: {row['image_id']} stands there twice: download it again")
        seen.add(row["image_id"])
        rows.append(row)
    if not rows:
        raise UserError(f"{path} has no rows: download it again")
    return rows
