"""Pins: what is held is not sentenced, what is sentenced cannot be held, and both survive the process."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from rayplat.core.errors import ConflictError, UserError
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.pins import Pins

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def pins(settings: Settings) -> Pins:
    return Pins(settings)


def test_held_until_released_or_lapsed(pins: Pins, settings: Settings) -> None:
    pins.hold("raw.a", 1, "run:x")
    pins.hold("raw.a", 2, "run:x", NOW)
    pins.hold("raw.b", 3, "run:y", NOW + timedelta(hours=1))
    assert pins.held("raw.a", NOW - timedelta(seconds=1)) == {1, 2}
    assert pins.held("raw.a", NOW) == {1}, "a pin lapses at its time"
    assert Pins(settings).held("raw.b", NOW) == {3}, "another process sees them"
    assert pins.release("run:x") == 2
    assert pins.held("raw.a", NOW) == set()
    assert pins.held("raw.b", NOW) == {3}


def test_holding_again_moves_the_time_and_two_holders_are_two_pins(pins: Pins) -> None:
    pins.hold("raw.a", 1, "x", NOW)
    pins.hold("raw.a", 1, "x", NOW + timedelta(days=1))
    pins.hold("raw.a", 1, "y", NOW + timedelta(days=2))
    assert pins.held("raw.a", NOW + timedelta(hours=1)) == {1}
    assert pins.release("y") == 1
    assert pins.held("raw.a", NOW + timedelta(hours=1)) == {1}


def test_what_is_held_is_not_sentenced_and_what_is_sentenced_is_not_held(pins: Pins) -> None:
    pins.hold("raw.a", 1, "x")
    assert pins.sentence("raw.a", [1, 2, 3]) == {2, 3}
    assert pins.sentence("raw.a", [2]) == {2}, "a sentence may be repeated"
    with pytest.raises(ConflictError, match=r"snapshot 2 of raw\.a is being expired"):
        pins.hold("raw.a", 2, "y")
    pins.hold("raw.b", 2, "y")
    pins.carried_out("raw.a", [2])
    pins.hold("raw.a", 2, "y")
    assert pins.held("raw.a") == {1, 2}


def test_a_lapsed_pin_does_not_stop_a_sentence(pins: Pins) -> None:
    pins.hold("raw.a", 1, "x", NOW)
    assert pins.sentence("raw.a", [1], NOW - timedelta(seconds=1)) == set()
    assert pins.sentence("raw.a", [1], NOW + timedelta(seconds=1)) == {1}


def test_a_time_without_a_zone_is_refused(pins: Pins) -> None:
    with pytest.raises(UserError, match="names no zone"):
        pins.hold("raw.a", 1, "x", NOW.replace(tzinfo=None))


def test_many_at_once_never_both_hold_and_sentence(settings: Settings) -> None:
    held: set[int] = set()
    sentenced: set[int] = set()

    def hold() -> None:
        mine = Pins(settings)
        for number in range(40):
            try:
                mine.hold("raw.a", number, "x")
                held.add(number)
            except ConflictError:
                continue

    def sentence() -> None:
        mine = Pins(settings)
        for number in reversed(range(40)):
            sentenced.update(mine.sentence("raw.a", [number]))

    threads = [threading.Thread(target=hold), threading.Thread(target=sentence)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held | sentenced == set(range(40))
    assert not held & sentenced
