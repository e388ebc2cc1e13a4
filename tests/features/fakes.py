"""A lakehouse in memory: whole tables by snapshot."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl
import pyarrow as pa

from rayplat.core.errors import NotFoundError
from rayplat.features.join.parts import Part, parts_of


@dataclass(frozen=True)
class FakeSnapshot:
    snapshot_id: int
    operation: str
    rows_added: int
    offsets: dict[str, int]
    properties: dict[str, str]


@dataclass(frozen=True)
class FakeSplit:
    rows: pa.Table

    @property
    def schema(self) -> pa.Schema:
        return self.rows.schema

    def tables(self) -> Iterator[pa.Table]:
        for begin in range(0, self.rows.num_rows, 7):
            yield self.rows.slice(begin, 7)


@dataclass
class FakeTable:
    columns: pa.Schema
    first_id: int = 1000
    snapshots: list[FakeSnapshot] = field(default_factory=list)
    rows: dict[int, pa.Table] = field(default_factory=dict)
    reads: list[dict[str, Any]] = field(default_factory=list)

    def snapshot_id(self) -> int | None:
        return self.snapshots[-1].snapshot_id if self.snapshots else None

    def schema(self) -> pa.Schema:
        return self.columns

    def history(self) -> list[FakeSnapshot]:
        return list(self.snapshots)

    def count(self, snapshot_id: int | None = None) -> int:
        return self.read(snapshot_id=snapshot_id).num_rows

    def read(
        self, columns: Sequence[str] | None = None, snapshot_id: int | None = None, where: str | None = None
    ) -> pa.Table:
        self.reads.append({"columns": columns, "snapshot_id": snapshot_id, "where": where})
        chosen = self.snapshot_id() if snapshot_id is None else snapshot_id
        data = self.columns.empty_table() if chosen is None else self.rows[chosen]
        kept = pl.DataFrame(data)
        if where is not None:
            kept = kept.filter(pl.sql_expr(_times_as_numbers(where)))
        return kept.select(columns or data.column_names).to_arrow()

    def parts(self, columns: Sequence[str], snapshot_id: int | None = None) -> list[Part]:
        return parts_of(pl.DataFrame(self.read(columns, snapshot_id)))

    def splits(self, columns: Sequence[str], snapshot_id: int | None = None) -> list[FakeSplit]:
        whole = self.read(columns, snapshot_id)
        return [FakeSplit(whole.slice(begin, 25)) for begin in range(0, max(whole.num_rows, 1), 25)]

    def append(
        self, data: pa.Table, properties: Mapping[str, str] = {}, offsets: Mapping[str, int] = {}
    ) -> int:
        before = self.rows[self.snapshots[-1].snapshot_id] if self.snapshots else self.columns.empty_table()
        whole = pa.concat_tables([before, data.select(self.columns.names).cast(self.columns)])
        return self._commit("append", whole, data.num_rows, properties, offsets)

    def overwrite(self, data: pa.Table, properties: Mapping[str, str] = {}) -> int:
        whole = data.select(self.columns.names).cast(self.columns)
        return self._commit("overwrite", whole, data.num_rows, properties, {})

    def _commit(
        self,
        operation: str,
        whole: pa.Table,
        added: int,
        properties: Mapping[str, str],
        offsets: Mapping[str, int],
    ) -> int:
        number = self.first_id + len(self.snapshots)
        self.rows[number] = whole
        self.snapshots.append(FakeSnapshot(number, operation, added, dict(offsets), dict(properties)))
        return number


def _times_as_numbers(where: str) -> str:
    def number(match: re.Match[str]) -> str:
        micros = int(datetime.fromisoformat(match[3]).timestamp()) * 1_000_000
        return f"CAST({match[1]} AS BIGINT) {match[2]} {micros}"

    return re.sub(r"(\w+) (<|>=) '([^']+)'", number, where)


class FakeLake:
    """Tables by name."""

    def __init__(self, first_id: int = 1000) -> None:
        self.first_id = first_id
        self.tables: dict[str, FakeTable] = {}

    def table(self, name: str) -> FakeTable:
        if name not in self.tables:
            raise NotFoundError(f"there is no table {name!r}")
        return self.tables[name]

    def exists(self, name: str) -> bool:
        return name in self.tables

    def ensure_schema(self, name: str, schema: pa.Schema) -> FakeTable:
        found = self.tables.setdefault(name, FakeTable(schema, self.first_id))
        new = [f for f in schema if f.name not in found.columns.names]
        if new:
            found.columns = pa.schema([*found.columns, *new])
        return found

    def tell(self, name: str, rows: pl.DataFrame) -> int:
        """Append rows with `_partition` and `_offset`, as an ingest does, with the offsets after them."""
        data = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        table = self.ensure_schema(name, data.schema)
        offsets = dict(table.snapshots[-1].offsets) if table.snapshots else {}
        for partition, end in rows.group_by("_partition").agg(pl.col("_offset").max() + 1).rows():
            offsets[str(partition)] = max(end, offsets.get(str(partition), 0))
        return table.append(data, offsets=offsets)
