"""What the tests of reading share: rows of every type, tables in both layouts, and a plan in one call."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from rayplat.data.lakehouse.scan import Scan, plan
from rayplat.data.lakehouse.stored import ScanFile
from rayplat.data.lakehouse.table import LakeTable

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("at", pa.timestamp("us", tz="UTC")),
        pa.field("day", pa.date32()),
        pa.field("name", pa.string()),
        pa.field("raw", pa.binary()),
        pa.field("small", pa.int32()),
        pa.field("ratio", pa.float32()),
        pa.field("value", pa.float64()),
        pa.field("flag", pa.bool_()),
    ]
)
NUMBERS = ["id", "at", "day", "small", "ratio", "value", "flag"]


def rows(first: int, count: int, *, nulls: bool = False) -> pa.Table:
    """Rows whose values follow from their id; `nulls`: each third value of what may be null is."""
    ids = range(first, first + count)
    begin = datetime(2013, 1, 1, tzinfo=UTC)
    columns: dict[str, list[Any]] = {
        "id": list(ids),
        "at": [begin + timedelta(seconds=i) for i in ids],
        "day": [date(2013, 1, 1) + timedelta(days=i % 300) for i in ids],
        "name": [f"n{i % 7}" for i in ids],
        "raw": [bytes([i % 256]) for i in ids],
        "small": [i % 1000 for i in ids],
        "ratio": [i / 2 for i in ids],
        "value": [float("nan") if i % 11 == 5 else i / 4 for i in ids],
        "flag": [i % 2 == 0 for i in ids],
    }
    if nulls:
        columns = {
            name: values
            if name == "id"
            else [None if i % 3 == 0 else v for i, v in zip(ids, values, strict=True)]
            for name, values in columns.items()
        }
    return pa.table(columns, schema=SCHEMA)


def same(left: pa.Table, right: pa.Table) -> bool:
    """Whether two tables have the same columns and values in the same order; NaN is NaN."""
    return left.schema == right.schema and frame(left).equals(frame(right))


def frame(data: pa.Table) -> pl.DataFrame:
    found = pl.from_arrow(data)
    assert isinstance(found, pl.DataFrame)
    return found


def scan(table: LakeTable, snapshot_id: int | None = None, **options: Any) -> Scan:
    return plan(table.native(), snapshot_id, **options)


def local_scan(
    schema: pa.Schema, files: list[tuple[str, pa.Table, dict[str, Any]]], table: LakeTable
) -> Scan:
    """A scan of `table` over Parquet files written here with exact options, field ids and all."""
    planned = scan(table, columns=schema.names)
    ids = table.file_schema()
    made = []
    for path, data, options in files:
        pq.write_table(data.cast(pa.schema([ids.field(n) for n in data.column_names])), path, **options)
        made.append(ScanFile(path, data.num_rows, 0))
    return Scan(planned.snapshot_id, tuple(made), planned.wanted)


PLAIN = {
    "compression": "none",
    "use_dictionary": False,
    "data_page_size": 1 << 30,
    "max_rows_per_page": 1 << 30,
    "write_page_checksum": True,
    "store_schema": False,
}


def random_table(seed: int, count: int) -> pa.Table:
    """Numbers only, with nothing missing."""
    values = np.random.default_rng(seed)
    return pa.table(
        {
            "id": np.arange(count),
            "small": values.integers(0, 1000, count).astype(np.int32),
            "ratio": values.normal(size=count).astype(np.float32),
            "value": values.normal(size=count),
        }
    )
