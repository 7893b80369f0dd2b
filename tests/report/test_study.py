"""The page of a comparison: what it says first, its tables and links, and names that would like to be markup."""

import re

from jaxssl.cli.parser import main
from jaxssl.results import study_conclusions, words
from jaxssl.study import analysis
from jaxssl.study.runs import find_runs
from tests.report.test_report import HOSTILE, Page, check, make
from tests.study.test_compare import LIFT
from tests.study.test_compare import run as make_run


def written(folder):
    assert main(["compare", str(folder)]) == 0
    return Page((folder / "report.html").read_text())


def test_page_of_a_comparison_says_all_and_links_each_run(tmp_path, capsys):
    for seed in range(5):
        for share in (0.1, 1.0):
            make_run(tmp_path / f"{seed} #{share}", seed, share=share, config={})
    (tmp_path / "0 #1.0" / "report.html").write_text("a run's own")
    found = written(tmp_path)
    check(found)
    titles = ["What may be concluded", "What may not be concluded", "Arms", "Differences between arms, run by run"]
    titles += ["Label efficiency", "Runs", "What this rests on"]
    places = [found.words.index(title) for title in titles]
    assert places == sorted(places)
    assert [a["href"] for a in found.all("a") if not a["href"].startswith("#")] == ["0%20%231.0/report.html"]
    result = analysis.analyze(*find_runs([tmp_path]))
    for arm in result["arms"]:
        assert any(words.format_number(arm["metrics"]["auc_macro"]["mean"], digits) in found.words for digits in (2, 3))
    for d in result["differences"]:
        assert any(words.format_signed(d["mean"], digits) in found.words for digits in (2, 3))
    # Forest: 2 shares; differences: 2 shares x 2 scores; label efficiency: 2 scores.
    assert len(found.all("svg")) == 2 + 4 + 2
    assert main(["report", str(tmp_path)]) == 0  # Again, from the runs.
    assert Page((tmp_path / "report.html").read_text()).words == found.words
    capsys.readouterr()


def difference(verdict, a="byol", b="random", mean=0.1, share=1.0, metric="auc_macro"):
    said = f"{a} and {b}: {verdict} {mean} {share}"
    return {"a": a, "b": b, "metric": metric, "verdict": verdict, "mean": mean, "label_fraction": share} | {
        "effect": b == "random",
        "sentence": said,
        "protocol": "probe",
        "without": "",
    }


def test_the_answer_counts_the_differences_in_the_primary_metric():
    found = [
        difference("open"),
        difference("these runs", mean=0.3),
        difference("higher", a="mae", b="byol", mean=0.4),
        difference("lower", mean=-0.2),
        difference("higher", mean=0.25, share=0.1),
        difference("higher", mean=0.9, metric="accuracy"),
    ]
    said = study_conclusions.answer({"differences": found})
    assert "Of 5 differences in macro AUC, 3 hold" in said and "1 for the networks" in said and "1 are open" in said
    assert study_conclusions.answer({"differences": found[:1]}).startswith(
        "None of 1 difference in macro AUC can be concluded"
    )
    leaked = study_conclusions.answer({"differences": [found[0] | {"without": "Not valid: 9 of 9"}]})
    assert leaked == "None of 1 difference in macro AUC can be concluded. Not valid: 9 of 9."
    assert "nothing can be concluded" in study_conclusions.answer({"differences": []})


def test_names_stay_text_and_a_long_list_is_folded(tmp_path, capsys):
    for i, name in enumerate([*HOSTILE[:3], "n" * 1000, "a", "b", "c", "d"]):
        make_run(tmp_path / f"run{i}", 0, name, lift=LIFT | {name: 1.0})
    found = written(tmp_path)
    check(found)
    assert HOSTILE[0] in found.words and "\u202e" not in found.words
    assert "more differences" in found.words and re.search(r"\d+ more", found.words)
    assert (tmp_path / "report.html").stat().st_size < 2e6
    capsys.readouterr()


def test_one_page_for_several_runs_and_no_run_loses_its_own(tmp_path, capsys):
    runs = [str(make_run(tmp_path / "runs" / str(seed), seed)) for seed in range(2)]
    assert main(["report", *runs, f"--to={tmp_path / 'both'}"]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "both" / "report.html")]
    assert "Comparison of 2 runs" in Page((tmp_path / "both" / "report.html").read_text()).words
    assert main(["report", *runs, f"--to={runs[0]}"]) == 2
    assert "keeps the report of that run" in capsys.readouterr().err
    make(tmp_path / "alone", protocols=("probe",))
    (tmp_path / "alone" / "report.html").write_text("its own")
    assert main(["compare", str(tmp_path / "alone")]) == 0
    assert (tmp_path / "alone" / "report.html").read_text() == "its own"
    capsys.readouterr()
