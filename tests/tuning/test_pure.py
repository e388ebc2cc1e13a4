import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayplat.core.errors import UserError
from rayplat.core.project.space import Choice, Float, Int, Space
from rayplat.tuning.caps import Caps, Spent, room
from rayplat.tuning.journal import COMPLETE, KeptStudy, KeptTrial, Objective
from rayplat.tuning.model_search import TpeSearch
from rayplat.tuning.pareto import front
from rayplat.tuning.search import GridSearch, RandomSearch, at_point
from rayplat.tuning.stopping import AshaStopping, MedianStop

SPACE = Space(
    kind=Choice(("tree", "net")),
    depth=Int(1, 9, when={"kind": "tree"}),
    width=Int(8, 512, log=True, when={"kind": "net"}),
    lr=Float(1e-5, 1e-1, log=True),
)
UNIT = st.floats(0, 1, exclude_max=True)
COUNT = st.integers(0, 100)


@given(st.tuples(UNIT, UNIT, UNIT, UNIT))
def test_a_point_gives_values_within_their_ranges_and_only_those_that_exist(point):
    params = at_point(SPACE, point)
    assert params["kind"] in ("tree", "net")
    assert ("depth" in params) == (params["kind"] == "tree")
    assert ("width" in params) == (params["kind"] == "net")
    assert 1e-5 <= params["lr"] <= 1e-1
    assert 1 <= params.get("depth", 1) <= 9
    assert 8 <= params.get("width", 8) <= 512
    assert isinstance(params.get("depth", 1), int)


def test_every_whole_number_is_as_likely():
    space = Space(n=Int(1, 4))
    drawn = [at_point(space, [(at + 0.5) / 1000])["n"] for at in range(1000)]
    assert [drawn.count(n) for n in (1, 2, 3, 4)] == [250, 250, 250, 250]


def test_a_random_draw_depends_on_seed_and_number_alone():
    assert RandomSearch(SPACE, 7).ask(5) == RandomSearch(SPACE, 7).ask(5)
    assert RandomSearch(SPACE, 7).ask(5) != RandomSearch(SPACE, 7).ask(6)


def test_a_grid_holds_each_combination_once_and_then_ends():
    search = GridSearch(Space(kind=Choice(("a", "b")), n=Int(1, 3, when={"kind": "a"})), points=3)
    found = [search.ask(number) for number in range(5)]
    assert found == [{"kind": "a", "n": 1}, {"kind": "a", "n": 2}, {"kind": "a", "n": 3}, {"kind": "b"}, None]


@pytest.mark.parametrize(
    ("space", "told"),
    [
        (Space(), "no dimension"),
        (Space(a=Float(2, 1)), "above high"),
        (Space(a=Float(0, 1, log=True)), "above 0"),
        (Space(a=Choice(())), "at least one"),
        (Space(a=Float(0, 1, when={"b": 1})), "not declared before"),
        (Space(a=3), "no rp.Float"),
        (Space(a=Int(1, 2.5)), "finite numbers"),
    ],
)
def test_a_faulty_space_says_what_is_wrong(space, told):
    (fault,) = space.faults()
    assert told in fault


@given(COUNT, COUNT, COUNT)
def test_trials_never_pass_their_cap(cap, done, wanted):
    allowed = room(Caps(trials=cap), Spent(trials=done), wanted)
    assert 0 <= allowed.trials <= wanted
    assert done + allowed.trials <= max(cap, done)
    assert bool(allowed.why) == (done >= cap)
    assert not allowed.over


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_time_and_money_at_their_cap_end_what_runs(seconds, dollars, max_seconds, max_dollars):
    allowed = room(Caps(seconds=max_seconds, dollars=max_dollars), Spent(0, seconds, dollars), 4)
    over = seconds >= max_seconds or dollars >= max_dollars
    assert bool(allowed.over) == over
    assert allowed.trials == (0 if over else 4)


@given(st.lists(st.floats(-10, 10)), st.floats(0, 5))
def test_what_was_spent_never_falls(steps, price):
    spent = Spent()
    for step in steps:
        after = spent.charged(step, price)
        assert after.seconds >= spent.seconds
        assert after.dollars >= spent.dollars
        spent = after


@pytest.mark.parametrize("cap", [{}, {"trials": -1}, {"seconds": math.nan}])
def test_caps_that_would_hold_nothing_are_refused(cap):
    with pytest.raises(UserError):
        Caps(**cap)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=60))
def test_asha_lets_the_best_of_a_rung_go_on_and_stops_what_is_outside_the_best_third(values):
    asha = AshaStopping(grace=1, reduction=3)
    for trial, value in enumerate(values):
        so_far = sorted(values[: trial + 1])
        went_on = asha.goes_on(trial, 1, value)
        if value == so_far[0]:
            assert went_on
        if went_on:
            assert value <= so_far[max(len(so_far) // 3, 1) - 1]


def test_asha_decides_at_its_rungs_alone():
    asha = AshaStopping(grace=2, reduction=3)
    assert asha.goes_on(0, 2, 0.0)
    assert not asha.goes_on(1, 2, 9.0)
    assert asha.goes_on(2, 3, 9.0)
    assert asha.goes_on(2, 6, 9.0)
    assert sorted(asha.rungs) == [2, 6]


def test_asha_stops_a_value_that_is_no_number():
    asha = AshaStopping()
    assert asha.goes_on(0, 1, 1.0)
    assert not asha.goes_on(1, 1, math.nan)
    assert asha.goes_on(2, 1, 0.5)


def test_median_stop_needs_others_and_then_stops_the_worse_half():
    stop = MedianStop(least=3)
    assert all(stop.goes_on(trial, 1, 100.0 - trial) for trial in range(3))
    assert not stop.goes_on(3, 1, 200.0)
    assert stop.goes_on(4, 1, 1.0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
def test_no_trial_beats_one_of_the_front_and_every_other_is_beaten(values):
    objectives = (Objective("auc", higher_is_better=True), Objective("seconds"))
    trials = tuple(KeptTrial(n, COMPLETE, {}, tuple(map(float, v))) for n, v in enumerate(values))
    best = {t.number for t in front(KeptStudy("s", "m", objectives, Spent(), trials))}
    for n, (auc, seconds) in enumerate(values):
        beaten = any(a >= auc and s <= seconds and (a, s) != (auc, seconds) for a, s in values)
        assert (n in best) == (not beaten)


def test_tpe_learns_where_the_best_values_are():
    search = TpeSearch(SPACE, seed=1)
    asked = []
    for number in range(72):
        params = search.ask(number)
        asked.append(params)
        search.tell(number, params, [abs(math.log10(params["lr"]) + 3) + (params["kind"] == "tree")])
    late = asked[60:]
    assert sum(p["kind"] == "net" for p in late) >= 9
    assert sorted(abs(math.log10(p["lr"]) + 3) for p in late)[6] < 0.7


def test_tpe_takes_in_trials_of_an_earlier_sitting_and_failed_ones():
    search = TpeSearch(SPACE, seed=1)
    for number in range(20):
        params = RandomSearch(SPACE).ask(number)
        search.tell(number, params, None if number % 5 == 0 else [params["lr"]])
    assert set(search.ask(20)) >= {"kind", "lr"}


@pytest.mark.parametrize("stopped", [True, False])
def test_tpe_ranks_a_stopped_trial_below_every_complete_one_whatever_it_last_reported(stopped):
    search = TpeSearch(SPACE, seed=1)
    for number in range(60):
        params = search.ask(number) if number % 2 else RandomSearch(SPACE).ask(number)
        if params["kind"] == "net":
            search.tell(number, params, [1.0 + abs(math.log10(params["lr"]) + 3)])
        elif stopped:  # looked best where it was stopped
            search.tell_stopped(number, params, {1: 0.5, 3: math.nan if number % 3 else -9.0})
        else:
            search.tell(number, params, [-9.0])
    nets = sum(search.ask(number)["kind"] == "net" for number in range(60, 72))
    assert nets >= 7 if stopped else nets <= 3
