"""Integrity: every flipped bit is found, and the rows it hits are named."""

import random
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayplat.core.errors import IntegrityError, NotFoundError
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.damage import EVERY_COLUMN, RowRange
from rayplat.data.lakehouse.integrity import Damage, VerifyReport, count_rows, verify_file, verify_table
from rayplat.data.lakehouse.reachable import NamedFile
from rayplat.data.lakehouse.table import LakeTable

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("name", pa.string()),
        pa.field("delay", pa.float64()),
    ]
)
ROWS = 3000
FLIPS = 400


def rows(first: int, count: int = ROWS) -> pa.Table:
    ids = range(first, first + count)
    rng = random.Random(first)
    return pa.table(
        {"id": list(ids), "name": [f"n{i % 50}" for i in ids], "delay": [rng.random() for _ in ids]},
        schema=SCHEMA,
    )


@pytest.fixture
def table(lake: Lakehouse) -> LakeTable:
    one = lake.ensure_schema("raw.a", SCHEMA)
    one.append(rows(0))
    one.append(rows(ROWS))
    return one


def data_files(table: LakeTable) -> list[Path]:
    return sorted(Path(path.removeprefix("file://")) for path in table.paths())


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def verify(table: LakeTable, **options: bool) -> VerifyReport:
    return verify_table(table.base(), **options)


def test_a_whole_table_is_proven(table: LakeTable) -> None:
    report = verify(table)
    assert (report.damaged, report.unproven) == ((), ())
    assert (report.files, report.rows, report.metadata_files) == (2, 2 * ROWS, 4)
    assert report.size == sum(path.stat().st_size for path in data_files(table))
    report.check()


def test_every_flipped_bit_is_found_and_its_rows_are_named(table: LakeTable) -> None:
    seed = time.time_ns()
    print(f"seed {seed}")
    rng = random.Random(seed)
    path = data_files(table)[0]
    whole = path.read_bytes()
    pages = located = 0
    for _ in range(FLIPS):
        bit = rng.randrange(len(whole) * 8)
        flip(path, bit)
        (damage,) = verify(table).damaged
        assert damage.kind == "digest", (seed, bit)
        assert damage.path.endswith(path.name)
        assert damage.rows, (seed, bit)
        assert 0 < damage.affected <= ROWS
        column = owner(whole, bit // 8)
        pages += column is not None
        if column is not None and damage.rows[0].column != EVERY_COLUMN:
            assert [r.column for r in damage.rows] == [column], (seed, bit)
            located += 1
        path.write_bytes(whole)
    assert pages > FLIPS / 4
    # A flip in the header of a page may say nothing of a row; then all rows are named.
    assert located > 0.9 * pages
    assert verify(table).damaged == ()


def owner(whole: bytes, place: int) -> str | None:
    """Which column a byte of a file belongs to; None: header, footer or index."""
    footer = pq.read_metadata(pa.BufferReader(whole))
    for number in range(footer.num_row_groups):
        for index in range(footer.num_columns):
            chunk = footer.row_group(number).column(index)
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            if start <= place < start + chunk.total_compressed_size:
                return str(chunk.path_in_schema)
    return None


def named(path: Path, count: int) -> NamedFile:
    return NamedFile(str(path), count, path.stat().st_size, 0, 0, {}, 1, {}, {})


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_the_page_is_told_within_a_row_group(tmp_path: Path, version: str, codec: str) -> None:
    path = tmp_path / "foreign.parquet"
    data = pa.table({"id": pa.array(range(40_000)), "other": pa.array([None, 1.5] * 20_000)})
    pq.write_table(
        data,
        path,
        row_group_size=20_000,
        data_page_size=8_000,
        write_batch_size=500,
        use_dictionary=False,
        compression=codec,
        data_page_version=version,
        write_page_checksum=True,
    )
    assert verify_file(named(path, 40_000)) == str(path), "no page is damaged; it has no digest"
    chunk = pq.read_metadata(path).row_group(1).column(0)
    middle = chunk.data_page_offset + chunk.total_compressed_size // 3
    flip(path, middle * 8 + 3)
    damage = verify_file(named(path, 40_000))
    assert isinstance(damage, Damage)
    assert damage.kind == "page"
    (part,) = damage.rows
    assert part.column == "id"
    assert 20_000 <= part.first < part.end <= 40_000
    assert damage.affected == part.end - part.first < 4_000


def test_a_damaged_dictionary_hits_every_row_of_its_row_group(tmp_path: Path) -> None:
    path = tmp_path / "foreign.parquet"
    data = pa.table({"name": pa.array([f"n{i % 10}" for i in range(2000)])})
    pq.write_table(data, path, row_group_size=1000, write_page_checksum=True, compression="none")
    chunk = pq.read_metadata(path).row_group(1).column(0)
    flip(path, (chunk.data_page_offset - 3) * 8)
    damage = verify_file(named(path, 2000))
    assert isinstance(damage, Damage)
    assert damage.rows == (RowRange(1000, 2000, "name"),)


def test_a_file_with_nothing_to_be_proven_by_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"id": [1, 2]}), path)
    assert verify_file(named(path, 2)) == str(path)


def test_missing_and_shortened_files_are_told(table: LakeTable) -> None:
    first, second = data_files(table)
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    report = verify(table)
    assert sorted(d.kind for d in report.damaged) == ["missing", "size"]
    assert all(d.rows == (RowRange(0, ROWS, EVERY_COLUMN),) for d in report.damaged)
    assert [d.affected for d in report.damaged] == [ROWS, ROWS]
    with pytest.raises(IntegrityError, match="2 damaged files"):
        report.check()


def test_every_flipped_bit_of_manifests_and_their_lists_is_found(table: LakeTable) -> None:
    seed = time.time_ns()
    print(f"seed {seed}")
    rng = random.Random(seed)
    folder = Path(table.location().removeprefix("file://")) / "metadata"
    files = sorted(folder.glob("*.avro"))
    assert len(files) == 4
    for path in files:
        whole = path.read_bytes()
        for _ in range(25):
            flip(path, rng.randrange(len(whole) * 8))
            damaged = verify(table, every=True).damaged
            assert [d.kind for d in damaged] == ["metadata"], (seed, path)
            assert damaged[0].path.endswith(path.name)
            path.write_bytes(whole)
        path.unlink()
        assert [d.kind for d in verify(table, every=True).damaged] == ["metadata"]
        path.write_bytes(whole)


def test_old_snapshots_are_looked_at_when_asked(table: LakeTable) -> None:
    first = table.snapshot_id()
    lost = data_files(table)[0]
    table.overwrite(rows(0, 10))
    lost.unlink()
    assert verify(table).damaged == ()
    assert [d.kind for d in verify(table, every=True).damaged] == ["missing"]
    assert [d.kind for d in verify_table(table.base(), first).damaged] == ["missing"]
    with pytest.raises(NotFoundError, match="no snapshot 5"):
        verify_table(table.base(), 5)


def test_a_table_without_rows_is_whole(lake: Lakehouse) -> None:
    report = verify(lake.ensure_schema("raw.empty", SCHEMA))
    assert (report.files, report.damaged, report.snapshots) == (0, (), ())


def test_rows_are_counted_once() -> None:
    assert count_rows([RowRange(0, 10, "a"), RowRange(5, 12, "b"), RowRange(20, 21, "a")]) == 13
