"""Clients of a front, each a process of its own: one that asks well, and one that does not.

    hostile.py good PORT SECONDS     prints the 99th percentile of its answers, s
    hostile.py attack PORT SECONDS   prints the statuses that it was answered

The attack is of what costs its sender little: 200 connections that send a byte now and then, and twenty
requests a second of 100 MB that are announced, of 1 MiB that is nested deeply, is no UTF-8, is of wrong types
or holds NaN.
"""

import contextlib
import json
import socket
import sys
import time

PATH = "/v1/endpoints/buys/predict"
MIB = 1 << 20
BODIES = [
    b"[" * MIB,
    b'{"instances":' + b'{"a":' * (MIB // 5),
    b'{"instances":[{"shop":"' + b"\xff" * MIB + b'"}]}',
    b'{"instances":[' + b"7," * (MIB // 2) + b"7]}",
    b'{"instances":[{"shop":"a","amount":NaN}]}',
    b'{"instances":[{"shop":1,"amount":"x"}]}',
]
LORIS = 200


def request(body: bytes, announced: int | None = None) -> bytes:
    length = len(body) if announced is None else announced
    return f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n".encode() + body


def connected(port: int) -> socket.socket:
    found = socket.create_connection(("127.0.0.1", port), timeout=10)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def good(port: int, seconds: float) -> None:
    asked = request(json.dumps({"instances": [{"shop": "a", "amount": 1}]}).encode())
    taken = []
    with connected(port) as peer:
        end = time.perf_counter() + seconds
        while (begin := time.perf_counter()) < end:
            peer.sendall(asked)
            assert peer.recv(1 << 16).startswith(b"HTTP/1.1 200")
            taken.append(time.perf_counter() - begin)
            time.sleep(0.001)
    print(sorted(taken)[int(len(taken) * 0.99)])


def attack(port: int, seconds: float) -> None:
    slow = [connected(port) for _ in range(LORIS)]
    for one in slow:
        one.sendall(f"POST {PATH} HTTP/1.1\r\n".encode())
    statuses: dict[str, int] = {}
    end, turn = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        body = b"" if turn % 7 == 0 else BODIES[turn % 7 - 1]
        with connected(port) as peer, contextlib.suppress(ConnectionError):
            peer.sendall(request(body, 100_000_000 if turn % 7 == 0 else None))
            status = peer.recv(1 << 16)[9:12].decode()
            statuses[status] = statuses.get(status, 0) + 1
        for one in slow[turn % 10 :: 10]:
            with contextlib.suppress(OSError):
                one.sendall(b"a")
        turn += 1
        time.sleep(0.05)
    for one in slow:
        one.close()
    print(json.dumps(statuses))


if __name__ == "__main__":
    {"good": good, "attack": attack}[sys.argv[1]](int(sys.argv[2]), float(sys.argv[3]))
