"""Tables as they are declared: columns, keys, times, layout, source and checks.

Knows what a table promises; it does not know how the lakehouse keeps the promise.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from rayplat.core.errors import Where
from rayplat.core.project.check import Check, TableCheck
from rayplat.core.project.source import Late, Source

MODES = ("append", "upsert")
"""What `Table.mode` may be."""

LAYOUTS = ("compact", "read")
"""What `Table.layout` may be."""

_TRANSFORM = re.compile(r"(?:(year|month|day|hour)\((\w+)\)|(bucket|truncate)\((\d+), *(\w+)\)|(\w+))")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Args:
        type: one of `column_types.COLUMN_TYPES`, or `vector(N)`: N float32 numbers, all of them finite.
        nullable: whether a value may be missing. Key and time columns may not.
        unit: the unit of the values, such as `min` or `kn`.
        pii: whether the values are personal data.
        description: what a value means, for people.
        renamed_from: the name that the column had before; the stored values stay its values.
    """

    type: str
    nullable: bool = True
    unit: str = ""
    pii: bool = False
    description: str = ""
    renamed_from: str = ""


@dataclass(frozen=True, slots=True)
class Partitioning:
    """One term of a table's partitioning: an Iceberg transform of a column.

    Attributes:
        transform: `identity`, `year`, `month`, `day`, `hour`, `bucket` or `truncate`.
        width: the number of buckets or the width of truncation; 0 for the others.
    """

    column: str
    transform: str
    width: int = 0


def parse_partitioning(text: str) -> Partitioning | None:
    """`day(event_time)`, `bucket(16, id)`, `truncate(4, code)`, `origin`; None where it is none of them."""
    match = _TRANSFORM.fullmatch(text.strip())
    if match is None:
        return None
    by_time, time_column, by_width, width, width_column, plain = match.groups()
    if by_time:
        return Partitioning(time_column, by_time)
    if by_width:
        return Partitioning(width_column, by_width, int(width))
    return Partitioning(plain, "identity")


@dataclass(frozen=True, slots=True)
class Clustering:
    """How compaction orders rows: `zorder` interleaves bits, `linear` sorts by one column after another."""

    columns: tuple[str, ...]
    kind: str = "linear"


def zorder(*columns: str) -> Clustering:
    """Compaction orders rows along a Z-curve over these columns, so that filters on any of them prune."""
    return Clustering(columns, "zorder")


def linear(*columns: str) -> Clustering:
    """Compaction sorts rows by these columns, the first one first."""
    return Clustering(columns, "linear")


@dataclass(frozen=True, slots=True)
class Table:
    """A declared table. Made by `Project.table`.

    Attributes:
        name: `namespace.name` in the catalog, such as `raw.departures`.
        key: the columns whose values together name a row.
        event_time: the column that says when it happened (timestamp).
        known_at: the column that says when it could be known; the event time where not given.
        source: what feeds it; None: nothing but writes by hand.
        checks: promises of each row; `table_checks`: promises of the table as a whole.
        partition_by: terms as text, see `parse_partitioning`.
        sort_by: columns by which each data file is sorted; `-` before one: greatest first.
        cluster_by: how compaction orders the rows of a partition; by `sort_by` where not given.
        retention: rows whose event time is older are deleted by maintenance; None: never.
        mode: `append`: every record is a row; `upsert`: a record replaces the row of its key.
        late: what becomes of late rows; None: they are accepted.
        layout: `compact` (zstd) or `read` (LZ4, large row groups): bigger on disk and faster to read.
    """

    name: str
    columns: Mapping[str, Column]
    key: tuple[str, ...]
    event_time: str | None
    known_at: str | None
    source: Source | None
    checks: tuple[Check, ...]
    description: str
    where: Where = field(compare=False)
    table_checks: tuple[TableCheck, ...] = ()
    partition_by: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()
    cluster_by: Clustering | None = None
    retention: timedelta | None = None
    mode: str = "append"
    late: Late | None = None
    layout: str = "compact"

    @property
    def told_by(self) -> str | None:
        """The column by which a row becomes known: `known_at`, or else the event time."""
        return self.known_at or self.event_time
