"""Fields of score.json."""

from typing import Annotated, Literal, NotRequired, TypedDict

from jaxssl.results.schema import Estimate, GroupScores, LabelScores, LesionScores, Metric, TestedDifference, Version


class TestSplit(TypedDict):
    """Scores on the test split of the run."""

    images: Annotated[int, "its images"]
    metrics: Annotated[dict[Metric, Estimate], "as in results.json"]


class CorruptedScore(TypedDict):
    """Scores on corrupted images (arXiv:1903.12261)."""

    corruption: Annotated[Literal["noise", "blur", "contrast", "brightness", "jpeg"], "what was done to the images"]
    severity: Annotated[int, "from 1 to 5"]
    metrics: Annotated[dict[Metric, Estimate], "on the corrupted images"]
    differences: Annotated[dict[Metric, TestedDifference], "corrupted - clean, paired by image"]


class Score(TypedDict):
    """score.json of `jaxssl score`: scores of a network on labelled images from elsewhere."""

    schema_version: Version
    workdir: Annotated[str, "of the run"]
    data: Annotated[str, "the folder, table or archive of the images"]
    fingerprint: Annotated[str, "SHA-256 of images, labels and groups"]
    evaluation: Annotated[str, "name of the fine-tuning in results.json"]
    task: Annotated[str, "as in results.json"]
    classes: Annotated[list[str], "class names of the run"]
    images: Annotated[int, "labelled images"]
    groups: Annotated[int, "number of groups, such as patients"]
    groups_known: Annotated[bool, "false: each image counts as a group of its own"]
    groups_by_class: Annotated[list[int], "groups with an image of the class"]
    seen: Annotated[int, "training or validation images of the run, by their pixels; of runs before 0.3 by their names"]
    metrics: Annotated[dict[Metric, Estimate], "with 95 % intervals over groups"]
    majority_accuracy: Annotated[float | None, "accuracy of always predicting the most frequent class"]
    constant_predictor: Annotated[bool, "whether every image gets the same class"]
    confusion: Annotated[list[list[int]] | None, "images by true class (row) and predicted class (column)"]
    by_label: Annotated[list[LabelScores], "as in results.json"]
    by_group: Annotated[GroupScores | None, "as in results.json"]
    test_split: TestSplit
    corruptions: NotRequired[Annotated[list[CorruptedScore], "of `--corrupt`"]]


class MaskScore(TypedDict):
    """score.json of `jaxssl score --masks` and `--boxes`: scores of a segmentation on images from elsewhere."""

    schema_version: Version
    workdir: Annotated[str, "of the run"]
    data: Annotated[str, "the folder or table of the images"]
    fingerprint: Annotated[str, "SHA-256 of images, masks and groups"]
    evaluation: Annotated[str, "name of the segmentation in results.json"]
    mask_classes: Annotated[list[str], "names of the classes, the background first"]
    images: Annotated[int, "images with a mask, or in the file of boxes"]
    groups: Annotated[int, "number of groups, such as patients"]
    groups_known: Annotated[bool, "false: each image counts as a group of its own"]
    seen: Annotated[int, "training or validation images of the run"]
    metrics: Annotated[dict[Metric, Estimate], "as in results.json; empty with --boxes"]
    detection: LesionScores
    constant_predictor: Annotated[bool, "whether the same mask is predicted for every image"]
    over_groups: NotRequired[Annotated[dict[Metric, Estimate], "as in results.json"]]
    class_metrics: NotRequired[Annotated[list[dict[Metric, Estimate]], "as in results.json"]]
    all_background: NotRequired[Annotated[dict[Metric, float | None], "as in results.json"]]
    undefined_distances: NotRequired[Annotated[int, "as in results.json"]]
    empty_predictor: NotRequired[Annotated[bool, "as in results.json"]]
    images_by_class: NotRequired[Annotated[list[int], "images that have the class"]]
    groups_by_class: NotRequired[Annotated[list[int], "groups that have the class"]]
    test_split: TestSplit
