import threading
import time

import pytest

from rayplat.core.errors import BugError, UnavailableError, UserError
from rayplat.serve.admission.breaker import Rule
from rayplat.serve.arms.fallback import default, in_turn, previous
from rayplat.serve.arms.guarded import Guarded

from .versions import AT, Version, asked

RULE = Rule(failed_share=0.5, least_calls=4, window_s=10.0, open_s=5.0, trials=2)


class _Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def _one(guarded):
    return guarded.answer([asked()])[0].records[0]


def _guarded(**options):
    clock, first, before = _Clock(), Version(2, "champion"), Version(1, "previous")
    return clock, first, before, Guarded(first, previous(before), rule=RULE, clock=clock, **options)


def test_a_version_that_is_well_answers():
    _, _, before, guarded = _guarded()
    assert [_one(guarded).version for _ in range(10)] == [2] * 10
    assert before.calls == 0
    assert (guarded.version, guarded.endpoint, guarded.inputs) == (2, "buys", ("amount",))


def test_errors_open_the_breaker_and_trials_close_it():
    clock, first, _, guarded = _guarded()
    first.error = BugError("NaN", "train anew")
    told = [_one(guarded) for _ in range(10)]
    assert [(r.version, r.arm) for r in told] == [(1, "previous")] * 10, "who asked never sees the error"
    assert first.calls == 4, "an open breaker asks no more"
    clock.now += 4.9
    _one(guarded)
    assert first.calls == 4
    clock.now += 0.2
    assert _one(guarded).version == 1
    assert first.calls == 5, "one trial"
    assert _one(guarded).version == 1
    assert first.calls == 5, "which failed: open again"
    first.error = None
    clock.now += 5.1
    assert [_one(guarded).version for _ in range(5)] == [2] * 5
    assert first.calls == 10


def test_a_question_that_is_at_fault_is_told_so_and_is_no_failure():
    clock, first, before, guarded = _guarded()
    first.error = UserError("no such shop", "ask for another")
    for _ in range(20):
        with pytest.raises(UserError):
            _one(guarded)
    assert before.calls == 0
    first.error = BugError("NaN", "train anew")
    for _ in range(20):
        _one(guarded)
    clock.now += 5.1
    first.error = UserError("no such shop", "ask for another")
    for _ in range(5):
        with pytest.raises(UserError):
            _one(guarded)
    first.error = None
    assert [_one(guarded).version for _ in range(3)] == [2] * 3, "a trial that tells nothing blocks none"


def test_a_version_that_takes_too_long_is_answered_for_in_time():
    _, first, before, guarded = _guarded(timeout_s=0.05)
    assert _one(guarded).version == 2
    stuck = threading.Event()
    answer = first.answer
    first.answer = lambda asked: (stuck.wait(10), answer(asked))[1]
    begin = time.perf_counter()
    told = [_one(guarded).version for _ in range(10)]
    assert told == [1] * 10
    assert time.perf_counter() - begin < 1.0, "one time-out, and then nobody waits for it"
    assert before.calls == 10
    stuck.set()
    guarded.close()


def test_a_default_answer_is_marked_in_the_answer_and_in_the_log():
    first = Version(2, "champion")
    first.error = UnavailableError("the online store is away", "ask again")
    guarded = Guarded(first, default(first, 0.125), rule=RULE)
    answer = guarded.answer([asked("a", "b"), asked("c", key="k")])
    assert [one["probability"] for a in answer for one in a.predictions()] == [0.125] * 3
    assert [one["fallback"] for a in answer for one in a.predictions()] == ["default"] * 3
    records = [r for a in answer for r in a.records]
    assert {(r.arm, r.version, r.output) for r in records} == {("default", 2, '{"default":0.125}')}
    assert [r.request for r in records] == ['{"shop":"a"}', '{"shop":"b"}', '{"shop":"c"}']
    assert [r.idempotency_key for r in records] == [None, None, "k"]
    assert (records[0].at, records[0].caller, len({r.prediction_id for r in records})) == (AT, "shop", 3)


def test_an_answer_of_the_version_itself_has_no_mark():
    assert "fallback" not in Version(2, "champion").answer([asked()])[0].predictions()[0]
    assert Version(1, "previous").answer([asked()])[0].predictions()[0]["fallback"] == "previous"


def test_where_the_version_before_fails_too_the_default_answers():
    _, first, before, _ = _guarded()
    guarded = Guarded(first, in_turn(previous(before), default(first, 0.5)), rule=RULE)
    first.error = before.error = BugError("NaN", "train anew")
    assert _one(guarded).arm == "default"
    before.error = UserError("no such shop", "ask for another")
    with pytest.raises(UserError):
        _one(guarded)


def test_what_stands_in_may_fail_and_that_is_told():
    _, first, before, guarded = _guarded()
    first.error, before.error = BugError("NaN", "train anew"), BugError("no network", "train anew")
    with pytest.raises(BugError, match="no network"):
        _one(guarded)


@pytest.mark.parametrize("probability", [-0.1, 1.1])
def test_a_default_is_a_probability(probability):
    with pytest.raises(UserError):
        default(Version(1), probability)
