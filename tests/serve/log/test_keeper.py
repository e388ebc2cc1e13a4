"""The shipping process of a machine: it is started, ships, and ends after the last bytes of its replica."""

import time

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.serve.log.keeper import Keeper
from rayplat.serve.log.local import LocalLog
from rayplat.serve.log.rows import TABLE
from tests.serve.logs import record


def _rows(lake):
    return lake.table(TABLE).read(["prediction_id"]).num_rows if lake.exists(TABLE) else 0


def _wait(lake, rows):
    deadline = time.monotonic() + 60
    while _rows(lake) < rows:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_one_keeper_ships_for_all_and_once_more_at_the_end(tmp_path):
    settings = Settings(home=tmp_path)
    folder, lake = settings.home / "prediction_log", Lakehouse(settings)
    keepers = [Keeper(folder, settings, every_s=0.2) for _ in range(2)]
    logs = [LocalLog(folder, opened=keeper.start) for keeper in keepers]
    for log in logs:
        log.append([record()])
    _wait(lake, 2)
    assert sum((folder / name).exists() for name in ("0", "1", "2")) == 2
    for log in logs:
        log.append([record()])
        log.close()
    for keeper in keepers:
        keeper.close()
        keeper.close()
    _wait(lake, 4)
    for keeper in keepers:
        keeper._thread.join(60)
        assert not keeper._thread.is_alive()
    assert _rows(lake) == 4
    lake.close()
