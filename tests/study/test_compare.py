"""`jaxssl compare` on runs made up here: results.json, predictions.csv, and config.json where it matters."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from scipy import stats

from jaxssl.cli.parser import main
from jaxssl.errors import UserError
from jaxssl.evaluation import scores
from jaxssl.evaluation.evaluate import paired_difference
from jaxssl.results import schema, study_conclusions, study_verdict, words
from jaxssl.results.workdir import write
from jaxssl.study import analysis, output, tables
from jaxssl.study.runs import find_runs
from tests.refusals import refuses

CLASSES = ("benign", "malign")
LIFT = {"random": 0.8, "byol": 2.0, "mae": 0.8}


def run(
    folder,
    seed=0,
    objective="byol",
    fold=None,
    share=1.0,
    split="fixed",
    each=1,
    protocols=("probe",),
    lift=LIFT,
    config=None,
    supervised=False,
    images=80,
    **dataset,
):
    """A workdir of one run. The images of a class differ in how hard they are, alike in all runs.

    split: "fixed", the same test images for each seed; "resplit", others of 2 x `images` for each.
    each: images a group.
    """
    hard = np.random.default_rng(7).normal(size=2 * images)
    ids = np.arange(images)
    if split == "resplit":
        ids = np.sort(np.random.default_rng(seed).permutation(2 * images)[:images])
    if fold is not None:
        ids = np.arange(images) * 2 + fold
    labels = ids // 2 % 2
    evaluations, lines = [], []
    for i, (init, method) in enumerate({"ssl": objective, "random": "random"}.items()):
        for j, protocol in enumerate(protocols):
            # Random weights are the same beside each pretraining of one seed.
            rng = np.random.default_rng([seed, i, j, fold or 0, int(100 * share), *method.encode()])
            logit = lift[method] * share**0.2 + hard[ids] + rng.normal(size=images)
            right = 1 / (1 + np.exp(-logit))
            p = np.where(np.eye(2)[labels] > 0, right[:, None], 1 - right[:, None])
            name = f"{protocol}_{init}"
            evaluations.append(
                {"name": name, "protocol": protocol, "init": init, "label_fraction": share, "fold": fold}
                | {"seed": seed, "split": "test", "images": images}
            )
            for row, image in enumerate(ids):
                guess = CLASSES[p[row].argmax()]
                lines.append(
                    [name, f"i{image}", f"g{image // each}", CLASSES[labels[row]], guess, *map(repr, p[row].tolist())]
                )
    results = {
        "dataset": {
            "name": "lesions",
            "classes": list(CLASSES),
            "splits": {"train": {"images": 4 * images, "groups": 1}, "test": {"images": images, "groups": 1}},
            "groups_known": True,
            "fingerprint": "abc",
        }
        | dataset,
        "pretrain": {"objective": objective, "supervised": supervised, "seconds": 10.0 + seed},
        "evaluations": evaluations,
    }
    folder.mkdir(parents=True)
    write(folder / "results.json", results)
    with open(folder / "predictions.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [["evaluation", "image_id", "group", "label", "predicted", "p_benign", "p_malign"], *lines]
        )
    if config is not None:
        write(folder / "config.json", {"config": config})
    return folder


def study(*folders, against=None):
    return analysis.analyze(*find_runs(folders), against)


def of(found, a="byol", b="random", metric="auc_macro", **more):
    (d,) = (d for d in found["differences"] if d | {"a": a, "b": b, "metric": metric} | more == d)
    return d


def predictions(folder):
    """{evaluation: (probabilities, labels, groups)}, read apart from the code under test."""
    rows = {}
    for row in csv.DictReader((folder / "predictions.csv").read_text().splitlines()):
        rows.setdefault(row["evaluation"], []).append(row)
    return {
        name: (
            np.array([[float(r["p_benign"]), float(r["p_malign"])] for r in of]),
            np.array([CLASSES.index(r["label"]) for r in of]),
            np.array([r["group"] for r in of]),
        )
        for name, of in rows.items()
    }


def test_one_run_is_the_paired_difference_of_scores_and_has_no_p_value_over_seeds(tmp_path):
    folder = run(tmp_path / "s" / "run")
    found = study(tmp_path / "s")
    (a, labels, groups), (b, _, _) = (predictions(folder)[name] for name in ("probe_ssl", "probe_random"))
    for metric in ("auc_macro", "accuracy"):
        d = of(found, metric=metric)
        expected = paired_difference(a, b, labels, groups, metric)
        assert d["mean"] == pytest.approx(expected["value"])
        assert {name: d["over_groups"][name] for name in ("low", "high", "p")} == pytest.approx(
            {name: expected[name] for name in ("low", "high", "p")}
        )
        assert d["detectable"] == pytest.approx(expected["detectable"])
        assert d["over_runs"] == dict.fromkeys(("low", "high", "p"))
        assert d["p"] is d["p_holm"] is None
        assert d["verdict"] == "these runs"
        assert "a p-value needs 5 seeds and there is 1" in d["sentence"]
    assert (
        of(found, metric="accuracy")["mcnemar"] | {"p": None, "without": "fewer than 5 seeds"}
        == of(found, metric="accuracy")["mcnemar"]
    )
    assert (found["split"], found["tests"]) == ("one run", 0)


def test_five_seeds_of_one_split_are_a_t_test_and_a_randomization_test(tmp_path):
    folders = [run(tmp_path / f"run{seed}", seed) for seed in range(5)]
    found = study(tmp_path)
    values = []
    for folder in folders:
        (a, labels, _), (b, _, _) = (predictions(folder)[name] for name in ("probe_ssl", "probe_random"))
        values.append(scores.compute("auc_macro", a, labels) - scores.compute("auc_macro", b, labels))
    d, expected = of(found), stats.ttest_1samp(values, 0)
    assert (found["split"], d["test_to_train"]) == ("fixed", 0.0)
    assert d["values"] == pytest.approx(values)
    assert d["over_runs"]["p"] == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert (d["over_runs"]["low"], d["over_runs"]["high"]) == pytest.approx((low, high))
    assert d["over_groups"]["low"] < d["mean"] < d["over_groups"]["high"]
    assert d["p"] == max(d["over_runs"]["p"], d["over_groups"]["p"])
    assert d["verdict"] == "higher"
    assert re.fullmatch(
        r"BYOL is better than random weights in macro AUC by linear probing with 100 % of the labels: \+\.\d{2,3} "
        r"\(95 % over 5 runs \+\.\d+ to \+\.\d+; over test groups \+\.\d+ to \+\.\d+; p [<=] \.\d{3} after Holm's "
        r"correction\)\.",
        d["sentence"],
    )
    # The lesser of two p-values is multiplied by two; McNemar's test is alone of its kind.
    tests = [d, of(found, metric="accuracy")]
    assert found["tests"] == 2
    least = min(tests, key=lambda test: test["p"])
    assert least["p_holm"] == pytest.approx(2 * least["p"])
    assert tests[1]["mcnemar"]["p_holm"] == tests[1]["mcnemar"]["p"] < 1


def test_four_seeds_have_an_interval_and_no_p_value_over_seeds(tmp_path):
    for seed in range(4):
        run(tmp_path / f"run{seed}", seed)
    found = study(tmp_path)
    assert of(found)["over_runs"]["low"] is not None
    assert found["tests"] == 0
    for d in found["differences"]:
        assert d["p"] is d["p_holm"] is d["over_runs"]["p"] is None and d["over_groups"]["p"] is not None
        assert d["mcnemar"] is None or d["mcnemar"]["p"] is None
    assert of(found)["verdict"] == "these runs"


def test_splits_that_follow_the_seed_are_corrected_for_what_they_share(tmp_path):
    for seed in range(5):
        run(tmp_path / f"run{seed}", seed, split="resplit")
    found = study(tmp_path)
    d = of(found)
    values = np.array(d["values"])
    t = values.mean() / (values.std(ddof=1) * np.sqrt(1 / 5 + 80 / 320))
    assert (found["split"], d["test_to_train"]) == ("resplit", 0.25)
    assert d["over_runs"]["p"] == pytest.approx(2 * stats.t.sf(abs(t), 4))
    assert any("Nadeau" in text for text in found["conclusion"]["may_not"])


def test_folds_are_runs_and_no_seeds(tmp_path):
    for fold in range(2):
        for seed in range(3):
            run(tmp_path / f"{seed}{fold}", seed, fold=fold)
    d = of(study(tmp_path), metric="accuracy")
    assert (d["runs"], d["seeds"], d["test_to_train"]) == (6, 3, 0.25)
    assert d["over_runs"]["p"] is None and d["over_runs"]["low"] is not None
    (arm, *_) = study(tmp_path)["arms"]
    assert (arm["seeds"], arm["folds"], arm["images"]) == ([0, 1, 2], [0, 1], 160)


def test_mcnemar_wants_one_image_a_group(tmp_path):
    for seed in range(5):
        run(tmp_path / "one" / str(seed), seed)
        run(tmp_path / "several" / str(seed), seed, each=4)
    one, several = (of(study(tmp_path / name), metric="accuracy")["mcnemar"] for name in ("one", "several"))
    assert several["p"] is None and several["without"] == "groups of several images"
    assert any("McNemar" in text for text in study(tmp_path / "several")["conclusion"]["may_not"])
    ps, counts = [], np.zeros(2, int)
    for seed in range(5):
        p = predictions(tmp_path / "one" / str(seed))
        a, b = (p[name][0].argmax(1) == p[name][1] for name in ("probe_ssl", "probe_random"))
        counts += (only := np.array([(a & ~b).sum(), (b & ~a).sum()]))
        ps.append(stats.binomtest(only[0], only.sum()).pvalue)
    assert [one["only_a"], one["only_b"]] == counts.tolist()
    assert one["p"] == pytest.approx(min(1, sorted(ps)[2] * 5 / 3))
    assert "McNemar's test of these networks p" in of(study(tmp_path / "one"), metric="accuracy")["sentence"]


def test_equal_arms_are_open_and_not_called_alike(tmp_path):
    for seed in range(5):
        run(tmp_path / f"run{seed}", seed, "mae")
    d = of(study(tmp_path), "mae")
    assert d["verdict"] == "open"
    assert re.search(
        r"which does not show that they are equal: only true differences above about \.\d+ would show\.$", d["sentence"]
    )
    assert d["sentence"] in study(tmp_path)["conclusion"]["may_not"]


def test_random_weights_beside_several_methods_count_once(tmp_path):
    for seed in range(2):
        for objective in ("byol", "mae"):
            run(tmp_path / objective / str(seed), seed, objective)
    found = study(tmp_path)
    assert [(arm["name"], arm["runs"]) for arm in found["arms"]] == [("random", 2), ("byol", 2), ("mae", 2)]
    assert [(d["a"], d["b"]) for d in found["differences"][::2]] == [
        ("byol", "random"),
        ("mae", "random"),
        ("mae", "byol"),
    ]
    assert [arm["pretrain_seconds"] for arm in found["arms"]] == [0.0, 10.5, 10.5]
    assert all(arm["transfer_seconds"] is None and arm["trained_images"] is None for arm in found["arms"])
    only = study(tmp_path, against="byol")["differences"]
    assert {(d["a"], d["b"]) for d in only} == {("random", "byol"), ("mae", "byol")}
    with pytest.raises(UserError, match="did you mean 'byol'"):
        study(tmp_path, against="bjol")


def test_the_order_of_runs_and_folders_does_not_matter(tmp_path):
    for seed in range(3):
        run(tmp_path / "ab"[seed % 2] / str(seed), seed)
    runs, _ = find_runs([tmp_path])
    assert analysis.analyze(runs) == analysis.analyze(runs[::-1]) == study(tmp_path / "b", tmp_path / "a")
    assert study(tmp_path, tmp_path / "a") == study(tmp_path)


def test_arms_of_one_method_are_told_apart_by_their_config(tmp_path):
    for ema in (0.9, 0.99):
        for seed in range(2):
            pretrain = {"objective": "byol", "options": {"ema": ema}, "log_every": seed + 1}
            config = {"seed": seed, "pretrain": pretrain, "transfer": {"epochs": 3, "select": "accuracy"}}
            run(tmp_path / f"{ema}-{seed}", seed, config=config, lift=LIFT | {"byol": 3 * ema})
    found = study(tmp_path)
    assert [arm["name"] for arm in found["arms"]] == [
        "random",
        "byol, pretrain.options.ema=0.9",
        "byol, pretrain.options.ema=0.99",
    ]
    assert found["arms"][1]["settings"] == {"pretrain.options.ema": 0.9}
    assert not any("Arms also differ" in text for text in found["conclusion"]["may_not"])


def test_what_else_differs_between_arms_is_said(tmp_path):
    for objective, epochs in (("byol", 50), ("mae", 100)):
        run(tmp_path / objective, objective=objective, config={"pretrain": {"objective": objective, "epochs": epochs}})
    assert any("Arms also differ in pretrain.epochs" in text for text in study(tmp_path)["conclusion"]["may_not"])


def test_four_starting_points(tmp_path):
    """Random and ImageNet weights, each alone and pretrained on; random weights with other scaling are another arm."""
    run(tmp_path / "m13", config={"init": {"weights": ""}})
    other = run(tmp_path / "m24", config={"init": {"weights": "imagenet"}})
    results = json.loads((other / "results.json").read_text())
    results["evaluations"].append(results["evaluations"][1] | {"name": "probe_imagenet", "init": "imagenet"})
    results["evaluations"][0]["init"] = "imagenet+ssl"
    (other / "results.json").write_text(json.dumps(results))
    lines = (other / "predictions.csv").read_text()
    again = re.sub("^probe_random", "probe_imagenet", lines, flags=re.MULTILINE).splitlines(keepends=True)
    (other / "predictions.csv").write_text(lines + "".join(line for line in again if line.startswith("probe_imagenet")))
    found = study(tmp_path)
    assert [(arm["name"], arm["method"]) for arm in found["arms"]] == [
        ('random, init.weights=""', None),
        ('random, init.weights="imagenet"', None),
        ("imagenet", None),
        ("byol", "byol"),
        ("imagenet+byol", "byol"),
    ]
    assert of(found, "imagenet+byol", "imagenet")["mean"] > 0
    # Each start with what it started from, of its own scaling.
    assert [(d["a"], d["b"]) for d in found["differences"] if d["effect"] and d["metric"] == "auc_macro"] == [
        ("byol", 'random, init.weights=""'),
        ("imagenet", 'random, init.weights="imagenet"'),
        ("imagenet+byol", "imagenet"),
    ]


def test_arms_of_two_encoders_are_named_by_these(tmp_path):
    for objective, model in (("byol", "resnet18"), ("mae", "vit_tiny")):
        options = {"width": 64} if objective == "byol" else {"patch": 4, "depth": 12}
        model = {"name": model, "options": options, "dtype": "float32" if objective == "byol" else "mixed"}
        run(tmp_path / objective, objective=objective, config={"model": model})
    found = study(tmp_path)
    assert [arm["name"] for arm in found["arms"]] == ["random, resnet18", "random, vit_tiny", "byol", "mae"]
    effects = {(d["a"], d["b"]) for d in found["differences"] if d["effect"]}
    assert effects == {("byol", "random, resnet18"), ("mae", "random, vit_tiny")}
    assert words.arm_title("random, vit_tiny") == "random weights, ViT-Tiny"


def test_effects_are_corrected_for_their_own_number():
    differences = [
        {"effect": effect, "p": p, "over_groups": {"p": p / 2}, "mcnemar": None}
        for effect, p in ((True, 0.01), (True, 0.03), (False, 0.002), (False, 0.5), (False, 0.04))
    ]
    assert analysis.adjust_p_values(differences) == 5
    # Effects: 2 * .01, .03. All five in order: 5 * .002, 4 * .01, 3 * .03, 2 * .04 (no less than before), .5.
    assert [d["p_holm"] for d in differences] == pytest.approx([0.02, 0.03, 0.01, 0.5, 0.09])
    assert [d["over_groups"]["p_holm"] for d in differences] == pytest.approx([0.01, 0.015, 0.005, 0.25, 0.045])


def test_pretraining_with_labels_is_called_supervised(tmp_path):
    run(tmp_path / "run", supervised=True)
    assert study(tmp_path)["arms"][1]["name"] == "byol (supervised)"


def test_arms_that_predict_one_class_or_no_better_than_that_are_said(tmp_path, capsys):
    """Of two seeds of fine-tuning one is always benign; there are as many malign ones."""
    for seed in range(2):
        folder = run(tmp_path / str(seed), seed, protocols=("probe", "finetune"))
        rows = list(csv.reader((folder / "predictions.csv").read_text().splitlines()))
        for row in rows:
            if row[0] == "finetune_ssl":
                row[5:] = ["0.7", "0.3"] if seed else ["0.4", "0.6"] if row[3] == "benign" else ["0.6", "0.4"]
        (folder / "predictions.csv").write_text("".join(",".join(row) + "\n" for row in rows))
    found = study(tmp_path)
    assert [(arm["constant_runs"], arm["majority_accuracy"]) for arm in found["arms"]] == [
        *[(0, 0.5)] * 3,
        (1, 0.5),
    ]
    said = "\n".join(found["conclusion"]["may_not"])
    assert "for every image by BYOL by fine-tuning with 100 % of the labels (1 of 2 runs)." in said
    assert "majority class: BYOL by fine-tuning with 100 % of the labels." in said
    assert main(["compare", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"BYOL\* +2 ", printed) and "* predicts one class" in printed
    assert re.search(r"majority class +\.500", printed)


def test_without_any_config_what_arms_differ_in_is_not_known(tmp_path):
    run(tmp_path / "bare" / "run")
    run(tmp_path / "known" / "run", config={"seed": 0})
    for name, unknown in (("bare", True), ("known", False)):
        assert (
            any("No run has its config" in text for text in study(tmp_path / name)["conclusion"]["may_not"]) == unknown
        )


def test_label_efficiency(tmp_path):
    for seed in range(3):
        for share in (0.1, 0.5, 1.0):
            run(tmp_path / f"{seed}-{share}", seed, share=share)
    found = study(tmp_path)
    assert {(d["labels"]) for d in found["differences"]} == {"10 %", "50 %", "100 %"}
    curve = next(c for c in found["curves"] if (c["name"], c["metric"]) == ("byol", "auc_macro"))
    assert [point["label_fraction"] for point in curve["points"]] == [0.1, 0.5, 1.0]
    by_share = {arm["label_fraction"]: arm for arm in found["arms"] if arm["name"] == "byol"}
    assert curve["points"][0]["mean"] == by_share[0.1]["metrics"]["auc_macro"]["mean"]
    assert any("validation, which chooses" in text for text in found["conclusion"]["may_not"])


def test_an_option_that_is_not_used_makes_no_other_arm(tmp_path):
    """Runs of another version may lack it."""
    for seed, unused in enumerate([{}, {"read_mask": None, "mask_classes": []}, {"table": ""}]):
        run(tmp_path / str(seed), seed, config={"data": {"options": unused}})
    assert {arm["name"]: arm["runs"] for arm in study(tmp_path)["arms"]} == {"byol": 3, "random": 3}


def test_simulated_images_differ_from_seed_to_seed(tmp_path):
    for seed in range(5):
        run(tmp_path / str(seed), seed, name="lenses", fingerprint=f"of seed {seed}")
    found = study(tmp_path)
    assert (found["split"], of(found)["test_to_train"]) == ("simulated", 0.0)
    assert found["arms"][0]["groups"] == 5 * 80
    run(tmp_path / "again", 4, name="lenses", fingerprint="other")
    with pytest.raises(UserError, match="different data"):
        study(tmp_path)


def test_what_was_not_run_is_said(tmp_path):
    run(tmp_path / "byol0", 0)
    run(tmp_path / "byol1", 1)
    run(tmp_path / "mae", 0, "mae")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    found = study(tmp_path)
    assert found["unfinished"] == 1
    assert of(found, "mae")["runs"] == 1
    assert any("1 run had not finished and is missing" in text for text in found["conclusion"]["may_not"])
    assert any("Not all arms have the same seeds" in text for text in found["conclusion"]["may_not"])


def test_runs_without_labels_leave_nothing_to_compare(tmp_path):
    folder = run(tmp_path / "run")
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(results | {"evaluations": []}))
    found = study(tmp_path)
    assert (found["arms"], found["differences"], found["conclusion"]["may"]) == ([], [], [])
    assert any("nothing was compared" in text for text in found["conclusion"]["may_not"])
    assert len(output.write(tmp_path / "to", found, [])) == 4


def damaged(folder, file, change):
    path = folder / file
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (
            lambda f: run(f / "other", 1, fingerprint="xyz"),
            r"run and .*other are of different data \(fingerprint 'abc' and 'xyz'\)",
        ),
        (lambda f: run(f / "other", 0, "mae", images=60), "different test images"),
        (lambda f: (f / "run" / "predictions.csv").unlink(), r"run/predictions\.csv cannot be read"),
        (lambda f: damaged(f / "run", "predictions.csv", lambda t: t[: len(t) // 2]), r"run/predictions\.csv"),
        (lambda f: damaged(f / "run", "predictions.csv", lambda t: t.replace(",0.", ",1.")), "sum to 1"),
        (lambda f: damaged(f / "run", "predictions.csv", lambda t: re.sub(r",0\.\d+", ",nan", t)), "not finite"),
        (lambda f: damaged(f / "run", "predictions.csv", lambda t: t.replace(",i1,", ",i0,")), "twice"),
        (lambda f: damaged(f / "run", "results.json", lambda t: t[:-9]), r"run/results\.json is not valid JSON"),
        (lambda f: damaged(f / "run", "results.json", lambda t: "[]"), r"run/results\.json has no schema_version"),
        (lambda f: damaged(f / "run", "results.json", lambda t: t.replace('"seed"', '"sead"')), "'seed'"),
        (lambda f: shutil.rmtree(f / "run"), "holds no finished run"),
        (lambda f: shutil.rmtree(f), "is not a folder"),
        (lambda f: run(f / "other", 1, config={"seed": 1}), r"run has no config\.json"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path, capsys, break_it, said):
    run(tmp_path / "s" / "run")
    break_it(tmp_path / "s")
    assert main(["compare", str(tmp_path / "s")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("jaxssl: ") and re.search(said, line), line


def test_the_command_writes_what_it_found(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    name = r"50%_of & \\ {x} #1 ~^$"
    for seed in range(2):
        run(tmp_path / "s" / str(seed), seed, name, lift=LIFT | {name: 2.0}, share=0.5)
        run(tmp_path / "s" / f"all{seed}", seed, name, lift=LIFT | {name: 2.0})
    assert main(["compare", str(tmp_path / "s"), f"--to={tmp_path / 'to'}"]) == 0
    printed = capsys.readouterr().out
    assert "What may not be concluded" in printed and "compare.json" in printed
    assert re.search(r"macro AUC by labels +50 % +100 %", printed)
    assert re.search(r"random weights +(\.\d{3}) +(\.\d{3}) *\n", printed)
    assert sorted(file.name for file in (tmp_path / "to").iterdir()) == [
        *("compare.json", "compare_arms.csv", "compare_differences.csv"),
        "report.html",
    ]

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads((tmp_path / "to" / "compare.json").read_text(), parse_constant=refuse)
    assert found == schema.with_version("compare.json", json.loads(json.dumps(study(tmp_path / "s"))))
    arms = list(csv.DictReader((tmp_path / "to" / "compare_arms.csv").read_text().splitlines()))
    assert len(arms) == 3 * len(found["arms"])
    assert float(arms[0]["mean"]) == found["arms"][0]["metrics"]["auc_macro"]["mean"]
    rows = list(csv.DictReader((tmp_path / "to" / "compare_differences.csv").read_text().splitlines()))
    assert [float(row["mean"]) for row in rows] == [d["mean"] for d in found["differences"]]
    assert rows[0]["p"] == ""


def test_a_place_that_cannot_be_written_is_refused(tmp_path, capsys):
    run(tmp_path / "s" / "run")
    (tmp_path / "file").touch()
    assert main(["compare", str(tmp_path / "s"), f"--to={tmp_path / 'file'}"]) == 2
    assert capsys.readouterr().err.startswith(f"jaxssl: --to={tmp_path / 'file'} cannot be written")


def test_compute_is_the_mean_over_runs_of_pretraining_and_transfer(tmp_path, capsys):
    for seed in range(2):
        file = run(tmp_path / "s" / str(seed), seed) / "results.json"
        results = json.loads(file.read_text())
        results["pretrain"]["images"] = 1000 + 200 * seed
        for e in results["evaluations"]:
            e["compute"] = {"seconds": 3.0 + seed, "images": 50}
        file.write_text(json.dumps(results))
    took = [[arm[field] for field in tables.COMPUTE] for arm in study(tmp_path / "s")["arms"]]
    assert took == [[0.0, 3.5, 50.0], [10.5, 3.5, 1150.0]]
    assert main(["compare", str(tmp_path / "s")]) == 0
    assert "1,150" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "s" / "compare_arms.csv").read_text().splitlines()))
    assert {(row["transfer_seconds"], row["trained_images"]) for row in rows} == {("3.5", "50.0"), ("3.5", "1150.0")}


def test_folds_are_one_result_besides_their_means(tmp_path):
    for fold in range(2):
        for seed in range(2):
            run(tmp_path / f"{seed}{fold}", seed, fold=fold)
    (arm, *_) = (a for a in study(tmp_path)["arms"] if a["name"] == "byol")
    pooled = arm["out_of_fold"]
    assert (pooled["images"], pooled["seeds"], arm["images"]) == (160, 2, 160)
    values = []
    for seed in range(2):
        parts = [predictions(tmp_path / f"{seed}{fold}")["probe_ssl"] for fold in range(2)]
        values.append(scores.compute("auc_macro", *(np.concatenate([part[i] for part in parts]) for i in range(2))))
    assert pooled["metrics"]["auc_macro"]["value"] == pytest.approx(np.mean(values))
    assert np.sum(pooled["confusion"]) == 320 == sum(of["images"] for of in pooled["reliability"])
    assert pooled["roc"][1][0] >= 0 and pooled["roc"][1][-1] == 1
    shutil.rmtree(tmp_path / "00")
    assert [a["out_of_fold"] for a in study(tmp_path)["arms"]] == [None, None]


def test_learning_curves_and_the_gap_are_means_over_runs(tmp_path):
    for seed in range(3):
        folder = run(tmp_path / str(seed), seed, protocols=("finetune",))
        results = json.loads((folder / "results.json").read_text())
        for e in results["evaluations"]:
            gap = {"train_loss": 0.1, "validation_loss": 0.3 + 0.1 * seed}
            e |= {"phase": e["name"], "overfitting": gap | {"gap": dict.fromkeys(("value", "low", "high"))}}
        (folder / "results.json").write_text(json.dumps(results))
        rows = [
            {"phase": name, "step": epoch, "epoch": epoch, "train_loss": 1.0 - 0.1 * epoch, "validation_loss": seed}
            for name in ("finetune_ssl", "finetune_random")
            for epoch in range(3)
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for arm in study(tmp_path)["arms"]:
        assert arm["learning"]["epochs"] == [0, 1, 2] and arm["learning"]["validation_loss"] == [1, 1, 1]
        assert arm["learning"]["train_loss"] == pytest.approx([1.0, 0.9, 0.8])
        assert arm["overfitting"]["gap"]["value"] == pytest.approx(0.3)
        assert arm["overfitting"]["gap"]["low"] == pytest.approx(0.3 - 4.302653 * 0.1 / 3**0.5)


def test_fields_that_make_the_images_differ_are_named(tmp_path):
    for name, size in (("a", 64), ("b", 32)):
        config = {"data": {"image_size": size, "dir": name, "fold": size, "fit": "pad"}}
        run(tmp_path / name, 0, fingerprint=name, config=config)
    with refuses("mismatch", "fingerprint", "data.image_size 32 and 64"):
        find_runs([tmp_path])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dataset": {"test_images_copied_in_train": 5}}, "Not valid: 5 of 80 test images are in training too"),
        (
            {"dataset": {"test_images_nearly_copied_in_train": 5}},
            "Not valid: 5 of 80 test images have near copies in training",
        ),
        ({"pretrain": {"steps": 6}}, "Too early to tell: only 6 steps of pretraining"),
        ({"pretrain": {"steps": 600}}, "BYOL helps linear probing"),
    ],
)
def test_what_rules_out_a_verdict_of_a_run_does_so_in_a_study(tmp_path, change, says):
    for seed in range(5):
        results = json.loads((run(tmp_path / str(seed), seed) / "results.json").read_text())
        for part, fields in change.items():
            results[part] |= fields
        write(tmp_path / str(seed) / "results.json", results)
    found = study(tmp_path)
    assert study_verdict.judge_study(found).words == says
    assert bool(found["conclusion"]["may"]) == ("helps" in says)
    assert ("can be concluded" in study_conclusions.answer(found)) == ("helps" not in says)


def test_classes_and_masks_are_compared_side_by_side(tmp_path, capsys):
    for seed in range(2):
        folder = run(tmp_path / str(seed), seed, images=40, mask_classes=["background", "disk"])
        results = json.loads((folder / "results.json").read_text())
        rng, rows = np.random.default_rng(seed), [["evaluation"]]
        for init, dice in (("ssl", 0.8), ("random", 0.3)):
            name = f"segment_{init}"
            results["evaluations"].append(
                results["evaluations"][0] | {"name": name, "protocol": "segment", "init": init}
            )
            for i in range(40):
                value = dice + 0.1 * rng.random()
                rows.append([name, f"i{i}", f"g{i}", "disk", 9, 9, 9, value, value / (2 - value), 1.0])
        write(folder / "results.json", results)
        with open(folder / "segmentations.csv", "w", newline="") as file:
            csv.writer(file).writerows(rows)
    found = study(tmp_path)
    main_differences = study_verdict.find_main_differences(found)
    assert [(d["protocol"], d["metric"]) for d in main_differences] == [("probe", "auc_macro"), ("segment", "dice")]
    assert main_differences[1]["mean"] == pytest.approx(0.5, abs=0.05)
    assert found["tests"] == sum(d["p"] is not None for d in found["differences"])
    assert main(["compare", str(tmp_path)]) == 0
    shown = (tmp_path / "report.html").read_text().partition("<main>")[0]
    assert "Difference in" in shown and shown.count('<figure class="forest') == 2
    assert "in Dice below about" in study_verdict.judge_study(found).unseen
    capsys.readouterr()
