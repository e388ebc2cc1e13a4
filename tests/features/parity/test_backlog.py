"""Who is refused because of what waits for the lakehouse, and until when."""

import pickle

import pytest

from rayplat.features.parity.backlog import FEW, LOOK_S, Backlog, BacklogError

MANY = FEW + 1


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def backlog(tmp_path, clock):
    return Backlog(tmp_path, (".answers",), much=1_000, most=2_000, file_bytes=100, clock=clock)


def put(folder, *sizes):
    for number, size in enumerate(sizes):
        (folder / f"{number}.answers").write_bytes(bytes(size))


def refused(backlog, entities):
    with pytest.raises(BacklogError, match="wait for the lakehouse") as caught:
        backlog.admit(entities)
    return caught.value.retry_after_s


def test_up_to_the_mark_everybody_goes_on(backlog, tmp_path):
    put(tmp_path, 600, 400)
    backlog.look()
    assert backlog.bytes == 1_000
    backlog.admit(100_000)


def test_over_the_mark_few_go_on_and_over_the_most_nobody(backlog, tmp_path):
    put(tmp_path, 600, 400)
    backlog.look()
    backlog.add(1)
    put(tmp_path, 601, 400)
    refused(backlog, MANY)
    backlog.admit(FEW)
    backlog.add(1_000)
    refused(backlog, 1)


def test_what_has_gone_lets_them_in_again(backlog, tmp_path, clock):
    put(tmp_path, 600, 600)
    backlog.look()
    refused(backlog, MANY)
    (tmp_path / "0.answers").unlink()
    refused(backlog, MANY)  # it has just looked
    clock.now += LOOK_S
    backlog.admit(MANY)


def test_the_wait_is_told_by_the_rate_at_which_files_go(backlog, tmp_path, clock):
    put(tmp_path, *[100] * 20)
    backlog.look()
    clock.now += 10
    for number in range(5):
        (tmp_path / f"{number}.answers").unlink()
    # 500 bytes in 10 seconds, and 500 too many.
    assert refused(backlog, MANY) == 10
    clock.now += 5
    (tmp_path / "5.answers").unlink()
    # 600 bytes in 15 seconds, and 400 too many.
    assert refused(backlog, MANY) == 10


def test_the_rate_is_known_still_when_the_mark_is_crossed_again(backlog, tmp_path, clock):
    put(tmp_path, *[100] * 11)
    backlog.look()
    clock.now += 10
    (tmp_path / "0.answers").unlink()
    (tmp_path / "1.answers").unlink()
    backlog.look()
    backlog.admit(MANY)
    put(tmp_path, *[100] * 15)
    backlog.look()
    # 200 bytes in 10 seconds, and 500 too many.
    assert refused(backlog, MANY) == 25


def test_where_nothing_goes_the_wait_grows_and_is_bounded(backlog, tmp_path, clock):
    put(tmp_path, 1_200)
    backlog.look()
    told = []
    for _ in range(50):
        told.append(refused(backlog, MANY))
        clock.now += 3
    assert told == sorted(told)
    assert (told[0], told[-1]) == (1, 60)


def test_a_rate_of_long_ago_is_forgotten(backlog, tmp_path, clock):
    put(tmp_path, 1_300, *[100] * 7)
    backlog.look()
    clock.now += 10
    for number in range(1, 8):
        (tmp_path / f"{number}.answers").unlink()
    early = refused(backlog, MANY)
    for _ in range(200):
        clock.now += 3
        late = refused(backlog, MANY)
    assert (early, late) == (5, 60)


def test_the_error_survives_pickling():
    error = pickle.loads(pickle.dumps(BacklogError("what", "mend", 7)))
    assert (error.what, error.mend, error.retry_after_s) == ("what", "mend", 7)
