"""Reconciliation: proof that every record that was received is accounted for, once.

Knows the sums that must hold; it does not mend what does not (an alarm that mends itself is none).

Cost: it reads `_partition` and `_offset` of the whole table, 12 bytes a row in memory for Kafka.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import polars as pl

from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.columns import OFFSET, PARTITION
from rayplat.data.lakehouse.snapshot import SnapshotInfo
from rayplat.data.quality.rounds import NOTHING, REPLAYED, UNCHANGED, Round, round_of
from rayplat.data.quality.side_tables import (
    DIGITS,
    IDENTITY,
    KINDS,
    SideRecords,
    committed,
    identities,
    replayed,
)


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Two numbers that should be equal and are not."""

    what: str
    expected: int
    found: int


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What became of everything that was received.

    Attributes:
        received ... ignored: the sums over all rounds in the table's history.
        replayed: how many of the quarantined and dead records have become rows since.
        open: how many of them are waiting.
        rows: how many rows the table has, counted in its files.
        rounds: how many snapshots tell what they received; `untold`: how many were made by other writers
            or before rounds were counted: their records are in no sum.
        in_flight: how many records are aside for a round that is not committed; they are in no sum.
        discrepancies: what does not hold; `holds`: whether everything does.
    """

    table: str
    holds: bool
    received: int
    accepted: int
    quarantined: int
    dead: int
    late: int
    ignored: int
    replayed: int
    open: int
    rows: int
    rounds: int
    untold: int
    in_flight: int
    discrepancies: tuple[Discrepancy, ...]


def reconcile(lake: Lakehouse, name: str) -> Reconciliation:
    """Prove that accepted + quarantined + dead + late + ignored = received, or say where it fails.

    The sums of the snapshots are checked against themselves, against the rows that are really in the
    table and in the tables beside it, and against the offsets that are committed. It may run beside an
    ingest: it looks at the table as of one snapshot, and side tables are always ahead of it.

    Raises:
        NotFoundError: there is no such table.
    """
    table = lake.table(name)
    history = table.history()
    rounds = [(s, told) for s in history if (told := round_of(s)) is not None]
    total = reduce(add, (told for _, told in rounds), NOTHING)
    sides = {kind: identities(lake, kind, name, committed(history)) for kind in KINDS}
    brought_back = replayed(lake, name, history)
    snapshot_id = history[-1].snapshot_id if history else None
    system = [column for column in (PARTITION, OFFSET) if column in table.schema().names]
    columns = system or table.schema().names[:1]
    rows = pl.DataFrame(pl.from_arrow(table.read(columns, snapshot_id=snapshot_id)))
    found = [
        *_rounds_that_fail(rounds),
        *_sides_that_differ(total, sides),
        *_rows_that_differ(history, rows, total),
        *_replays_that_differ(history, brought_back, sides),
    ]
    if system:
        found += _places_that_differ(history, rows, sides, brought_back)
    aside = sides["quarantine"].settled.height + sides["dead"].settled.height
    return Reconciliation(
        table=name,
        holds=not found,
        received=total.received,
        accepted=total.accepted,
        quarantined=total.quarantined,
        dead=total.dead,
        late=total.late,
        ignored=total.ignored,
        replayed=brought_back.height,
        open=aside - brought_back.height,
        rows=rows.height,
        rounds=len(rounds),
        untold=sum(
            round_of(s) is None and _changes_rows(s) and REPLAYED not in s.properties for s in history
        ),
        in_flight=sum(side.in_flight.height for side in sides.values()),
        discrepancies=tuple(found),
    )


def _changes_rows(snapshot: SnapshotInfo) -> bool:
    return snapshot.operation not in (UNCHANGED, "delete")


def _rounds_that_fail(rounds: Sequence[tuple[SnapshotInfo, Round]]) -> Iterator[Discrepancy]:
    for snapshot, told in rounds:
        if told.outcomes != told.received:
            yield Discrepancy(
                f"what became of the records of snapshot {snapshot.snapshot_id}", told.received, told.outcomes
            )


def _sides_that_differ(total: Round, sides: dict[str, SideRecords]) -> Iterator[Discrepancy]:
    told = {"quarantine": total.quarantined, "dead": total.dead, "late": total.late}
    for kind, side in sides.items():
        if told[kind] != side.settled.height:
            yield Discrepancy(f"records in the {kind} table", told[kind], side.settled.height)
        once = side.settled.select(IDENTITY).n_unique() if side.settled.height else 0
        if once != side.settled.height:
            yield Discrepancy(
                f"records that are in the {kind} table more than once", 0, side.settled.height - once
            )


def _rows_that_differ(
    history: Sequence[SnapshotInfo], rows: pl.DataFrame, total: Round
) -> Iterator[Discrepancy]:
    if not history:
        return
    if history[-1].rows_total != rows.height:
        yield Discrepancy(
            "rows in the files, beside what the snapshot says", history[-1].rows_total, rows.height
        )
    appended = [s for s in history if s.operation == "append" and round_of(s) is not None]
    if len(appended) == sum(round_of(s) is not None for s in history):
        # Rounds that replace rows by key write other rows again, and their number says nothing.
        added = sum(s.rows_added for s in appended)
        if added != total.accepted:
            yield Discrepancy("rows that the rounds added, beside what they accepted", total.accepted, added)


def _replays_that_differ(
    history: Sequence[SnapshotInfo], brought_back: pl.DataFrame, sides: dict[str, SideRecords]
) -> Iterator[Discrepancy]:
    told = sum(int(s.properties.get(REPLAYED, 0)) for s in history)
    if told != brought_back.height:
        yield Discrepancy("marks of replayed records", told, brought_back.height)
    aside = pl.concat([sides[kind].settled.select(IDENTITY) for kind in ("quarantine", "dead")])
    strangers = brought_back.join(aside, on=list(IDENTITY), how="anti").height
    if strangers:
        yield Discrepancy("replayed records that were never set aside", 0, strangers)


def _places_that_differ(
    history: Sequence[SnapshotInfo],
    rows: pl.DataFrame,
    sides: dict[str, SideRecords],
    brought_back: pl.DataFrame,
) -> Iterator[Discrepancy]:
    """Whether each offset is in one place, and behind what is committed."""
    ends = {s: e for s, e in committed(history).items() if not s.startswith("replay:")}
    if len(ends) != 1:
        return  # rows do not say of which source they are
    (source, end), *_ = ends.items()
    yield from _beyond(rows, end)
    if any(s.operation not in ("append", UNCHANGED) for s in history):
        return  # rows were replaced or deleted: that one is missing proves nothing
    twice = rows.height - rows.n_unique() if rows.height else 0
    if twice:
        yield Discrepancy("rows whose partition and offset another row has", 0, twice)
    here = pl.lit(source).alias("source"), pl.col("partition"), pl.col("offset")
    aside = pl.concat([sides[kind].settled.select(IDENTITY) for kind in KINDS])
    doubled = aside.height - aside.n_unique() if aside.height else 0
    within = sum(side.settled.height - side.settled.select(IDENTITY).n_unique() for side in sides.values())
    if doubled > within:
        yield Discrepancy("records that are in two side tables", 0, doubled - within)
    accounted = aside.join(brought_back, on=list(IDENTITY), how="anti").select(here)
    both = _among(rows, accounted)
    if both:
        yield Discrepancy("records that are rows, and set aside as well", 0, both)
    back = _among(rows, brought_back)
    if back != brought_back.height:
        yield Discrepancy("replayed records that are rows", brought_back.height, back)


def _beyond(rows: pl.DataFrame, end: dict[str, int]) -> Iterator[Discrepancy]:
    greatest = rows.group_by(PARTITION).agg(
        pl.col(OFFSET).max() if rows.schema[OFFSET].is_integer() else pl.col(OFFSET).str.zfill(DIGITS).max()
    )
    for partition, offset in greatest.iter_rows():
        limit = end.get(str(partition), 0)
        if int(offset) >= limit:
            yield Discrepancy(
                f"offset of the last row of partition {partition}, at most", limit - 1, int(offset)
            )


def _among(rows: pl.DataFrame, named: pl.DataFrame) -> int:
    """How many of the named records are rows."""
    wanted = named.select(
        pl.col("partition").cast(rows.schema[PARTITION]).alias(PARTITION),
        pl.col("offset").cast(rows.schema[OFFSET]).alias(OFFSET),
    )
    return wanted.join(rows.unique(), on=[PARTITION, OFFSET], how="semi").height
