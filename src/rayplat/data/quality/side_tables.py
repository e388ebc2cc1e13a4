"""Side tables: where the records are that did not become rows, and which of them have become rows since.

Knows the names and columns of the tables beside a table; it does not know how records get there.

A record is named by source, partition and offset (texts of decimal digits, of any length). It is settled
when the table's own snapshots have moved past its offset: before that, its round is still under way, or
died, and is read again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.snapshot import SnapshotInfo
from rayplat.data.quality.rounds import REPLAY

KINDS = ("quarantine", "dead", "late")
"""The kinds of side tables, each a namespace; the order in which a round commits them does not matter."""
IDENTITY = ("source", "partition", "offset")
"""The columns that name a record."""
DIGITS = 64
"""Offsets are compared as text of so many digits; those of Kinesis have 56."""
MARKS = "quarantine_replays"
"""The namespace of the marks: which record was replayed by which replay."""
MARKS_SCHEMA = pa.schema(
    [
        pa.field("replay", pa.string(), nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in IDENTITY),
        pa.field("replayed_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
_TEXT = dict.fromkeys(IDENTITY, pl.String)
_RECORD = (*IDENTITY, "reason", "raw", "quarantined_at")
_RECORD_TYPES: dict[str, Any] = {
    **_TEXT,
    "reason": pl.String,
    "raw": pl.Binary,
    "quarantined_at": pl.Datetime("us", "UTC"),
}


@dataclass(frozen=True, slots=True)
class SideRecords:
    """Records of one side table, as frames with the columns of `IDENTITY` and those that were asked for.

    Attributes:
        settled: those that the table has moved past; `in_flight`: those of a round that is not committed.
    """

    settled: pl.DataFrame
    in_flight: pl.DataFrame


def side_name(kind: str, table: str) -> str:
    """The side table of a table: `quarantine.raw_departures` for `raw.departures`."""
    return f"{kind}.{table.replace('.', '_')}"


def owners(names: Sequence[str]) -> list[str]:
    """Of all tables, those that have at least one side table."""
    there = set(names)
    return [n for n in names if any(side_name(kind, n) in there for kind in KINDS)]


def committed(history: Sequence[SnapshotInfo]) -> dict[str, dict[str, int]]:
    """The next offset by source and partition, as the newest snapshot of each source tells."""
    return {snapshot.source: snapshot.offsets for snapshot in history if snapshot.offsets}


def records(lake: Lakehouse, kind: str, table: str, ends: Mapping[str, Mapping[str, int]]) -> SideRecords:
    """The records of `quarantine` or `dead` with reason, raw bytes and time.

    Args:
        ends: what `committed` says of the table itself.
    """
    return _parted(_read(lake, side_name(kind, table), _RECORD), ends)


def identities(lake: Lakehouse, kind: str, table: str, ends: Mapping[str, Mapping[str, int]]) -> SideRecords:
    """The names alone of the records of a side table of any kind; see `records`."""
    if kind != "late":
        return _parted(_read(lake, side_name(kind, table), IDENTITY), ends)
    # A late row has the columns of its table: its partition and offset, and no source of its own.
    found = _read(lake, side_name(kind, table), ("_partition", "_offset"))
    source = next((name for name in ends if not name.startswith("replay:")), "")
    frame = found.select(
        pl.lit(source).alias("source"),
        pl.col("_partition").cast(pl.String).alias("partition"),
        pl.col("_offset").cast(pl.String).alias("offset"),
    )
    return _parted(frame, ends)


def replayed(lake: Lakehouse, table: str, history: Sequence[SnapshotInfo]) -> pl.DataFrame:
    """The names of the records that a replay has brought into the table.

    A mark is written before the snapshot of its replay, and counts only if that snapshot is there.
    """
    marks = _read(lake, side_name(MARKS, table), ("replay", *IDENTITY))
    done = [s.properties[REPLAY] for s in history if REPLAY in s.properties]
    return marks.filter(pl.col("replay").is_in(done)).select(IDENTITY)


def padded(column: str) -> pl.Expr:
    """Decimal digits as text that sorts as the numbers do."""
    return pl.col(column).str.zfill(DIGITS)


def _read(lake: Lakehouse, name: str, columns: Sequence[str]) -> pl.DataFrame:
    if not lake.exists(name):
        return pl.DataFrame(schema={column: _RECORD_TYPES.get(column, pl.String()) for column in columns})
    frame = pl.DataFrame(pl.from_arrow(lake.table(name).read(list(columns))))
    # Tables made before offsets were texts have numbers there.
    return frame.with_columns(pl.col(column).cast(pl.String) for column in columns if column in IDENTITY)


def _parted(frame: pl.DataFrame, ends: Mapping[str, Mapping[str, int]]) -> SideRecords:
    told = [(s, p, str(end).zfill(DIGITS)) for s, offsets in ends.items() for p, end in offsets.items()]
    limits = pl.DataFrame(
        told, schema={"source": pl.String, "partition": pl.String, "end": pl.String}, orient="row"
    )
    joined = frame.join(limits, on=["source", "partition"], how="left", maintain_order="left")
    past = (padded("offset") < pl.col("end")).fill_null(value=False)
    return SideRecords(joined.filter(past).drop("end"), joined.filter(~past).drop("end"))
