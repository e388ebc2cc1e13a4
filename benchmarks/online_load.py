"""The load generator: one process that asks a feature server as fast as it answers, on kept connections.

Run by benchmarks/online_features.py. Requests are made before the clock starts; keys come from a seeded
stream, the same for every server. One connection is driven by blocking calls, several by epoll.
"""

import json
import random
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

ENTITIES = 20_000
FEATURES = 50
NAMES = [f"f{i}" for i in range(FEATURES)]
_PREPARED = 1_000


def key_batches(batch: int) -> list[list[str]]:
    """The stream of keys, in batches."""
    drawn = random.Random(20_130_101)
    return [[f"user-{drawn.randrange(ENTITIES)}" for _ in range(batch)] for _ in range(_PREPARED)]


def request(kind: str, keys: list[str]) -> bytes:
    """A whole HTTP request."""
    path, accept = "/v1/features/wide", "application/json"
    body: dict[str, Any] = {"keys": keys}
    if kind in ("feast", "rayplat_feast"):
        path = "/get-online-features"
        body = {"features": [f"wide:{name}" for name in NAMES], "entities": {"user": keys}}
    elif kind == "rayplat_binary":
        accept = "application/octet-stream"
    data = json.dumps(body).encode()
    path = "/features/v1/features/wide" if kind == "rayplat_serve" else path
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Accept: {accept}\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def values(kind: str, body: bytes, count: int) -> list[list[float]]:
    """The values of an answer, a row a key."""
    if kind == "rayplat_binary":
        import struct

        from rayplat.features.server.forms import read_binary

        return [list(struct.unpack_from(f"<{FEATURES}d", row, 8)) for row in read_binary(body)[2]]
    told = json.loads(body)
    if kind in ("feast", "rayplat_feast"):
        names = told["metadata"]["feature_names"]
        lanes = [told["results"][names.index(name)]["values"] for name in NAMES]
        return [[lane[i] for lane in lanes] for i in range(count)]
    return list(told["values"])


def connect(port: int) -> socket.socket:
    """A connection that sends at once."""
    opened = socket.create_connection(("127.0.0.1", port), timeout=60)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def missing(held: bytes) -> int:
    """How many bytes of the answer are still to come; -1: its head is not whole."""
    end = held.find(b"\r\n\r\n")
    if end < 0:
        return -1
    # The head alone: an answer of 100 rows is 100 KB, and to make it lower case takes as long as to send it.
    at = held[:end].lower().find(b"content-length:")
    if held[9:12] != b"200" or at < 0:
        raise SystemExit(f"the server answers {held[:300]!r}")
    return end + 4 + int(held[at + 15 : held.index(b"\r\n", at)]) - len(held)


def received(opened: socket.socket, most: int) -> bytes:
    """The next bytes of a connection; ConnectionError where it was closed."""
    part = opened.recv(most)
    if not part:
        raise ConnectionError("the server has closed the connection")
    return part


def ask(opened: socket.socket, question: bytes) -> bytes:
    """One question on one connection, and its answer."""
    opened.sendall(question)
    held = received(opened, 1 << 18)
    while (left := missing(held)) != 0:
        if left > 0:
            parts = [held]
            while left > 0:
                part = received(opened, left)
                left -= len(part)
                parts.append(part)
            return b"".join(parts)
        held += received(opened, 1 << 18)
    return held


def alone(port: int, questions: list[bytes], seconds: float) -> list[float]:
    """Seconds of each question, one after the other on one connection."""
    opened = connect(port)
    taken: list[float] = []
    clock: Callable[[], float] = time.perf_counter
    warm = clock() + seconds / 4
    for question in questions[:200]:
        try:
            ask(opened, question)
        except ConnectionError:
            opened.close()
            opened = connect(port)
        if clock() > warm:
            break
    end = clock() + seconds
    turn = 0
    while (begin := clock()) < end:
        try:
            ask(opened, questions[turn % len(questions)])
        except ConnectionError:  # a proxy that is reloaded closes what it has; the question is asked again
            opened.close()
            opened = connect(port)
            ask(opened, questions[turn % len(questions)])
        taken.append(clock() - begin)
        turn += 1
    return taken


def together(port: int, questions: list[bytes], seconds: float, width: int) -> tuple[float, list[float]]:
    """Requests a second over `width` connections, each with one question on its way, and seconds of each."""
    poll = select.epoll()
    sockets = {one.fileno(): one for one in (connect(port) for _ in range(width))}
    held: dict[int, bytes] = dict.fromkeys(sockets, b"")
    begun: dict[int, float] = {}
    taken: list[float] = []
    turn = 0
    start = time.perf_counter()
    for number, one in sockets.items():
        poll.register(number, select.EPOLLIN)
        begun[number] = time.perf_counter()
        one.sendall(questions[turn % len(questions)])
        turn += 1
    # A server that is slower than the measurement has at least one answer measured.
    while (now := time.perf_counter()) < start + seconds or not taken:
        for number, _ in poll.poll(1):
            held[number] += received(sockets[number], 1 << 18)
            if missing(held[number]) == 0:
                now = time.perf_counter()
                taken.append(now - begun[number])
                held[number], begun[number] = b"", now
                sockets[number].sendall(questions[turn % len(questions)])
                turn += 1
    return len(taken) / (now - start), taken


def percentile(taken: list[float], share: float) -> float:
    """In microseconds."""
    ordered = sorted(taken)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e6


def run(kind: str, port: int, batch: int, width: int, seconds: float) -> dict[str, float]:
    """One measurement."""
    questions = [request(kind, keys) for keys in key_batches(batch)]
    if width == 1:
        taken = alone(port, questions, seconds)
        rate = len(taken) / sum(taken)
    else:
        rate, taken = together(port, questions, seconds, width)
    return {"p50": percentile(taken, 0.5), "p99": percentile(taken, 0.99), "rps": rate}


if __name__ == "__main__":
    kind, port, batch, width, seconds = sys.argv[1:]
    print(json.dumps(run(kind, int(port), int(batch), int(width), float(seconds))))
