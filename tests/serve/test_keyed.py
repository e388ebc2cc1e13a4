"""An Idempotency-Key through HTTP: two replicas of one platform, and both doors of each."""

import asyncio
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest

from rayplat.core.settings import Settings
from rayplat.serve.admission.admission import open_admission
from rayplat.serve.admission.grant import Limits
from rayplat.serve.admission.tokens import TokenStore
from rayplat.serve.http import EndpointApp
from rayplat.serve.keyed import KeyedRequests
from rayplat.serve.log.idempotency import IdempotencyKeys

from .front.served import FORM, MemoryLog, fronted, good, served

PREDICT = "/v1/endpoints/buys/predict"


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


@contextlib.contextmanager
def keys_of(settings):
    found = KeyedRequests(IdempotencyKeys(settings))
    try:
        yield found
    finally:
        found.close()


@contextlib.contextmanager
def replica(settings, log, network=None, admission=None):
    """A front over the platform's keys: how to ask it."""
    of = served(network=network) if network else served()
    with keys_of(settings) as keyed, fronted(of, log=log, keyed=keyed, admission=admission) as front:

        def ask(key, content=None, path=PREDICT, **headers):
            more = {"idempotency-key": key} if key is not None else {}
            url = f"http://127.0.0.1:{front.port}{path}"
            return httpx.post(url, content=content or good(), headers=more | headers, timeout=20)

        yield ask


@contextlib.contextmanager
def served_door(settings, log, admission=None):
    """The application behind Ray Serve's door: how to ask it."""
    app = EndpointApp(
        served().predictor, FORM, log, {}, admission, keyed=KeyedRequests(IdempotencyKeys(settings))
    )

    def ask(key, content=None, **headers):
        async def once():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
                more = {"idempotency-key": key} if key is not None else {}
                return await http.post("/predict", content=content or good(), headers=more | headers)

        return asyncio.run(once())

    yield ask
    app.close()


def test_a_key_gives_one_answer_over_replicas_and_doors(settings):
    logs = [MemoryLog() for _ in range(3)]
    with (
        replica(settings, logs[0]) as one,
        replica(settings, logs[1]) as other,
        served_door(settings, logs[2]) as door,
    ):
        first = one("k")
        assert first.status_code == 200
        assert other("k").content == first.content
        assert one("k", path="/endpoints/buys/predict").content == first.content
        assert door("k").content == first.content
        second = door("another")
        assert second.status_code == 200
        assert one("another").content == second.content
        assert [len(log.records) for log in logs] == [1, 0, 1]
        assert logs[2].records[0].idempotency_key == "another"
        assert one(None).content != one(None).content


def test_another_request_under_a_key_is_refused(settings):
    with replica(settings, MemoryLog()) as one, served_door(settings, MemoryLog()) as door:
        assert one("k").status_code == 200
        wrong = one("k", good(0.75))
        assert (wrong.status_code, wrong.headers["content-type"]) == (422, "application/problem+json")
        assert door("k", good(0.75)).status_code == 422
        assert one("x" * 256).status_code == door("x" * 256).status_code == 400


def test_duplicates_at_once_are_told_to_wait_and_one_is_answered(settings):
    begun, go_on, log = threading.Event(), threading.Event(), MemoryLog()

    def slow(x):
        begun.set()
        assert go_on.wait(10)
        return x[:, 0]

    with (
        replica(settings, log, slow) as one,
        replica(settings, log) as other,
        served_door(settings, log) as door,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(one, "k")
        assert begun.wait(10)
        for busy in (other("k"), door("k")):
            assert (busy.status_code, busy.headers["retry-after"]) == (409, "1")
        go_on.set()
        assert first.result().status_code == 200
        assert other("k").content == first.result().content
        assert len(log.records) == 1


def test_what_was_not_answered_may_be_asked_again_under_its_key(settings):
    log = MemoryLog()
    with replica(settings, log) as one, served_door(settings, log) as door:
        for ask in (one, door):
            log.error = OSError("disk full")
            assert ask(f"k{ask}").status_code in (500, 503)
            log.error = None
            assert ask(f"k{ask}").status_code == 200


def test_a_request_without_a_key_never_meets_the_database(settings):
    log = MemoryLog()
    with replica(settings, log) as one, served_door(settings, log) as door:
        assert one(None).status_code == door(None).status_code == 200
        assert not (settings.home / "rayplat.db").exists()


@pytest.mark.parametrize("kind", [replica, served_door])
def test_a_quota_counts_instances(tmp_path, kind):
    settings = Settings(home=tmp_path, serve={"auth": "token"})
    store, log = TokenStore(settings), MemoryLog()
    made = store.create("shop", ("buys:predict",), timedelta(days=1), limits=Limits(daily=1000))
    store.close()
    batch = b'{"instances":[%s]}' % b",".join([b'{"shop":"north","amount":1}'] * 100)
    admission = open_admission(settings)
    told = []
    with kind(settings, log, admission=admission) as ask:
        for _ in range(25):
            told.append(ask(None, batch, authorization=f"Bearer {made.token}").status_code)
            time.sleep(0.02)
        logged = len(log.records)
    if kind is replica:
        admission.close()
    # 1,000, and two leases of 50 and one batch on credit: see `leases`.
    assert 900 <= logged <= 1200
    assert logged == 100 * told.count(200)
    assert set(told) == {200, 429}
