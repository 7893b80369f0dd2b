"""HAM10000 (Tschandl et al. 2018, Sci. Data 5:180161): 10,015 dermatoscopic images of 7,470 skin lesions, 7 classes.

The download holds `HAM10000_metadata.csv` (or `.tab`) and the images `ISIC_*.jpg`, at 600 x 450 pixels. An image's
group is its lesion, and there is no official split. Images without a row in the metadata are left out.
"""

import functools

from jaxssl.data import downloads, prepared

DATASET = downloads.Dataset(
    name="ham10000",
    title="dermatoscopic images of pigmented skin lesions",
    classes=("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"),
    images=10_015,
    group="lesion",
    license="CC BY-NC 4.0",
    homepage="https://doi.org/10.7910/DVN/DBW86T",
    download="HAM10000 from Harvard Dataverse DBW86T (https://doi.org/10.7910/DVN/DBW86T)",
    citation="""@article{tschandl2018ham10000,
  author = {Tschandl, Philipp and Rosendahl, Cliff and Kittler, Harald},
  title = {The {HAM10000} dataset, a large collection of multi-source dermatoscopic images of common pigmented skin
    lesions},
  journal = {Scientific Data}, volume = {5}, pages = {180161}, year = {2018}, doi = {10.1038/sdata.2018.161}
}""",
    checksums=(
        ("HAM10000_images_part_1.zip", "4639bfa73ab251610530a97c898e6e46"),
        ("HAM10000_images_part_2.zip", "da43d6cc50f6613013be07e8986b384b"),
    ),
)


def examples(download: downloads.Download) -> list[downloads.Example]:
    """Return the rows of the metadata; images that a mirror holds twice are listed once."""
    places = downloads.image_files(download)
    metadata = downloads.find(download, *(f"HAM10000_metadata{end}" for end in (".csv", ".tab", "")))
    classes = {name: name for name in DATASET.classes}
    return [
        downloads.Example(
            row["image_id"],
            places.get(row["image_id"]),
            label=downloads.choose_value(place, row, "dx", classes),
            group=row["lesion_id"],
        )
        for place, row in downloads.read_table(metadata, ("lesion_id", "image_id", "dx"))
    ]


load = functools.partial(prepared.load, DATASET, examples)
