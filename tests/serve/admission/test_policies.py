import random

import pytest

from rayplat.core.errors import UserError
from rayplat.serve.admission.breaker import Breaker, Rule
from rayplat.serve.admission.bucket import Bucket, Level, take
from rayplat.serve.admission.decision import Priority
from rayplat.serve.admission.grant import Limits
from rayplat.serve.admission.shedding import Shedder


def test_a_bucket_begins_full_flows_and_does_not_overflow():
    bucket = Bucket(rate=10, burst=5)
    first = take(bucket, None, 7, 100.0)
    assert (first.granted, first.wait_s) == (5, pytest.approx(0.1))
    second = take(bucket, first.level, 7, 100.25)
    assert (second.granted, second.level.amount) == (2, pytest.approx(0.5))
    assert take(bucket, second.level, 100, 1000.0).granted == 5


def test_a_clock_that_goes_back_adds_nothing():
    bucket = Bucket(rate=10, burst=5)
    level = Level(0.0, 100.0)
    back = take(bucket, level, 1, 50.0)
    assert (back.granted, back.level) == (0, level)


def test_a_bucket_without_flow_is_empty_for_ever():
    bucket = Bucket(rate=0, burst=3)
    empty = take(bucket, None, 3, 0.0)
    assert take(bucket, empty.level, 1, 1e9).wait_s == float("inf")


@pytest.mark.parametrize(
    "limits", [{"rate": 0}, {"rate": -1}, {"daily": 0}, {"burst": 5}, {"rate": float("nan")}]
)
def test_limits_that_let_nothing_through_are_refused(limits):
    with pytest.raises(UserError):
        Limits(**limits)


def _serve(shedder, rate, capacity, seconds, seed=1):
    """One server's queue under `rate` requests a second of all priorities: waits, shares by priority."""
    chance = random.Random(seed)
    step, queue, waits, answered, came = 1 / rate, 0.0, [], [0, 0, 0], [0, 0, 0]
    for i in range(int(rate * seconds)):
        now = i * step
        queue = max(0.0, queue - step)
        priority = Priority(chance.randrange(3))
        came[priority] += 1
        if not shedder.decide(priority, i * 40_503 >> 4, now).refused:
            shedder.waited(queue, now)
            waits.append(queue)
            queue += 1 / capacity
            answered[priority] += 1
    return waits, [a / c for a, c in zip(answered, came, strict=True)]


def test_below_capacity_nobody_is_refused():
    waits, shares = _serve(Shedder(), rate=800, capacity=1000, seconds=10)
    assert shares == [1.0, 1.0, 1.0]
    assert max(waits) < 0.02


@pytest.mark.parametrize("rate", [2000, 5000])
def test_over_capacity_waits_stay_short_and_the_important_are_answered(rate):
    waits, shares = _serve(Shedder(), rate=rate, capacity=1000, seconds=20)
    late = sorted(waits[len(waits) // 4 :])
    # Without shedding the wait would grow by a second a second.
    assert late[len(late) // 2] < 0.1
    assert late[int(len(late) * 0.99)] < 0.5
    assert shares[0] <= shares[1] <= shares[2]
    assert shares[2] > 2 * 1000 / rate * 0.6
    assert len(waits) > 0.75 * 1000 * 20, "what can be answered is answered"


def test_few_callers_on_a_slow_machine_are_no_queue():
    shedder, now = Shedder(), 0.0
    for asked in range(200):  # four that ask one after the other, each answer takes 0.3 s
        now += 0.075
        assert not shedder.decide(Priority.LOW, asked, now).refused
        shedder.waited(0.225, now)


def _closed_loop(shedder, callers, seconds, seed):
    """Callers who ask one after the other; batches some stall: how many were refused."""
    chance = random.Random(seed)
    now, told, refused, asked = 0.0, [], 0, 0
    line, coming = [], [(0.0, caller) for caller in range(callers)]
    while now < seconds:
        coming.sort()
        # What comes until the replica is free stands in line.
        while coming and (coming[0][0] <= now or not line):
            at, caller = coming.pop(0)
            for wait in told:
                shedder.waited(wait, at)
            told.clear()
            asked += 1
            if shedder.decide(Priority.NORMAL, asked * 40_503 >> 4, at).refused:
                refused += 1
                coming.append((at + 1.0, caller))
                coming.sort()
            else:
                line.append((at, caller))
            now = max(now, at)
        batch = [line.pop(0) for _ in range(min(len(line), chance.randrange(1, 5)))]
        told.append(now - batch[0][0])
        now += chance.choice([0.02, 0.02, 0.02, 0.15, 1.0])
        coming += [(now + chance.random() * 0.005, caller) for _, caller in batch]
    return refused, asked


@pytest.mark.parametrize("callers", [1, 3, 6, 8])
@pytest.mark.parametrize("seed", range(5))
def test_few_callers_are_never_refused_however_the_replica_stalls(callers, seed):
    refused, asked = _closed_loop(Shedder(), callers, seconds=60, seed=seed)
    assert asked > 60
    assert refused == 0


def test_a_long_wait_that_is_told_when_all_ask_again_is_no_queue():
    shedder = Shedder()
    for asked in range(8):  # they waited for a replica, and come at once
        assert not shedder.decide(Priority.NORMAL, asked, 0.01).refused
    shedder.waited(1.0, 1.0)  # its first batch took a second
    for asked in range(8):
        assert not shedder.decide(Priority.NORMAL, asked, 1.01).refused
    for asked in range(8):
        assert not shedder.decide(Priority.NORMAL, asked, 1.2).refused


def test_after_the_rush_everybody_is_let_in_again():
    shedder = Shedder()
    _serve(shedder, rate=3000, capacity=1000, seconds=5)
    assert shedder.border > 0
    for i in range(3000):
        now = 10 + i / 500
        shedder.decide(Priority(i % 3), i, now)
        shedder.waited(0.0, now)
    assert shedder.border == 0


def test_a_refusal_says_when_to_ask_again():
    shedder = Shedder(border=64)
    shed = shedder.decide(Priority.LOW, 0, 0.0)
    assert shed.refused
    assert shed.retry_after_s >= 1.0
    assert not shedder.decide(Priority.NORMAL, 0, 0.0).refused


RULE = Rule(failed_share=0.5, least_calls=4, window_s=10, open_s=5, trials=2)


def _failed(now=0.0):
    breaker = Breaker(RULE)
    for good in (True, False, True, False):
        breaker = breaker.told(good, now)
    return breaker


def test_a_breaker_opens_by_its_share_and_not_before_enough_calls():
    breaker = Breaker(RULE).told(False, 0).told(False, 0).told(False, 0)
    assert breaker.ask(0)[1]
    assert _failed().state == "open"
    healthy = Breaker(RULE)
    for i in range(100):
        healthy = healthy.told(i % 3 < 2, 0)
    assert healthy.state == "closed"


def test_an_open_breaker_falls_back_and_tries_carefully_later():
    breaker = _failed()
    assert breaker.ask(4.9) == (breaker, False)
    breaker, first = breaker.ask(5.0)
    breaker, second = breaker.ask(5.0)
    _, third = breaker.ask(5.0)
    assert (breaker.state, first, second, third) == ("half_open", True, True, False)
    assert breaker.told(True, 5.1).told(True, 5.2).state == "closed"
    again = breaker.told(True, 5.1).told(False, 5.2)
    assert (again.state, again.ask(10.1)[1], again.ask(10.3)[1]) == ("open", False, True)


def test_failures_of_another_window_do_not_count():
    breaker = Breaker(RULE).told(False, 0).told(False, 0).told(False, 0).told(False, 11)
    assert (breaker.state, breaker.calls) == ("closed", 1)


def test_a_trial_of_which_nobody_tells_does_not_keep_it_half_open():
    breaker, _ = _failed().ask(5)
    breaker, _ = breaker.ask(5)
    assert breaker.ask(9)[1] is False
    assert breaker.ask(10.1)[1] is True


def test_a_late_answer_does_not_close_an_open_breaker():
    assert _failed().told(True, 1).state == "open"
