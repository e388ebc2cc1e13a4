import http.client
import socket
import threading
import time

import orjson
import pytest

from rayplat.core.project.serving import Answering, Autoscale
from rayplat.serve.replicas.arrivals import asked_endpoint
from tests.serve.front.served import exchanged, question

from .kept import keeping, sit, spec_of, wait_for

BODY = b'{"instances": [{"shop": "north", "amount": 0.5}]}'
PATH = "/v1/endpoints/buys/predict"


class Clients:
    """Threads that ask all the time, each on one connection that stays open, and never ask twice."""

    def __init__(self, port, count):
        self.answered = 0
        self.failed = []
        self._port = port
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self):
        peer = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        while not self._over.is_set():
            try:
                peer.request("POST", PATH, BODY)
                answer = peer.getresponse()
                told = answer.read()
                bad = None if answer.status == 200 else (answer.status, told)
            except OSError as error:
                bad = error
                peer.close()
            with self._lock:
                self.answered += bad is None
                if bad is not None:
                    self.failed.append(bad)
        peer.close()

    def stop(self):
        self._over.set()
        for thread in self._threads:
            thread.join(20)


@pytest.mark.parametrize(
    ("seen", "endpoint"),
    [
        (b"POST /v1/endpoints/buys/predict HTTP/1.1\r\n", "buys"),
        (b"GET /endpoints/buys HTTP/1.1\r\n", "buys"),
        (b"GET /v2/models/b_2?x HTTP/1.1\r\n", "b_2"),
        (b"GET /v2/health/live HTTP/1.1\r\n", None),
        (b"POST /v1/endpoints/../predict HTTP/1.1\r\n", None),
        (b"POST /v1/endpoints/Buys/predict HTTP/1.1\r\n", None),
        (b"POST /v1/endpoints/buys%2f HTTP/1.1\r\n", None),
        (b"\x16\x03\x01", None),
    ],
)
def test_the_first_line_names_the_endpoint(seen, endpoint):
    assert asked_endpoint(seen) == endpoint


def test_replicas_come_and_go_under_load_and_no_request_fails(tmp_path):
    spec = spec_of(tmp_path, autoscale=Autoscale(1, 4))
    with keeping(tmp_path / "front") as keeper:
        fronts = [sit(keeper, spec)]
        clients = Clients(keeper.port, 8)
        wait_for(lambda: clients.answered > 50)
        for _ in range(6):
            fronts.append(sit(keeper, spec))
            time.sleep(0.15)
            fronts.pop(0).close()
            time.sleep(0.05)
        seen = clients.answered
        wait_for(lambda: clients.answered > seen + 50)
        clients.stop()
        for front in fronts:
            front.close()
    assert clients.failed == []


def test_a_new_replica_gets_its_part_of_connections_that_stay_open(tmp_path):
    def slow(x):
        time.sleep(0.01)
        return x.nan_to_num()[:, 0]

    spec = spec_of(tmp_path, autoscale=Autoscale(1, 4))
    with keeping(tmp_path / "front") as keeper:
        first = sit(keeper, spec, slow)
        clients = Clients(keeper.port, 8)
        wait_for(lambda: clients.answered > 20)
        told = []

        def other(x):
            told.append(len(x))
            return slow(x)

        second = sit(keeper, spec, other)
        wait_for(lambda: len(told) > 20)
        clients.stop()
        first.close()
        second.close()
    assert clients.failed == []


def test_a_replica_that_has_become_idle_is_seen_so_at_once(tmp_path):
    def slow(x):
        time.sleep(0.03)
        return x.nan_to_num()[:, 0]

    with keeping(tmp_path / "front") as keeper:
        front = sit(keeper, spec_of(tmp_path), slow)
        clients = Clients(keeper.port, 3)
        wait_for(lambda: keeper.told()["buys"]["ongoing"] > 1)
        peer = http.client.HTTPConnection("127.0.0.1", keeper.port, timeout=20)
        clients.stop()
        peer.request("POST", PATH, BODY)
        peer.getresponse().read()
        # Its connection stays open; a report comes every 50 ms, and every second where nothing has changed.
        wait_for(lambda: keeper.told()["buys"]["ongoing"] == 0, 0.6)
        peer.close()
        front.close()


def test_connections_wait_for_a_replica_so_many_and_so_long(tmp_path):
    spec = spec_of(tmp_path, answering=Answering(timeout_s=1.5, waiting=2))
    with keeping(tmp_path / "front") as keeper:
        sit(keeper, spec).close()  # now the endpoint is known
        wait_for(lambda: keeper.told()["buys"]["replicas"] == 0)
        peers = [socket.create_connection(("127.0.0.1", keeper.port)) for _ in range(3)]
        for peer in peers:
            peer.settimeout(10)
            peer.sendall(question(BODY))
            time.sleep(0.1)
        assert peers[2].recv(1000).startswith(b"HTTP/1.1 503")
        assert keeper.told()["buys"]["held"] == 2
        assert b"retry-after: 1" in peers[0].recv(1000)
        assert peers[1].recv(1000).startswith(b"HTTP/1.1 503")
        held = threading.Thread(target=lambda: told.append(exchanged(keeper.port, question(BODY))))
        told = []
        held.start()
        wait_for(lambda: keeper.told()["buys"]["held"] == 1)
        front = sit(keeper, spec)
        held.join(10)
        assert told[0].startswith(b"HTTP/1.1 200")
        front.close()
        for peer in peers:
            peer.close()


def test_who_says_half_a_line_is_no_burden_and_unknown_endpoints_are_told_so(tmp_path):
    with keeping(tmp_path / "front") as keeper:
        with socket.create_connection(("127.0.0.1", keeper.port)) as half:
            half.sendall(b"POST /v1/end")
            assert exchanged(keeper.port, question(BODY)).startswith(b"HTTP/1.1 404")
            assert b"true" in exchanged(keeper.port, b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
            front = sit(keeper, spec_of(tmp_path))
            wait_for(lambda: "buys" in keeper.told())
            half.sendall(question(BODY)[len(b"POST /v1/end") :])
            half.settimeout(5)
            assert half.recv(100).startswith(b"HTTP/1.1 200")
        gone = exchanged(keeper.port, question(BODY, "/v1/endpoints/none/predict"))
        assert gone.startswith(b"HTTP/1.1 404")
        front.close()


def test_replicas_sit_down_again_at_a_keeper_that_was_started_anew(tmp_path):
    spec = spec_of(tmp_path, autoscale=Autoscale(0, 3))
    with keeping(tmp_path / "front") as keeper:
        front = sit(keeper, spec)
        assert exchanged(keeper.port, question(BODY)).startswith(b"HTTP/1.1 200")
    with pytest.raises(ConnectionRefusedError):
        exchanged(keeper.port, question(BODY))
    with keeping(tmp_path / "front", port=keeper.port) as again:
        assert again.told()["buys"]["target"] == 1  # known before anybody sits
        assert exchanged(again.port, question(BODY)).startswith(b"HTTP/1.1 200")
        front.close()
        again.forget("buys")
        assert again.told() == {}
        sit(again, spec).close()
        wait_for(lambda: "buys" in again.told())
    with keeping(tmp_path / "front", port=keeper.port, session="another cluster") as again:
        assert again.told() == {}
        assert exchanged(again.port, question(BODY)).startswith(b"HTTP/1.1 404")


def test_the_number_that_is_wanted_follows_the_load_and_outlives_the_keeper(tmp_path):
    def slow(x):
        time.sleep(0.02)
        return x.nan_to_num()[:, 0]

    scale = Autoscale(1, 4, ongoing=2, calm_s=0.3)
    spec = spec_of(tmp_path, autoscale=scale)
    file = tmp_path / "front" / "keeper-{}" / "buys.wanted"
    with keeping(tmp_path / "front") as keeper:
        file = tmp_path / "front" / f"keeper-{keeper.port}" / "buys.wanted"
        front = sit(keeper, spec, slow)
        wait_for(file.exists)
        assert file.read_text() == "1"
        clients = Clients(keeper.port, 8)
        wait_for(lambda: file.read_text() == "4")
        clients.stop()
        wait_for(lambda: file.read_text() == "1")
        front.close()
        assert clients.failed == []
    kept = orjson.loads((file.parent / "buys.kept").read_bytes())
    assert kept["told"]["autoscale"]["most"] == 4
    assert (file.parent / "buys.kept").stat().st_mode & 0o077 == 0
