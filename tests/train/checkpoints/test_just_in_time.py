import hypothesis
import hypothesis.strategies as st

from rayplat.core.errors import UnavailableError
from rayplat.train.checkpoints.just_in_time import Notice, SaveNow, Stand, TrainOn, decide_just_in_time
from rayplat.train.checkpoints.writer import SaveHandle
from rayplat.train.elastic.notice import Departure


def test_the_choices():
    assert decide_just_in_time(Notice(60, 1, 0)) == SaveNow(last=False)
    assert decide_just_in_time(Notice(60, 1, 2, saved=True)) == TrainOn()
    assert decide_just_in_time(Notice(5, 1, 2, saved=True)) == SaveNow(last=True)
    assert decide_just_in_time(Notice(5, 1, 2, saved=True, last=True)) == Stand()
    assert decide_just_in_time(Notice(-1, 1, 0)) == SaveNow(last=True)


class World:
    """A node with a clock: steps and saves take their time, and it goes at the deadline."""

    def __init__(self, step_s: float, durable_s: float) -> None:
        self.now, self.step, self._step_s, self._durable_s = 1000.0, 0, step_s, durable_s
        self.saved: list[tuple[int, float]] = []
        self.fails = 0

    def save(self) -> SaveHandle:
        handle = SaveHandle(self.step)
        self.now += 0.01 * self._durable_s
        if self.fails:
            self.fails -= 1
            handle.end(UnavailableError("the disk is full"))
            return handle
        self.saved.append((self.step, self.now + self._durable_s))
        handle.end()
        handle.durable_s = self._durable_s
        return handle

    def train_until_gone(self, departure: Departure, deadline: float) -> int:
        """Steps until the node goes, or the member stands; how many steps were done."""
        while self.now < deadline:
            if not departure.step_ended(self.save):
                break
            self.now += self._step_s
            if self.now < deadline:
                self.step += 1
        return self.step


@hypothesis.given(step_s=st.floats(0.01, 20), durable_s=st.floats(0.01, 10), notice_s=st.floats(30, 120))
def test_at_most_one_step_is_lost_and_the_last_save_is_in_time(step_s, durable_s, notice_s):
    world, departure = World(step_s, durable_s), Departure(lambda: world.now)
    departure.step_ended(world.save)
    world.now += step_s
    departure.announce(world.now + notice_s)
    deadline = world.now + notice_s
    done = world.train_until_gone(departure, deadline)
    kept = max(step for step, durable in world.saved if durable <= deadline)
    assert done - kept <= 1
    assert len(world.saved) <= 2


def test_a_deadline_that_nobody_knows_is_a_save_at_once_and_nothing_more():
    world = World(1, 1)
    departure = Departure(lambda: world.now)
    departure.announce(0)
    assert all(departure.step_ended(world.save) for _ in range(5))
    assert len(world.saved) == 1


def test_who_lives_on_after_the_deadline_trains_on():
    world = World(1, 1)
    departure = Departure(lambda: world.now)
    departure.announce(world.now + 0.4)
    assert not departure.step_ended(world.save)
    world.now += 20
    assert not departure.step_ended(world.save)
    world.now += 20
    assert departure.step_ended(world.save)
    assert departure.step_ended(world.save)
    assert len(world.saved) == 2


def test_a_last_save_that_fails_is_tried_again():
    world = World(0.1, 0.1)
    departure = Departure(lambda: world.now)
    world.fails = 1
    departure.announce(world.now + 0.5)
    departure.step_ended(world.save)
    departure.step_ended(world.save)
    assert [step for step, _ in world.saved] == [0]
