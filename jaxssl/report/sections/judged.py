"""The prediction for each image, as the sections with images show it."""

from jaxssl.report.run_data import RunData

# {image id: (class, predicted class, its probability)} of one evaluation.
Judged = dict[str, tuple[str, str, float]]


def judge(run: RunData, evaluation: str) -> Judged:
    """Return the class, the prediction and its probability of each image in an evaluation; {} without predictions."""
    if evaluation not in run.predictions:
        return {}
    classes, of = run.results["dataset"]["classes"], run.predictions[evaluation]
    predicted, highest = of.probabilities.argmax(axis=1), of.probabilities.max(axis=1)
    return {
        image: (classes[truth], classes[guess], float(p))
        for image, truth, guess, p in zip(of.ids, of.labels, predicted, highest, strict=True)
    }
