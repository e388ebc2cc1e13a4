"""A database table as a source, read on by a column that only grows: its watermark.

Knows which rows come next and how they are numbered; it does not know how a row is checked or stored.

There is one partition, "0". The offset of a row is `watermark << 40 | ordinal`: the watermark as an
integer (microseconds since 1970 for a time; a time without a zone is UTC), and the row's place among the
rows of the same watermark, in the order of the table's key. A read ends between two watermarks wherever
it can, so that a row that is deleted meanwhile does not shift its neighbours; only where more rows share
one watermark than a read may give does it end inside.

What is seen: every row whose watermark, at the time of a look, is above all that was read. A row that is
updated and gets a newer watermark comes again (declare the table with `mode="upsert"`). What is not seen:
a deletion; a row without a watermark (counted and logged); and a row that becomes visible only after a
look with a watermark that was read already. For times, `settle` guards against that: only watermarks that
are older by the database's clock are read, so a transaction may take that long from its timestamp to its
commit. For integers there is no such guard: use a column whose values are visible in their order.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import orjson

from rayplat.core.errors import NotFoundError, UnavailableError
from rayplat.core.project.table import Column
from rayplat.core.telemetry import get_logger
from rayplat.data.streaming.sources.source import Limit, RecordMeta, Records, Watermarks, check_start
from rayplat.data.streaming.sources.typed import typed
from rayplat.data.streaming.sources.watermark_column import (
    bound,
    check_kind,
    is_time,
    now,
    number_of,
    open_engine,
    shown,
)

if TYPE_CHECKING:
    import sqlalchemy as sa

PARTITION = "0"
"""The one partition."""

_BITS = 40
_ORDINALS = (1 << _BITS) - 1
_LOWEST = -(1 << 63) << _BITS
_AT_ONCE = 5_000


class DatabaseSource:
    """A table (or view) of a database.

    Args:
        url: SQLAlchemy address.
        table: `schema.name` or `name`.
        watermark: the column that only grows: a timestamp or an integer.
        key: the columns that order rows of the same watermark; together with it they must name a row.
        columns: the declared columns; those that the database lacks are null.
        settle: how old a time must be by the database's clock before it is read.
        called: how the database is named in the source's name; the address without its secrets if empty.
        connect: makes the engine; a seam for tests.
    """

    wide = True

    def __init__(
        self,
        url: str,
        table: str,
        watermark: str,
        *,
        key: Sequence[str],
        columns: Mapping[str, Column],
        settle: timedelta = timedelta(seconds=5),
        called: str = "",
        connect: "Callable[[str], sa.Engine]" = open_engine,
    ) -> None:
        self.url = url
        self.table = table
        self.watermark = watermark
        self.key = tuple(key)
        self.columns = dict(columns)
        self.settle = settle
        self.called = called
        self._connect = connect
        self._engine: sa.Engine | None = None
        self._found: sa.Table | None = None
        self._counted = False

    @property
    def name(self) -> str:
        """`database:`, what the database is called, and the table."""
        return f"database:{self.called or shown(self.url)}/{self.table}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give connections back; the next use opens them again."""
        if self._engine is not None:
            self._engine.dispose()
        self._engine, self._found = None, None

    def partitions(self) -> list[str]:
        """The one partition.

        Raises:
            NotFoundError: there is no such table or column.
            UserError: the watermark's type cannot be read on.
            UnavailableError: the database does not answer.
        """
        with self._connected():
            return [PARTITION]

    def watermarks(self) -> dict[str, Watermarks]:
        """Up to which watermark there are rows that are settled.

        Raises:
            NotFoundError: there is no such table or column.
            UserError: the watermark's type cannot be read on.
            UnavailableError: the database does not answer.
        """
        import sqlalchemy as sa

        with self._connected() as (connection, table):
            column = table.c[self.watermark]
            highest = sa.select(sa.func.max(column))
            settled = None
            if is_time(column):
                settled = number_of(now(connection) - self.settle)
                highest = highest.where(column < bound(column, settled))
            value = connection.execute(highest).scalar()
            self._count_missing(connection, column)
        high = _LOWEST if value is None else (number_of(value) + 1) << _BITS
        # The newest rows may have been deleted since they were read; times go on growing, numbers may not.
        most = None if settled is None else max(high, settled << _BITS)
        return {PARTITION: Watermarks(_LOWEST, high, dense=False, most=most)}

    def _count_missing(self, connection: "sa.Connection", column: "sa.Column[Any]") -> None:
        """Tell once how many rows can never be read; a look every few seconds must not scan for them."""
        import sqlalchemy as sa

        if self._counted or not column.nullable:
            return
        self._counted = True
        unseen = connection.execute(sa.select(sa.func.count()).where(column.is_(None))).scalar()
        if unseen:
            get_logger("data.ingest").warning(
                "rows without a watermark are never read", source=self.name, rows=unseen, column=column.name
            )

    def read(self, partition: str, start: int, limit: Limit) -> Records:
        """Read rows from `start`, up to the limit, or up to what is settled now.

        Raises:
            IntegrityError: the read would start behind the highest watermark: rows were taken away.
            NotFoundError, UserError, UnavailableError: as `watermarks`.
        """
        marks = self.watermarks()[partition]
        check_start(self.name, partition, start, marks)
        until = min(limit.until, marks.high)
        if start >= until or limit.rows < 1:
            return Records([], [], start)
        group, skip = start >> _BITS, start & _ORDINALS
        if skip:
            rows, names = self._rows(group, group, limit.rows + 1, skip)
            if rows or until <= (group + 1) << _BITS:
                return self._piece(rows, names, start, min(until, (group + 1) << _BITS), limit.rows)
            group += 1
        first = None if start == _LOWEST else group
        rows, names = self._rows(first, (until - 1) >> _BITS, limit.rows + 1, 0)
        return self._piece(rows, names, group << _BITS, until, limit.rows)

    def _rows(self, first: int | None, last: int, most: int, skip: int) -> tuple[list[Any], list[str]]:
        """Rows with watermarks from `first` to `last`, in order; each ends with its watermark."""
        import sqlalchemy as sa

        with self._connected() as (connection, table):
            column = table.c[self.watermark]
            names = [name for name in self.columns if name in table.c]
            chosen = sa.select(*(table.c[name] for name in names), column.label("_watermark"))
            chosen = chosen.where(column <= bound(column, last))
            if first is not None:
                chosen = chosen.where(column >= bound(column, first))
            chosen = chosen.order_by(column, *(table.c[name] for name in self.key)).limit(most).offset(skip)
            streamed = connection.execution_options(stream_results=True, yield_per=_AT_ONCE)
            return [tuple(row) for row in streamed.execute(chosen)], names

    def _piece(self, rows: list[Any], names: list[str], start: int, until: int, wanted: int) -> Records:
        """The rows as records: all of them, or as many as are wanted, cut between two watermarks."""
        numbers = [number_of(row[-1]) for row in rows]
        offsets: list[int] = []
        group, ordinal = start >> _BITS, start & _ORDINALS
        for number in numbers:
            group, ordinal = (group, ordinal) if number == group else (number, 0)
            offsets.append(number << _BITS | ordinal)
            ordinal += 1
        count, next_offset = bisect_left(offsets, until), until
        if count > wanted:
            count = bisect_left(numbers, numbers[wanted]) or wanted
            whole = numbers[count] != numbers[count - 1]
            next_offset = numbers[count] << _BITS if whole else offsets[count]
        rows, offsets = rows[:count], offsets[:count]
        frame, bad = typed({n: [row[i] for row in rows] for i, n in enumerate(names)}, count, self.columns)
        return Records(
            [],
            offsets,
            next_offset,
            frame=frame,
            bad={offsets[row]: reason for row, reason in bad.items()},
            describe=partial(_meta, rows, names),
        )

    @contextmanager
    def _connected(self) -> "Iterator[tuple[sa.Connection, sa.Table]]":
        import sqlalchemy as sa

        try:
            if self._engine is None:
                self._engine = self._connect(self.url)
            with self._engine.connect() as connection:
                if self._found is None:
                    self._found = self._reflected(connection)
                yield connection, self._found
        except sa.exc.NoSuchTableError as error:
            raise NotFoundError(
                f"there is no table {self.table!r} in {shown(self.url)}", "correct the table's source"
            ) from error
        except sa.exc.DBAPIError as error:
            raise UnavailableError(
                f"{self.name} cannot be read: {error.orig}",
                "see that the database runs, that its address is right, and that its user may read the table",
            ) from error

    def _reflected(self, connection: "sa.Connection") -> "sa.Table":
        import sqlalchemy as sa

        schema, _, name = self.table.rpartition(".")
        table = sa.Table(name, sa.MetaData(), schema=schema or None, autoload_with=connection)
        for column in (self.watermark, *self.key):
            if column not in table.c:
                raise NotFoundError(
                    f"{self.name} has no column {column!r}", f"use: {', '.join(table.c.keys())}"
                )
        check_kind(self.name, table.c[self.watermark])
        return table


def _meta(rows: list[Any], names: list[str], index: int) -> RecordMeta:
    row = dict(zip(names, rows[index], strict=False))
    return RecordMeta(raw=orjson.dumps(row, default=str, option=orjson.OPT_NON_STR_KEYS))
