"""What the tests of a killed ingest look at when it is over: the table, the quarantine and the topic.

Knows how to finish an ingest and to compare; it does not know what was killed.
"""

import time
from collections.abc import Callable

from rayplat.core.events import EventBus
from rayplat.core.project.table import Table
from rayplat.core.settings import IngestSettings, KafkaSettings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.data.streaming.executor import InlineExecutor
from rayplat.data.streaming.ingest import ingest_once
from rayplat.data.streaming.report import IngestReport
from rayplat.data.streaming.sources.kafka import KafkaSource
from rayplat.data.streaming.sources.source import Limit
from tests.data.worlds import DEAD, QUARANTINE, TABLE, departures


def finish(lake: Lakehouse, bootstrap: str, table: Table | None = None) -> IngestReport:
    settings = lake.settings.model_copy(
        update={"kafka": KafkaSettings(bootstrap=bootstrap), "ingest": IngestSettings(batch_rows=1000)}
    )
    return ingest_once(lake, table or departures(), settings, EventBus(), executor=InlineExecutor())


def told(bootstrap: str) -> dict[tuple[int, int], bytes | None]:
    """Every record on the topic, by partition and offset."""
    everything: dict[tuple[int, int], bytes | None] = {}
    with KafkaSource(bootstrap, "departures") as source:
        for partition, mark in source.watermarks().items():
            records = source.read(partition, mark.low, Limit(mark.high, 10**9))
            for offset, value in zip(records.offsets, records.values, strict=True):
                everything[partition, offset] = value
    return everything


def check_contents(lake: Lakehouse, topic: dict[tuple[int, int], bytes | None]) -> None:
    """The ids in the table are those on the topic, and the quarantine has the very bytes."""
    rows = lake.table(TABLE).read(["flight_id", "_partition", "_offset"]).to_pylist()
    for row in rows:
        value = topic[row["_partition"], row["_offset"]] or b""
        assert f'"{row["flight_id"]}"'.encode() in value
    aside = {
        name: lake.table(name).read(["partition", "offset", "raw"]).to_pylist() for name in (QUARANTINE, DEAD)
    }
    bad = [row for found in aside.values() for row in found]
    assert all(topic[int(row["partition"]), int(row["offset"])] == row["raw"] for row in bad)
    assert len(rows) + len(bad) == len(topic), "accepted + quarantined + dead = received"
    history = [s.properties for s in lake.table(TABLE).history()]
    told = {
        n: sum(int(p[f"rayplat.{n}"]) for p in history)
        for n in ("received", "accepted", "quarantined", "dead")
    }
    assert list(told.values()) == [len(topic), len(rows), len(aside[QUARANTINE]), len(aside[DEAD])]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def committed(lake: Lakehouse, table: str) -> dict[str, int]:
    return FencedCommitter(lake, table, "kafka:departures").committed() if lake.exists(table) else {}
