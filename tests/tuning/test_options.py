from types import SimpleNamespace

import pytest

from rayplat.core.errors import UserError
from rayplat.core.project.space import Choice, Float, Space
from rayplat.tuning.caps import Caps
from rayplat.tuning.journal import Journal, Objective, read_study
from rayplat.tuning.model_search import GpSearch, TpeSearch
from rayplat.tuning.model_study import Options, elastic_of, search_of, stopper_of
from rayplat.tuning.pool import LOST
from rayplat.tuning.promotion import Asha
from rayplat.tuning.search import RandomSearch
from rayplat.tuning.study import Sitting
from rayplat.tuning.trial import Ended

PLAIN = Space(x=Float(0, 1), y=Float(0, 1))
CONDITIONAL = Space(kind=Choice(("a", "b")), x=Float(0, 1, when={"kind": "a"}))
FEW, MANY = Caps(trials=50), Caps(trials=5000)


@pytest.mark.parametrize(
    ("space", "options", "kind"),
    [
        (PLAIN, Options(FEW), GpSearch),
        (PLAIN, Options(MANY), TpeSearch),
        (PLAIN, Options(Caps(seconds=60)), TpeSearch),
        (PLAIN, Options(FEW, stopper="asha"), TpeSearch),
        (PLAIN, Options(FEW, metrics=("roc_auc", "train_seconds")), TpeSearch),
        (CONDITIONAL, Options(FEW), TpeSearch),
        (CONDITIONAL, Options(FEW, search="gp"), GpSearch),
        (PLAIN, Options(FEW, search="random"), RandomSearch),
    ],
)
def test_auto_is_a_gaussian_process_where_it_learns_from_every_trial(space, options, kind):
    assert type(search_of(space, options)(0)) is kind


@pytest.mark.parametrize(
    "given",
    [
        {"search": "pbt", "stopper": "asha"},
        {"search": "pbt", "metrics": ("roc_auc", "log_loss")},
        {"stopper": "median", "metrics": ("roc_auc", "log_loss")},
        {"stopper": "hyperband"},
        {"search": "annealing"},
        {"workers": 0},
    ],
)
def test_options_that_do_not_go_together_are_refused(given):
    with pytest.raises(UserError):
        Options(FEW, **given)


@pytest.mark.parametrize(
    ("workers", "kind", "elastic"),
    [((1, 1), "torch", True), ((1, 4), "lightgbm", True), ((2, 4), "torch", False)],
)
def test_trials_that_cannot_be_groups_or_are_not_to_be_train_on_one_worker(workers, kind, elastic):
    model = SimpleNamespace(name="m", workers=workers, kind=kind)
    assert elastic_of(model, Options(FEW, elastic=elastic), 0.0) is None


def test_a_study_with_fewer_workers_than_a_trial_needs_is_refused():
    model = SimpleNamespace(name="m", workers=(3, 4), kind="torch")
    with pytest.raises(UserError, match="a model that needs 3"):
        elastic_of(model, Options(FEW, workers=2), 0.0)


def test_a_cap_in_money_wants_a_price_which_may_change():
    with pytest.raises(UserError, match="price of a worker"):
        Options(Caps(dollars=1.0))
    prices = iter([1.0, 2.0])
    options = Options(Caps(dollars=1.0), usd_per_worker_second=lambda: next(prices))
    assert options.price() == 2.0


def test_asha_by_name_is_the_form_that_promotes():
    assert isinstance(stopper_of("asha"), Asha)
    assert stopper_of("none") is None


def test_a_gaussian_process_finds_a_bowl_in_few_trials():
    search = GpSearch(PLAIN, seed=1)
    values = []
    for number in range(15):
        params = search.ask(number)
        values.append((params["x"] - 0.3) ** 2 + (params["y"] - 0.7) ** 2)
        search.tell(number, params, [values[-1]])
    assert min(values[10:]) < min(values[:10]) / 2  # the first ten are drawn at random


def test_a_trial_that_goes_on_takes_the_place_of_what_was_known_of_it():
    search = TpeSearch(PLAIN, seed=1)
    for number in range(30):
        params = search.ask(number)
        search.tell_stopped(number, params, {1: abs(params["x"] - 0.9)})
    running = search.ask(30)
    for number in range(30):  # all went on: what counts is now near 0.1
        params = RandomSearch(PLAIN, 5).ask(number)
        search.tell(number, params, [abs(params["x"] - 0.1)])
    found = []
    for number in range(31, 41):
        params = search.ask(number)
        found.append(params["x"])
        search.tell(number, params, [abs(params["x"] - 0.1)])
    search.tell(30, running, [abs(running["x"] - 0.1)])
    assert sum(abs(x - 0.1) < 0.3 for x in found) >= 7


class Losing:
    """Loses the worker of each trial so many times."""

    slots = 1

    def __init__(self, times):
        self._times, self.started, self._heard = times, [], []

    def start(self, start):
        self.started.append(start.number)
        lost = self.started.count(start.number) <= self._times
        self._heard.append(Ended(start.number, LOST) if lost else Ended(start.number, "complete", (1.0,)))

    def answer(self, number, *, goes_on):
        raise AssertionError("nobody reports")

    def heard(self, within_s):
        told, self._heard = self._heard, []
        return told

    def close(self):
        self._heard = []


@pytest.mark.parametrize(("times", "state"), [(0, "complete"), (2, "complete"), (3, "failed")])
def test_a_trial_whose_worker_is_lost_is_tried_twice_more(tmp_path, times, state):
    database = f"sqlite:///{tmp_path}/s.db"
    journal = Journal(database, "s", "m", [Objective("loss")])
    pool = Losing(times)
    Sitting(journal, lambda told: RandomSearch(PLAIN), pool, Caps(trials=2)).run()
    journal.close()
    assert [t.state for t in read_study(database, "s").trials] == [state, state]
    assert pool.started.count(0) == min(times, 2) + 1


def test_a_price_that_changes_is_charged_as_it_changes(tmp_path):
    journal = Journal(f"sqlite:///{tmp_path}/s.db", "s", "m", [Objective("loss")])
    now, prices = iter(float(n) for n in range(100)), iter([1.0, 1.0, 10.0, 10.0, 10.0])
    outcome = Sitting(
        journal,
        lambda told: RandomSearch(PLAIN),
        Losing(0),
        Caps(trials=4),
        dollars_per_second=lambda: next(prices),
        clock=lambda: next(now),
    ).run()
    journal.close()
    assert outcome.spent.seconds == 5.0
    assert outcome.spent.dollars == 32.0
