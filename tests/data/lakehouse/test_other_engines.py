"""Other engines read the tables as they are: pyiceberg, Polars and DuckDB, none of which knows us.

DuckDB reads the planned files: its Iceberg extension is a download.
"""

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.layout import LAYOUT
from rayplat.data.lakehouse.table import LakeTable
from tests.data.lakehouse.reading import SCHEMA, frame, rows, same, scan

# Polars recommends its own planner, which is another package.
pytestmark = pytest.mark.filterwarnings("ignore:Iceberg scan planning:polars.exceptions.PerformanceWarning")


@pytest.fixture(params=["compact", "read"])
def table(lake: Lakehouse, request: pytest.FixtureRequest) -> LakeTable:
    table = lake.ensure_schema("raw.a", SCHEMA)
    with table.native().transaction() as change:
        change.set_properties({LAYOUT: request.param})
    for first in (0, 100):
        table.append(rows(first, 100, nulls=first == 100))
    return table


def by_id(data: pa.Table) -> pl.DataFrame:
    return frame(data).sort("id")


def test_pyiceberg(table: LakeTable) -> None:
    found = table.native().scan().to_arrow()
    assert same(scan(table).arrow(), found.cast(SCHEMA))


def test_polars_by_the_metadata_file(table: LakeTable) -> None:
    found = pl.scan_iceberg(table.native().metadata_location).collect()
    assert found.sort("id").equals(by_id(table.read()))


def test_polars_by_the_files(table: LakeTable) -> None:
    planned = scan(table)
    found = pl.read_parquet([planned.address(f) for f in planned.files])
    assert found.equals(frame(table.read()))


def test_duckdb_by_the_files(table: LakeTable) -> None:
    planned = scan(table)
    paths = [planned.address(f) for f in planned.files]
    with duckdb.connect() as database:
        database.execute("set TimeZone = 'UTC'")
        found = database.sql("select * from read_parquet($1) order by id", params=[paths]).to_arrow_table()
    assert frame(found.cast(SCHEMA)).equals(by_id(table.read()))
