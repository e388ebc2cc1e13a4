import pytest

from rayplat.core.errors import ConflictError, UserError
from rayplat.core.project.space import Choice, Float, Space
from rayplat.tuning.caps import Caps, Spent
from rayplat.tuning.journal import Journal, Objective, list_studies, read_study
from rayplat.tuning.model_search import TpeSearch
from rayplat.tuning.pool import LocalPool
from rayplat.tuning.promotion import Asha
from rayplat.tuning.search import GridSearch, RandomSearch
from rayplat.tuning.stopping import AshaStopping
from rayplat.tuning.study import Sitting, StudyFailedError
from tests.servers import fresh_database, postgres_url  # noqa: F401

SPACE = Space(x=Float(-1, 1))
LOSS = (Objective("loss"),)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/studies.db"
    return fresh_database(request.getfixturevalue("postgres_url"))


def square(trial):
    return trial.params["x"] ** 2


class Clock:
    def __init__(self, step=1.0):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


def sit(database, tried=square, trials=10, *, name="s", caps=None, search=None, objectives=LOSS, **more):
    steps = more.get("stopper") is not None
    journal = Journal(database, name, "m", objectives)
    try:
        return Sitting(
            journal,
            search or (lambda told: RandomSearch(SPACE)),
            LocalPool(tried, steps=steps),
            caps or Caps(trials=trials),
            **more,
        ).run()
    finally:
        journal.close()


def test_a_study_ends_at_its_cap_and_a_higher_cap_goes_on(database):
    assert sit(database, trials=4).ran == 4
    called = []
    outcome = sit(database, lambda t: called.append(t.number) or 1.0, trials=7)
    assert (outcome.ran, called) == (3, [4, 5, 6])
    assert [t.state for t in read_study(database, "s").trials] == ["complete"] * 7
    assert sit(database, trials=7).ran == 0


def test_the_random_trials_are_the_same_in_one_sitting_or_two(database):
    sit(database, trials=3)
    sit(database, trials=6)
    sit(database, trials=6, name="whole")
    assert [t.params for t in read_study(database, "s").trials] == [
        t.params for t in read_study(database, "whole").trials
    ]


def test_time_between_two_sittings_is_not_charged(database):
    first = sit(database, trials=3, clock=Clock(), dollars_per_second=2.0)
    later = Clock()
    later.now = 10_000.0
    second = sit(database, trials=6, clock=later, dollars_per_second=2.0)
    assert second.spent.seconds < 20
    assert second.spent.seconds > first.spent.seconds
    assert second.spent.dollars == pytest.approx(2 * second.spent.seconds)


def test_a_cap_in_money_holds_over_all_sittings(database):
    caps = Caps(dollars=5.0)
    first = sit(database, caps=caps, clock=Clock(), dollars_per_second=1.0)
    assert "5 USD" in first.why
    assert first.spent.dollars == pytest.approx(5.0)
    again = sit(database, caps=caps, clock=Clock(), dollars_per_second=1.0)
    assert again.spent.trials == first.spent.trials


def test_the_older_of_two_drivers_can_no_longer_write(database):
    old, new = Journal(database, "s", "m", LOSS), Journal(database, "s", "m", LOSS)
    old.open()
    new.open()
    with pytest.raises(ConflictError):
        old.commit(Spent(), started={0: {"x": 0.0}}, reports=[], ended=[])
    assert read_study(database, "s").trials == ()
    old.close()
    new.close()


def test_a_study_keeps_its_objectives(database):
    sit(database, trials=1)
    with pytest.raises(UserError, match="another name"):
        sit(database, objectives=(Objective("auc", higher_is_better=True),))


def test_asha_stops_trials_and_their_reports_are_kept(database):
    def tried(trial):
        for _ in range(9):
            trial.report(abs(trial.params["x"]))
        return abs(trial.params["x"])

    sit(database, tried, 30, stopper=AshaStopping())
    trials = read_study(database, "s").trials
    states = [t.state for t in trials]
    assert states.count("stopped") >= 15
    assert states.count("complete") >= 1
    assert all(len(t.reports) == 9 for t in trials if t.state == "complete")
    best = min(abs(t.params["x"]) for t in trials)
    assert min(t.values[0] for t in trials if t.state == "complete") == best


def test_a_trial_that_fails_is_told_with_its_place_and_the_study_goes_on(database):
    def tried(trial):
        if trial.number == 1:
            raise ValueError("bad luck")
        return 0.0

    sit(database, tried, 3)
    states = {t.number: t for t in read_study(database, "s").trials}
    assert [states[n].state for n in range(3)] == ["complete", "failed", "complete"]
    assert "bad luck" in states[1].error
    assert "test_study.py:" in states[1].error


def test_a_function_that_always_fails_ends_the_study(database):
    with pytest.raises(StudyFailedError, match="10 trials failed"):
        sit(database, lambda t: 1 / 0, 100)
    assert [t.state for t in read_study(database, "s").trials if t.state == "failed"] == ["failed"] * 10


def test_several_objectives_and_a_wrong_number_of_values(database):
    both = (Objective("auc", higher_is_better=True), Objective("seconds"))
    sit(
        database,
        lambda t: (t.params["x"], 1.0),
        5,
        objectives=both,
        search=lambda told: TpeSearch(SPACE, 2, told=told),
    )
    assert all(len(t.values) == 2 for t in read_study(database, "s").trials)
    sit(database, lambda t: 1.0 if t.number == 2 else (1.0, 2.0), 3, name="wrong", objectives=both)
    assert [t.state for t in read_study(database, "wrong").trials] == ["complete", "complete", "failed"]


def test_a_grid_ends_when_all_was_tried(database):
    space = Space(kind=Choice(("a", "b", "c")))
    outcome = sit(database, lambda t: 1.0, 100, search=lambda told: GridSearch(space))
    assert (outcome.ran, outcome.why) == (3, "every combination was tried")
    assert sit(database, lambda t: 1.0, 100, search=lambda told: GridSearch(space)).ran == 0


def test_a_new_study_begins_with_what_earlier_ones_found(database):
    sit(database, trials=30, name="earlier", search=lambda told: RandomSearch(SPACE))
    told = []

    class Listening(RandomSearch):
        def tell(self, number, params, values):
            told.append(number)

    sit(database, trials=2, name="new", warm=True, search=lambda t: Listening(SPACE))
    assert sum(number < 0 for number in told) == 30
    assert [s.name for s in list_studies(database)] == ["earlier", "new"]


def test_the_search_hears_a_stopped_trials_reports_now_in_a_later_sitting_and_in_a_warm_study(database):
    heard = []

    class Listening(RandomSearch):
        def tell_stopped(self, number, params, reports):
            heard.append((number, params["x"], reports))

    def tried(trial):
        for _ in range(9):
            trial.report(abs(trial.params["x"]))
        return abs(trial.params["x"])

    def listen(name, trials, **more):
        heard.clear()
        sit(database, tried, trials, name=name, search=lambda t: Listening(SPACE), **more)
        return list(heard)

    high = (Objective("auc", higher_is_better=True),)
    first = listen("s", 20, stopper=AshaStopping(), objectives=high)
    stopped = [t for t in read_study(database, "s").trials if t.state == "stopped"]
    assert [n for n, _, _ in first] == [t.number for t in stopped]
    assert all(set(r.values()) == {-abs(x)} and list(r) == list(range(1, len(r) + 1)) for _, x, r in first)
    assert listen("s", 20, stopper=AshaStopping(), objectives=high) == first
    assert [one[1:] for one in listen("warm", 0, warm=True, objectives=high)] == [one[1:] for one in first]


def test_a_study_keeps_its_space_and_says_what_is_different(database):
    def begin(space):
        journal = Journal(database, "spaced", "m", LOSS, space)
        try:
            journal.open()
        finally:
            journal.close()

    space = Space(x=Float(-1, 1), kind=Choice(("a", "b")))
    begin(space)
    begin(space)
    with pytest.raises(UserError, match=r"x\.high was 1 and is 2; kind is gone; y is new"):
        begin(Space(x=Float(-1, 2), y=Float(0, 1)))


def test_a_trial_that_reports_at_its_end_is_complete_although_a_rung_is_there(database):
    def tried(trial):
        for step in range(1, 10):
            trial.report(abs(trial.params["x"]), last=step == 9)
        return abs(trial.params["x"])

    for name, stopper in (("stopping", AshaStopping()), ("promotion", Asha(reduction=3))):
        sit(database, tried, 12, name=name, stopper=stopper)
        trials = read_study(database, name).trials
        complete = [t for t in trials if t.state == "complete"]
        assert complete
        assert all(t.reports[-1][0] == 9 for t in complete)
        assert all(t.reports[-1][0] in {1, 3} for t in trials if t.state == "stopped")
        assert min(abs(t.params["x"]) for t in trials) == min(t.values[0] for t in complete)
