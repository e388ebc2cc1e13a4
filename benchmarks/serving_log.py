"""What the durable prediction log costs a prediction: `log_cost_ms`, by class and by what it survives.

Run: .venv/bin/python benchmarks/serving_log.py [SECONDS]

One event loop awaits records of about 600 bytes as a replica does: one after the other (p50 at
concurrency 1), and from eight tasks (records a second). Classes alternate in rounds; a plain write with
fdatasync of the same bytes says what the disk itself takes. `replicated` has its peer in a process of its own
on the same disk, so both flushes of an answer share it; two machines have a disk each, and a network between.

Then what one replica logs at full speed is shipped into Iceberg: rows a second of both.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson

from rayplat.core.events import EventBus
from rayplat.core.ids import new_prediction_id
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.serve.log.frames import frame
from rayplat.serve.log.local import LocalLog
from rayplat.serve.log.replicated import MirroredLog
from rayplat.serve.log.rows import payload
from rayplat.serve.log.shipping import ship
from rayplat.serve.outbox import PredictionRecord
from rayplat.serve.prediction_log import Log, PredictionLog

ROUNDS = 3
TASKS = 8
_ROWS = 100_000
AT = datetime(2026, 1, 1, tzinfo=UTC)
RECORD = PredictionRecord(
    prediction_id="",
    endpoint="late_arrival",
    model="late_arrival",
    version=3,
    at=AT,
    asked_at=AT,
    request='{"flight_id":7,"origin":"JFK","distance":1089}',
    features='{"weather__gusty":true,"weather__visib":10.0,"congestion__mean_delay_3h":11.5}',
    provenance='{"weather":{"event_time":"2013-09-01T12:00:00+00:00","partition":0,"offset":7}}',
    probability=0.25,
    latency_s=0.004,
    caller="shop",
)


def _record() -> PredictionRecord:
    return replace(RECORD, prediction_id=new_prediction_id())


async def _measure(log: Log, seconds: float, tasks: int) -> tuple[list[float], float]:
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def ask() -> None:
        while (begin := time.perf_counter()) < end:
            await asyncio.wrap_future(log.submit([_record()]))
            took.append(time.perf_counter() - begin)

    begin = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(tasks)))
    return took, len(took) / (time.perf_counter() - begin)


def _disk(folder: Path, seconds: float) -> float:
    """The median of a plain write and flush, ms."""
    data, took = frame(payload([_record()])), []
    number = os.open(folder / "plain", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        os.write(number, data)
        os.fdatasync(number)
        took.append(time.perf_counter() - begin)
    os.close(number)
    return statistics.median(took) * 1e3


_PEER = """
import json, sys
from rayplat.core.settings import Settings
from rayplat.serve.log.peer import LogPeer

peer = LogPeer(Settings(**json.loads(sys.argv[1])), "b", "127.0.0.1", every_s=3600)
peer.start()
print("ready", flush=True)
sys.stdin.read()
peer.close()
"""


@contextmanager
def _peer(settings: Settings) -> Iterator[None]:
    """A peer in a process of its own."""
    command = [sys.executable, "-c", _PEER, settings.model_dump_json()]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"ready"
        yield
    finally:
        process.communicate(timeout=30)


def _node(folder: Path, node: str, sync: str) -> Settings:
    shared = {"database": f"sqlite:///{folder}/shared.db", "warehouse": f"file://{folder}/warehouse"}
    serve = {"log": "replicated", "log_sync": sync}
    return Settings.model_validate({"home": folder / node, "serve": serve, **shared})


def _shipped(folder: Path, rows: int) -> dict[str, int]:
    """How many rows a second a log takes at full speed, and how many reach the lakehouse."""
    settings = Settings(home=folder)
    log = LocalLog(folder / "prediction_log", sync="process")
    records = [[_record()] for _ in range(rows)]
    begin = time.perf_counter()
    for one in records:
        log.submit(one)
    logged = rows / (time.perf_counter() - begin)
    log.close()
    lake = Lakehouse(settings)
    begin = time.perf_counter()
    moved = ship(folder / "prediction_log", lake, EventBus()).rows
    took = time.perf_counter() - begin
    lake.close()
    assert moved == rows
    return {"logged_rows_per_s": round(logged), "shipped_rows_per_s": round(rows / took)}


def main(seconds: float) -> None:
    """Print one JSON object a class, and the claim."""
    with tempfile.TemporaryDirectory() as name, _peer(_node(Path(name), "b", "disk")):
        folder = Path(name)
        made: dict[str, Callable[[], Log]] = {
            "local, disk (fdatasync)": lambda: LocalLog(folder / "disk"),
            "local, process (no flush)": lambda: LocalLog(folder / "process", sync="process"),
            "replicated, disk (fdatasync on both)": lambda: MirroredLog(_node(folder, "a", "disk"), "a"),
            "replicated, process (no flush)": lambda: MirroredLog(_node(folder, "c", "process"), "c"),
            "database (SQLite, synchronous=FULL)": lambda: PredictionLog(Settings(home=folder / "database")),
        }
        logs = {label: make() for label, make in made.items()}
        one: dict[str, list[float]] = {label: [] for label in logs}
        many: dict[str, list[float]] = {label: [] for label in logs}
        plain: list[float] = []
        for log in logs.values():
            asyncio.run(_measure(log, 0.2, 1))
        for _ in range(ROUNDS):
            plain.append(_disk(folder, seconds / 2))
            for label, log in logs.items():
                one[label].append(statistics.median(asyncio.run(_measure(log, seconds, 1))[0]) * 1e3)
                many[label].append(asyncio.run(_measure(log, seconds, TASKS))[1])
        for log in logs.values():
            log.close()
        print(orjson.dumps({"plain write + fdatasync, p50 ms": round(statistics.median(plain), 4)}).decode())
        for label in logs:
            told = {
                "class": label,
                "p50_ms_c1": round(statistics.median(one[label]), 4),
                "records_per_s_c8": round(statistics.median(many[label])),
            }
            print(orjson.dumps(told).decode())
        cost = statistics.median(one["local, disk (fdatasync)"])
        print(orjson.dumps({"class": "local, process", **_shipped(folder / "ship", _ROWS)}).decode())
        print(f"log_cost_ms {cost:.4f} (local, fdatasync before every answer)")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0)
