"""When an event loop stays awake for the next request, and when it sleeps."""

import time

import psutil
import pytest

from rayplat.features.server import awake
from rayplat.features.server.awake import Awake
from tests.features.server.running import serving
from tests.features.server.world import fill

WINDOW = 200_000


class Loop:
    """A loop whose turns are taken by the test; a turn takes `turn_ns`."""

    def __init__(self, turn_ns: int = 2_000):
        self.now = 1_000_000_000
        self.turn_ns = turn_ns
        self._soon = []

    def clock(self) -> int:
        return self.now

    def call_soon(self, callback) -> None:
        self._soon.append(callback)

    def turn(self) -> bool:
        """Whether the loop does not sleep."""
        called, self._soon = self._soon, []
        for callback in called:
            callback()
        self.now += self.turn_ns
        return bool(self._soon)


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def kept(loop):
    return Awake(WINDOW, loop.clock)


def asked(kept, loop, after_ns: int) -> None:
    """A request that comes so long after the last answer, and its answer."""
    loop.now += after_ns
    kept.arrived()
    kept.answered(loop)


def turns(loop) -> int:
    count = 0
    while loop.turn():
        count += 1
        assert count < 10_000
    return count


def test_it_sleeps_after_a_request_that_came_late(kept, loop):
    asked(kept, loop, WINDOW)
    assert turns(loop) == 0
    asked(kept, loop, 10 * WINDOW)
    assert turns(loop) == 0


def test_after_one_that_came_soon_it_stays_awake_for_the_window(kept, loop):
    asked(kept, loop, WINDOW)
    asked(kept, loop, WINDOW - 1)
    begun = loop.now
    assert turns(loop) > 90
    assert WINDOW <= loop.now - begun <= WINDOW + 3 * loop.turn_ns
    # The next came late: what is waited for is what came last.
    asked(kept, loop, WINDOW)
    assert turns(loop) == 0


def test_a_request_meanwhile_begins_the_window_anew_in_one_chain_of_turns(kept, loop):
    asked(kept, loop, WINDOW)
    asked(kept, loop, 1_000)
    for _ in range(500):
        asked(kept, loop, WINDOW // 2)
        assert loop.turn()
        assert len(loop._soon) == 1
    assert 90 < turns(loop) < 110


def test_it_stands_back_where_another_process_wants_the_processor_and_longer_each_time(kept, loop):
    rests = []
    for _ in range(12):
        asked(kept, loop, WINDOW)
        asked(kept, loop, 1_000)
        assert loop.turn()
        loop.now += 4_000_000  # others run
        assert not loop.turn()
        rested = loop.now
        while True:
            asked(kept, loop, WINDOW)
            asked(kept, loop, 1_000)
            if loop.turn():
                break
        rests.append(loop.now - rested)
        turns(loop)
    assert rests[1] > 1.5 * rests[0]
    assert rests[-1] < 1_100_000_000


def test_long_work_of_its_own_is_no_other_process(kept, loop):
    asked(kept, loop, WINDOW)
    asked(kept, loop, 1_000)
    for _ in range(10):
        assert loop.turn()
        kept.arrived()
        loop.now += 5_000_000
        kept.answered(loop)
    assert loop.turn()


def test_without_a_window_it_never_stays(loop):
    kept = Awake(0, loop.clock)
    for _ in range(5):
        asked(kept, loop, 0)
        assert turns(loop) == 0


def test_processes_that_would_take_every_processor_have_no_window():
    assert awake.window_ns(awake._processors()) == 0
    assert awake.window_ns(0) == awake.WINDOW_NS


def test_a_server_that_was_asked_quickly_sleeps_when_nobody_asks(tmp_path):
    fill(tmp_path)
    with serving(tmp_path, world="tests.features.server.world") as server, server.connect() as client:
        for _ in range(300):
            assert client.ask("POST", "/v1/features/last", {"keys": ["a"]}).status == 200
        process = psutil.Process(server.process.pid)
        time.sleep(0.1)
        before = sum(process.cpu_times()[:2])
        time.sleep(1.0)
        # Awake all the time it would take all of the second, or what other processes leave of it.
        assert sum(process.cpu_times()[:2]) - before < 0.2
