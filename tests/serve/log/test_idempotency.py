import subprocess
import sys
import threading
import time

import pytest

from rayplat.core.errors import UserError
from rayplat.core.settings import Settings
from rayplat.serve.log.idempotency import Busy, Claimed, IdempotencyKeys, Kept, Mismatch


@pytest.fixture
def keys(tmp_path):
    found = IdempotencyKeys(Settings(home=tmp_path), renewed_s=None)
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


def test_of_a_slow_replica_and_its_successor_who_settles_first_has_given_the_answer(keys):
    slow = _claim(keys)
    successor = _claim(keys, now=4.0)
    assert isinstance(successor, Claimed)
    assert keys.settle(slow, b"slow", 4.5) == b"slow"
    assert keys.settle(successor, b"successor", 5.0) == b"slow"
    assert _claim(keys, now=6.0) == Kept(b"slow")
    assert _claim(keys, request=b"{ }", now=6.0) == Mismatch()


def test_a_claim_that_is_renewed_holds(keys):
    claimed = _claim(keys)
    keys.renew(2.5)
    assert _claim(keys, now=5.0) == Busy()
    keys.settle(claimed, b"answer", 5.2)
    keys.renew(90_000.0)
    assert isinstance(_claim(keys, now=90_001.0), Claimed), "an answer is not renewed"


def test_claims_are_renewed_as_long_as_the_work_takes(tmp_path):
    settings = Settings(home=tmp_path)
    keys = IdempotencyKeys(settings, lapses_s=0.5, renewed_s=0.1)
    _claim(keys, now=time.time())
    time.sleep(1.0)
    other = IdempotencyKeys(settings)
    assert _claim(other, now=time.time()) == Busy()
    other.close()
    keys.close()


_CLAIM = """
import sys, threading, time
from pathlib import Path
from rayplat.core.settings import Settings
from rayplat.serve.log.idempotency import IdempotencyKeys

keys = IdempotencyKeys(Settings(home=Path(sys.argv[1])))
print(type(keys.claim("shop", "late", "k", b"{}", time.time())).__name__, flush=True)
threading.Event().wait()
"""


def test_a_key_that_a_killed_replica_has_claimed_is_free_at_once(tmp_path):
    keys = IdempotencyKeys(Settings(home=tmp_path))
    owner = subprocess.Popen([sys.executable, "-c", _CLAIM, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline().strip() == "Claimed"
    assert _claim(keys, now=time.time()) == Busy()
    owner.kill()
    owner.wait()
    owner.stdout.close()
    begin = time.monotonic()
    claimed = _claim(keys, now=time.time())
    assert isinstance(claimed, Claimed)
    assert time.monotonic() - begin < 1.0, "long before the claim lapses"
    assert keys.settle(claimed, b"answer", time.time()) == b"answer"
    keys.close()


def test_a_key_that_another_machine_has_claimed_is_free_when_it_is_not_renewed(keys, tmp_path):
    _claim(keys)
    shared = f"sqlite:///{tmp_path}/rayplat.db"
    other = IdempotencyKeys(Settings(home=tmp_path / "other", database=shared), renewed_s=None)
    assert _claim(other, now=2.9) == Busy()
    assert isinstance(_claim(other, now=3.1), Claimed)
    other.close()
