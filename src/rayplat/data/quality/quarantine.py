"""The quarantine: which records are set aside, why, and what they are.

Knows how they are listed and shown; it does not know how they are brought back (see `replay`).
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from rayplat.core.errors import NotFoundError
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.snapshot import SnapshotInfo
from rayplat.data.quality.side_tables import (
    IDENTITY,
    committed,
    owners,
    padded,
    records,
    replayed,
    side_name,
)

ASIDE = ("quarantine", "dead")
"""The kinds of records that can be replayed: failed checks, and what could not be decoded."""


@dataclass(frozen=True, slots=True)
class Aside:
    """The records of one table that are set aside.

    Attributes:
        kind: `quarantine` (failed a check) or `dead` (could not be decoded).
        open: how many are waiting for a mend; `replayed`: how many have become rows since.
        in_flight: how many are of a round that is not committed: they are read again.
        reasons: how many of the open ones there are by reason, without the values seen, most first.
        first, last: when the open ones were set aside.
    """

    table: str
    kind: str
    open: int
    replayed: int
    in_flight: int
    reasons: dict[str, int]
    first: datetime | None
    last: datetime | None


@dataclass(frozen=True, slots=True)
class AsideRecord:
    """One record that is set aside; `record` is what it holds: JSON where it is, else text, else base64."""

    kind: str
    source: str
    partition: str
    offset: str
    reason: str
    record: Any
    quarantined_at: datetime


def list_aside(lake: Lakehouse, table: str | None = None) -> list[Aside]:
    """What is set aside, by table and kind; kinds without any record are left out.

    Args:
        table: this table alone; all tables if None.

    Raises:
        NotFoundError: there is no such table.
    """
    names = [lake.table(table).name] if table is not None else owners(lake.names())
    found = [_summary(lake, name, kind, lake.table(name).history()) for name in names for kind in ASIDE]
    return [aside for aside in found if aside.open or aside.replayed or aside.in_flight]


def _summary(lake: Lakehouse, table: str, kind: str, history: Sequence[SnapshotInfo]) -> Aside:
    side = records(lake, kind, table, committed(history))
    waiting = side.settled.join(replayed(lake, table, history), on=list(IDENTITY), how="anti")
    short = pl.col("reason").str.split(": ").list.first()
    reasons = waiting.group_by(short).len().sort(["len", "reason"], descending=[True, False])
    return Aside(
        table=table,
        kind=kind,
        open=waiting.height,
        replayed=side.settled.height - waiting.height,
        in_flight=side.in_flight.height,
        reasons=dict(reasons.iter_rows()),
        first=_time(waiting["quarantined_at"].min()),
        last=_time(waiting["quarantined_at"].max()),
    )


def _time(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None


def waiting(lake: Lakehouse, table: str, history: Sequence[SnapshotInfo], reason: str = "") -> pl.DataFrame:
    """The open records of a table, of both kinds, by source, partition and offset.

    Args:
        history: of the table itself.
        reason: only records whose reason has this text in it.
    """
    ends = committed(history)
    frames = [
        records(lake, kind, table, ends).settled.with_columns(pl.lit(kind).alias("kind")) for kind in ASIDE
    ]
    found = pl.concat(frames).join(replayed(lake, table, history), on=list(IDENTITY), how="anti")
    # A record that died with its round and was read again may be there twice; it is one record.
    found = found.unique(IDENTITY, keep="first", maintain_order=True)
    found = found.filter(pl.col("reason").str.contains(reason, literal=True))
    return found.sort("source", "partition", padded("offset"))


def show_aside(lake: Lakehouse, table: str, limit: int, reason: str = "") -> list[AsideRecord]:
    """The first open records of a table.

    Args:
        limit: how many at most.
        reason: only those whose reason has this text in it.

    Raises:
        NotFoundError: there is no such table, or it never had a quarantine.
    """
    one = lake.table(table)
    if not any(lake.exists(side_name(kind, table)) for kind in ASIDE):
        raise NotFoundError(f"table {table} has no quarantine", "it is made by the first ingest of the table")
    rows = waiting(lake, table, one.history(), reason).head(limit).iter_rows(named=True)
    return [
        AsideRecord(
            kind=row["kind"],
            source=row["source"],
            partition=row["partition"],
            offset=row["offset"],
            reason=row["reason"],
            record=_readable(row["raw"]),
            quarantined_at=row["quarantined_at"],
        )
        for row in rows
    ]


def _readable(raw: bytes | None) -> Any:
    if raw is None:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode()
    try:
        return json.loads(text)
    except ValueError:
        return text
