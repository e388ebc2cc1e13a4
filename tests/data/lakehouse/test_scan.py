"""Scans: the same rows as the table has, whatever is pushed down, renamed, widened, added or broken."""

import pickle
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyiceberg.types import DoubleType, LongType, StringType

from rayplat.core.errors import IntegrityError, NotFoundError, UserError
from rayplat.core.settings import S3Settings, Settings
from rayplat.data.lakehouse.batches import torch_batches
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.lazy import storage_options
from rayplat.data.lakehouse.storage import file_systems
from rayplat.data.lakehouse.table import LakeTable
from tests.data.lakehouse.reading import SCHEMA, frame, rows, same, scan
from tests.servers import Aws

FILTERS = [
    "id >= 250",
    "id < 10 or id = 299",
    "name = 'n3' and small > 100",
    "name != 'n3'",
    "name in ('n1', 'n2')",
    "name not in ('n1', 'n2')",
    "name is null",
    "name is not null",
    "name like 'n1%'",
    "name not like 'n1%'",
    "value > 60",
    "value >= 60 and value <= 70",
    "value < 5",
    "value != 3",
    "value is nan",
    "value is not nan",
    "not (id > 5)",
    "at >= '2013-01-01T00:04:00+00:00'",
    "day = '2013-01-05'",
    "day in ('2013-01-05', '2013-01-06')",
    "flag = true",
    "ratio > 140.25",
]


@pytest.fixture
def table(lake: Lakehouse) -> LakeTable:
    table = lake.ensure_schema("raw.a", SCHEMA)
    for first in (0, 100, 200):
        table.append(rows(first, 100, nulls=first == 100))
    return table


def test_a_table_without_rows(lake: Lakehouse) -> None:
    empty = scan(lake.ensure_schema("raw.none", SCHEMA))
    assert (empty.snapshot_id, empty.files) == (None, ())
    assert empty.arrow().schema == SCHEMA
    assert list(empty.tables()) == []
    assert empty.polars().collect().to_arrow().num_rows == 0


def test_all_rows_in_the_order_of_the_table(table: LakeTable) -> None:
    planned = scan(table)
    assert same(planned.arrow(), table.read())
    assert same(pa.concat_tables(planned.tables()), table.read())
    assert planned.polars().collect().equals(frame(table.read()))
    assert same(pickle.loads(pickle.dumps(planned)).arrow(), table.read())


def test_columns_in_the_order_wanted(table: LakeTable) -> None:
    planned = scan(table, columns=["value", "id"], where="small < 5")
    assert planned.arrow().column_names == ["value", "id"]
    assert planned.polars().collect_schema().names() == ["value", "id"]
    assert same(planned.select(["id"]).arrow(), table.read(["id"], where="small < 5"))


@pytest.mark.parametrize("where", FILTERS)
def test_a_filter_gives_what_iceberg_gives(table: LakeTable, where: str) -> None:
    planned = scan(table, where=where)
    wanted = table.read(where=where).sort_by("id")
    assert 0 < wanted.num_rows < 300, "the filter says something"
    assert repr(planned.arrow().sort_by("id").to_pylist()) == repr(wanted.to_pylist()), "NaN and all"
    assert planned.polars().collect().to_arrow().sort_by("id")["id"].to_pylist() == wanted["id"].to_pylist()


def test_files_and_row_groups_are_pruned(table: LakeTable) -> None:
    assert len(scan(table).files) == 3
    planned = scan(table, where="id >= 250")
    assert len(planned.files) == 1
    assert scan(table, where="id > 1000").files == ()
    outside = planned.open(scan(table).files[0])
    inside = [f for f in scan(table).files if planned.open(f).row_groups()]
    assert len(inside) == 1
    assert outside.read().num_rows in (0, 50)


def test_polars_pushes_its_own_filters_down(table: LakeTable) -> None:
    lazy = scan(table, where="id >= 100").polars().filter(pl.col("id") < 200).select("id")
    explained = lazy.explain()
    assert "Parquet SCAN" in explained
    assert "PROJECT 1/" in explained
    assert sorted(lazy.collect()["id"]) == list(range(100, 200))


def test_an_old_snapshot_has_its_old_columns(table: LakeTable) -> None:
    first = table.snapshot_id()
    old = table.read()
    with table.native().update_schema() as update:
        update.rename_column("name", "label")
        update.delete_column("raw")
    planned = scan(table, first, where="name = 'n1'")
    assert same(planned.arrow(), old.filter(pc.field("name") == "n1"))
    assert scan(table, first, columns=["raw"], where="raw is not null").arrow().num_rows > 0


def test_renamed_widened_added_and_dropped_columns(table: LakeTable) -> None:
    with table.native().update_schema(allow_incompatible_changes=False) as update:
        update.rename_column("name", "label")
        update.update_column("small", LongType())
        update.update_column("ratio", DoubleType())
        update.delete_column("raw")
        update.add_column("more", StringType())
        update.add_column("raw", StringType())
    new = rows(300, 10).rename_columns(["label" if n == "name" else n for n in SCHEMA.names])
    new = new.drop_columns(["raw"]).append_column("more", pa.array(["m"] * 10))
    table.append(new.append_column("raw", pa.array(["text"] * 10)))

    wanted = table.read()
    assert same(scan(table).arrow(), wanted)
    assert scan(table).arrow().schema == wanted.schema
    lazy = scan(table).polars()
    assert lazy.collect().equals(frame(wanted))
    assert lazy.filter(pl.col("small") == 7).select("small").collect()["small"].to_list() == [7]
    for where in ("label = 'n1'", "small > 150", "more = 'm'", "more is null", "raw is null and small < 10"):
        filtered = table.read(where=where).sort_by("id")
        assert filtered.num_rows
        assert scan(table, where=where).arrow().sort_by("id")["id"].equals(filtered["id"])
        assert sorted(scan(table, where=where).polars().collect()["id"]) == filtered["id"].to_pylist()


def test_wrong_questions_are_told(table: LakeTable) -> None:
    with pytest.raises(NotFoundError, match="no column nothing"):
        scan(table, columns=["nothing"])
    with pytest.raises(NotFoundError, match="no column name"):
        scan(table, columns=["id"]).select(["name"])
    for where in ("id >", "nothing = 1", "id = 'x'"):
        with pytest.raises(UserError, match="cannot be read where"):
            scan(table, where=where)
    with pytest.raises(UserError, match="verify='often'"):
        scan(table, verify="often")
    with pytest.raises(UserError, match="fraction of 2"):
        scan(table, verify="sampled", fraction=2)


def flip(path: str) -> None:
    file = Path(path)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_flipped_bit_is_found_before_rows_are_handed_out(table: LakeTable) -> None:
    broken = scan(table).address(scan(table).files[1])
    flip(broken)
    for planned in (scan(table, verify="always"), scan(table, verify="sampled", fraction=1)):
        for read in (planned.arrow, lambda p=planned: list(p.tables()), planned.polars):
            with pytest.raises(IntegrityError, match=r"raw\.a .*SHA-256") as caught:
                read()
            assert Path(broken).name in str(caught.value)
    good = scan(table, verify="sampled", fraction=0)
    assert sum(f.rows for f in good.files) == 300
    stream = scan(table, verify="always").tables()
    assert next(stream).num_rows == 100, "the first file is whole"
    with pytest.raises(IntegrityError):
        list(stream)


def test_a_sample_is_random_and_of_its_fraction(table: LakeTable) -> None:
    flip(scan(table).address(scan(table).files[0]))
    planned = scan(table, verify="sampled", fraction=0.5)
    found = 0
    for _ in range(60):
        try:
            planned.open(planned.files[0]).close()
        except IntegrityError:
            found += 1
    assert 10 < found < 50, found


def test_missing_cut_and_foreign_files_are_told(table: LakeTable, tmp_path: Path) -> None:
    first, second, third = [scan(table).address(f) for f in scan(table).files]
    Path(second).write_bytes(Path(second).read_bytes()[:100])
    with pytest.raises(IntegrityError, match="is no Parquet file"):
        scan(table).arrow()
    Path(first).unlink()
    with pytest.raises(IntegrityError, match="is not there"):
        list(scan(table).tables())
    foreign = tmp_path / "foreign.parquet"
    foreign.write_bytes(Path(third).read_bytes())
    planned = scan(table, verify="always")
    with pytest.raises(IntegrityError, match="has no digest in its name"):
        planned.open(type(planned.files[0])(str(foreign), 100, 0))


def test_s3(settings: Settings, moto_server: Aws) -> None:
    bucket = moto_server.fresh_bucket()
    s3 = S3Settings.model_validate(moto_server.s3_settings())
    there = settings.model_copy(update={"s3": s3, "warehouse": f"s3://{bucket}/lake"})
    lake = Lakehouse(there)
    table = lake.ensure_schema("raw.a", SCHEMA)
    for first in (0, 100):
        table.append(rows(first, 100))
    storage = storage_options(s3)
    for verify in ("never", "always"):
        planned = scan(table, where="id >= 50", verify=verify, systems=file_systems(there), storage=storage)
        assert sorted(planned.arrow()["id"].to_pylist()) == list(range(50, 200))
        assert sorted(planned.polars().collect()["id"]) == list(range(50, 200))
        batches = torch_batches(planned, 64, columns=["id", "value"])
        assert [len(b["id"]) for b in batches] == [64, 64, 22]
    system, inside = file_systems(there)(planned.files[0].path)
    with system.open_input_file(inside) as source:
        content = bytearray(source.read())
    content[40] ^= 1
    with system.open_output_stream(inside) as sink:
        sink.write(bytes(content))
    with pytest.raises(IntegrityError, match="SHA-256"):
        planned.arrow()
    lake.close()


def test_a_reader_that_stops_early_leaves_no_thread(table: LakeTable) -> None:
    import threading

    before = threading.active_count()
    stream = scan(table).tables()
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
