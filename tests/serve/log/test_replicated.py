"""The class `replicated` on two machines, which here are two homes that share a database and a warehouse."""

import contextlib
import os
import shutil
import socket
import struct
import threading
import time

import orjson
import pytest

from rayplat.core.errors import UnavailableError
from rayplat.core.events import EventBus
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.serve.log.copies import open_copy
from rayplat.serve.log.frames import frame
from rayplat.serve.log.local import LocalLog
from rayplat.serve.log.mirror import Mirror
from rayplat.serve.log.peer import CopyServer, LogPeer
from rayplat.serve.log.peers import Peer, Peers
from rayplat.serve.log.places import copies_folder, replicated_folder, ship_all
from rayplat.serve.log.rows import TABLE, payload
from rayplat.serve.log.shipping import ship
from rayplat.serve.log.slot import hold_new, retire, segments, slots, writer_lock
from rayplat.serve.log.wire import PIECE
from tests.serve.logs import record
from tests.serve.replicas.kept import wait_for

SECRET = "s" * 64


def _settings(tmp_path, home):
    shared = tmp_path / "shared"
    return Settings.model_validate(
        {
            "home": tmp_path / home,
            "database": f"sqlite:///{shared}/rayplat.db",
            "warehouse": f"file://{shared}/warehouse",
            "serve": {"log": "replicated"},
        }
    )


class _Nodes:
    """Servers of copies, and a log of node `a` that is mirrored to them."""

    def __init__(self, tmp_path):
        self.tmp_path = tmp_path
        self.a = _settings(tmp_path, "a")
        self.servers, self.known, self.logs = {}, [], []

    def add(self, node, **options):
        place = copies_folder(_settings(self.tmp_path, node), node)
        place.mkdir(parents=True, exist_ok=True)
        server = self.servers[node] = CopyServer(place, SECRET, "127.0.0.1", **options)
        server.start()
        self.known.append(Peer(node, node, "127.0.0.1", server.port, SECRET))
        return place

    def lose(self, node):
        self.servers.pop(node).close()
        self.known = [peer for peer in self.known if peer.node != node]

    def log(self, sync="disk", **options):
        mirror = Mirror(lambda: list(self.known), disk=sync == "disk", clock=lambda: 0.0)
        mirror._failed_at = float("-inf")
        log = LocalLog(
            replicated_folder(self.a, "a"), sync=sync, take=hold_new, elsewhere=_Patient(mirror), **options
        )
        self.logs.append(log)
        return log

    def close(self):
        for log in self.logs:
            log.close()
        for server in self.servers.values():
            server.close()


class _Patient:
    """A mirror that asks again at once after nobody was there."""

    def __init__(self, mirror):
        self._mirror = mirror

    def send(self, slot, start, size):
        self._mirror._failed_at = float("-inf")
        self._mirror.send(slot, start, size)

    def wait(self):
        self._mirror.wait()

    def close(self):
        self._mirror.close()


@pytest.fixture
def nodes(tmp_path):
    made = _Nodes(tmp_path)
    yield made
    made.close()


def _bytes(slot):
    return [(s.start, s.path.read_bytes()) for s in segments(slot)]


def _slots(place):
    return sorted(place.glob("*/[0-9]*"))


def _write(log, count):
    records = [record(i) for i in range(count)]
    for one in records:
        log.append([one])
    return [one.prediction_id for one in records]


def _shipped(settings):
    lake = Lakehouse(settings)
    try:
        rows = ship_all(settings, lake, EventBus()).rows
        found = lake.table(TABLE).read(["prediction_id"])["prediction_id"].to_pylist()
        assert len(found) == len(set(found)), "a prediction is in the table once"
        return rows, sorted(found)
    finally:
        lake.close()


@pytest.mark.parametrize("sync", ["disk", "process"])
def test_what_is_acknowledged_is_on_two_machines_byte_by_byte(nodes, sync):
    place = nodes.add("b")
    log = nodes.log(sync, file_bytes=3000)
    for _ in range(5):
        _write(log, 3)
        own = slots(replicated_folder(nodes.a, "a"))
        copied = _slots(place)
        assert [_bytes(slot) for slot in copied] == [_bytes(slot) for slot in own]
    assert len(segments(copied[0])) > 2, "files were changed on the way"


def test_nothing_is_acknowledged_while_nobody_keeps_a_copy(nodes):
    log = nodes.log()
    with pytest.raises(UnavailableError, match="no other machine"):
        _write(log, 1)
    place = nodes.add("b")
    _write(log, 1)
    assert _bytes(_slots(place)[0]) == _bytes(slots(replicated_folder(nodes.a, "a"))[0])


def test_when_a_copy_is_lost_another_machine_has_all_before_the_next_acknowledgement(nodes):
    nodes.add("b")
    log = nodes.log(file_bytes=3000)
    _write(log, 10)
    place = nodes.add("c")
    nodes.lose("b")
    _write(log, 1)
    assert _bytes(_slots(place)[0]) == _bytes(slots(replicated_folder(nodes.a, "a"))[0])


def test_an_owner_that_was_taken_for_gone_loses_no_request(nodes):
    place = nodes.add("b", idle_s=0.05)
    log = nodes.log()
    for _ in range(4):
        _write(log, 1)
        time.sleep(0.1)
    assert _bytes(_slots(place)[0]) == _bytes(slots(replicated_folder(nodes.a, "a"))[0])


def test_many_threads_share_a_round_trip(nodes):
    nodes.add("b")
    log, told = nodes.log(), []
    threads = [threading.Thread(target=lambda: told.extend(_write(log, 20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(told)) == 160


def test_a_node_is_lost_with_its_disk_after_a_part_was_shipped(nodes, tmp_path):
    nodes.add("b")
    log = nodes.log(file_bytes=4000)
    first = _write(log, 12)
    assert _shipped(nodes.a)[0] == 12
    second = _write(log, 9)
    nodes.close()
    shutil.rmtree(nodes.a.home)
    rows, found = _shipped(_settings(tmp_path, "b"))
    assert rows == 9
    assert found == sorted(first + second)
    assert _slots(copies_folder(_settings(tmp_path, "b"), "b")) == [], "a copy that is shipped goes"


def test_owner_and_copies_may_ship_in_any_order(nodes, tmp_path):
    nodes.add("b")
    log = nodes.log(file_bytes=4000)
    told = _write(log, 8)
    nodes.add("c")
    nodes.lose("b")
    told += _write(log, 8)
    nodes.close()
    rows = [_shipped(_settings(tmp_path, home))[0] for home in ("b", "a", "c", "b", "a")]
    assert rows == [8, 8, 0, 0, 0]
    assert _shipped(nodes.a)[1] == sorted(told)
    assert slots(replicated_folder(nodes.a, "a")) == []


def test_a_copy_is_not_shipped_while_its_owner_lives(nodes, tmp_path):
    nodes.add("b")
    log = nodes.log()
    _write(log, 3)
    lake = Lakehouse(nodes.a)
    assert ship_all(_settings(tmp_path, "b"), lake, EventBus()).rows == 0
    assert ship_all(nodes.a, lake, EventBus()).rows == 3
    lake.close()


def test_files_that_are_shipped_go_from_the_copy(nodes):
    place = nodes.add("b")
    log = nodes.log(file_bytes=2000)
    told = _write(log, 12)
    _shipped(nodes.a)
    told += _write(log, 4)
    own = slots(replicated_folder(nodes.a, "a"))[0]
    assert segments(_slots(place)[0])[0].start >= segments(own)[0].start
    assert _shipped(nodes.a)[1] == sorted(told)


def _greeting(**changes):
    whole = {"secret": SECRET, "folder": "0" * 16, "slot": "7", "disk": True, **changes}
    return orjson.dumps(whole) + b"\n"


def _said(server, data):
    told = b""
    # Who has hung up, with bytes that it did not read, answers by a reset: it has said what it had to say.
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as peer,
        contextlib.suppress(OSError),
    ):
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        while part := peer.recv(4096):
            told += part
    return told


@pytest.mark.parametrize(
    "data",
    [
        _greeting(secret="x" * 64),
        _greeting(secret=""),
        _greeting(folder="../../../etc"),
        _greeting(slot="../7"),
        _greeting(slot="7/../../8"),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xfe\n",
        b"[]\n",
        b"x" * 10_000,
    ],
)
def test_a_stranger_writes_nothing(nodes, data, tmp_path):
    place = nodes.add("b")
    told = _said(nodes.servers["b"], data + PIECE.pack(0, 0, 3) + b"abc")
    assert told == b""
    assert list(place.rglob("*.wal")) == []
    assert list(tmp_path.glob("etc")) == []


def test_bytes_out_of_order_are_refused(nodes):
    place = nodes.add("b")
    held = b'{"start":null,"size":0}\n'
    told = _said(nodes.servers["b"], _greeting() + PIECE.pack(0, 0, 3) + b"abc" + PIECE.pack(0, 7, 1) + b"d")
    assert told == held + b"\x06"
    again = _said(nodes.servers["b"], _greeting() + PIECE.pack(5, 0, 1) + b"d")
    assert again == b'{"start":0,"size":3}\n'
    assert _bytes(_slots(place)[0]) == [(0, b"abc")]
    assert struct.calcsize("<QQI") == PIECE.size


def test_peers_are_found_on_other_machines_while_they_live(tmp_path):
    settings = _settings(tmp_path, "a")
    peers = Peers(settings)
    for number in range(6):
        peers.tell(Peer(str(number), f"node {number % 3}", "127.0.0.1", number, SECRET), 100.0)
    found = {peer.node for peer in peers.beside("node 0", "slot", 105.0)}
    assert found == {"node 1", "node 2"}
    orders = {tuple(p.name for p in peers.beside("node 0", f"slot {i}", 105.0)) for i in range(20)}
    assert len(orders) > 5, "copies spread"
    peers.withdraw("1")
    assert {p.name for p in peers.beside("node 0", "slot", 105.0)} == {"2", "4", "5"}
    assert peers.beside("node 0", "slot", 111.0) == []
    assert SECRET not in repr(found)
    peers.close()


def test_a_peer_is_known_as_long_as_it_runs(tmp_path):
    settings = _settings(tmp_path, "b")
    peers, peer = Peers(settings), LogPeer(settings, "b", "127.0.0.1")
    peer.start()
    assert [p.node for p in peers.beside("a", "k", time.time())] == ["b"]
    peer.close()
    assert peers.beside("a", "k", time.time()) == []
    peers.close()


def _is_free(slot):
    held = writer_lock(slot)
    if held is not None:
        os.close(held)
    return held is not None


def test_what_came_to_a_copy_after_it_was_read_keeps_it(nodes, tmp_path):
    place = nodes.add("b")
    log = nodes.log()
    told = _write(log, 3)
    nodes.close()
    slot = _slots(place)[0]
    wait_for(lambda: _is_free(slot), 30)  # the peer learns from its socket that nobody writes any more

    def grows(point):
        if point == "committed" and not grown:
            grown.append(point)
            held = open_copy(place, slot.parent.name, slot.name)
            end = held.end()
            more = frame(payload([late]))
            held.write(end.start, end.size, more, disk=True)
            held.close()

    late, grown, lake = record(), [], Lakehouse(nodes.a)
    assert ship(slot.parent, lake, EventBus(), of="copies", reached=grows).rows == 4
    lake.close()
    shutil.rmtree(nodes.a.home)
    assert _shipped(_settings(tmp_path, "b"))[1] == sorted([*told, late.prediction_id])


def test_a_slot_is_removed_only_as_it_was_seen(tmp_path):
    slot = hold_new(tmp_path)
    slot.write(b"seen")
    assert not retire(slot.folder, 4), "somebody writes to it"
    slot.close()
    assert not retire(slot.folder, 3), "something came after it was looked at"
    assert retire(slot.folder, 4)
    assert not slot.folder.exists()
    assert not retire(slot.folder, 4)
