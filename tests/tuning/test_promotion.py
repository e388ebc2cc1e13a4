import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayplat.core.errors import UserError
from rayplat.tuning.promotion import Asha


def race(asha, curves, order=None):
    """One worker: promoted trials first, then new ones; how far each trial came."""
    came, new = dict.fromkeys(range(len(curves)), 0), list(order or range(len(curves)))

    def run_on(trial):
        while came[trial] < len(curves[trial]):
            came[trial] += 1
            if came[trial] == len(curves[trial]):
                asha.ended(trial, "complete")
            elif not asha.goes_on(trial, came[trial], curves[trial][came[trial] - 1]):
                asha.ended(trial, "stopped")
                return

    while True:
        trial = asha.again(last=False)
        if trial is None and new:
            trial = new.pop(0)
        if trial is None:
            trial = asha.again(last=True)
        if trial is None:
            return came
        run_on(trial)


def flat(values, steps=27):
    return [[value] * steps for value in values]


def test_the_first_trial_waits_until_there_is_something_to_compare_it_with():
    asha = Asha(reduction=3)
    assert not asha.goes_on(0, 1, 5.0)
    asha.ended(0, "stopped")
    assert asha.again(last=False) is None
    for trial in (1, 2):
        assert not asha.goes_on(trial, 1, 6.0)
        asha.ended(trial, "stopped")
    assert asha.again(last=False) == 0
    assert asha.again(last=False) is None


def test_a_trial_that_is_among_the_best_where_it_arrives_goes_on_at_once():
    asha = Asha(reduction=3)
    for trial in range(3):
        asha.goes_on(trial, 1, 6.0 + trial)
        asha.ended(trial, "stopped")
    assert asha.again(last=False) == 0
    assert not asha.goes_on(3, 1, 6.5)
    assert [asha.goes_on(n, 1, 9.0) for n in (4, 5)] == [False, False]
    assert asha.goes_on(6, 1, 1.0)


@given(st.lists(st.floats(-100, 100), min_size=27, max_size=60), st.integers(2, 4))
def test_each_rung_passes_on_its_share_and_the_best_of_all_ends(values, reduction):
    asha = Asha(reduction=reduction)
    came = race(asha, flat(values))
    for step, there in asha.rungs.items():
        assert set(sorted(there, key=lambda t: (there[t], t))[: len(there) // reduction]) <= asha.passed[step]
    assert came[min(range(len(values)), key=lambda n: (values[n], n))] == 27


def test_few_trials_still_have_a_complete_one_and_it_is_the_best():
    came = race(Asha(reduction=3), flat([3.0, 1.0, 2.0, 4.0]))
    assert [n for n, steps in came.items() if steps == 27] == [1]


def test_it_costs_a_trial_little_more_than_the_first_rung():
    draw = random.Random(1)
    came = race(Asha(reduction=3), flat([draw.random() for _ in range(200)], 81))
    assert sum(came.values()) / 200 < 5.5  # 1 + 4 x 2/3 in the limit; promotions by chance come first
    assert sum(steps == 81 for steps in came.values()) <= 12


def test_a_trial_stands_by_the_best_value_it_has_reached():
    asha = Asha(grace=3, reduction=3)
    for trial in range(2):
        for step in (1, 2):
            assert asha.goes_on(trial, step, 5.0)
        asha.goes_on(trial, 3, 5.0)
        asha.ended(trial, "stopped")
    assert asha.goes_on(2, 1, 1.0)
    assert asha.goes_on(2, 2, 9.0)
    assert asha.goes_on(2, 3, 9.0)


def test_a_rung_that_is_told_again_after_later_steps_counts_as_it_was():
    asha = Asha(reduction=3)
    for trial, value in enumerate((1.0, 2.0, 3.0)):
        asha.goes_on(trial, 1, value)
        asha.ended(trial, "stopped")
    assert asha.again(last=False) == 0
    assert asha.goes_on(0, 2, 0.5)
    assert asha.goes_on(0, 1, 1.0)
    assert asha.rungs[1] == {0: 1.0, 1: 2.0, 2: 3.0}


def test_a_value_that_is_no_number_is_worse_than_any_other():
    asha = Asha(reduction=3)
    for trial, value in enumerate((math.nan, 1e9, 1e12)):
        asha.goes_on(trial, 1, value)
        asha.ended(trial, "stopped")
    assert asha.again(last=False) == 1


def test_a_failed_trial_never_goes_on():
    asha = Asha(reduction=3)
    for trial in range(3):
        asha.goes_on(trial, 1, float(trial))
        asha.ended(trial, "failed" if trial == 0 else "stopped")
    assert asha.again(last=False) is None


@given(st.randoms(use_true_random=False), st.integers(0, 200))
def test_a_later_sitting_goes_on_as_the_one_that_was_killed_would_have(draw, cut):
    curves = [[draw.random() for _ in range(9)] for _ in range(20)]
    whole, first = Asha(reduction=3), Asha(reduction=3)
    race(whole, curves)
    reports, states, events = {}, {}, 0
    new, came = list(range(20)), {}
    while events < cut:  # the same as `race`, until it is killed
        trial = first.again(last=False)
        if trial is None:
            trial = new.pop(0) if new else first.again(last=True)
        if trial is None:
            break
        while True:
            came[trial] = step = came.get(trial, 0) + 1
            events += 1
            value = curves[trial][step - 1]
            if step < 9:
                reports.setdefault(trial, {})[step] = value
            states[trial] = "complete" if step == 9 else "stopped"
            if step == 9 or not first.goes_on(trial, step, value):
                first.ended(trial, states[trial])
                break
    second = Asha(reduction=3)
    for trial in sorted(states):
        second.learn(trial, reports.get(trial, {}), states[trial])
    assert second.rungs == first.rungs
    assert second.again(last=False) == first.again(last=False)


@pytest.mark.parametrize("given", [{"grace": 0}, {"reduction": 1}])
def test_rungs_that_are_none_are_refused(given):
    with pytest.raises(UserError):
        Asha(**given)
