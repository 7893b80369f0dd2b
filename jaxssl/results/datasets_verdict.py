"""The answer of several studies, each on a dataset of its own: which start helps on which data."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxssl.evaluation.significance import MIN_SEEDS
from jaxssl.results.next_step import NextStep
from jaxssl.results.study_conclusions import find_common_obstacle, is_better
from jaxssl.results.study_verdict import MAX_WORDS, find_main_differences, judge_study
from jaxssl.results.verdict import Verdict, format_limit
from jaxssl.results.words import effect_title, format_count, join_words, shorten

Studies = Mapping[str, Mapping[str, Any]]  # Content of compare.json by dataset.
LIMITS = (
    "Each dataset is tested for itself: p-values are corrected within a dataset, not over all of them.",
    "Differences are not averaged over datasets, whose images, classes and scores are not alike.",
)


def judge_studies(studies: Studies, commands: Mapping[str, Mapping[str, str]] | None = None) -> Verdict:
    """Return the answer of several studies.

    Args:
      studies: two or more.
      commands: by dataset, as in `judge_study`.
    """
    verdicts = {name: judge_study(study, (commands or {}).get(name)) for name, study in studies.items()}
    images = [f"{shorten(name)} ({max(a['images'] for a in s['arms']):,})" for name, s in studies.items() if s["arms"]]
    runs = format_count(sum(study["runs"] for study in studies.values()), "training run")
    helpful = {name for datasets in datasets_by_start(studies, True).values() for name in datasets}

    def count_known(name: str) -> tuple[bool, int, bool]:
        seeds = min((len(arm["seeds"]) for arm in studies[name]["arms"]), default=0)
        obstacle = find_common_obstacle(find_main_differences(studies[name]))
        return not obstacle, min(seeds, MIN_SEEDS), name not in helpful

    name = min(studies, key=count_known)  # The dataset of which least is known, then one that has a benefit to confirm.
    step = verdicts[name].next_step
    return Verdict(
        f"{format_count(len(studies), 'dataset')}: which start is best on which?",
        _answer(studies),
        f"Rests on {runs} and these test images: {', '.join(images)}.",
        _describe_unseen(studies),
        NextStep(f"First, {shorten(name)}. {step.text}", step.command),
    )


def datasets_by_start(studies: Studies, better: bool) -> dict[str, list[str]]:
    """Return the datasets on which each start is better (or worse) than its own start, for other seeds and groups."""
    found: dict[str, list[str]] = {}
    for name, study in studies.items():
        for d in find_main_differences(study):
            datasets = found.setdefault(effect_title(d), []) if d["effect"] else []
            if d["verdict"] in ("higher", "lower") and is_better(d) == better and name not in datasets:
                datasets.append(name)
    return found


def _answer(studies: Studies) -> str:
    helpful, harmful = datasets_by_start(studies, True), datasets_by_start(studies, False)
    if not helpful:
        return "Nothing to compare"
    obstacles = [find_common_obstacle(find_main_differences(study)) for study in studies.values()]
    if all(obstacles):
        return "No dataset has an answer: see the page of each"
    total, effects = len(studies), [(arm, helpful[arm], harmful[arm]) for arm in helpful if helpful[arm] + harmful[arm]]
    if not effects:
        blocked = f"; {sum(map(bool, obstacles))} without an answer" if any(obstacles) else ""
        return f"No benefit shown on any of {total} datasets{blocked}"

    def tell(say: Callable[[list[str]], str]) -> str:
        clauses = []
        for arm, better, worse in effects:
            found = [f"{verb} on {say(of)}" for verb, of in (("helps", better), ("harms", worse)) if of]
            clauses.append(f"{arm} {', '.join(found)}")
        return "; ".join(clauses)

    helping, harming = (sum(bool(of) for of in found.values()) for found in (helpful, harmful))
    texts = [
        tell(lambda datasets: join_words([shorten(name) for name in datasets])),
        tell(lambda datasets: f"{len(datasets)} of {total}"),
        f"Of {len(helpful)} starts, {helping} help on some datasets, {harming} harm",
    ]
    return next(text for text in texts if len(text.split()) <= MAX_WORDS)


def _describe_unseen(studies: Studies) -> str:
    parts = []
    for name, study in studies.items():
        limit = format_limit([d["detectable"] for d in find_main_differences(study)])
        parts += [f"{limit} ({shorten(name)})"] if limit else []
    return f"True differences below about {join_words(parts)} would usually be missed." if parts else ""


def describe_studies(studies: Studies) -> tuple[list[str], list[str]]:
    """Return what may, and what may not be concluded, a sentence each."""
    effects = [("helps", datasets_by_start(studies, True)), ("harms", datasets_by_start(studies, False))]
    may = [
        f"{arm} {word} on {join_words([shorten(name) for name in of])}."
        for word, found in effects
        for arm, of in found.items()
        if of
    ]
    obstacles = {name: find_common_obstacle(find_main_differences(study)) for name, study in studies.items()}
    return may, [*(f"{shorten(name)}: {text}." for name, text in obstacles.items() if text), *LIMITS]
