"""Which share of the processor the drain takes."""

import os
import sys
import threading

import pytest

from rayplat.features.server.drain import Place


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no idle class")
def test_the_drain_stands_back_until_much_waits_and_again_when_little_does():
    place = Place(much=100)
    end = threading.Event()
    other = threading.Thread(target=end.wait)
    other.start()
    threads = (0, other.native_id)
    try:
        assert place.take(0)
        assert [os.sched_getscheduler(thread) for thread in threads] == [os.SCHED_IDLE] * 2
        assert place.take(100)
        assert not place.take(101)
        assert [os.sched_getscheduler(thread) for thread in threads] == [os.SCHED_OTHER] * 2
        assert not place.take(51)
        assert place.take(50)
        assert [os.sched_getscheduler(thread) for thread in threads] == [os.SCHED_IDLE] * 2
    finally:
        place.take(101)
        end.set()
        other.join()
