"""How fast an endpoint answers: rayplat's front beside uvicorn with FastAPI, asked in turns.

    python benchmarks/serving.py --quick

Knows the servers and the load; what each server does is in serving_world.py. Claims: `serve_rps_c8`, requests
a second over eight connections, and `serve_p50_us_c1`, the median of one connection, both with the prediction
log flushed to the disk before each answer; the same with a log that survives the process only, and with none.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import online_load
from harness import Claim, interleave, main

HERE = Path(__file__).resolve().parent
KINDS = ("rayplat", "rayplat_process", "rayplat_bare", "fastapi")
WIDTH = 8


@contextmanager
def running(kind: str) -> Iterator[int]:
    """The port of a server in a process of its own."""
    server = subprocess.Popen(
        [sys.executable, HERE / "serving_world.py", kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        yield int(server.stdout.readline())
    finally:
        server.stdin.close()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        server.stdout.close()


def loaded(port: int, width: int, seconds: float) -> dict[str, float]:
    """What the load generator, a process of its own, has measured."""
    argv = [sys.executable, __file__, "load", str(port), str(width), str(seconds)]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(told)
    return found


def load(port: int, width: int, seconds: float) -> dict[str, float]:
    """Ask one instance a request over `width` connections."""
    bodies = [json.dumps({"instances": [{"shop": "north", "amount": i / 100}]}).encode() for i in range(100)]
    questions = [
        b"POST /v1/endpoints/buys/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        for body in bodies
    ]
    if width == 1:
        taken = online_load.alone(port, questions, seconds)
        return {"p50": online_load.percentile(taken, 0.5), "rps": len(taken) / sum(taken)}
    rate, taken = online_load.together(port, questions, seconds, width)
    return {"p50": online_load.percentile(taken, 0.5), "rps": rate}


def measure(quick: bool) -> Sequence[Claim]:
    """Both claims, for each kind of log."""
    runs, seconds = (3, 0.7) if quick else (7, 3.0)
    with ExitStack() as stack:
        ports = {kind: stack.enter_context(running(kind)) for kind in KINDS}
        rates = interleave({k: lambda k=k: loaded(ports[k], WIDTH, seconds)["rps"] for k in KINDS}, runs)  # type: ignore[misc]
        times = interleave({k: lambda k=k: loaded(ports[k], 1, seconds)["p50"] for k in KINDS}, runs)  # type: ignore[misc]
    claims = []
    for kind, name, note in (
        ("rayplat", "", "log flushed to disk"),
        ("rayplat_process", "_process_log", "log survives the process"),
        ("rayplat_bare", "_no_log", "no log"),
    ):
        rps, p50 = f"serve_rps_c8{name}", f"serve_p50_us_c1{name}"
        peers = {"fastapi_uvicorn": rates["fastapi"]}
        claims.append(Claim(rps, "1/s", rates[kind], peers, higher_is_better=True, note=note))
        claims.append(Claim(p50, "us", times[kind], {"fastapi_uvicorn": times["fastapi"]}, note=note))
    return claims


if __name__ == "__main__":
    if sys.argv[1:2] == ["load"]:
        print(json.dumps(load(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))))
    else:
        main(measure, __doc__ or "")
