"""A join under a limit of memory: run as a script, with the events in millions and `streamed` or `whole`.

The events are made as they are read, so that only who keeps them has them. It prints the sum of the answers.
"""

import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from rayplat.core.project.project import Project
from rayplat.core.project.table import Column
from rayplat.features.distributed.historical import Asking, answered
from rayplat.features.distributed.layout import Limits
from rayplat.features.distributed.tasks import Here
from rayplat.features.join.parts import BATCH, Part
from rayplat.features.lake import pin
from tests.features.fakes import FakeLake, FakeTable

ROWS, KEYS, QUESTIONS = 1 << 18, 20_000, 50_000
ROOM = 192 << 20
TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    {"entity": pa.int64(), "event": TIME, "x": pa.float64(), "_partition": pa.int32(), "_offset": pa.int64()}
)


@dataclass(frozen=True)
class Made:
    """The rows of a part, made whenever they are read."""

    number: int
    rows: int = ROWS

    def bounds(self, column: str) -> tuple[int, int] | None:
        first = self.number * self.rows
        return (first, first + self.rows - 1) if column == "event" else None

    def packed(self, column: str) -> None:
        return None

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for begin in range(0, self.rows, BATCH):
            first = self.number * self.rows + begin
            place = np.arange(first, first + min(BATCH, self.rows - begin))
            made = {
                "entity": pa.array(place * 2_654_435_761 % KEYS),
                "event": pa.array(place).cast(TIME),
                "x": pa.array(place * 0.5),
                "_partition": pa.array(np.zeros(len(place), np.int32)),
                "_offset": pa.array(place),
            }
            yield pa.record_batch([made[name] for name in columns], names=list(columns))


class Parts(FakeTable):
    """A table whose rows exist only while they are read."""

    made: list[Part]

    def parts(self, columns: Sequence[str], snapshot_id: int | None = None) -> list[Part]:
        return self.made


def main() -> None:
    events, way = int(float(sys.argv[1]) * 1e6), sys.argv[2]
    project = Project("limited", owner="tests@example.com")
    columns = {"entity": "int64", "event": Column("timestamp", nullable=False), "x": "float64"}
    source = project.table("raw.events", columns=columns, key=("entity", "event"), event_time="event")
    view = project.feature_view("last", source=source, entity="entity", features={"x": pl.col("x")})
    lake = FakeLake()
    lake.tell("raw.events", pl.DataFrame(SCHEMA.empty_table()))
    told = lake.tables["raw.events"]
    table = lake.tables["raw.events"] = Parts(told.columns, told.first_id, told.snapshots, told.rows)
    pick = np.random.default_rng(7)
    at = pl.Series(pick.integers(0, events, QUESTIONS)).cast(pl.Datetime("us", "UTC"))
    asked = pl.DataFrame({"entity": pick.integers(0, KEYS, QUESTIONS), "at": at})
    block = asked.to_arrow(compat_level=pl.CompatLevel.oldest())

    def ask(parts: int) -> pa.Table:
        table.made = [Made(number) for number in range(parts)]
        asking = Asking("at", [view], lake, pin(lake, ["raw.events"]), Limits())
        return answered(Here(2), [block], [QUESTIONS], asking)[0]

    ask(2)  # threads, compiled kernels and allocators are there before the limit is
    data = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (data + ROOM, data + ROOM))
    if way == "whole":
        kept = [batch for number in range(events // ROWS) for batch in Made(number).batches(SCHEMA.names)]
        print(len(kept))
        return
    print(pl.DataFrame(ask(events // ROWS)).get_column("last__x").sum())


if __name__ == "__main__":
    main()
