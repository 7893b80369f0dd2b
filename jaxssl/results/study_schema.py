"""Typed descriptions of compare.json and sweep.json, as in `jaxssl.results.schema`."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from jaxssl.results.schema import Bin, Estimate, Metric, Name, Split, Version

# compare.json


class StudyDataset(TypedDict):
    """The images of all runs of a study."""

    name: Annotated[str, "`data.name`"]
    title: NotRequired[Annotated[str, "as in results.json, if all runs have the same"]]
    task: Annotated[str, "as in results.json"]
    classes: Annotated[list[str], "class names"]
    fingerprints: Annotated[list[str], "of all runs"]
    groups_known: Annotated[bool, "whether all runs know the groups"]
    test_images_copied_in_train: Annotated[int, "as in results.json, of the run with the most"]
    test_images_nearly_copied_in_train: Annotated[int, "likewise"]
    missing_classes: Annotated[dict[Split, list[str]], "classes without an image in the split of a run"]


class Interval(TypedDict):
    """A 95 % confidence interval."""

    low: Annotated[float | None, "lower end; null without an interval"]
    high: Annotated[float | None, "upper end"]


class TestedInterval(Interval):
    """A 95 % confidence interval with the p-value of "no difference"."""

    p: Annotated[float | None, "null with fewer than five seeds"]


class GroupInterval(Interval):
    """A 95 % confidence interval over groups of test images."""

    without: Annotated[str, "why there is no interval; empty where there is one"]


class TestedGroupInterval(GroupInterval):
    """A 95 % confidence interval over groups, apart from 0 if and only if p is at most .05."""

    p: Annotated[float | None, "of the paired randomization test"]
    p_holm: Annotated[float | None, "Holm-corrected over the effects; of other differences, over all"]


class Mean(TypedDict):
    """Mean score of the runs of an arm."""

    mean: Annotated[float | None, "over runs"]
    std: Annotated[float | None, "standard deviation over runs"]
    over_runs: Annotated[Interval, "over runs: other seeds"]
    over_groups: Annotated[GroupInterval, "other groups of test images"]
    values: Annotated[list[float | None], "one per run"]


class Learning(TypedDict):
    """Log loss by epoch of fine-tuning, means over the runs of an arm."""

    epochs: Annotated[list[int], "epochs, from 0, before training"]
    train_loss: Annotated[list[float], "on training images, not augmented"]
    validation_loss: Annotated[list[float], "on validation images"]


class MeanOverfitting(TypedDict):
    """Log loss at the chosen epoch, means over the runs of an arm."""

    train_loss: Annotated[float, "on training images, not augmented"]
    validation_loss: Annotated[float, "on validation images"]
    gap: Annotated[Estimate, "validation less training, with a 95 % interval over runs"]


class OutOfFold(TypedDict):
    """Scores of a cross-validation from the predictions of all folds together, each image tested once a seed."""

    images: Annotated[int, "test images"]
    seeds: Annotated[int, "cross-validations"]
    metrics: Annotated[dict[Metric, Estimate], "means over seeds, with 95 % intervals over groups"]
    confusion: Annotated[
        list[list[int]] | None,
        "images by true class (row) and predicted class (column), summed over seeds; null as in results.json",
    ]
    reliability: list[Bin]
    roc: Annotated[
        list[list[float] | None],
        "by class or label: true positive rate at 51 equally spaced false positive rates, or null",
    ]


class Arm(TypedDict):
    """A method with an initialization, a protocol and a share of the labels; its runs differ in seed or fold."""

    name: Annotated[str, "its name"]
    method: Annotated[str | None, "pretraining objective; null without pretraining"]
    init: Annotated[str, "as in results.json"]
    protocol: Annotated[str, "as in results.json"]
    labels: Annotated[str, 'share of the labels: "10 %", or "5 a class"']
    label_fraction: Annotated[float, "mean over runs"]
    settings: Annotated[dict[str, Any], "config fields in which it differs from other arms of its name"]
    runs: Annotated[int, "number of runs"]
    seeds: Annotated[list[int], "their seeds"]
    folds: Annotated[list[int], "their folds"]
    images: Annotated[int, "test images of all runs together"]
    groups: Annotated[int, "groups of these"]
    majority_accuracy: Annotated[float | None, "mean over runs; null for several labels and values"]
    constant_runs: Annotated[int, "runs that predict the same for every image"]
    pretrain_seconds: Annotated[float | None, "mean over runs; 0 without pretraining, null if unknown"]
    pretrain_steps: Annotated[float | None, "steps of the optimizer, likewise"]
    transfer_seconds: Annotated[float | None, "mean over runs, with all learning rates; null if unknown"]
    trained_images: Annotated[float | None, "mean over runs, each image as often as it was seen; null if unknown"]
    metrics: dict[Metric, Mean]
    overfitting: Annotated[MeanOverfitting | None, "null unless each run has it"]
    learning: Annotated[Learning | None, "null without fine-tuning"]
    out_of_fold: Annotated[OutOfFold | None, "null unless the runs are folds"]


class McNemar(TypedDict):
    """McNemar's test of accuracy."""

    only_a: Annotated[int, "images that only `a` has right, over all runs"]
    only_b: Annotated[int, "images that only `b` has right"]
    p: Annotated[float | None, "null where there is no test"]
    p_holm: Annotated[float | None, "Holm-corrected likewise"]
    without: Annotated[str | None, "why there is no test; null where there is"]


class Difference(TypedDict):
    """`a - b` in one metric, paired by seed and fold."""

    a: Annotated[str, "name of an arm"]
    b: Annotated[str, "name of an arm"]
    effect: Annotated[bool, "whether `a` started from the weights of `b`, in the same encoder"]
    protocol: Annotated[str, "as in results.json"]
    labels: Annotated[str, "share of the labels"]
    label_fraction: Annotated[float, "mean over runs"]
    metric: Annotated[str, "name of the metric"]
    runs: Annotated[int, "pairs of runs"]
    seeds: Annotated[int, "number of seeds"]
    test_to_train: Annotated[float, "test over training images, of the corrected t-test (Nadeau and Bengio, 2003)"]
    mean: Annotated[float | None, "over pairs of runs"]
    std: Annotated[float | None, "standard deviation over pairs of runs"]
    over_runs: Annotated[TestedInterval, "over runs: other seeds"]
    over_groups: Annotated[TestedGroupInterval, "other groups of test images"]
    detectable: Annotated[float | None, "true difference that 80 % of such studies show; null if none or unknown"]
    values: Annotated[list[float | None], "one per pair of runs"]
    p: Annotated[float | None, "intersection-union test: the larger of both p-values"]
    p_holm: Annotated[float | None, "Holm-corrected over the effects; of other differences, over all"]
    mcnemar: Annotated[McNemar | None, "null for other metrics than accuracy"]
    without: Annotated[str, "why there is no verdict, whatever the scores; empty where there may be one"]
    verdict: Annotated[
        Literal["higher", "lower", "these runs", "open"],
        '"higher" and "lower" hold for other seeds and test groups, "these runs" for the trained networks only',
    ]
    sentence: Annotated[str, "the verdict in words"]


class CurvePoint(TypedDict):
    """Mean score at one share of the labels."""

    label_fraction: Annotated[float, "share of the labels"]
    labels: Annotated[str, "the same in words"]
    mean: Annotated[float | None, "over runs"]
    over_runs: Interval
    over_groups: GroupInterval


class Curve(TypedDict):
    """Label efficiency of an arm."""

    name: Annotated[str, "name of the arm"]
    protocol: Annotated[str, "as in results.json"]
    metric: Annotated[str, "name of the metric"]
    points: list[CurvePoint]


class Conclusion(TypedDict):
    """Sentences for the reader."""

    may: Annotated[list[str], "what may be concluded"]
    may_not: Annotated[list[str], "what may not be concluded"]


class Study(TypedDict):
    """compare.json: the comparison of all arms of a study."""

    schema_version: Version
    dataset: StudyDataset
    runs: Annotated[int, "finished runs"]
    unfinished: Annotated[int, "runs that have not finished"]
    split: Annotated[
        Literal["one run", "fixed", "resplit", "simulated"],
        '"fixed": all runs have the same test images; "resplit": other ones of the same data; "simulated": own images',
    ]
    images: Annotated[int, "test images of all runs together"]
    groups: Annotated[int, "their groups"]
    tests: Annotated[int, "differences with a p-value, which Holm's correction counts"]
    arms: list[Arm]
    differences: list[Difference]
    curves: list[Curve]
    conclusion: Conclusion


# sweep.json


class SweepCell(TypedDict):
    """One run of a sweep."""

    state: Annotated[Literal["waiting", "running", "done", "stopped", "broken"], "its state"]
    tries: Annotated[int, "how often it was started"]
    exit_code: Annotated[int | None, "of the last try"]
    seconds: Annotated[float, "of all tries"]
    pretrained_by: Annotated[str | None, "cell whose pretrained encoder it uses"]
    command: Annotated[str, "command line that runs it"]


class Sweep(TypedDict):
    """sweep.json: the state of each run of a sweep."""

    schema_version: Version
    command: NotRequired[Annotated[str, "command line of the sweep; absent in those before 0.3"]]
    cells: dict[Name, SweepCell]
