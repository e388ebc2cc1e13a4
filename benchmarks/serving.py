"""How fast an endpoint answers: rayplat's front beside what else serves models, asked in turns.

    python benchmarks/serving.py --quick

Knows the servers and the load; what each server does is in serving_world.py and serving_peers.py. Claims:
- `serve_rps_c8`, requests a second over eight connections, and `serve_p50_us_c1`, the median of one
  connection: of a no-op model, with the prediction log flushed to the disk before each answer; also with a
  log that survives the process only (`_process_log`), and with none.
- `features_cost`: what part of the requests a second over eight connections is lost when a token, an online
  feature, the log (process), a canary of a tenth and a shadow of all are on; of three models.
- `batching_efficiency`: requests a second over sixteen connections of a model that sleeps 1 ms a batch of
  eight at most, to what the bare model gives, called with full batches in a loop.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median

import online_load
import psutil
import serving_peers
from harness import Claim, interleave, main, peer_python
from serving_world import MOST_OF_SLEEP

HERE = Path(__file__).resolve().parent
KINDS = ("rayplat", "rayplat_process", "rayplat_bare", "fastapi")
PEERS = {"ray_serve": (), "ray_serve_haproxy": (), "litserve": ("litserve",), "bentoml": ("bentoml",)}
EVERYTHING = ("--auth", "--features", "--canary", "--shadow")
MODELS = ("noop", "sleep", "mlp")
WIDTH = 8
Server = tuple[int, str]
"""A port, and a token for it or nothing."""


@contextmanager
def running(kind: str, *more: str) -> Iterator[Server]:
    """A server in a process of its own."""
    server = subprocess.Popen(
        [sys.executable, HERE / "serving_world.py", kind, *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        port, *token = server.stdout.readline().split()
        yield int(port), "".join(token)
    finally:
        server.stdin.close()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        server.stdout.close()


@contextmanager
def peer(kind: str) -> Iterator[Server]:
    """A peer in a process group of its own, in an environment of its own where it needs one."""
    requirements = PEERS[kind]
    python = peer_python(kind, requirements) if requirements else Path(sys.executable)
    port = free_port()
    environment = {**os.environ, **(_haproxy() if kind == "ray_serve_haproxy" else {})}
    server = subprocess.Popen(
        [python, HERE / "serving_peers.py", kind, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        server.stdout.readline()
        _wait(port)
        yield port, ""
    finally:
        children = psutil.Process(server.pid).children(recursive=True)
        server.stdin.close()
        try:
            server.wait(20 if kind.startswith("ray") else 0.1)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        for child in children:  # those of a session of their own
            with suppress(psutil.NoSuchProcess):
                child.kill()
        server.stdout.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _haproxy() -> dict[str, str]:
    ports = {f"RAY_SERVE_HAPROXY_{name}_PORT": str(free_port()) for name in ("METRICS", "STATS")}
    return {**serving_peers.HAPROXY, **ports}


def _wait(port: int) -> None:
    """Until a question is answered."""
    deadline = time.monotonic() + 60
    while True:
        try:
            online_load.ask(online_load.connect(port), questions("")[0])
        except (OSError, SystemExit):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def questions(token: str) -> list[bytes]:
    """Requests of one instance each."""
    found = []
    credential = f"Authorization: Bearer {token}\r\n" if token else ""
    for i in range(100):
        body = json.dumps({"instances": [{"shop": f"shop{i * 7}", "amount": i / 100 + 0.005}]}).encode()
        found.append(
            b"POST /v1/endpoints/buys/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"%bContent-Length: %d\r\n\r\n%b" % (credential.encode(), len(body), body)
        )
    return found


def loaded(server: Server, width: int, seconds: float) -> dict[str, float]:
    """What the load generator, a process of its own, has measured."""
    argv = [sys.executable, __file__, "load", str(server[0]), str(width), str(seconds), server[1]]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(told)
    return found


def load(port: int, width: int, seconds: float, token: str) -> dict[str, float]:
    """Ask one instance a request over `width` connections."""
    asked = questions(token)
    if width == 1:
        taken = online_load.alone(port, asked, seconds)
        return {"p50": online_load.percentile(taken, 0.5), "rps": len(taken) / sum(taken)}
    rate, taken = online_load.together(port, asked, seconds, width)
    return {"p50": online_load.percentile(taken, 0.5), "rps": rate}


def bare_model(seconds: float) -> float:
    """Rows a second of the sleeping model, called with full batches in a loop."""
    begin, batches = time.perf_counter(), 0
    while (spent := time.perf_counter() - begin) < seconds:
        time.sleep(0.001)
        batches += 1
    return batches * MOST_OF_SLEEP / spent


def front(seconds: float, runs: int, *, peers: bool) -> list[Claim]:
    """The claims of the no-op model."""
    with ExitStack() as stack:
        servers = {kind: stack.enter_context(running(kind)) for kind in KINDS}
        if peers:
            servers |= {kind: stack.enter_context(peer(kind)) for kind in PEERS}
        rates = interleave(
            {k: lambda s=s: loaded(s, WIDTH, seconds)["rps"] for k, s in servers.items()}, runs
        )  # type: ignore[misc]
        times = interleave({k: lambda s=s: loaded(s, 1, seconds)["p50"] for k, s in servers.items()}, runs)  # type: ignore[misc]
    others = [name for name in servers if not name.startswith("rayplat")]
    claims = []
    for kind, name, note in (
        ("rayplat", "", "log flushed to disk (fdatasync)"),
        ("rayplat_process", "_process_log", "log survives the process (write, no flush)"),
        ("rayplat_bare", "_no_log", "no log"),
    ):
        rps, p50 = f"serve_rps_c8{name}", f"serve_p50_us_c1{name}"
        claims.append(
            Claim(rps, "1/s", rates[kind], {n: rates[n] for n in others}, higher_is_better=True, note=note)
        )
        claims.append(Claim(p50, "us", times[kind], {n: times[n] for n in others}, note=note))
    return claims


def everything(seconds: float, runs: int) -> list[Claim]:
    """What all features together cost, of each model."""
    claims = []
    for model in MODELS:
        with ExitStack() as stack:
            plain = stack.enter_context(running("rayplat_bare", model))
            whole = stack.enter_context(running("rayplat_process", model, *EVERYTHING))
            rates = interleave(
                {
                    "plain": lambda s=plain: loaded(s, WIDTH, seconds)["rps"],  # type: ignore[misc]
                    "whole": lambda s=whole: loaded(s, WIDTH, seconds)["rps"],  # type: ignore[misc]
                },
                runs,
            )
        cost = [1 - b / a for a, b in zip(rates["plain"], rates["whole"], strict=True)]
        note = f"{model}: {median(rates['plain']):.0f} -> {median(rates['whole']):.0f} 1/s"
        claims.append(Claim(f"features_cost_{model}", "part", cost, note=note))
    return claims


def batching(seconds: float, runs: int) -> list[Claim]:
    """How near a batched model comes to what it gives alone."""
    with running("rayplat_process", "sleep") as server:
        rates = interleave(
            {
                "front": lambda: loaded(server, 2 * MOST_OF_SLEEP, seconds)["rps"],
                "model": lambda: bare_model(seconds),
            },
            runs,
        )
    found = [a / b for a, b in zip(rates["front"], rates["model"], strict=True)]
    note = f"{median(rates['front']):.0f} of {median(rates['model']):.0f} 1/s"
    return [Claim("batching_efficiency", "part", found, higher_is_better=True, limit=1.0, note=note)]


def measure(quick: bool) -> Sequence[Claim]:
    """All claims; the quick ones without the peers that serve models."""
    runs, seconds = (3, 0.4) if quick else (5, 1.0)
    return [
        *front(seconds, runs, peers=not quick),
        *everything(seconds, runs),
        *batching(seconds, runs),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["load"]:
        print(json.dumps(load(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])))
    else:
        main(measure, __doc__ or "")
