"""Online features over HTTP: how long an answer takes, how many a second, and how soon an event is in it.

Run: .venv/bin/python benchmarks/online_features.py [--json] [--quick]

The work: 20,000 entities of 50 floats; 1, 100 or 500 of them a request, keys drawn from one seeded stream,
JSON in and JSON out. Servers and the load generator are processes of their own; servers are asked in turns,
and their answers are compared to the bit first. Nothing is written into a store meanwhile, so `rayplat`
remembers what it has read of its own, as it does between two writes of a view. `rayplat` logs every vector
before it answers, as it does unless told otherwise; `rayplat_unlogged` does not. `rayplat_binary` is its
binary form, `rayplat_feast` its answer to Feast's own question, both logged. `feast` is Feast's server over
its SQLite store. `asgi_lmdb`, `asgi_sqlite` and `asgi_redis` are what could be written by hand: uvicorn
without framework, the JSON of each entity in that store, no types, no times, no checks, no log. The claims of
`serve` ask Ray Serve behind its HAProxy. The limit of one row is an echo of as many bytes.

From an event to its effect: records of about 120 bytes, 10,000 a second over 2 partitions, through the
ingest service into the lakehouse and from there into two views of 5,000 entities, row transforms and
windows. A record says when it was made; it counts as there when the online store has been written with it.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from harness import Claim, interleave, main
from online_load import ask, connect, key_batches, request, values
from online_servers import feast, fill_bare, fill_rayplat, frame, server

LOAD = Path(__file__).with_name("online_load.py")
SERVERS = ("rayplat", "rayplat_unlogged", "asgi_lmdb", "asgi_sqlite", "asgi_redis", "echo")
Taken = dict[str, list[dict[str, float]]]
Shape = tuple[int, int]
"""Entities a request, and connections."""


def load(kind: str, port: int, shape: Shape, seconds: float, taken: Taken) -> float:
    """One measurement by the load generator; p50 in microseconds."""
    argv = [sys.executable, str(LOAD), kind, str(port), *map(str, shape), str(seconds)]
    told = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(told)
    taken.setdefault(kind, []).append(found)
    return found["p50"]


def compare(ports: Mapping[str, int]) -> None:
    """All servers must give the same values."""
    keys = key_batches(100)[0]
    found = {}
    for kind, port in ports.items():
        if kind == "echo":
            continue
        with connect(port) as opened:
            answer = ask(opened, request(kind, keys))
        found[kind] = values(kind, answer.partition(b"\r\n\r\n")[2], len(keys))
    for kind, told in found.items():
        if told != found["rayplat"]:
            raise SystemExit(f"{kind} gives other values than rayplat")


def measured(
    ports: Mapping[str, int], shape: Shape, runs: int, seconds: float, within_s: float | None
) -> Taken:
    """Samples of each server, in turns."""
    taken: Taken = {}
    candidates: dict[str, Callable[[], float]] = {
        kind: (lambda kind=kind, port=port: load(kind, port, shape, seconds, taken))  # type: ignore[misc]
        for kind, port in ports.items()
    }
    counts = {kind: len(values) for kind, values in interleave(candidates, runs, within_s).items()}
    return {kind: samples[-counts[kind] :] for kind, samples in taken.items()}


def claim(name: str, unit: str, taken: Taken, what: str, note: str = "") -> Claim:
    """Samples as a claim; the echo is the limit."""
    found = {kind: [sample[what] for sample in samples] for kind, samples in taken.items()}
    ours = found.pop("rayplat")
    echo = found.pop("echo", None)
    limit = None if echo is None else sorted(echo)[len(echo) // 2]
    return Claim(name, unit, ours, found, higher_is_better=what == "rps", limit=limit, note=note)


def http(quick: bool) -> list[Claim]:
    """The claims about answers."""
    runs, seconds, within = (1, 0.3, 3.0) if quick else (5, 0.7, 25.0)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        rows = frame()
        fill_rayplat(home, rows)
        fill_bare(home, rows)
        ports = {name: stack.enter_context(server(name, home)) for name in SERVERS}
        ports["feast"] = stack.enter_context(feast(home, rows))
        ports["rayplat_binary"] = ports["rayplat_feast"] = ports["rayplat"]
        compare(ports)
        one = measured(ports, (1, 1), runs, seconds, within)
        many = {kind: port for kind, port in ports.items() if kind != "echo"}
        hundred = measured(many, (100, 1), runs, seconds, within)
        claims = [
            claim("online_1_row_p50_us", "us", one, "p50"),
            claim("online_1_row_p99_us", "us", one, "p99"),
            claim("online_100_rows_p50_us", "us", hundred, "p50"),
            claim("online_100_rows_p99_us", "us", hundred, "p99"),
        ]
        eight = measured(ports, (1, 8), runs, seconds, within)
        claims.append(claim("online_rps", "requests/s", eight, "rps", "8 connections, 1 row"))
        for rows_, width in () if quick else ((500, 1), (100, 8), (500, 8)):
            more = measured(many, (rows_, width), runs, seconds, within)
            name = f"online_{rows_}_rows_p50_us" if width == 1 else f"online_{rows_}_rows_8_p50_us"
            claims.append(claim(name, "us", more, "p50", f"{width} connections"))
        return claims


def through_serve() -> list[Claim]:
    """The claims about answers through Ray Serve; it runs alone beside Feast's server."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        rows = frame()
        fill_rayplat(home, rows)
        asked = stack.enter_context(feast(home, rows))
        port = stack.enter_context(server("rayplat_serve", home))
        taken = measured({"rayplat_serve": port, "feast": asked}, (1, 1), 5, 0.7, None)
    taken["rayplat"] = taken.pop("rayplat_serve")
    note = "1 row through Ray Serve"
    return [
        claim("online_serve_p50_us", "us", taken, "p50", note),
        claim("online_serve_p99_us", "us", taken, "p99", note),
    ]


def measure(quick: bool) -> Sequence[Claim]:
    from online_stream import event_to_online

    if quick:
        print("--quick: fewer events, and nothing through Ray Serve or with 500 rows", file=sys.stderr)
        return [*http(quick), event_to_online(quick)]
    return [*http(quick), *through_serve(), event_to_online(quick)]


if __name__ == "__main__":
    main(measure, "Online features over HTTP, and how soon an event is in them.")
