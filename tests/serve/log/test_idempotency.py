import threading

import pytest

from rayplat.core.errors import UserError
from rayplat.core.settings import Settings
from rayplat.serve.log.idempotency import Busy, Claimed, IdempotencyKeys, Kept, Mismatch


@pytest.fixture
def keys(tmp_path):
    found = IdempotencyKeys(Settings(home=tmp_path))
    yield found
    found.close()


def _claim(keys, key="k", caller="shop", request=b"{}", now=0.0):
    return keys.claim(caller, "late", key, request, now)


def test_a_request_sent_again_gets_the_answer_of_the_first(keys, tmp_path):
    claimed = _claim(keys)
    assert _claim(keys) == Busy()
    assert keys.settle(claimed, b"answer", 1.0) == b"answer"
    other_replica = IdempotencyKeys(Settings(home=tmp_path))
    assert _claim(other_replica, now=2.0) == Kept(b"answer")
    other_replica.close()


def test_another_request_under_the_key_is_told_apart(keys):
    keys.settle(_claim(keys), b"answer", 0.0)
    assert _claim(keys, request=b"{ }") == Mismatch()


def test_keys_of_callers_are_their_own(keys):
    keys.settle(_claim(keys, key="bc", caller="a"), b"answer", 0.0)
    assert isinstance(_claim(keys, key="c", caller="ab"), Claimed)


def test_an_answer_is_kept_for_a_day(keys):
    keys.settle(_claim(keys), b"answer", 0.0)
    assert _claim(keys, now=86_399.0) == Kept(b"answer")
    assert isinstance(_claim(keys, now=86_401.0), Claimed)


def test_what_was_given_up_or_has_lapsed_may_be_tried_again(keys):
    first = _claim(keys)
    keys.give_up(first)
    second = _claim(keys)
    third = _claim(keys, now=61.0)
    assert isinstance(second, Claimed)
    assert isinstance(third, Claimed)
    assert keys.settle(third, b"third", 62.0) == b"third"
    assert keys.settle(second, b"second", 63.0) == b"third", "the answer that somebody may have"
    keys.give_up(second)
    assert _claim(keys, now=64.0) == Kept(b"third")


def test_of_many_at_once_one_does_the_work(keys, tmp_path):
    _claim(keys, key="other")
    found = []

    def ask():
        mine = IdempotencyKeys(Settings(home=tmp_path))
        found.append(_claim(mine))
        mine.close()

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(one).__name__ for one in found) == ["Busy"] * 11 + ["Claimed"]


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_has_a_length(keys, key):
    with pytest.raises(UserError):
        _claim(keys, key=key)
