"""Maintenance of a table in a bucket: the same promises where files are objects."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.integrity import verify_table
from rayplat.data.lakehouse.maintenance.compact import Compaction
from rayplat.data.lakehouse.maintenance.expire import Expiry
from rayplat.data.lakehouse.maintenance.orphans import find_orphans
from rayplat.data.lakehouse.maintenance.plan import Packing
from rayplat.data.lakehouse.pins import Pins
from tests.data.lakehouse.maintenance.processes import ALL
from tests.data.lakehouse.maintenance.worlds import assert_whole, filled, ids, rows
from tests.servers import Aws, moto_server

__all__ = ["moto_server"]
LATER = datetime.now(UTC) + timedelta(days=30)


@pytest.fixture
def bucket(tmp_path: Path, moto_server: Aws) -> Iterator[Lakehouse]:
    warehouse = f"s3://{moto_server.fresh_bucket()}/lake"
    lake = Lakehouse(
        Settings.model_validate(
            {"home": tmp_path / "home", "warehouse": warehouse, "s3": moto_server.s3_settings()}
        )
    )
    yield lake
    lake.close()


def test_all_of_it_in_a_bucket(bucket: Lakehouse) -> None:
    table = filled(bucket, 4)
    Compaction(table, Packing(min_files=2)).compact()
    table.append(rows(99))
    loose = table.write_files(rows(7))[0]
    report = Expiry(Pins(bucket.settings), lifetime=ALL).expire(table, LATER)
    assert (len(report.expired), report.files) == (5, 4)
    assert ids(table) == [*range(40), 99]
    assert_whole(table)
    found = find_orphans(table, now=LATER, delete=True)
    assert [one.path for one in found.orphans] == [loose.path.removeprefix("s3://")]
    assert find_orphans(table, now=LATER).orphans == ()
    assert_whole(table)


def test_damage_in_a_bucket_is_found_and_located(bucket: Lakehouse) -> None:
    table = filled(bucket, 2)
    first, second = sorted(table.paths())
    systems = table.base().publisher.systems
    system, inside = systems(first)
    content = bytearray(system.open_input_file(inside).read())
    content[20] ^= 8
    with system.open_output_stream(inside) as sink:
        sink.write(bytes(content))
    system, inside = systems(second)
    system.delete_file(inside)
    damaged = verify_table(table.base()).damaged
    assert [(one.kind, one.affected) for one in damaged] == [("digest", 10), ("missing", 10)]
