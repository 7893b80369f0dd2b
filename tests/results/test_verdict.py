"""The verdict of a run and of a study: at most twelve words, true, and with a command for what comes next."""

import pytest

from jaxssl import models, objectives
from jaxssl.results import names, next_step, run_conclusions, study_verdict, verdict, words
from tests.report.test_report import results_with

COMMAND = "python -m jaxssl.main --config=configs/byol_ham.py --workdir=runs/ham"
CONFIG = {
    "command": COMMAND,
    "config": {"data": {"dir": "images"}, "pretrain": {"optimizer": {"learning_rate": 0.3}}, "transfer": {"epochs": 5}},
}


def make_results(*protocols, steps=5000, **change):
    """Results with one protocol each: (name, kind) says whether pretraining raises or lowers it."""
    auc = (0.7, 0.65, 0.75)
    evaluations = [e for protocol in protocols for e in results_with(auc, auc, protocol)["evaluations"]]
    for e in evaluations:
        e |= {"constant_predictor": False, "confusion": [[600, 0], [0, 600]]}
    results = results_with(auc, auc)
    results["dataset"] |= {"name": "lesions", "classes": ["a", "b"], "test_images_copied_in_train": 0}
    results["pretrain"] |= {"collapse": {"verdict": "healthy"}, "epochs": 20, "expected_first_loss": None}
    results["pretrain"]["steps"] = steps
    return results | {"evaluations": evaluations} | change


def differ(**outcomes):
    ends = {"raises": (0.02, 0.08), "lowers": (-0.08, -0.02), "none": (-0.03, 0.03)}
    return {
        f"{protocol}_ssl": {
            "auc_macro": {"value": sum(ends[kind]) / 2, "detectable": 0.04}
            | dict(zip(("low", "high"), ends[kind], strict=True))
        }
        for protocol, kind in outcomes.items()
    }


@pytest.mark.parametrize(
    ("outcomes", "steps", "says"),
    [
        ({"probe": "raises"}, 5000, "In this run BYOL helps linear probing"),
        ({"probe": "raises", "finetune": "none"}, 5000, "In this run BYOL helps linear probing; fine-tuning: unclear"),
        ({"probe": "raises", "knn": "lowers"}, 5000, "In this run BYOL helps linear probing, harms nearest neighbors"),
        ({"finetune": "lowers"}, 5000, "In this run BYOL harms fine-tuning"),
        (
            dict.fromkeys(("probe", "knn"), "raises") | dict.fromkeys(("finetune", "attentive", "segment"), "lowers"),
            5000,
            "In this run BYOL helps 2 of 5 uses, harms 3",
        ),
        ({"finetune": "none"}, 5000, "No benefit shown"),
        ({"finetune": "raises"}, 6, "Too early to tell: only 6 steps of pretraining"),
        ({"finetune": "none"}, 6, "Too early to tell: only 6 steps of pretraining"),
    ],
)
def test_the_verdict_of_a_run(outcomes, steps, says):
    results = make_results(*outcomes, steps=steps)
    found = verdict.judge_run(results, differ(**outcomes), CONFIG)
    in_full = run_conclusions.answer(results, differ(**outcomes))
    assert ("raises" in in_full or "lowers" in in_full) == ("helps" in says or "harms" in says)
    assert ("only 6 steps" in in_full) == (steps < 200)
    assert found.words == says and len(found.words.split()) <= 12
    assert found.question == "lesions: does pretraining by BYOL help?"
    assert "1,200 test images of 700 groups (patients or series)" in found.basis and "below about .04" in found.unseen


def test_what_may_be_missed_is_told_of_every_comparison():
    auc = [("auc_macro", value) for value in (0.009, None, 0.04)]
    assert "macro AUC below about .009 to .04, depending on the comparison," in verdict.describe_missed(auc)
    both = verdict.describe_missed([("auc_macro", 0.05), ("auc_macro", 0.06), ("dice", 0.02)])
    assert "in macro AUC below about .06 or in Dice below about .02 would" in both
    few = "With so few patients this test set cannot tell whether there is a difference."
    assert verdict.describe_missed(auc[1:2], few=True) == few
    assert verdict.describe_missed(auc[1:2]) == "This test set cannot tell whether there is a difference."
    assert verdict.describe_missed([]) == ""


def test_a_collapse_and_one_class_come_before_any_score():
    results = make_results("probe")
    results["pretrain"]["collapse"]["verdict"] = "collapsed"
    found = verdict.judge_run(results, differ(probe="raises"), CONFIG)
    assert found.words.startswith("Pretraining collapsed") and "learning_rate=0.1" in found.next_step.command
    results = make_results("finetune")
    for e in results["evaluations"]:
        e["constant_predictor"] = True
    # Of a rare class, probabilities may rank images although none is named.
    assert "helps fine-tuning" in verdict.judge_run(results, differ(finetune="raises"), CONFIG).words
    for e in results["evaluations"]:
        e["metrics"]["auc_macro"] |= {"low": 0.4, "high": 0.8}
    found = verdict.judge_run(results, differ(finetune="raises"), CONFIG)
    assert "raises" not in run_conclusions.answer(results, differ(finetune="raises"))
    assert "one class only" in found.words and found.next_step.command.endswith("--config.transfer.epochs=20")


LEAKS = {
    "": "Not valid: 61 of 1,200 test images are in training too",
    "nearly_": "Not valid: 61 of 1,200 test images have near copies in training",
}


@pytest.mark.parametrize("kind", LEAKS)
def test_leaked_images_are_no_answer_of_a_run(kind):
    results = make_results("probe")
    results["dataset"][f"test_images_{kind}copied_in_train"] = 61
    found = verdict.judge_run(results, differ(probe="raises"), CONFIG)
    assert found.words == LEAKS[kind] and len(found.words.split()) <= 12 and found.unseen == ""
    assert found.next_step.text.startswith("Remove duplicates: 61")
    said = run_conclusions.answer(results, differ(probe="raises"))
    assert "raises" not in said and f"{LEAKS[kind]}." in said
    alone = results | {"evaluations": results["evaluations"][:1]}
    assert verdict.judge_run(alone, {}, CONFIG).words == LEAKS[kind]
    assert run_conclusions.answer(alone).startswith(LEAKS[kind])
    results["dataset"][f"test_images_{kind}copied_in_train"] = 60  # 5 %
    assert verdict.judge_run(results, differ(probe="raises"), CONFIG).words == "In this run BYOL helps linear probing"


def test_too_few_groups_are_no_answer():
    results = make_results("probe", steps=6)
    results["dataset"]["splits"]["test"]["groups"] = 2
    for e in results["evaluations"]:
        e["metrics"]["auc_macro"] |= {"low": None, "high": None}
    few = results["dataset"]["splits"]["test"]
    none = {"auc_macro": {"value": 0.3, "low": None, "high": None, "detectable": None, "without": "too few"}}
    found = verdict.judge_run(results, {"probe_ssl": none}, CONFIG)
    assert found.words == "Cannot tell: test images are of only 2 groups"
    few["groups"] = 31
    assert verdict.judge_run(results, {}, CONFIG).words == "Cannot tell: a class has too few test groups"
    assert found.next_step.text.startswith("Add test images of other patients")
    said = run_conclusions.answer(results, {"probe_ssl": none})
    assert "There is no interval: too few. " in said and "95 % interval" not in said
    assert not any("95 %" in sentence for sentence in run_conclusions.cautions(results | {"pretrain": None}))


def given_and_pretrained(*inits):
    """Results of a linear probe from several starts, in this order."""
    results = make_results("probe")
    first = results["evaluations"][0]
    return results | {"evaluations": [first | {"name": f"probe_{init}", "init": init} for init in inits]}


def test_pretraining_from_given_weights_is_compared_with_these():
    """ImageNet alone is the better one: random weights would make the pretraining look helpful."""
    results = given_and_pretrained("imagenet+ssl", "imagenet", "random")
    of = differ(probe="lowers")["probe_ssl"], differ(probe="raises")["probe_ssl"]
    differences = dict(zip(("probe_imagenet+ssl", "probe_imagenet"), of, strict=True))
    found = verdict.judge_run(results, differences, CONFIG)
    assert found.words == "In this run BYOL after ImageNet harms linear probing"
    assert found.question == "lesions: does pretraining by BYOL after ImageNet help?"
    said = run_conclusions.answer(results, differences)
    assert "pretraining by BYOL from ImageNet weights lowers macro AUC" in said
    assert "; starting from ImageNet weights raises macro AUC" in said
    starts = [words.find_start(results, e) for e in results["evaluations"]]
    assert [of and of["init"] for of in starts] == ["imagenet", "random", None]
    without = given_and_pretrained("imagenet+ssl", "random")
    assert verdict.judge_run(without, {}, CONFIG).question == "lesions: does ImageNet, then BYOL help?"
    alone = given_and_pretrained("imagenet+ssl", "imagenet")
    open_ = {"probe_imagenet+ssl": differ(probe="none")["probe_ssl"]}
    assert "pretraining by BYOL from ImageNet weights and ImageNet weights alone can" in run_conclusions.answer(
        alone, open_
    )


def test_weights_that_fine_tuning_left_at_chance():
    results = make_results("probe", "finetune", pretrain=None)
    for name, (low, high) in (("probe_random", (0.45, 0.55)), ("finetune_random", (0.45, 0.55))):
        [e] = [e for e in results["evaluations"] if e["name"] == name]
        e["metrics"] = {"auc_macro": {"value": 0.5, "low": low, "high": high}}
    said = [sentence for sentence in run_conclusions.cautions(results) if "stay at chance" in sentence]
    assert len(said) == 1 and said[0].startswith("With fine-tuning, random weights stay at chance")
    results["evaluations"][-1]["metrics"]["auc_macro"]["low"] = 0.52
    assert not any("stay at chance" in sentence for sentence in run_conclusions.cautions(results))


def test_nothing_to_compare():
    assert verdict.judge_run(make_results(), {}, CONFIG).words == "Nothing was evaluated"
    results = make_results("probe")
    results["evaluations"] = results["evaluations"][:1]
    found = verdict.judge_run(results, {}, CONFIG)
    assert found.words == "Nothing to compare in this run" and found.unseen == ""


def test_the_next_step_is_sound_data_then_sound_training_then_seeds():
    results = make_results("probe")
    seeds = next_step.choose_next_step(results, CONFIG).command
    assert seeds.splitlines()[0] == f"for s in 1 2 3 4; do {COMMAND}-seed$s --config.seed=$s; done"
    assert seeds.splitlines()[1] == "jaxssl compare runs/ham runs/ham-seed*"
    results["pretrain"]["steps"] = 6
    longer = next_step.choose_next_step(results, CONFIG).command
    assert longer == f"{COMMAND}-longer --config.pretrain.epochs=3340"
    results["dataset"]["test_images_copied_in_train"] = 3
    assert next_step.choose_next_step(results, CONFIG).command == "jaxssl data audit images"
    assert next_step.choose_next_step(results, None).command == ""


def test_of_scores_below_chance_none_helps():
    results = make_results("probe")
    for e in results["evaluations"]:
        e["metrics"]["auc_macro"] |= {"value": 0.3, "low": 0.2, "high": 0.4}
    found = verdict.judge_run(results, differ(probe="raises"), CONFIG)
    assert found.words == "No benefit shown: neither start is better than chance"
    assert found.next_step == ("Look at the images and their labels first: no network is better than chance.",
                               "jaxssl data audit images")  # fmt: skip
    results["evaluations"][0]["protocol"] = "finetune"
    found = next_step.choose_next_step(results, CONFIG)
    assert found.text.startswith("First find out why fine-tuning is worse than chance")


def test_seeds_and_folds_are_repeated_in_workdirs_of_their_own():
    again = next_step.repeat_with_seeds(f"{COMMAND}-1 --config.seed=1", [2, 3])
    assert again == (f"for s in 2 3; do {COMMAND}-$s --config.seed=$s; done\njaxssl compare runs/ham-*")
    again = next_step.repeat_with_seeds("jaxssl run own --workdir=cv/fold4 --config.data.fold=4", [1], range(5))
    assert again == (
        "for k in 0 1 2 3 4; do for s in 1; do jaxssl run own --workdir=cv/fold$k-seed$s --config.data.fold=$k "
        "--config.seed=$s; done; done\njaxssl compare cv/fold4 cv/fold*-seed*"
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("ntxent", "NT-Xent"),
        ("imagenet+byol", "ImageNet, then BYOL"),
        ("byol (supervised)", "BYOL (supervised)"),
        ("mae, pretrain.epochs=50", "MAE, pretrain.epochs=50"),
        ("of_my_own", "of_my_own"),
    ],
)
def test_names_are_those_of_the_literature(name, shown):
    assert names.display_arm(name) == shown


def test_no_name_is_left_of_what_is_gone():
    assert names.NAMES.keys() - {"imagenet", "random"} <= {*objectives.available(), *models.available()}


def test_phases_have_names_for_people():
    results = make_results("finetune")
    assert words.phase_name("pretrain", results) == "pretraining"
    assert words.phase_name("finetune_ssl", results) == "fine-tuning, pretrained by BYOL"
    tried = [{"phase": f"finetune_random_{i}", "learning_rate": rate} for i, rate in ((1, 0.1), (2, 0.03))]
    results["evaluations"][1] |= {"phase": "finetune_random_2", "tried": tried}
    assert words.phase_name("finetune_random_1", results) == "fine-tuning, random weights, rate 0.1"
    assert words.phase_name("other", results) == "other"


def difference(verdict, a="byol", b="random", protocol="probe", mean=0.1):
    return {"a": a, "b": b, "protocol": protocol, "metric": "auc_macro", "labels": "100 %", "label_fraction": 1.0} | {
        "effect": b == "random" or a.startswith(f"{b}+"),
        "verdict": verdict,
        "mean": mean,
        "detectable": 0.05,
        "without": "",
        "over_groups": {"low": None, "high": None, "without": ""},
        "over_runs": {"low": None, "high": None},
    }


@pytest.mark.parametrize(
    ("differences", "says"),
    [
        ([], "Nothing to compare"),
        ([difference("open")], "No difference shown"),
        ([difference("these runs")], "BYOL is better in these runs; other seeds may differ"),
        ([difference("higher"), difference("higher", "mae")], "BYOL and MAE help linear probing"),
        ([difference("lower", mean=-0.1)], "BYOL harms linear probing"),
        ([difference("higher", a="mae", b="byol")], "MAE is better than BYOL with linear probing"),
        (
            [difference("higher", "imagenet"), difference("lower", "imagenet+byol", "imagenet", mean=-0.05)],
            "ImageNet helps linear probing; BYOL after ImageNet harms linear probing",
        ),
        ([difference("higher", a=" ".join(["long"] * 20))], "1 start helps linear probing"),
        (
            [difference("higher", a, protocol=use) for a in ("byol", "ntxent") for use in ("probe", "finetune")],
            "BYOL and NT-Xent help linear probing and fine-tuning",
        ),
        (
            [difference("higher"), difference("lower", "mae", mean=-0.2), difference("open", "rotation")],
            "BYOL helps linear probing; MAE harms linear probing",
        ),
        (
            [
                difference("higher", f"m{i}", protocol=use)
                for i in range(5)
                for use in ("probe", "finetune", "knn")[: i % 3 + 1]
            ],
            "5 starts help some uses",
        ),
        (
            [difference("these runs"), difference("these runs", "mae", mean=-0.1)],
            "BYOL better, MAE worse in these runs; other seeds may differ",
        ),
    ],
)
def test_the_verdict_of_a_study(differences, says):
    arm = {"name": "byol", "method": "byol", "init": "ssl", "seeds": [0, 1], "folds": [], "images": 100, "groups": 50}
    dataset = {"name": "lesions", "groups_known": True}
    study = {"dataset": dataset, "arms": [arm], "runs": 2, "unfinished": 0, "differences": differences}
    found = study_verdict.judge_study(study, {"byol": COMMAND})
    assert found.words == says and len(found.words.split()) <= 12
    assert "seeds that are missing: 2, 3, 4; 3 training runs" in found.next_step.text
    assert found.next_step.command == f"for s in 2 3 4; do {COMMAND}-seed$s --config.seed=$s; done"
    study["unfinished"] = 1
    assert study_verdict.judge_study(study).next_step.text.startswith("Finish the 1 unfinished run")


def test_seeds_that_are_missing_are_trained_by_the_sweep_again():
    arm = {"name": "byol", "method": "byol", "init": "ssl", "seeds": [0, 1, 2], "folds": [], "images": 9, "groups": 9}
    study = {"dataset": {"name": "a", "groups_known": True}, "arms": [arm], "runs": 3, "unfinished": 0}
    study |= {"differences": [difference("these runs")]}
    commands = {"byol": COMMAND, "sweep": "jaxssl sweep own --workdir=runs/study --seeds=3 --folds=2"}
    found = study_verdict.judge_study(study, commands).next_step.command
    assert found == "jaxssl sweep own --workdir=runs/study --seeds=5 --folds=2\njaxssl compare runs/study"
    # A sweep whose config counts its seeds itself.
    commands["sweep"] = "jaxssl sweep priors --workdir=runs/study"
    assert study_verdict.judge_study(study, commands).next_step.command.startswith("for s in 3 4; do")


def test_the_next_step_of_a_study_fits_what_was_found():
    arm = {"name": "byol", "method": "byol", "init": "ssl", "seeds": [*range(5)], "folds": [], "images": 9, "groups": 9}
    study = {"dataset": {"name": "x", "groups_known": True}, "arms": [arm], "runs": 5, "unfinished": 0}

    def judge(*differences, **change):
        return study_verdict.judge_study(study | {"differences": differences, "arms": [arm | change]})

    assert "that BYOL helps" in judge(difference("higher")).next_step.text
    assert judge(difference("lower", mean=-0.1)).next_step.text.startswith("Keep random weights")
    wide = {"over_groups": {"low": -0.1, "high": 0.1, "without": ""}, "over_runs": {"low": -0.02, "high": 0.02}}
    assert "other patients" in judge(difference("open") | wide, seeds=[0, 1]).next_step.text
    short = judge(difference("open") | {"without": "Too early to tell: only 6 steps of pretraining"})
    assert short.words == "Too early to tell: only 6 steps of pretraining"
    assert short.next_step.text.startswith("Pretrain longer")
    study["dataset"] |= {"test_images_nearly_copied_in_train": 61}
    leaked = judge(difference("open") | {"without": LEAKS["nearly_"]})
    assert leaked.words == LEAKS["nearly_"] and leaked.next_step.text.startswith("Remove duplicates: 61")


@pytest.mark.parametrize(("mean", "says"), [(-0.5, "BYOL helps linear probing"), (0.5, "BYOL harms linear probing")])
def test_of_errors_lower_is_better(mean, says):
    low, high = mean - 0.2, mean + 0.2
    of = {"value": mean, "low": low, "high": high, "p": 0.001, "detectable": 0.3}
    results = make_results("probe")
    results["dataset"] |= {"task": "value", "classes": ["age"]}
    for e in results["evaluations"]:
        e["confusion"] = None
        e["metrics"] = {"mae": {"value": 7.0, "low": 6.0, "high": 8.0}, "r2": {"value": 0.3, "low": 0.1, "high": 0.5}}
    differences = {"probe_ssl": {"mae": of}}
    found = verdict.judge_run(results, differences, CONFIG)
    assert found.words == f"In this run {says}" and "mean absolute error below about .30" in found.unseen
    verb = "lowers" if mean < 0 else "raises"
    assert f"{verb} mean absolute error (lower is better)" in run_conclusions.answer(results, differences)
    study = difference("lower" if mean < 0 else "higher", mean=mean) | {"metric": "mae"}
    arms = [{"name": "byol", "init": "ssl", "seeds": [0, 1], "folds": [], "images": 100, "groups": 50}]
    content = {"dataset": results["dataset"], "arms": arms, "runs": 2, "unfinished": 0, "differences": [study]}
    assert study_verdict.judge_study(content | {"dataset": {"name": "x", "groups_known": True}}).words == says
