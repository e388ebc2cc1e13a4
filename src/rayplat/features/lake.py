"""What features read of the lakehouse, as protocols.

Knows the few methods that are used of tables and snapshots; it does not know the table format.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import polars as pl
import pyarrow as pa

from rayplat.core.errors import UserError
from rayplat.core.project.view import FeatureView
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.join.parts import Part


class Snapshot(Protocol):
    """One entry of a table's history."""

    @property
    def snapshot_id(self) -> int:
        """The id."""

    @property
    def operation(self) -> str:
        """`append`, `replace`, `overwrite` or `delete`."""

    @property
    def rows_added(self) -> int:
        """How many rows came with it."""

    @property
    def offsets(self) -> Mapping[str, int]:
        """The next offset by partition; empty where the table is not fed by a log."""

    @property
    def properties(self) -> Mapping[str, str]:
        """What its writer has noted."""


class Split(Protocol):
    """A part of a snapshot that one task reads; pickles."""

    @property
    def schema(self) -> pa.Schema:
        """The columns."""

    def tables(self) -> Iterator[pa.Table]:
        """The rows, by row group."""


class LakeTable(Protocol):
    """A table of the lakehouse."""

    def snapshot_id(self) -> int | None:
        """The current snapshot; None where nothing was ever written."""

    def schema(self) -> pa.Schema:
        """The current columns."""

    def read(
        self, columns: Sequence[str] | None = None, snapshot_id: int | None = None, where: str | None = None
    ) -> pa.Table:
        """Rows of a snapshot that satisfy `where`."""

    def splits(self, columns: Sequence[str], snapshot_id: int | None = None) -> Sequence[Split]:
        """The rows of a snapshot in parts of some 64 MiB, in the order of `read`; at least one part."""

    def parts(self, columns: Sequence[str], snapshot_id: int | None = None) -> Sequence[Part]:
        """The rows of a snapshot by row group, in the order of `read`."""

    def count(self, snapshot_id: int | None = None) -> int:
        """The number of rows of a snapshot."""

    def history(self) -> Sequence[Snapshot]:
        """All snapshots up to the current one, oldest first."""

    def overwrite(self, data: pa.Table, properties: Mapping[str, str] = ...) -> int:
        """Replace all rows in one snapshot."""


class Lake(Protocol):
    """The lakehouse."""

    def table(self, name: str) -> LakeTable:
        """A table; NotFoundError where there is none."""

    def exists(self, name: str) -> bool:
        """Whether there is such a table."""

    def ensure_schema(self, name: str, schema: pa.Schema) -> LakeTable:
        """A table of the platform, made where it does not exist."""


class Index(Protocol):
    """A view's source, clustered for point-in-time answers."""

    def answer(self, rows: pl.DataFrame, at: str, view: FeatureView) -> pl.DataFrame:
        """The view's features for asking rows, as `point_in_time.join` gives them."""


class Indexes(Protocol):
    """The indexes that were built."""

    def find(self, view: FeatureView, snapshot_id: int | None) -> Index | None:
        """The index of a view at a snapshot of its source; None where there is none."""


def pin(lake: Lake, names: Sequence[str]) -> dict[str, int]:
    """The current snapshots of tables, by name. A table that was never written to has none.

    Raises:
        NotFoundError: a table does not exist.
    """
    current = {name: lake.table(name).snapshot_id() for name in sorted(set(names))}
    return {name: snapshot for name, snapshot in current.items() if snapshot is not None}


def read_pinned(
    lake: Lake, name: str, columns: Sequence[str], snapshots: Mapping[str, int], where: str | None = None
) -> pl.DataFrame:
    """Columns of a table at its pinned snapshot, with the system columns where it has them.

    Raises:
        UserError: the table has rows but no pinned snapshot, or lacks a column.
    """
    table = lake.table(name)
    schema, snapshot = pinned(table, name, columns, snapshots)
    wanted = schema.names
    if snapshot is None:
        return to_frame(schema.empty_table())
    return to_frame(table.read(columns=wanted, snapshot_id=snapshot, where=where)).select(wanted)


def pinned(
    table: LakeTable, name: str, columns: Sequence[str], snapshots: Mapping[str, int]
) -> tuple[pa.Schema, int | None]:
    """Columns of a table, with the system columns where it has them, and its pinned snapshot; None: no rows.

    Raises:
        UserError: the table has rows but no pinned snapshot, or lacks a column.
    """
    schema = table.schema()
    missing = [c for c in columns if c not in schema.names]
    if missing:
        raise UserError(f"table {name!r} has no columns {missing}", f"it has: {', '.join(schema.names)}")
    wanted = dict.fromkeys([*columns, *(c for c in (PARTITION, OFFSET) if c in schema.names)])
    snapshot = snapshots.get(name)
    if snapshot is None and table.snapshot_id() is not None:
        raise UserError(f"no snapshot of {name!r} is pinned", "pin it, as rayplat.features.lake.pin does")
    return pa.schema([schema.field(c) for c in wanted]), snapshot


def to_frame(data: pa.Table) -> pl.DataFrame:
    """An Arrow table as a Polars frame."""
    return pl.DataFrame(data)


def logged(table: LakeTable) -> bool:
    """Whether the table's rows carry the offsets of a log."""
    names = table.schema().names
    return PARTITION in names and OFFSET in names


def offset_filter(low: Mapping[str, int], high: Mapping[str, int]) -> str | None:
    """A filter for the rows of each partition with low <= offset < high; None where there are none."""
    ranges = [
        f"({PARTITION} = {int(p)} and {OFFSET} >= {low.get(p, 0)} and {OFFSET} < {end})"
        for p, end in sorted(high.items(), key=lambda item: int(item[0]))
        if end > low.get(p, 0)
    ]
    return " or ".join(ranges) or None
