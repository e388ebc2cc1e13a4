"""When what died is started again: at once, then later and later, and not for ever."""

from rayplat.cluster.local.supervision import (
    GRACE_S,
    LONGEST_S,
    MOST_IN_WINDOW,
    GiveUp,
    Restart,
    decide,
)


def test_the_first_death_is_answered_after_the_grace() -> None:
    assert decide([100.0], 100.0) == Restart(GRACE_S)


def test_deaths_in_a_row_are_answered_later_and_then_not_any_more() -> None:
    waits = [decide([100.0 + i for i in range(n)], 100.0 + n) for n in range(1, MOST_IN_WINDOW + 1)]
    assert waits[:3] == [Restart(GRACE_S), Restart(2 * GRACE_S), Restart(4 * GRACE_S)]
    assert waits[3:] == [Restart(LONGEST_S)] * (MOST_IN_WINDOW - 3)
    last = decide([100.0 + i for i in range(MOST_IN_WINDOW + 1)], 112.0)
    assert isinstance(last, GiveUp)
    assert "11 times" in last.why


def test_old_deaths_are_forgotten() -> None:
    assert decide([0.0] * 50 + [1000.0], 1000.0) == Restart(GRACE_S)
