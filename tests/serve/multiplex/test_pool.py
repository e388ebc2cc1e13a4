import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from rayplat.core.errors import UnavailableError
from rayplat.serve.multiplex.pool import FAILED_FOR_S, Lease, Pool


class Loader:
    """Loads names; counts, can be held, and can fail."""

    def __init__(self):
        self.loads = []
        self.dropped = []
        self.fails = set()
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, name):
        assert self.go_on.wait(20)
        self.loads.append(name)
        if name in self.fails:
            raise ValueError(f"{name} is broken")
        return [name]

    def drop(self, value):
        self.dropped.append(value[0])


@pytest.fixture
def loader():
    return Loader()


@pytest.fixture
def make(loader):
    made = []

    def pool(**more):
        made.append(Pool(loader, dropped=loader.drop, **more))
        return made[-1]

    yield pool
    loader.go_on.set()
    for one in made:
        one.close()


def asked(pool, name):
    found: Future[Lease] = Future()

    def told(lease):
        if isinstance(lease, Exception):
            found.set_exception(lease)
        else:
            found.set_result(lease)

    pool.ask(name, told)
    return found


def used(pool, *names):
    for name in names:
        lease = asked(pool, name).result(20)
        assert lease.value == [name]
        lease.done()


def test_the_least_recently_used_one_is_let_go(make, loader):
    pool = make(kept=3)
    used(pool, "a", "b", "c", "a", "d")
    assert (pool.loaded, loader.dropped) == (["c", "a", "d"], ["b"])
    used(pool, "c", "b")
    assert (pool.loaded, loader.dropped) == (["d", "c", "b"], ["b", "a"])
    assert loader.loads == ["a", "b", "c", "d", "b"]


def test_fifty_that_ask_at_once_load_it_once(make, loader):
    pool = make(kept=2)
    loader.go_on.clear()
    with ThreadPoolExecutor(50) as many:
        found = list(many.map(lambda _: asked(pool, "a"), range(50)))
        loader.go_on.set()
        leases = [one.result(20) for one in found]
    assert loader.loads == ["a"]
    assert len({id(lease.value) for lease in leases}) == 1
    used(pool, "b", "c")
    assert loader.dropped == []  # fifty have it
    for lease in leases[:-1]:
        lease.done()
    assert loader.dropped == []
    leases[-1].done()
    leases[-1].done()
    assert loader.dropped == ["a"]


def test_who_is_at_work_keeps_what_was_let_go(make, loader):
    pool = make(kept=1)
    working = asked(pool, "a").result(20)
    used(pool, "b")
    assert (pool.loaded, loader.dropped, working.value) == (["b"], [], ["a"])
    again = asked(pool, "a").result(20)  # a new one: the old one is given to nobody any more
    assert again.value is not working.value
    assert loader.dropped == ["b"]
    working.done()
    assert loader.dropped == ["b", "a"]
    again.done()


def test_one_that_cannot_be_loaded_is_its_own_affair_and_is_tried_again_later(loader):
    now = [0.0]
    pool = Pool(loader, kept=2, clock=lambda: now[0])
    loader.fails.add("bad")
    used(pool, "good")
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"):
            asked(pool, "bad").result(20)
    assert loader.loads == ["good", "bad"]
    used(pool, "good")
    loader.fails.clear()
    now[0] = FAILED_FOR_S
    used(pool, "bad")
    assert pool.loaded == ["good", "bad"]
    pool.close()


def test_one_that_loads_holds_nobody_else_up(make, loader):
    pool = make(kept=2)
    used(pool, "a")
    loader.go_on.clear()
    slow = asked(pool, "b")
    used(pool, "a")
    assert not slow.done()
    loader.go_on.set()
    slow.result(20).done()


def test_their_size_is_bounded_but_one_always_fits(make, loader):
    sizes = {"a": 40, "b": 50, "c": 30, "big": 500}
    pool = make(kept=10, most_bytes=100, size_of=lambda value: sizes[value[0]])
    used(pool, "a", "b")
    assert pool.loaded == ["a", "b"]
    used(pool, "c")
    assert pool.loaded == ["b", "c"]
    used(pool, "big")
    assert (pool.loaded, loader.dropped) == (["big"], ["a", "b", "c"])


def test_many_threads_over_many_names_never_hold_more_than_may_be(make, loader):
    pool, names = make(kept=3), "abcdefg"
    most = []

    def work(seed):
        for i in range(100):
            lease = asked(pool, names[(i * (seed + 1)) % len(names)]).result(20)
            most.append(len(pool.loaded))
            lease.done()

    with ThreadPoolExecutor(8) as many:
        list(many.map(work, range(8)))
    assert max(most) <= 3
    # Each that was loaded was let go once, but for those that are left.
    assert sorted(loader.dropped + pool.loaded) == sorted(loader.loads)


def test_a_pool_that_is_closed_loads_nothing_and_lets_everything_go(loader):
    pool = Pool(loader, kept=2, dropped=loader.drop)
    used(pool, "a")
    held = asked(pool, "b").result(20)
    pool.close()
    assert loader.dropped == ["a"]
    held.done()
    assert loader.dropped == ["a", "b"]
    with pytest.raises(UnavailableError):
        asked(pool, "c").result(20)
