"""Table checks: what the table as a whole promises, carried out for each round of an ingest.

Knows which check asks for what and what a failed one leads to; it does not know how rows arrive.

Costs, a round: `unique` remembers 8 bytes a row, reads its columns of each file once, and looks each value
up in memory; only where one is known it reads the stored rows between the least and the greatest suspect
(over 50 million rows nothing is remembered, and the bounds are those of the round: cheap where values rise
with time, the whole column where they are random); `references` reads the other column once a snapshot of
its table, and looks each value up in memory; `fresh` and `volume` read the table's history; `distribution`
reads two days of its column once an hour. A table without such checks costs nothing.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TypeVar

import polars as pl

from rayplat.core.project.check import Distribution, Fresh, References, TableCheck, Unique, Volume
from rayplat.core.project.table import Table
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.snapshot import SnapshotInfo
from rayplat.data.quality.findings import GOOD, Finding, Verdict
from rayplat.data.quality.pruning import bounds
from rayplat.data.quality.rounds import newest_event
from rayplat.data.quality.seen import Seen
from rayplat.data.quality.shift import Shift
from rayplat.data.quality.standing import stale, unusual_volume
from rayplat.data.quality.unique import repeated

C = TypeVar("C", Unique, References, Fresh, Volume)
_SEPARATOR = "; "
_MOST_SEEN = 50_000_000
"""Rows of a table up to which the values of a unique column are remembered: 8 bytes each."""


class TableChecks:
    """Carries out the checks of one table; keep it from round to round, for it remembers what it read.

    Args:
        lake: where the table and those that it refers to are.
        table: the declaration. The table need not exist yet.
    """

    def __init__(self, lake: Lakehouse, table: Table) -> None:
        self._lake = lake
        self._table = table
        self._seen: dict[Unique, Seen] = {}
        self._values: dict[tuple[str, str], tuple[int | None, pl.Series]] = {}
        self._shifts = {
            check: Shift(check, table.event_time, self._stored)
            for check in table.table_checks
            if isinstance(check, Distribution) and table.event_time
        }

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that `judge` looks at: a round need not bring the others."""
        named: list[str] = []
        for check in self._table.table_checks:
            if isinstance(check, Unique):
                named += [*check.columns, *self._replaced_by()]
            elif isinstance(check, References | Distribution):
                named.append(check.column)
            if isinstance(check, Fresh | Distribution) and self._table.event_time:
                named.append(self._table.event_time)
        return tuple(dict.fromkeys(named))

    def judge(self, frame: pl.DataFrame, now: datetime) -> Verdict:
        """Judge the rows of a round before they are committed.

        Args:
            frame: the rows that passed the row checks, in source order, with at least `columns`; may be
                empty (then only what the table's standing tells is judged).
            now: the time, UTC.

        Returns:
            Which rows are to be set aside, what is to be told, and why nothing may be committed.

        Raises:
            NotFoundError: a table that is referred to does not exist.
        """
        if not self._table.table_checks:
            return GOOD
        round_ = _Round(frame.height)
        for reference in self._of(References):
            round_.take(reference, self._unknown(reference, frame))
        for unique in self._of(Unique):
            round_.take(unique, self._repeated(unique, frame, round_.good))
        kept = frame.filter(round_.good)
        for promise, finding in self._standing(kept, now):
            round_.tell(promise, finding)
        for promise, shift in self._shifts.items():
            round_.tell(promise, shift.judge(kept, now))
        return round_.verdict()

    def _of(self, kind: type[C]) -> Iterator[C]:
        return (check for check in self._table.table_checks if isinstance(check, kind))

    def _replaced_by(self) -> tuple[str, ...]:
        return self._table.key if self._table.mode == "upsert" else ()

    def _unknown(self, check: References, frame: pl.DataFrame) -> pl.Series:
        values = frame[check.column]
        return ~values.is_in(self._referred(check).implode()) & values.is_not_null()

    def _referred(self, check: References) -> pl.Series:
        """The values that may be referred to: read once for each snapshot of the other table."""
        other = self._lake.table(check.table)
        snapshot_id = other.snapshot_id()
        known = self._values.get((check.table, check.to))
        if known is None or known[0] != snapshot_id:
            data = other.read([check.to], snapshot_id=snapshot_id) if snapshot_id else other.read([check.to])
            known = (snapshot_id, pl.DataFrame(pl.from_arrow(data))[check.to].unique())
            self._values[check.table, check.to] = known
        return known[1]

    def _repeated(self, check: Unique, frame: pl.DataFrame, good: pl.Series) -> pl.Series:
        key = self._replaced_by()
        candidates = frame.filter(good)
        wanted = list(dict.fromkeys([*check.columns, *key]))
        suspects = self._suspects(check, candidates)
        if suspects.is_empty():
            stored = candidates.select(wanted).clear()
        else:
            stored = self._stored(wanted, bounds(suspects, check.columns))
        found = pl.Series(good.len() * [False], dtype=pl.Boolean)
        return found.scatter(good.arg_true(), repeated(candidates, stored, check.columns, key))

    def _suspects(self, check: Unique, candidates: pl.DataFrame) -> pl.DataFrame:
        """The rows that may repeat a stored one."""
        if candidates.is_empty() or not self._lake.exists(self._table.name):
            return candidates.clear()
        table = self._lake.table(self._table.name)
        if table.count() > _MOST_SEEN:
            return candidates
        seen = self._seen.setdefault(check, Seen(check.columns))
        seen.follow(table)
        return candidates.filter(seen.maybe(candidates))

    def _stored(self, columns: list[str], where: str | None) -> pl.DataFrame:
        if not self._lake.exists(self._table.name):
            return pl.DataFrame(schema=dict.fromkeys(columns, pl.Null))
        return pl.DataFrame(pl.from_arrow(self._lake.table(self._table.name).read(columns, where=where)))

    def _standing(self, frame: pl.DataFrame, now: datetime) -> Iterator[tuple[TableCheck, Finding | None]]:
        fresh, volume = list(self._of(Fresh)), list(self._of(Volume))
        history = self._history() if fresh or volume else ()
        newest = self._newest(frame, history) if fresh else None
        yield from ((check, stale(check, newest, now)) for check in fresh)
        yield from ((check, unusual_volume(check, history, frame.height, now)) for check in volume)

    def _history(self) -> Sequence[SnapshotInfo]:
        exists = self._lake.exists(self._table.name)
        return self._lake.table(self._table.name).history() if exists else ()

    def _newest(self, frame: pl.DataFrame, history: Sequence[SnapshotInfo]) -> datetime | None:
        name = self._table.event_time
        arriving = frame[name].max() if name and frame.height else None
        times = [arriving, newest_event(history)]
        if all(time is None for time in times) and name and history:
            times.append(self._stored([name], None)[name].max())  # rows that no ingest has told of
        return max((time for time in times if isinstance(time, datetime)), default=None)


class _Round:
    """Gathers what the checks of one round say."""

    def __init__(self, rows: int) -> None:
        self.good = pl.Series([True]).new_from_index(0, rows)
        self._reasons: list[pl.Series] = []
        self._warnings: list[Finding] = []
        self._stop: list[Finding] = []

    def take(self, check: Unique | References, failed: pl.Series) -> None:
        """Set the failed rows aside, or make a finding of them."""
        count = int(failed.sum())
        if not count:
            return
        name, reason = _described(check)
        if check.on_fail == "quarantine":
            self._reasons.append(
                pl.Series(f"{len(self._reasons)}", [reason])
                .new_from_index(0, failed.len())
                .set(~failed, None)
            )
            self.good &= ~failed
        else:
            self.tell(check, Finding(name, f"{count:,} of {failed.len():,} rows: {reason}"))

    def tell(self, check: TableCheck, finding: Finding | None) -> None:
        """Keep a finding for those who are to know."""
        if finding is not None:
            (self._stop if check.on_fail == "stop" else self._warnings).append(finding)

    def verdict(self) -> Verdict:
        """What all checks together say."""
        reasons = None
        if self._reasons:
            texts = pl.DataFrame(self._reasons)
            joined = pl.concat_str(texts.columns, separator=_SEPARATOR, ignore_nulls=True)
            reasons = texts.select(pl.when(self.good.not_()).then(joined).alias("reason"))["reason"]
        return Verdict(reasons, tuple(self._warnings), tuple(self._stop))


def _described(check: Unique | References) -> tuple[str, str]:
    """The name of a check, and why a row does not pass it."""
    if isinstance(check, References):
        return f"references({check.column})", f"{check.column} is not in {check.table}.{check.to}"
    names = ", ".join(check.columns)
    return f"unique({names})", f"{names} is there already"
