"""A front over a small model, and raw questions to it."""

import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import datetime

import orjson
import polars as pl

from rayplat.core.project.table import Column
from rayplat.features.server.process import Where
from rayplat.serve.admission.admission import OpenDoor
from rayplat.serve.front.listener import Front, Fronted
from rayplat.serve.predictor import Predictor
from rayplat.serve.request import RequestForm
from rayplat.serve.served import Served

FORM = RequestForm(
    table="raw.visits",
    columns={
        "shop": Column("string", nullable=False),
        "amount": Column("float64"),
        "day": Column("date"),
        "raw": Column("binary"),
        "when": Column("timestamp"),
        "visits": Column("int32"),
    },
    needed=("shop", "amount"),
    time=None,
)


class Found:
    def __init__(self, instances):
        self.frame = pl.DataFrame({"amount": [i["amount"] for i in instances]}, schema={"amount": pl.Float32})
        source = {"event_time": "2024-03-01T00:00:00+00:00", "offset": 1}
        self.provenance = [{"price": source}] * len(instances)


class MemoryLog:
    """A log that keeps records; `error` makes it refuse them."""

    def __init__(self):
        self.records = []
        self.error = None

    def submit(self, records):
        done: Future[None] = Future()
        if self.error is None:
            self.records.extend(records)
            done.set_result(None)
        else:
            done.set_exception(self.error)
        return done

    def close(self):
        self.records.clear()


class Uncharged:
    """Counts nothing."""

    def charge(self, admitted, endpoint, rows, now):
        assert rows > 0


def lookup(instances, at: datetime) -> Found:
    return Found(instances)


def served(name="buys", network=lambda x: x.nan_to_num()[:, 0], lookup=lookup) -> Served:
    predictor = Predictor(
        endpoint=name, model="buys", version=3, inputs=["amount"], network=network, lookup=lookup
    )
    return Served(predictor, FORM, {})


@contextlib.contextmanager
def fronted(
    of=None, *, log=None, admission=None, neighbours=None, stalled_s=10.0, port=0, keyed=None
) -> Iterator[Front]:
    front = Front(
        Fronted(of or served(), admission or OpenDoor(), log or MemoryLog(), neighbours, keyed),
        Where(port=port),
        stalled_s,
    )
    front.start()
    try:
        yield front
    finally:
        front.close()


def exchanged(port: int, data: bytes) -> bytes:
    """Everything that a front answers to bytes, until it closes or says nothing for a moment."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
        with contextlib.suppress(ConnectionError):
            peer.sendall(data)
        told = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while part := peer.recv(1 << 16):
                told += part
                peer.settimeout(0.3)
        return told


def question(body: bytes, path: str = "/v1/endpoints/buys/predict", headers: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def good(amount: float = 0.5) -> bytes:
    return orjson.dumps({"instances": [{"shop": "north", "amount": amount}]})
