import pytest

from rayplat.serve.front.pace import INLINE_S, LONG_S, REQUEST_S, Pace

QUICK, SLOW = INLINE_S / 10, INLINE_S * 3


def paced(*took, requests=1):
    pace = Pace()
    for seconds in took:
        pace.took(seconds, requests)
    return pace.slow


def test_who_has_not_answered_is_slow_and_two_quick_answers_make_him_quick():
    assert paced()
    assert paced(QUICK)
    assert not paced(QUICK, QUICK)


def test_one_stretched_sample_changes_nothing_and_two_in_a_row_do():
    assert not paced(QUICK, QUICK, SLOW)
    assert not paced(QUICK, QUICK, SLOW, QUICK, SLOW)
    assert paced(QUICK, QUICK, SLOW, SLOW)
    assert paced(QUICK, QUICK, SLOW, SLOW, QUICK)


def test_what_is_long_beyond_doubt_is_slow_at_once():
    assert paced(QUICK, QUICK, LONG_S * 1.2)


@pytest.mark.parametrize(("requests", "slow"), [(1, True), (64, False)])
def test_what_each_request_costs_on_any_thread_does_not_count(requests, slow):
    took = INLINE_S + 32 * REQUEST_S
    assert paced(QUICK, QUICK, took, took, requests=requests) is slow
