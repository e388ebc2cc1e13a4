"""The replay: records that were set aside become rows, each exactly once, when what failed them is mended.

Knows the order of its two commits; it does not know formats (the caller brings the decoder) or why a
record was set aside.

A replay first marks its records with its own id, in a table beside the quarantine, and then commits their
rows with the same id in the snapshot. A mark counts only if the table has that snapshot. So a replay that
dies before the commit has marked nothing, one that dies after it has done all, and whoever replays again
finds what is left. The commit is fenced by a source of its own, `replay:<source>`, whose only offset
counts the records replayed so far: of two replays at once one wins and the other is told so.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import polars as pl
import pyarrow as pa

from rayplat.core.events import EventBus, SnapshotCommitted
from rayplat.core.project.table import Table
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.columns import OFFSET, PARTITION
from rayplat.data.lakehouse.snapshot import ROWS
from rayplat.data.lakehouse.table import LakeTable
from rayplat.data.quality.landing import OP, Landing
from rayplat.data.quality.mended import Mended, with_mended
from rayplat.data.quality.quarantine import waiting
from rayplat.data.quality.rounds import REPLAY, REPLAYED
from rayplat.data.quality.rows import faults
from rayplat.data.quality.side_tables import IDENTITY, MARKS, MARKS_SCHEMA, committed, side_name
from rayplat.data.quality.tables import TableChecks

CRASH_POINTS = ("before_marks", "after_marks", "after_write", "after_commit")
"""Where fault tests may kill a replay, in the order in which they are passed."""
SEQUENCE = "records"
"""The one partition of a replay's source: its offset counts the records replayed so far."""
_AT_ONCE = 100_000
_ROW = "_row"


class Decoded(Protocol):
    """What a decoder makes of a batch: rows with the declared columns, and why the other records are none."""

    @property
    def frame(self) -> pl.DataFrame:
        """One row for each record that could be decoded; with `_op` where records are changes."""
        ...

    @property
    def rows(self) -> Sequence[int]:
        """For each row of the frame, the index of its record."""
        ...

    @property
    def bad(self) -> Mapping[int, str]:
        """For each record that could not be decoded, its index and the reason."""
        ...


Decode = Callable[[Sequence[bytes | None]], Decoded]


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay has done.

    Attributes:
        replayed: how many records are rows now; `bad`: how many are as bad as before.
        reasons: how many of the bad ones there are by reason, without the values seen.
        snapshots: the table's new snapshots.
    """

    table: str
    replayed: int
    bad: int
    reasons: dict[str, int]
    snapshots: tuple[int, ...]


def replay(
    lake: Lakehouse,
    table: Table,
    decode: Decode,
    bus: EventBus,
    *,
    mended: Mended | None = None,
    reason: str = "",
    on_point: Callable[[str], None] = lambda _point: None,
) -> ReplayReport:
    """Decode and check the records that were set aside again, and commit those that are good now.

    Args:
        table: the declaration as it is now.
        decode: decodes the records as declared; with `mended`, decodes those instead.
        bus: is told of every snapshot and warning.
        mended: replay these records alone, with these bytes in place of the ones that came.
        reason: replay only records whose reason has this text in it.
        on_point: called at each of `CRASH_POINTS`; a seam for fault tests.

    Raises:
        ConflictError: another replay of this table is running; nothing was doubled.
        NotFoundError: a mended record is not in the quarantine (any more).
        UserError: a check with `on_fail="stop"` did not pass.
    """
    target = lake.ensure(table)
    history = target.history()
    found = waiting(lake, table.name, history, reason)
    if mended is not None:
        found = with_mended(found, mended, table.name)
    work = _Replay(lake, table, target, bus, on_point, ends=committed(history))
    for (source,), records in found.group_by("source", maintain_order=True):
        for part in records.iter_slices(_AT_ONCE):
            work.take(str(source), part, decode)
    return work.report()


class _Replay:
    """One run over the records, a commit for each part of them."""

    def __init__(
        self,
        lake: Lakehouse,
        table: Table,
        target: LakeTable,
        bus: EventBus,
        on_point: Callable[[str], None],
        *,
        ends: Mapping[str, Mapping[str, int]],
    ) -> None:
        self._ends = dict(ends)
        self._lake, self._table, self._target = lake, table, target
        self._bus, self._on_point = bus, on_point
        self._checks = TableChecks(lake, table)
        self._schema = target.schema()
        self._replayed = self._bad = 0
        self._reasons: dict[str, int] = {}
        self._snapshots: tuple[int, ...] = ()

    def report(self) -> ReplayReport:
        """What was done."""
        reasons = dict(sorted(self._reasons.items(), key=lambda item: -item[1]))
        return ReplayReport(self._table.name, self._replayed, self._bad, reasons, self._snapshots)

    def take(self, source: str, records: pl.DataFrame, decode: Decode) -> None:
        """Replay records of one source: judge them all, mark the good ones, commit their rows."""
        name = f"replay:{source}"
        written = lambda: self._on_point("after_write")  # noqa: E731
        landing = Landing(self._lake, self._table, name, self._ends.get(name, {}), written)
        rows, names = self._good(records, decode)
        if names.is_empty():
            return
        self._on_point("before_marks")
        replay_id = uuid.uuid4().hex
        self._mark(replay_id, names)
        self._on_point("after_marks")
        told = {ROWS: str(rows.height), REPLAYED: str(names.height), REPLAY: replay_id}
        after = {SEQUENCE: landing.before.get(SEQUENCE, 0) + names.height}
        snapshot_id = landing.commit(rows, after, told)
        self._ends[name] = after
        self._on_point("after_commit")
        self._replayed += names.height
        self._snapshots += (snapshot_id,)
        self._bus.emit(
            SnapshotCommitted(
                table=self._table.name,
                snapshot_id=snapshot_id,
                rows=rows.height,
                source=landing.source,
                offsets=after,
            )
        )

    def _good(self, records: pl.DataFrame, decode: Decode) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows of the records that are good now, and those records' names."""
        decoded = decode(records["raw"].to_list())
        for told in decoded.bad.values():
            self._count(told)
        origin = records.select(IDENTITY)[list(decoded.rows)]
        frame = decoded.frame.with_columns(self._system_columns(origin)).with_row_index(_ROW)
        # A deletion has a key and nothing else: no check is about it.
        gone = frame.filter(pl.col(OP) == "delete") if OP in frame.columns else frame.clear()
        rows = frame.join(gone, on=_ROW, how="anti", maintain_order="left")
        rows = rows.filter(self._unless(faults(rows, self._table)))
        verdict = self._checks.judge(rows, datetime.now(UTC))
        verdict.enforce(self._table.name)
        verdict.tell(self._table.name, self._bus)
        if verdict.quarantine is not None:
            rows = rows.filter(self._unless(verdict.quarantine))
        good = pl.concat([rows, gone]).sort(_ROW)
        return good.drop(_ROW), origin[good[_ROW]]

    def _unless(self, reasons: pl.Series) -> pl.Series:
        for told in reasons.drop_nulls():
            self._count(told)
        return reasons.is_null()

    def _count(self, told: str) -> None:
        self._bad += 1
        short = told.split(": ", 1)[0]
        self._reasons[short] = self._reasons.get(short, 0) + 1

    def _system_columns(self, origin: pl.DataFrame) -> Iterator[pl.Series]:
        for name, column in ((PARTITION, "partition"), (OFFSET, "offset")):
            if name in self._schema.names:
                empty = pl.Series(pl.from_arrow(pa.array([], self._schema.field(name).type)))
                yield origin[column].cast(empty.dtype).alias(name)

    def _mark(self, replay_id: str, names: pl.DataFrame) -> None:
        marks = names.with_columns(
            pl.lit(replay_id).alias("replay"), pl.lit(datetime.now(UTC)).alias("replayed_at")
        )
        there = self._lake.ensure_schema(side_name(MARKS, self._table.name), MARKS_SCHEMA)
        there.append(marks.select(MARKS_SCHEMA.names).to_arrow(compat_level=pl.CompatLevel.oldest()))
