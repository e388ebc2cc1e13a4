"""Late rows go where the table says, and a wrong clock does not make all others late."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import rayplat as rp
from rayplat.core.events import EventBus
from rayplat.core.settings import IngestSettings, KafkaSettings, Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.streaming.development.mock_cluster import MockCluster
from rayplat.data.streaming.executor import InlineExecutor
from rayplat.data.streaming.ingest import ingest_once
from rayplat.data.streaming.lateness import MAX_EVENT_TIME, advanced
from rayplat.data.streaming.report import IngestReport, late_name
from tests.data.worlds import DEAD, QUARANTINE, TABLE, departures, produce, received, record

NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)


def at(number: int, hour: int, year: int = 2013) -> bytes:
    return record(number).replace(b"2013-01-01T05", b"%d-01-01T%02d" % (year, hour))


def ingest(
    lake: Lakehouse, settings: Settings, cluster: MockCluster, policy: str, **more: Any
) -> IngestReport:
    table = departures()
    late = rp.Late(timedelta(hours=2), policy)
    declared = type(table)(**{f: getattr(table, f) for f in table.__slots__} | {"late": late})
    ready = settings.model_copy(
        update={"kafka": KafkaSettings(bootstrap=cluster.bootstrap), "ingest": IngestSettings(batch_rows=3)}
    )
    return ingest_once(lake, declared, ready, EventBus(), executor=InlineExecutor(), **more)


@pytest.mark.parametrize("policy", ["accept", "quarantine", "side"])
def test_late_rows(lake: Lakehouse, settings: Settings, cluster: MockCluster, policy: str) -> None:
    cluster.create("departures", 1)
    # The first three are one batch: nothing was committed before, so none of them is late.
    produce(cluster.bootstrap, "departures", 0, [at(0, 2), at(1, 9), at(2, 3), at(3, 6), at(4, 7), at(5, 8)])
    report = ingest(lake, settings, cluster, policy)
    produce(cluster.bootstrap, "departures", 0, [at(6, 5), at(7, 9)])
    again = ingest(lake, settings, cluster, policy)
    good = sorted(lake.table(TABLE).read(["_offset"])["_offset"].to_pylist())
    late = [] if policy == "accept" else [3, 6]
    assert good == [n for n in range(8) if n not in late]
    assert [report.rows, again.rows] == [6, 2] if policy == "accept" else [5, 1]
    last = lake.table(TABLE).history()[-1].properties
    assert last[MAX_EVENT_TIME] == "2013-01-01T09:00:00+00:00"
    if policy == "side":
        rows = lake.table(late_name(departures())).read().to_pylist()
        assert sorted((row["_offset"], row["flight_id"]) for row in rows) == [(3, "UA3"), (6, "UA6")]
        assert (report.late, again.late, last["rayplat.late"]) == (1, 1, "1")
    if policy == "quarantine":
        received(lake).check({0: 8})
        reasons = lake.table(QUARANTINE).read(["reason"])["reason"].to_pylist()
        assert (
            reasons
            == ["scheduled_at is more than 2:00:00 behind the watermark 2013-01-01T09:00:00.000000Z"] * 2
        )


def test_a_date_in_the_future_makes_nobody_late(
    lake: Lakehouse, settings: Settings, cluster: MockCluster
) -> None:
    cluster.create("departures", 1)
    now = datetime.now(UTC)
    recent = record(2).replace(b"2013-01-01T05:00:00Z", f"{now:%Y-%m-%dT%H:%M:%SZ}".encode())
    produce(cluster.bootstrap, "departures", 0, [at(1, 1, year=2999)] * 3 + [recent])
    assert ingest(lake, settings, cluster, "side").late == 0


@pytest.mark.parametrize(
    ("watermark", "seen", "expected"),
    [
        (None, None, None),
        (None, NOON, NOON),
        (NOON, NOON - timedelta(hours=1), NOON),
        (NOON, NOON + timedelta(hours=1), NOON + timedelta(hours=1)),
        (NOON, NOON + timedelta(days=9), NOON + timedelta(days=1)),
    ],
)
def test_the_watermark_never_goes_back_nor_beyond_the_clock(watermark: Any, seen: Any, expected: Any) -> None:
    assert advanced(watermark, seen, NOON + timedelta(days=1)) == expected


class CrashError(BaseException):
    """Stands for a kill: nothing in the product may catch it."""


def test_late_rows_that_were_committed_before_a_crash_are_there_once(
    lake: Lakehouse, settings: Settings, cluster: MockCluster
) -> None:
    cluster.create("departures", 1)
    produce(cluster.bootstrap, "departures", 0, [at(0, 9)])
    ingest(lake, settings, cluster, "side")
    produce(cluster.bootstrap, "departures", 0, [at(1, 1), at(2, 9), b"junk", at(3, 2), at(4, 9)])

    def crash(point: str) -> None:
        if point == "after_late_commit":
            raise CrashError

    with pytest.raises(CrashError):
        ingest(lake, settings, cluster, "side", on_point=crash)
    report = ingest(lake, settings, cluster, "side")
    assert (report.rows, report.late, report.dead) == (2, 2, 1)
    late = lake.table(late_name(departures())).read(["_offset"])["_offset"].to_pylist()
    assert sorted(late) == [1, 4]
    assert sorted(lake.table(TABLE).read(["_offset"])["_offset"].to_pylist()) == [0, 2, 5]
    assert lake.table(DEAD).read(["offset"])["offset"].to_pylist() == ["3"]
