"""What serving keeps in the database behaves alike on SQLite and on Postgres."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from rayplat.core.errors import NotFoundError, UserError
from rayplat.core.settings import Settings
from rayplat.serve.admission.bucket import Bucket
from rayplat.serve.admission.decision import Priority
from rayplat.serve.admission.known import KnownTokens
from rayplat.serve.admission.leases import Leases, lease_of
from rayplat.serve.admission.limits import Limits
from rayplat.serve.admission.shared import SharedLevels
from rayplat.serve.admission.tokens import TokenStore
from rayplat.serve.log.idempotency import Busy, Claimed, IdempotencyKeys, Kept, Mismatch
from rayplat.serve.log.peers import Peer, Peers
from rayplat.serve.outbox import Outbox
from tests.serve.logs import record
from tests.servers import fresh_database, postgres_url

__all__ = ["postgres_url"]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
_REPLICAS = 4


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request, tmp_path):
    if request.param == "sqlite":
        return Settings(home=tmp_path)
    return Settings(home=tmp_path, database=fresh_database(request.getfixturevalue("postgres_url")))


def _together(work):
    """Do something at once, as so many replicas; what each of them found."""
    found, begin = [], threading.Barrier(_REPLICAS)

    def one():
        begin.wait()
        found.append(work())

    threads = [threading.Thread(target=one) for _ in range(_REPLICAS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == _REPLICAS, "one of them has failed"
    return found


def test_tokens_are_made_rotated_and_revoked(settings):
    store = TokenStore(settings)
    limits = Limits(rate=5, burst=9, daily=100)
    first = store.create("shop", ("late:predict",), DAY, priority=Priority.HIGH, limits=limits, now=NOW)
    second = store.rotate(first.grant.token_id, DAY, HOUR, now=NOW + HOUR)
    version, (old, new) = store.grants()
    assert version == store.version() == 2
    assert (old.expires_at, new) == (NOW + 2 * HOUR, second.grant)
    assert (new.limits, new.priority, new.scopes) == (limits, Priority.HIGH, ("late:predict",))
    revoked = store.revoke(new.token_id, now=NOW + HOUR)
    assert revoked.revoked_at == NOW + HOUR
    assert store.revoke(new.token_id, now=NOW + DAY) == revoked
    with pytest.raises(UserError, match="revoked"):
        store.rotate(new.token_id, DAY, DAY, now=NOW + HOUR)
    with pytest.raises(NotFoundError):
        store.revoke("0" * 12)
    store.close()


def test_a_token_is_known_to_every_replica_and_its_end_within_a_second(settings):
    store = TokenStore(settings)
    made = store.create("shop", ("late:predict",), DAY)
    replicas = [KnownTokens(TokenStore(settings)) for _ in range(_REPLICAS)]
    for one in replicas:
        one.start()
    assert [one.find(made.token) for one in replicas] == [made.grant] * _REPLICAS
    store.revoke(made.grant.token_id)
    begin = time.monotonic()
    while any(one.find(made.token).standing(datetime.now(UTC)) == "valid" for one in replicas):
        assert time.monotonic() - begin < 1.0
        time.sleep(0.01)
    for one in replicas:
        one.close()
    store.close()


def test_tokens_made_at_once_are_all_there_and_counted(settings):
    def make():
        store = TokenStore(settings)
        made = [store.create("shop", ("late:predict",), DAY).grant.token_id for _ in range(3)]
        store.close()
        return made

    made = [one for found in _together(make) for one in found]
    store = TokenStore(settings)
    version, grants = store.grants()
    assert version == len(made)
    assert {grant.token_id for grant in grants} == set(made)
    store.close()


def test_a_bucket_gives_what_it_holds_and_no_more_whoever_takes(settings):
    def take():
        levels = SharedLevels(settings)
        taken = sum(levels.take("shop/day/1", Bucket(0, 100), 3, 5.0).granted for _ in range(12))
        levels.close()
        return taken

    assert sum(_together(take)) == 100
    levels = SharedLevels(settings)
    assert levels.take("shop/day/1", Bucket(0, 100), 1, 5.0).granted == 0
    assert levels.take("shop/day/2", Bucket(0, 100), 1, 5.0).granted == 1
    refilled = (
        levels.take("shop/rate", Bucket(10, 5), 9, 5.0),
        levels.take("shop/rate", Bucket(10, 5), 9, 5.3),
    )
    assert [one.granted for one in refilled] == [5, 3]
    levels.close()


def test_a_quota_holds_over_replicas_within_the_stated_bound(settings):
    bucket = Bucket(0, 200)
    lease = lease_of(bucket)

    def ask():
        leases, passed, end = Leases(SharedLevels(settings)), 0, time.monotonic() + 1.0
        while time.monotonic() < end:
            passed += leases.take("shop", bucket) == 0.0
            time.sleep(0.001)
        leases.close()
        return passed

    passed = sum(_together(ask))
    # The bound that `leases` states: 2 leases a replica too many, one too few.
    assert 200 - _REPLICAS * lease <= passed <= 200 + _REPLICAS * 2 * lease


def test_a_key_is_claimed_once_and_has_one_answer(settings):
    def claim():
        keys = IdempotencyKeys(settings, renewed_s=None)
        found = keys.claim("shop", "late", "k", b"{}", 1.0)
        if isinstance(found, Claimed):
            time.sleep(0.2)  # so that the others ask before there is an answer
            assert keys.settle(found, b"\x00answer", 2.0) == b"\x00answer"
        keys.close()
        return type(found)

    found = _together(claim)
    assert sorted(one.__name__ for one in found) == ["Busy"] * (_REPLICAS - 1) + ["Claimed"]
    keys = IdempotencyKeys(settings, renewed_s=None)
    assert keys.claim("shop", "late", "k", b"{}", 3.0) == Kept(b"\x00answer")
    assert keys.claim("shop", "late", "k", b"[]", 3.0) == Mismatch()
    slow = keys.claim("shop", "late", "slow", b"{}", 1.0)
    keys.renew(3.0)
    assert keys.claim("shop", "late", "slow", b"{}", 5.0) == Busy()
    successor = keys.claim("shop", "late", "slow", b"{}", 6.5)
    assert (keys.settle(slow, b"slow", 7.0), keys.settle(successor, b"other", 7.1)) == (b"slow", b"slow")
    keys.give_up(successor)
    assert keys.claim("shop", "late", "slow", b"{}", 8.0) == Kept(b"slow")
    keys.close()


def test_peers_are_told_renewed_and_withdrawn(settings):
    peers = Peers(settings)
    for name, at in (("one", 100.0), ("two", 90.0), ("one", 105.0)):
        peers.tell(Peer(name, f"node {name}", "127.0.0.1", 7, "s"), at)
    assert [p.name for p in peers.beside("elsewhere", "k", 104.0)] == ["one"]
    peers.withdraw("one")
    assert [p.name for p in peers.beside("elsewhere", "k", 95.0)] == ["two"]
    peers.close()


def test_the_outbox_numbers_rows_in_the_order_of_their_commits(settings):
    def write():
        outbox = Outbox(settings)
        for number in range(10):
            outbox.insert([record(number), record(number)])
        outbox.close()

    _together(write)
    outbox = Outbox(settings)
    ids, records = outbox.read(1, 1000)
    assert len(ids) == len({r.prediction_id for r in records}) == 20 * _REPLICAS
    assert ids == sorted(ids)
    assert outbox.delete_below(ids[-1] + 1) == len(ids)
    assert outbox.last_id() == ids[-1]
    outbox.insert([record()])
    assert outbox.read(1, 10)[0] == [ids[-1] + 1]
    outbox.close()
