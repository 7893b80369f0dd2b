"""Typed, versioned descriptions of the files that a run writes.

Each file is a TypedDict whose fields are annotated with their meaning; `jaxssl.results.description` lists them for the
manual and compares files with them. Numbers that are not finite are null. Increase the version of a file when a field
changes its name, its type or its meaning.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict

VERSIONS = {
    "results.json": 1,
    "config.json": 1,
    "splits.json": 1,
    "audit.json": 1,
    "compare.json": 1,
    "sweep.json": 1,
    "score.json": 1,
}

Version = Annotated[int, "version of this description"]
# Names of keys that are not fixed.
Split = Annotated[str, "split"]
Metric = Annotated[str, "metric"]
Value = Annotated[str, "value"]
Name = Annotated[str, "name"]


def with_version(name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of the file `name`, such as "results.json", with its "schema_version" first."""
    return {"schema_version": VERSIONS[name], **content}


# results.json


class Estimate(TypedDict):
    """A score, or a difference of two scores, with its 95 % confidence interval."""

    value: Annotated[float | None, "null where it is undefined"]
    low: Annotated[float | None, "lower end; null without an interval"]
    high: Annotated[float | None, "upper end"]
    without: NotRequired[Annotated[str, "why there is no interval"]]


class TestedDifference(Estimate):
    """A difference of two scores on the same test images, with the p-value of the paired randomization test."""

    p: Annotated[float | None, "of no difference; the interval lies apart from 0 if and only if it is at most .05"]
    detectable: Annotated[float | None, "true difference that 80 % of such test sets show; null if none or unknown"]


class SplitSize(TypedDict):
    """Size of one split."""

    images: Annotated[int, "number of images"]
    groups: Annotated[int, "number of groups, such as patients"]
    missing_classes: NotRequired[Annotated[list[str], "classes without an image in it"]]


class Dataset(TypedDict):
    """The images of a run."""

    name: Annotated[str, "`data.name`"]
    title: NotRequired[Annotated[str, "name of the folder or file that the images are from"]]
    task: NotRequired[
        Annotated[
            Literal["single", "multi", "ordinal", "value"],
            "one class an image, any number of labels, one of ordered classes, or a number; single where it is missing",
        ]
    ]
    classes: Annotated[list[str], "names of classes or labels, or of the value; empty without labels"]
    mask_classes: NotRequired[Annotated[list[str], "names of the classes of masks, the background first"]]
    splits: dict[Split, SplitSize]
    groups_known: Annotated[bool, "false: each image counts as a group of its own, and leakage cannot be excluded"]
    fingerprint: Annotated[str, "SHA-256 of images, labels and groups"]
    test_images_copied_in_train: Annotated[int, "test images that are pixel for pixel among the training images"]
    test_images_nearly_copied_in_train: NotRequired[
        Annotated[int, "test images with a copy or a near copy among the training images, as far as was searched"]
    ]
    findings: Annotated[list[str], "problems that the audit found, in words"]
    unread: NotRequired[Annotated[list[str], "what the input holds that was not used"]]


class Collapse(TypedDict):
    """Diagnosis of the encoder after the last epoch of pretraining."""

    verdict: Annotated[Literal["healthy", "weak", "collapsed"], "representation collapse"]
    feature_std: Annotated[float, "standard deviation of the l2-normalized features times sqrt(D), in [0, 1]"]
    effective_rank: Annotated[float, "effective rank of the features (RankMe, arXiv:2210.02885)"]


class Pretraining(TypedDict):
    """What pretraining did."""

    objective: Annotated[str, "`pretrain.objective`"]
    supervised: Annotated[bool, "whether it read labels"]
    epochs: Annotated[int, "number of epochs"]
    final_loss: Annotated[float, "mean over the logged steps of the last epoch"]
    first_loss: Annotated[float, "loss of the first step"]
    expected_first_loss: Annotated[float | None, "loss that theory expects of an untrained network; null if unknown"]
    collapse: Collapse
    seconds: Annotated[float, "time in training steps"]
    images: Annotated[int, "images trained on, each as often as it was seen"]
    steps: NotRequired[Annotated[int, "steps of the optimizer"]]
    images_per_second: Annotated[float, "median over the logged steps"]


class Compute(TypedDict):
    """Cost of a transfer."""

    seconds: Annotated[float, "of training, of choosing on validation and of predicting"]
    images: Annotated[int, "images trained on, each as often as it was seen"]


class Bin(TypedDict):
    """One bin of the reliability diagram."""

    low: Annotated[float, "lower end of the confidence"]
    high: Annotated[float, "upper end of the confidence"]
    images: Annotated[int, "images in the bin"]
    confidence: Annotated[float | None, "mean confidence"]
    accuracy: Annotated[float | None, "share of correct predictions"]


# "class" is a keyword of Python.
OperatingPoint = TypedDict(
    "OperatingPoint",
    {
        "specificity_wanted": Annotated[float, "`transfer.specificity`, reached on validation"],
        "class": Annotated[str, "the positive class"],
        "threshold": Annotated[float | None, "an image is positive if its probability is above; from validation"],
        "sensitivity": Annotated[Estimate, "on the test images"],
        "specificity": Annotated[Estimate, "on the test images"],
    },
)


class Trial(TypedDict):
    """One learning rate that fine-tuning tried."""

    phase: Annotated[str, "phase of metrics.jsonl"]
    learning_rate: Annotated[float, "peak learning rate"]
    validation: Annotated[float | None, "best score on validation"]


class LabelScores(TypedDict):
    """Scores of one of several labels."""

    images: Annotated[int, "test images in which it is known"]
    positives: Annotated[int, "those that have it"]
    metrics: Annotated[dict[Metric, Estimate], "with 95 % intervals over groups"]


class GroupScores(TypedDict):
    """Scores of the mean prediction of each group, such as the slices of a volume or the images of a patient."""

    groups: Annotated[int, "number of groups"]
    metrics: Annotated[dict[Metric, Estimate], "with 95 % intervals over groups"]


class Overfitting(TypedDict):
    """Mean log loss in nats, of values squared error, on training images, not augmented, and on validation images."""

    train_loss: Annotated[float, "on up to 1,000 training images whose labels transfer used"]
    validation_loss: Annotated[float, "on all validation images"]
    gap: Annotated[Estimate, "validation less training, with a 95 % interval over groups"]


class LesionScores(TypedDict):
    """Scores of lesions, see `jaxssl.evaluation.detection`."""

    images: Annotated[int, "number of images"]
    metrics: Annotated[
        dict[Metric, Estimate],
        '"froc", "sensitivity_<false positives an image>" and "average_precision_<IoU>", with intervals over groups',
    ]
    class_metrics: Annotated[list[dict[Metric, Estimate]], "of each class without the background"]
    lesions_by_class: Annotated[list[int], "true lesions"]
    predicted_by_class: Annotated[list[int], "predicted ones"]


class Evaluation(TypedDict):
    """Test scores of one protocol and one initialization; also the content of evaluations/<name>.json."""

    name: Annotated[str, "<protocol>_<init>"]
    protocol: Annotated[str, '"probe", "knn", "finetune", "attentive", "segment_linear" or "segment"']
    init: Annotated[str, '"random", "ssl", "supervised", the name of given weights, or "<weights>+ssl"']
    label_fraction: Annotated[float, "share of the training labels that transfer used"]
    fold: Annotated[int | None, "fold of the cross-validation; null without"]
    seed: Annotated[int, "`seed`"]
    split: Annotated[str, '"test"']
    phase: NotRequired[Annotated[str, "fine-tuning and masks: phase of metrics.jsonl and folder below checkpoints/"]]
    learning_rate: NotRequired[Annotated[float, "fine-tuning: the one chosen on validation"]]
    tried: NotRequired[Annotated[list[Trial], "fine-tuning: all learning rates"]]
    C: NotRequired[Annotated[float, "probe: inverse strength of its penalty, the one chosen on validation"]]
    validation: NotRequired[Annotated[float | None, "score by which these were chosen; null where it is undefined"]]
    chosen_on: NotRequired[
        Annotated[int, "labelled validation images used for choices; 0: the training labels, by cross-validation"]
    ]
    features: NotRequired[Annotated[str, "probe: those of `transfer.probe_features` that were chosen on validation"]]
    selected_by: NotRequired[
        Annotated[
            str,
            '`transfer.select`; "the last epoch" or "the default" where that is undefined on validation; '
            '"no validation, the last epoch" of few labels',
        ]
    ]
    compute: Compute
    images: Annotated[int, "test images"]
    metrics: Annotated[dict[Metric, Estimate], "with 95 % intervals over groups"]
    groups_by_class: Annotated[list[int], "groups with a test image of the class, for each class; empty for values"]
    majority_accuracy: Annotated[
        float | None, "accuracy of always predicting the most frequent test class; null for several labels and values"
    ]
    constant_predictor: Annotated[bool, "whether the same is predicted for every image"]
    confusion: Annotated[
        list[list[int]] | None,
        "images by true class (row) and predicted class (column); null for several labels and values",
    ]
    by_label: NotRequired[
        Annotated[list[LabelScores], "of several labels an image: of each, in the order of the classes"]
    ]
    constant_mae: NotRequired[
        Annotated[float, "of values: mean absolute error of always predicting the median of the training images"]
    ]
    by_group: NotRequired[
        Annotated[GroupScores | None, "null unless groups have several test images, with one label in each group"]
    ]
    temperature: Annotated[float | None, "temperature fitted on validation; null where there is none"]
    without_temperature: Annotated[str, "why there is none; empty where there is one"]
    reliability: list[Bin]
    operating_point: Annotated[list[OperatingPoint], "of each class or label; of two classes, of the second"]
    overfitting: Annotated[Overfitting | None, "at the chosen epoch; null for nearest neighbors and masks"]
    over_groups: NotRequired[Annotated[dict[Metric, Estimate], "masks: scores as means over groups, not images"]]
    class_metrics: NotRequired[
        Annotated[list[dict[Metric, Estimate]], "masks: scores of each class without the background"]
    ]
    all_background: NotRequired[Annotated[dict[Metric, float | None], "masks: scores of predicting only background"]]
    undefined_distances: NotRequired[
        Annotated[int, "masks: Hausdorff distances that are undefined, for which the diagonal of the image stands"]
    ]
    empty_predictor: NotRequired[Annotated[bool, "masks: whether only background is predicted in every image"]]
    images_by_class: NotRequired[Annotated[list[int], "masks: test images that have the class"]]
    mask_side: NotRequired[Annotated[int, "masks: their side in pixels"]]
    detection: NotRequired[Annotated[LesionScores, "masks: connected components as lesions"]]


class Weights(TypedDict):
    """Pretrained weights that a run started from (`init.weights`)."""

    name: Annotated[str, "the initialization of this name; its continued pretraining is <name>+ssl"]
    weights: Annotated[str, "file or folder as given, or 'imagenet'"]
    sha256: Annotated[str | None, "of the file; null for a folder"]
    license: Annotated[str | None, "as the file says; null if it does not"]
    naming: Annotated[str, "naming of the tensors"]
    prefix: Annotated[str, "of the names of the tensors used"]
    left_out: Annotated[dict[Name, int], "tensors not used, by the first part of their names"]
    changes: Annotated[list[str], "what was resampled, resized or adapted to fit the encoder"]
    training_images_known: Annotated[bool, "whether it was checked that they were not trained on test images"]


class Episodes(TypedDict):
    """Few-shot episodes of one initialization: the nearest class mean on frozen features (arXiv:1911.04623)."""

    init: Annotated[str, "initialization"]
    shots: Annotated[int, "labelled training images per class, each of another group"]
    draws: Annotated[int, "draws of these images"]
    accuracy: Annotated[Estimate, "mean balanced accuracy on the test images, with a 95 % interval over draws"]
    low: Annotated[float, "accuracy that 2.5 % of the draws do not reach"]
    high: Annotated[float, "accuracy that 2.5 % of the draws exceed"]


class EpisodesOfInit(TypedDict):
    """evaluations/episodes_<init>.json: all episodes of one initialization."""

    name: Annotated[str, "episodes_<init>"]
    episodes: Annotated[list[Episodes], "for each number of labelled images per class"]


class Results(TypedDict):
    """results.json: what a run found. It is written last: a run is finished when it exists."""

    schema_version: Version
    dataset: Dataset
    init: NotRequired[Annotated[Weights | None, "null for random weights"]]
    pretrain: Annotated[Pretraining | None, "null without pretraining"]
    evaluations: list[Evaluation]
    episodes: NotRequired[Annotated[list[Episodes], "of `transfer.shots`"]]


# config.json, splits.json


class Pixels(TypedDict):
    """Scaling of stored pixel values: (asinh-stretched) unit range of [low, high], then mean and standard deviation."""

    low: Annotated[float, "stored value that becomes 0"]
    high: Annotated[float, "stored value that becomes 1"]
    mean: Annotated[list[float], "mean of each channel, or of all"]
    std: Annotated[list[float], "standard deviation of each channel, or of all"]
    asinh: Annotated[float, "strength of the asinh stretch; 0 for none"]


class RunConfig(TypedDict):
    """config.json: what a run was started with."""

    schema_version: Version
    config: Annotated[dict[str, Any], "every field of the config"]
    fingerprint: Annotated[str, "SHA-256 of images, labels and groups"]
    requested: NotRequired[Annotated[dict[Name, int | str], "fields changed to fit images or machine, as requested"]]
    pixels: Pixels
    dtype: Annotated[str, "dtype of the stored images"]
    command: Annotated[str, "the command line"]
    versions: Annotated[dict[Name, str], "versions of packages"]
    git: Annotated[str | None, "git revision of the code; null if unknown"]
    devices: Annotated[list[str], "JAX devices"]


class Splits(TypedDict):
    """splits.json: image ids of each split."""

    schema_version: Version
    train: Annotated[list[str], "image ids"]
    validation: Annotated[list[str], "image ids"]
    test: Annotated[list[str], "image ids"]
    groups_known: Annotated[bool, "whether splits keep groups together"]
    fingerprint: Annotated[str, "SHA-256 of images, labels and groups"]
    pixels: NotRequired[Annotated[list[str], "hashes of the pixels of the training and validation images"]]
    config_sha256: Annotated[str, "SHA-256 of the config, except for folders and devices"]


# metrics.jsonl, predictions.csv


class MetricsRow(TypedDict, total=False):
    """One line of metrics.jsonl: a training step, or a measurement after an epoch (epoch 0: before training)."""

    phase: Required[Annotated[str, '"pretrain", or the name of a fine-tuning']]
    step: Required[Annotated[int, "training steps done"]]
    epoch: Required[Annotated[int, "epoch, from 1"]]
    loss: Annotated[float | None, "training loss of the step"]
    gradient_norm: Annotated[float | None, "global norm of the gradient"]
    accuracy: Annotated[float | None, "accuracy on the training batch"]
    online_probe_accuracy: Annotated[float | None, "accuracy of a linear probe trained alongside, without gradient"]
    embedding_std: Annotated[float | None, "standard deviation of the l2-normalized embedding times sqrt(D)"]
    images_per_second: Annotated[float, "speed since the last row"]
    seconds: Annotated[float, "time in training steps since the last row"]
    feature_std: Annotated[float | None, "after an epoch: as in results.json"]
    effective_rank: Annotated[float | None, "after an epoch: as in results.json"]
    validation: Annotated[float | None, "after an epoch: score on validation; of masks the mean Dice"]
    dice: Annotated[float | None, "masks: Dice of the probabilities of the training batch"]
    validation_loss: Annotated[float | None, "after an epoch of fine-tuning: log loss on validation"]
    train_loss: Annotated[float | None, "after an epoch of fine-tuning: the same on training images, not augmented"]
    validation_seconds: Annotated[float, "time of the validation"]


PredictionRow = TypedDict(
    "PredictionRow",
    {
        "evaluation": Annotated[str, "name of the evaluation in results.json"],
        "image_id": Annotated[str, "id of a test image"],
        "group": Annotated[str, "its group"],
        "label": Annotated[
            str,
            'its class; the names of its labels, joined by "|", with "?" before those that it may have or not; or its '
            "value",
        ],
        "predicted": Annotated[
            str, 'class with the highest probability; labels with a probability above 0.5, joined by "|"; or the value'
        ],
        "p_<class>": Annotated[float, "probability, one column per class or label; none for values"],
    },
)
SegmentationRow = TypedDict(
    "SegmentationRow",
    {
        "evaluation": Annotated[str, "name of the evaluation in results.json"],
        "image_id": Annotated[str, "id of a test image"],
        "group": Annotated[str, "its group"],
        "class": Annotated[str, "class of the masks, without the background"],
        "true_pixels": Annotated[int, "pixels of the class in the mask; pixels of unknown class never count"],
        "predicted_pixels": Annotated[int, "pixels predicted as the class"],
        "common_pixels": Annotated[int, "pixels that are both; Dice is 2 common / (true + predicted), 1 if all are 0"],
        "dice": Annotated[float, "Dice"],
        "iou": Annotated[float, "intersection over union"],
        "hausdorff95": Annotated[float | None, "95 % Hausdorff distance in pixels; empty where one mask is empty"],
    },
)
SegmentationRow.__doc__ = "One row of segmentations.csv: the scores of one evaluation for one test image and class."
PredictionRow.__doc__ = "One row of predictions.csv: the prediction of one evaluation for one test image."
