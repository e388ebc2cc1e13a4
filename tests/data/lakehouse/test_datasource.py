"""The Ray source: each row once, in tasks of about the wanted size; a broken file stops the read."""

from pathlib import Path

import pyarrow as pa
import pytest

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.datasource import dataset, task_files
from rayplat.data.lakehouse.table import LakeTable
from tests.data.lakehouse.reading import SCHEMA, rows, scan

# Ray's own context reads its own deprecated fields when it is made.
pytestmark = pytest.mark.filterwarnings("ignore:`use_.* is deprecated")


@pytest.fixture
def table(lake: Lakehouse) -> LakeTable:
    table = lake.ensure_schema("raw.a", SCHEMA)
    for first in (0, 100, 200, 300):
        table.append(rows(first, 100))
    return table


def test_tasks_are_neighbours_of_about_a_block(table: LakeTable) -> None:
    planned = scan(table, columns=["id", "value"])
    assert [len(t) for t in task_files(planned)] == [4]
    assert [len(t) for t in task_files(planned, 100 * 16 * 2)] == [2, 2]
    assert [len(t) for t in task_files(planned, 1)] == [1, 1, 1, 1]
    assert [f for t in task_files(planned, 1) for f in t] == list(planned.files)
    assert task_files(scan(table, where="id > 1000")) == []


@pytest.mark.ray
def test_rows_by_ray(table: LakeTable, ray_session: Settings) -> None:
    assert ray_session
    found = dataset(scan(table, columns=["id", "name"], where="id >= 50"), block_bytes=4000)
    assert found.schema().names == ["id", "name"]
    data = pa.concat_tables(b for b in found.iter_batches(batch_format="pyarrow", batch_size=None))
    assert sorted(data["id"].to_pylist()) == list(range(50, 400))
    assert dataset(scan(table)).count() == 400
    assert dataset(scan(table, where="id > 1000")).count() == 0


@pytest.mark.ray
def test_a_broken_file_stops_ray(table: LakeTable, ray_session: Settings) -> None:
    assert ray_session
    path = Path(scan(table).address(scan(table).files[0]))
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(Exception, match="SHA-256"):
        dataset(scan(table, verify="always")).materialize()
