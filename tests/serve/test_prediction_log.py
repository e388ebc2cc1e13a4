import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import wait
from pathlib import Path

import pytest

from rayplat.core.errors import ConflictError, IntegrityError, UnavailableError
from rayplat.core.events import EventBus, SnapshotCommitted
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.serve.outbox import Outbox
from rayplat.serve.prediction_log import SCHEMA, TABLE, PredictionLog

from .logs import AT, record

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


@pytest.fixture
def log(settings):
    prediction_log = PredictionLog(settings)
    yield prediction_log
    prediction_log.close()


@pytest.fixture
def lake(settings):
    house = Lakehouse(settings)
    yield house
    house.close()


def _in_lake(lake):
    return lake.table(TABLE).read(columns=["prediction_id"])["prediction_id"].to_pylist()


def test_a_record_is_found_as_it_was_written(log):
    written = record(5)
    log.append([written])
    assert log.find(written.prediction_id) == written
    assert log.find("prd_" + "0" * 32) is None


def test_many_threads_share_commits_and_each_is_told_when_durable(log, settings):
    futures, records = [], [record(i) for i in range(400)]
    lock = threading.Lock()

    def ask(part):
        for one in part:
            future = log.submit([one])
            with lock:
                futures.append(future)

    threads = [threading.Thread(target=ask, args=(records[i::8],)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait(futures, 30)
    assert all(f.exception() is None for f in futures)
    assert log.outbox.count() == 400
    ids, found = log.outbox.read(1, 1000)
    assert ids == list(range(1, 401))
    assert {r.prediction_id for r in found} == {r.prediction_id for r in records}


def test_closing_writes_what_was_submitted_and_refuses_the_rest(settings):
    log = PredictionLog(settings)
    futures = [log.submit([record(i)]) for i in range(50)]
    log.close()
    log.close()
    assert all(f.done() and f.exception() is None for f in futures)
    assert Outbox(settings).count() == 50
    with pytest.raises(UnavailableError, match="closed"):
        log.submit([record()])


def test_a_database_that_fails_is_told_to_who_asked_and_the_log_goes_on(log, settings):
    log.append([record()])
    database = sqlite3.connect(settings.home / "rayplat.db")
    with database:
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON prediction_outbox"
            " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
    with pytest.raises(UnavailableError, match="disk full"):
        log.append([record()])
    with database:
        database.execute("DROP TRIGGER full")
    database.close()
    log.append([record()])
    assert log.outbox.count() == 2


def test_a_drain_moves_every_row_once_and_tells_of_it(log, lake, settings):
    told, bus = [], EventBus()
    bus.subscribe(SnapshotCommitted, told.append)
    records = [record(i) for i in range(30)]
    log.append(records[:20])
    first = log.drain(lake, settings, bus)
    log.append(records[20:])
    second = log.drain(lake, settings, bus)
    third = log.drain(lake, settings, bus)
    assert (first.rows, second.rows, third.rows) == (20, 10, 0)
    assert third.next_id == 31
    assert sorted(_in_lake(lake)) == sorted(r.prediction_id for r in records)
    assert log.outbox.count() == 0
    assert [(e.table, e.rows, dict(e.offsets)) for e in told] == [
        (TABLE, 20, {"0": 21}),
        (TABLE, 10, {"0": 31}),
    ]
    table = lake.table(TABLE).read()
    assert table.schema.names == SCHEMA.names
    assert table["at"][0].as_py() == AT
    assert sorted(table["request"].to_pylist()) == sorted(r.request for r in records)


def test_a_drain_of_nothing_makes_no_snapshot(log, lake, settings):
    assert log.drain(lake, settings, EventBus()).rows == 0
    assert lake.table(TABLE).snapshot_id() is None


def test_an_id_is_never_given_again_after_its_row_was_drained(log, lake, settings):
    log.append([record()])
    log.drain(lake, settings, EventBus())
    log.append([record()])
    assert log.outbox.read(1, 10)[0] == [2]


def test_of_two_drains_at_once_the_later_commit_is_refused(log, lake, settings):
    log.append([record(i) for i in range(5)])

    def other_drains(point):
        if point == "written":
            assert PredictionLog(settings).drain(lake, settings, EventBus()).rows == 5

    slow = PredictionLog(settings, reached=other_drains)
    with pytest.raises(ConflictError):
        slow.drain(lake, settings, EventBus())
    assert len(_in_lake(lake)) == 5
    assert slow.drain(lake, settings, EventBus()).rows == 0


def test_an_outbox_that_was_made_anew_is_not_emptied_unread(log, lake, settings):
    log.append([record(i) for i in range(5)])
    log.drain(lake, settings, EventBus())
    database = sqlite3.connect(settings.home / "rayplat.db")
    with database:
        database.execute("DELETE FROM sqlite_sequence WHERE name = 'prediction_outbox'")
    database.close()
    log.append([record()])
    with pytest.raises(IntegrityError, match="up to row 5"):
        log.drain(lake, settings, EventBus())
    assert log.outbox.count() == 1


_DRAIN_AND_DIE = """
import os, signal, sys
from pathlib import Path
from rayplat.core.events import EventBus
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.serve.prediction_log import PredictionLog

def reached(point):
    if point == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

settings = Settings(home=Path(sys.argv[1]))
PredictionLog(settings, reached).drain(Lakehouse(settings), settings, EventBus())
"""


def test_a_drain_killed_at_any_point_loses_and_doubles_nothing(log, lake, settings):
    written = []
    for point in ("read", "written", "committed", "deleted"):
        records = [record(i) for i in range(7)]
        log.append(records)
        written += [r.prediction_id for r in records]
        command = [sys.executable, "-c", _DRAIN_AND_DIE, str(settings.home), point]
        died = subprocess.run(command, timeout=60, check=False)
        assert died.returncode == -signal.SIGKILL
        waiting = {r.prediction_id for r in log.outbox.read(1, 1000)[1]}
        assert waiting | set(_in_lake(lake)) == set(written), point
    log.drain(lake, settings, EventBus())
    assert sorted(_in_lake(lake)) == sorted(written)
    assert log.outbox.count() == 0


_ANSWER_FOR_EVER = """
import sys, threading
from pathlib import Path
from rayplat.core.settings import Settings
from rayplat.serve.prediction_log import PredictionLog
from tests.serve.logs import record

log, lock = PredictionLog(Settings(home=Path(sys.argv[1]))), threading.Lock()

def answer():
    while True:
        one = record()
        log.append([one])
        with lock:
            print(one.prediction_id, flush=True)

for _ in range(4):
    threading.Thread(target=answer).start()
"""


def test_every_acknowledged_prediction_survives_kill_9(log, lake, settings):
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    random_ = random.Random(seed)
    acknowledged = []
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", _ANSWER_FOR_EVER, str(settings.home)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
        )
        first = process.stdout.readline()
        time.sleep(random_.uniform(0.05, 0.5))
        process.kill()
        told = [first, *process.stdout.read().splitlines()]
        process.wait()
        process.stdout.close()
        acknowledged += [line.strip() for line in told if len(line.strip()) == 36]
        log.drain(lake, settings, EventBus())
    found = _in_lake(lake)
    assert len(acknowledged) > 3
    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(found))
