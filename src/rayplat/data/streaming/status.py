"""The status of a project's ingest: how far each table is behind its source, and how fast it goes.

Knows the tables' snapshots and the sources' watermarks, and does not know any running service: so it tells
the truth whether one runs or not, and from another machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import get_args

from rayplat.core.errors import RayplatError
from rayplat.core.project.project import Project
from rayplat.core.project.source import Stream
from rayplat.core.project.table import Table
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.snapshot import SnapshotInfo
from rayplat.data.streaming.lateness import committed_watermark
from rayplat.data.streaming.measures import ACCEPTED, BYTES, DEAD, IGNORED, LATE, QUARANTINED, RECEIVED
from rayplat.data.streaming.open import opener

_WINDOW = timedelta(minutes=5)
_COUNTS = {
    "received": RECEIVED,
    "accepted": ACCEPTED,
    "quarantined": QUARANTINED,
    "dead": DEAD,
    "late": LATE,
    "ignored": IGNORED,
}


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """Where one partition stands.

    Attributes:
        committed: the next offset to read; None before the first commit.
        high: where the partition ends now; `lag`: records not committed, None where that is not known.
    """

    partition: str
    committed: int | None
    high: int
    lag: int | None


@dataclass(frozen=True, slots=True)
class IngestStatus:
    """Where one table stands.

    Attributes:
        lag: records not committed, over all partitions; None where that is not known.
        newest_event: the table's watermark; `behind_s`: how old it is, s.
        last_commit: when the last snapshot of this source was made.
        records_per_s, bytes_per_s: over the last five minutes.
        totals: records by what became of them, over the whole history.
        trouble: why the source could not be asked; empty if it answered.
    """

    table: str
    source: str
    lag: int | None
    newest_event: datetime | None
    behind_s: float | None
    last_commit: datetime | None
    records_per_s: float
    bytes_per_s: float
    totals: Mapping[str, int]
    partitions: Sequence[PartitionStatus]
    trouble: str = ""


def ingest_status(
    lake: Lakehouse, project: Project, settings: Settings, now: datetime | None = None
) -> list[IngestStatus]:
    """The status of every table of a project that a stream feeds; a source that is silent is told as such."""
    at = now or datetime.now(UTC)
    tables = [table for table in project.tables if isinstance(table.source, get_args(Stream))]
    return [_status(lake, table, settings, at) for table in tables]


def _status(lake: Lakehouse, table: Table, settings: Settings, now: datetime) -> IngestStatus:
    history = lake.table(table.name).history() if lake.exists(table.name) else []
    carrying = [snapshot for snapshot in history if RECEIVED in snapshot.properties]
    last = carrying[-1] if carrying else None
    offsets = last.offsets if last else {}
    partitions, name, trouble = _partitions(table, settings, offsets)
    lags = [p.lag for p in partitions if p.lag is not None]
    newest = committed_watermark(last.properties) if last else None
    recent = [s for s in carrying if s.at > now - _WINDOW]
    span = max((now - recent[0].at).total_seconds(), 1.0) if recent else 1.0
    return IngestStatus(
        table=table.name,
        source=name or (last.source if last else ""),
        lag=sum(lags) if len(lags) == len(partitions) and not trouble else None,
        newest_event=newest,
        behind_s=(now - newest).total_seconds() if newest else None,
        last_commit=last.at if last else None,
        records_per_s=_sum(recent, RECEIVED) / span,
        bytes_per_s=_sum(recent, BYTES) / span,
        totals={word: _sum(carrying, key) for word, key in _COUNTS.items()},
        partitions=partitions,
        trouble=trouble,
    )


def _partitions(
    table: Table, settings: Settings, offsets: Mapping[str, int]
) -> tuple[list[PartitionStatus], str, str]:
    """Where each partition stands, the source's name, and why it could not be asked."""
    try:
        with opener(table, settings)() as source:
            marks = {str(partition): mark for partition, mark in source.watermarks().items()}
            name = source.name
    except RayplatError as error:
        return [], "", str(error)
    found = [
        PartitionStatus(
            partition, offsets.get(partition), mark.high, mark.lag(offsets.get(partition, mark.low))
        )
        for partition, mark in marks.items()
    ]
    return found, name, ""


def _sum(snapshots: Sequence[SnapshotInfo], key: str) -> int:
    return sum(int(snapshot.properties.get(key, 0)) for snapshot in snapshots)
