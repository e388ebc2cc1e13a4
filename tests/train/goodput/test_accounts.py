"""Whatever workers tell and whenever they end, the categories add up to their lives exactly."""

from hypothesis import given
from hypothesis import strategies as st

from rayplat.train.goodput.accounts import Accounts
from rayplat.train.goodput.spending import NS, Spending, Spent
from rayplat.train.goodput.stopwatch import Stopwatch

AMOUNT = st.integers(0, 10**12)
EVENT = st.tuples(
    st.sampled_from(["tell", "end", "begin"]), st.integers(0, 3), AMOUNT, st.sampled_from(Spent)
)


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


@given(st.lists(EVENT, max_size=60), st.sampled_from(Spent))
def test_the_categories_add_up_to_wall_time_by_workers(events, rest):
    """Also where a worker claims more than its life, as one with a faster clock would."""
    accounts, now, born, lives = Accounts(), 0, {}, 0
    for what, worker, amount, spent in events:
        now += amount
        if what == "begin" and worker not in born:
            born[worker] = now
            accounts.began(str(worker), now)
        elif what == "tell":
            accounts.told(str(worker), Spending({spent: amount}))
        elif what == "end" and worker in born:
            lives += now - born.pop(worker)
            accounts.ended(str(worker), now, spent)
    expected = lives + sum(now - at for at in born.values())
    total = accounts.spent(now, dict.fromkeys(map(str, born), rest))
    assert total.total_ns == expected
    assert all(ns >= 0 for ns in total.ns.values())


def test_workers_that_are_there_all_the_time_give_wall_time_times_workers():
    accounts = Accounts()
    for worker in range(3):
        accounts.began(str(worker), 5 * NS)
    for worker in range(3):
        accounts.ended(str(worker), 25 * NS, Spent.IDLE)
    assert accounts.spent(30 * NS).total_ns == 3 * 20 * NS


def test_a_killed_worker_lost_what_it_had_in_work():
    accounts = Accounts(Spending({Spent.CHECKPOINT: 7}))
    accounts.began("a", 0)
    accounts.told("a", Spending({Spent.RESTART: 10, Spent.PRODUCTIVE: 70}))
    accounts.ended("a", 100, Spent.RECOMPUTE)
    accounts.ended("a", 200, Spent.IDLE)  # it is told once more: that means nothing
    expected = {Spent.CHECKPOINT: 7, Spent.RESTART: 10, Spent.PRODUCTIVE: 70, Spent.RECOMPUTE: 20}
    assert accounts.spent(300).ns == expected


DOING = st.sampled_from(["step", "again", "broken", "save", "input", "restart"])


@given(st.lists(st.tuples(DOING, AMOUNT, AMOUNT), max_size=40))
def test_a_stopwatch_adds_up_to_its_time_whatever_is_done(done):
    clock = Clock()
    watch = Stopwatch(clock)
    productive = saved = 0
    for what, one, other in done:
        if what in ("step", "again", "broken"):
            watch.begin_step()
            clock.now += one
            with watch.during(Spent.CHECKPOINT):
                clock.now += other
            saved += other
            if what == "broken":
                watch.enter(Spent.RESTART)
            else:
                watch.end_step(counts=what == "step")
                productive += one if what == "step" else 0
                watch.enter(Spent.INPUT)
        elif what == "save":
            watch.enter(Spent.INPUT)
            with watch.during(Spent.CHECKPOINT):
                clock.now += one
            saved += one
        else:
            watch.enter(Spent.INPUT if what == "input" else Spent.RESTART)
            clock.now += one
        assert watch.spent().total_ns == clock.now
    assert watch.spent().ns.get(Spent.PRODUCTIVE, 0) == productive
    assert watch.spent().ns.get(Spent.CHECKPOINT, 0) == saved


def test_a_step_in_work_is_told_as_lost_until_it_is_done():
    clock = Clock()
    watch = Stopwatch(clock)
    watch.begin_step()
    clock.now = 5
    assert watch.spent().ns == {Spent.RECOMPUTE: 5}
    watch.end_step(counts=True)
    assert watch.spent().ns == {Spent.PRODUCTIVE: 5}
