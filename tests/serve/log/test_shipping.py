import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rayplat.core.errors import ConflictError, IntegrityError
from rayplat.core.events import EventBus, SnapshotCommitted
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.serve.log.local import LocalLog
from rayplat.serve.log.rows import SCHEMA, TABLE
from rayplat.serve.log.shipping import ship
from rayplat.serve.log.slot import segments
from tests.serve.logs import AT, record

_ROOT = Path(__file__).parents[3]


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


@pytest.fixture
def lake(settings):
    house = Lakehouse(settings)
    yield house
    house.close()


@pytest.fixture
def folder(settings):
    return settings.home / "prediction_log"


def _log(folder, **options):
    return LocalLog(folder, sync="process", **options)


def _write(log, count):
    records = [record(i) for i in range(count)]
    for one in records:
        log.append([one])
    return records


def _in_lake(lake):
    return sorted(lake.table(TABLE).read(columns=["prediction_id"])["prediction_id"].to_pylist())


def _ids(*groups):
    return sorted(r.prediction_id for group in groups for r in group)


def test_files_are_shipped_once_while_they_are_written_to(folder, lake):
    told, bus = [], EventBus()
    bus.subscribe(SnapshotCommitted, told.append)
    log = _log(folder)
    first = _write(log, 20)
    assert ship(folder, lake, bus).rows == 20
    second = _write(log, 10)
    assert ship(folder, lake, bus).rows == 10
    assert ship(folder, lake, bus).rows == 0
    log.close()
    third = _write(log := _log(folder), 5)
    log.close()
    assert ship(folder, lake, bus).rows == 5
    assert _in_lake(lake) == _ids(first, second, third)
    assert [e.rows for e in told] == [20, 10, 5]
    table = lake.table(TABLE).read()
    assert table.schema.names == SCHEMA.names
    assert table["at"][0].as_py() == AT
    assert [s.start == s.end() for s in segments(folder / "0")] == [True]


def test_what_a_record_tells_beside_is_kept(folder, lake):
    log = _log(folder)
    one = record()
    told = {"output": "[0.25]", "caller": "shop", "arm": "canary", "trace_id": "a" * 32}
    log.append([replace(one, **told, idempotency_key="k1")])
    log.close()
    ship(folder, lake, EventBus())
    row = lake.table(TABLE).read().to_pylist()[0]
    assert {name: row[name] for name in told} == told
    assert row["idempotency_key"] == "k1"


def test_what_is_torn_is_passed_by_and_its_file_goes(folder, lake):
    log = _log(folder)
    first = _write(log, 3)
    ship(folder, lake, EventBus())
    log.close()
    with segments(folder / "0")[-1].path.open("ab") as file:
        file.write(b"\xf1WAL\x01")
    second = _write(log := _log(folder), 3)
    log.close()
    assert ship(folder, lake, EventBus()).rows == 3
    with segments(folder / "0")[-1].path.open("ab") as file:
        file.write(b"\xf1WA")
    ship(folder, lake, EventBus())
    ship(folder, lake, EventBus())
    third = _write(log := _log(folder), 3)
    log.close()
    ship(folder, lake, EventBus())
    assert _in_lake(lake) == _ids(first, second, third)
    assert len(segments(folder / "0")) == 1


def test_a_flipped_bit_costs_its_prediction_is_told_and_kept_aside(folder, lake):
    log = _log(folder)
    records = _write(log, 9)
    log.close()
    path = segments(folder / "0")[0].path
    data = bytearray(path.read_bytes())
    place = data.index(records[4].prediction_id.encode())
    data[place + 10] ^= 4
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"damaged bytes.*8 predictions"):
        ship(folder, lake, EventBus())
    assert _in_lake(lake) == _ids(records[:4], records[5:])
    kept = list((folder / "damaged").iterdir())
    assert [k.read_bytes() for k in kept] == [bytes(data)]
    assert ship(folder, lake, EventBus()).rows == 0


def test_of_two_shippers_at_once_the_later_commit_is_refused(folder, lake, settings, tmp_path):
    log = _log(folder)
    records = _write(log, 5)
    log.close()
    other = tmp_path / "other"

    def shipped_by_another_machine(point):
        if point == "written" and not other.exists():
            shutil.copytree(folder, other)  # the same files by another path: locks do not meet
            assert ship(other, Lakehouse(settings), EventBus()).rows == 5

    with pytest.raises(ConflictError):
        ship(folder, lake, EventBus(), reached=shipped_by_another_machine)
    assert ship(folder, lake, EventBus()).rows == 0
    assert _in_lake(lake) == _ids(records)


def test_a_folder_that_was_restored_without_the_warehouse_is_told(folder, lake):
    log = _log(folder)
    _write(log, 5)
    log.close()
    ship(folder, lake, EventBus())
    segment = segments(folder / "0")[0]
    segment.path.rename(segment.path.with_name(f"{7:020d}.wal"))
    _write(log := _log(folder), 1)
    log.close()
    with pytest.raises(IntegrityError, match="restored"):
        ship(folder, lake, EventBus())


_SHIP_AND_DIE = """
import os, signal, sys
from pathlib import Path
from rayplat.core.events import EventBus
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.serve.log.shipping import ship

def reached(point):
    if point == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

settings = Settings(home=Path(sys.argv[1]))
ship(settings.home / "prediction_log", Lakehouse(settings), EventBus(), reached=reached)
"""


def test_a_shipper_killed_at_any_point_loses_and_doubles_nothing(folder, lake, settings):
    written = []
    log = _log(folder, file_bytes=1500)
    for point in ("read", "written", "committed", "deleted"):
        written += _write(log, 7)
        command = [sys.executable, "-c", _SHIP_AND_DIE, str(settings.home), point]
        died = subprocess.run(command, timeout=60, check=False, cwd=_ROOT)
        assert died.returncode == -signal.SIGKILL
    log.close()
    ship(folder, lake, EventBus())
    assert _in_lake(lake) == _ids(written)
