"""IDRiD, disease grading (Porwal et al. 2018, Data 3:25): 413 training and 103 test photographs of the retina.

The files lie in `B. Disease Grading/1. Original Images/{a. Training Set,b. Testing Set}/IDRiD_<nnn>.jpg`, which is the
official split, and the grades of diabetic retinopathy, 0 to 4, in `2. Groundtruths/`. The numbers of the test images
begin anew, so that ids have the split before them. Patients are not published. A copy that lacks images of which it has
the grades is refused, but where `data.on_bad_file` is "skip".
"""

import functools

from jaxssl.data import downloads, prepared

DATASET = downloads.Dataset(
    name="idrid_grading",
    title="photographs of the retina, by grade of diabetic retinopathy",
    classes=("0", "1", "2", "3", "4"),
    images=516,
    group="",
    license="CC BY 4.0",
    homepage="https://doi.org/10.21227/H25W98",
    download="B. Disease Grading of IDRiD from IEEE DataPort (https://doi.org/10.21227/H25W98)",
    citation="""@article{porwal2018idrid,
  author = {Porwal, Prasanna and Pachade, Samiksha and Kamble, Ravi and Kokare, Manesh and Deshmukh, Girish and
    Sahasrabuddhe, Vivek and Meriaudeau, Fabrice},
  title = {Indian Diabetic Retinopathy Image Dataset ({IDRiD}): A Database for Diabetic Retinopathy Screening Research},
  journal = {Data}, volume = {3}, number = {3}, pages = {25}, year = {2018}, doi = {10.3390/data3030025}
}""",
)
TASK = "ordinal"
_SPLITS = {
    "train": ("a. Training Set", "a. IDRiD_Disease Grading_Training Labels.csv"),
    "test": ("b. Testing Set", "b. IDRiD_Disease Grading_Testing Labels.csv"),
}


def examples(download: downloads.Download) -> list[downloads.Example]:
    """Return the rows of both tables; ids are such as `train/IDRiD_001`."""
    found = []
    grades = {name: name for name in DATASET.classes}
    for split, (folder, labels) in _SPLITS.items():
        places = downloads.image_files(download, folder)
        for place, row in downloads.read_table(downloads.find(download, labels), ("Image name", "Retinopathy grade")):
            name = row["Image name"]
            label = downloads.choose_value(place, row, "Retinopathy grade", grades)
            found.append(downloads.Example(f"{split}/{name}", places.get(name), label, split=split))
    return found


load = functools.partial(prepared.load, DATASET, examples)
