"""What the durable prediction log costs a prediction: `log_cost_ms`, by class and by what it survives.

Run: .venv/bin/python benchmarks/serving_log.py [SECONDS]

One event loop awaits records of about 600 bytes as a replica does: one after the other (p50 at
concurrency 1), and from eight tasks (records a second). Classes alternate in rounds; a plain write with
fdatasync of the same bytes says what the disk itself takes.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson

from rayplat.core.ids import new_prediction_id
from rayplat.core.settings import Settings
from rayplat.serve.log.frames import frame
from rayplat.serve.log.local import LocalLog
from rayplat.serve.log.rows import payload
from rayplat.serve.outbox import PredictionRecord
from rayplat.serve.prediction_log import Log, PredictionLog

ROUNDS = 3
TASKS = 8
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


def main(seconds: float) -> None:
    """Print one JSON object a class, and the claim."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made: dict[str, Callable[[], Log]] = {
            "local, disk (fdatasync)": lambda: LocalLog(folder / "disk"),
            "local, process (no flush)": lambda: LocalLog(folder / "process", sync="process"),
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
        print(f"log_cost_ms {cost:.4f} (local, fdatasync before every answer)")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0)
