from dataclasses import replace

from rayplat.console.study_page import sections, write_study_page
from rayplat.core.project.space import Choice, Float, Space
from rayplat.tuning.caps import Spent
from rayplat.tuning.importance import importances
from rayplat.tuning.journal import COMPLETE, STOPPED, KeptStudy, KeptTrial, Objective
from rayplat.tuning.search import RandomSearch

SPACE = Space(
    kind=Choice(("a", "b")), lr=Float(1e-4, 1, log=True), noise=Float(0, 1), p=Float(0, 1, when={"kind": "a"})
)


def study(count, objectives=1):
    named = (Objective("auc", higher_is_better=True), Objective("seconds"))[:objectives]
    trials = []
    for n in range(count):
        params = RandomSearch(SPACE, 3).ask(n)
        values = (-abs(params["lr"] - 0.1), params["noise"])[:objectives]
        trials.append(KeptTrial(n, COMPLETE, params, values))
    return KeptStudy("first", "<m>", named, Spent(count, 3.0, 0.5), tuple(trials))


def test_the_dimension_that_decides_is_the_most_important():
    shares = importances(study(60))
    assert next(iter(shares)) == "lr"
    assert shares["lr"] > 0.5
    assert abs(sum(shares.values()) - 1) < 1e-9
    assert importances(study(3)) == {}


def test_the_page_holds_every_plot_and_needs_no_network(tmp_path):
    page = write_study_page(tmp_path / "study.html", study(40, 2)).read_text()
    titles = [s.title for s in sections(study(40, 2))]
    assert titles == ["History", "Importance", "Parallel coordinates", "Pareto front", "The best trials"]
    assert page.count("<svg") == 4
    assert "src=" not in page
    assert "&lt;m&gt;" in page


def test_trials_that_were_stopped_early_are_drawn_as_far_as_they_came():
    kept = study(20)
    stopped = [
        replace(t, state=STOPPED, values=(), reports=((1, -0.5), (2, float("nan")), (4, -0.1)))
        for t in kept.trials[10:]
    ]
    found = {s.title: s for s in sections(replace(kept, trials=(*kept.trials[:10], *stopped)))}
    assert found["Stopped early"].svg.count("<svg") == 1
    assert "10 stopped" in found["History"].sentences[0]
    assert "Stopped early" not in {s.title for s in sections(kept)}


def test_a_value_far_from_all_others_is_told_and_leaves_the_plot_to_them():
    kept = study(40)
    usual = replace(kept, trials=tuple(replace(t, values=(-t.number / 40,)) for t in kept.trials))
    far = KeptTrial(40, COMPLETE, usual.trials[0].params, (-1e6,))
    history = sections(replace(usual, trials=(*usual.trials, far)))[0]
    assert "outside of the plot: 1." in history.sentences[0]
    assert "41 complete" in history.sentences[0]
    assert "outside" not in sections(usual)[0].sentences[0]


def test_a_study_without_a_complete_trial_has_a_page_that_says_so():
    (only,) = sections(study(0))
    assert only.sentences == ("No trial is complete yet.",)
