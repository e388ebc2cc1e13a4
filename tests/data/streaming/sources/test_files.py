"""The reader of files: the contract of sources on disk and S3 in every format, and what only files do."""

import gzip
import io
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayplat.core.errors import IntegrityError, NotFoundError
from rayplat.core.project.table import Column
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.storage import file_systems
from rayplat.data.streaming.sources import file_text
from rayplat.data.streaming.sources.file_journal import FileJournal, journal_name
from rayplat.data.streaming.sources.files import FilesSource
from rayplat.data.streaming.sources.source import Limit, Records, Source
from tests.data.streaming.sources.source_contract import EVERYTHING, SourceContract, values_of
from tests.servers import Aws, moto_server

__all__ = ["moto_server"]
COLUMNS = {"value": Column("string"), "number": Column("int64")}
NOW = Settings().files.settle_s
OLD = time.time() - 3600


def content(kind: str, values: Sequence[object]) -> bytes:
    """A file of a kind with a value a row."""
    if kind == "ndjson":
        return b"".join(f"{value}\n".encode() for value in values)
    if kind == "csv":
        return b"number,value\n" + b"".join(f"{i},{value}\n".encode() for i, value in enumerate(values))
    sink = io.BytesIO()
    table = pa.table({"value": [str(v) for v in values], "number": pa.array(range(len(values)), pa.int32())})
    pq.write_table(table, sink, row_group_size=3, write_page_checksum=True)
    return sink.getvalue()


def put(folder: Path, name: str, data: bytes, age: float = 0.0) -> Path:
    """A file that was changed last an hour ago; `age` makes it older, s."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (OLD - age, OLD - age))
    return path


def opened(
    settings: Settings, location: str, kind: str = "ndjson", *, pattern: str = "**", settle: float = 1.0
) -> FilesSource:
    journal = FileJournal(Lakehouse(settings), journal_name("raw.t"), f"files:{location}")
    return FilesSource(
        journal,
        location,
        kind,
        COLUMNS,
        systems=file_systems(settings),
        pattern=pattern,
        settle=timedelta(seconds=settle),
    )


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def source(settings: Settings, inbox: Path) -> Iterator[FilesSource]:
    with opened(settings, f"file://{inbox}") as source:
        yield source


class _FilesContract(SourceContract):
    """Ten records in three files, and one file without any."""

    partition, empty, wide = 0, None, False
    offsets = (*range(4), *(2 << 32 | i for i in range(3)), *(3 << 32 | i for i in range(3)))

    def end(self) -> int:
        return 4 << 32

    def test_a_read_stops_at_its_rows(self, source: Source) -> None:
        self.start(source)
        records = source.read(0, self.offsets[2], Limit(until=10**130, rows=3))
        assert values_of(records) == [b"2", b"3", b"4"]
        assert self.offsets[4] < records.next_offset <= self.offsets[5]


FILES = (("a", range(4)), ("b", ()), ("c/d", range(4, 7)), ("c/e", range(7, 10)))


@pytest.mark.parametrize("kind", ["ndjson", "csv", "parquet"])
class TestOnDisk(_FilesContract):
    @pytest.fixture
    def source(self, settings: Settings, inbox: Path, kind: str) -> Iterator[Source]:
        for at, (name, values) in enumerate(FILES):
            put(inbox, f"{name}.{kind}", content(kind, values), age=60 - at)
        with opened(settings, f"file://{inbox}", kind) as source:
            source.watermarks()
            yield source


@pytest.mark.parametrize("kind", ["ndjson", "parquet"])
class TestOnS3(_FilesContract):
    @pytest.fixture
    def source(self, settings: Settings, moto_server: Aws, kind: str) -> Iterator[Source]:
        bucket = moto_server.fresh_bucket()
        with closing(moto_server.client("s3")) as client:
            for name, values in FILES:
                client.put_object(Bucket=bucket, Key=f"in/{name}.{kind}", Body=content(kind, values))
        there = settings.model_copy(
            update={"s3": type(settings.s3).model_validate(moto_server.s3_settings())}
        )
        with opened(there, f"s3://{bucket}/in", kind) as source:
            source.watermarks()
            yield source


def everything(source: FilesSource, start: int = 0, rows: int = 1000) -> tuple[list[bytes | None], int]:
    high, values = source.watermarks()[0].high, []
    while start < high:
        records = source.read(0, start, Limit(high, rows))
        assert records.next_offset > start
        values += values_of(records)
        start = records.next_offset
    return values, start


def test_each_file_is_noticed_once_and_later_ones_come_later(source: FilesSource, inbox: Path) -> None:
    put(inbox, "b", b"1\n")
    values, end = everything(source)
    assert values == [b"1"]
    assert everything(source, end) == ([], end)
    # Older than what was read: its turn is when it is noticed.
    put(inbox, "a", b"2\n3\n", age=900)
    values, later = everything(source, end)
    assert values == [b"2", b"3"]
    assert everything(source, later) == ([], later)


def test_a_file_that_was_read_may_be_deleted(source: FilesSource, inbox: Path) -> None:
    path = put(inbox, "a", b"1\n")
    end = everything(source)[1]
    path.unlink()
    put(inbox, "b", b"2\n")
    assert everything(source, end)[0] == [b"2"]


def test_another_process_goes_on_with_the_same_journal(
    settings: Settings, source: FilesSource, inbox: Path
) -> None:
    put(inbox, "a", b"1\n")
    end = everything(source)[1]
    put(inbox, "b", b"2\n")
    with opened(settings, f"file://{inbox}") as other:
        assert everything(other, end)[0] == [b"2"]
        # The first learns of it without looking at the folder.
        assert source.read(0, end, EVERYTHING).values == [b"2"]


def test_drivers_that_look_at_the_same_moment_note_a_file_once(settings: Settings, inbox: Path) -> None:
    Lakehouse(settings).ensure_schema("raw.other", pa.schema([pa.field("x", pa.int64())]))
    for i in range(20):
        put(inbox, f"{i:02}", f"{i}\n".encode(), age=20 - i)
    sources = [opened(settings, f"file://{inbox}") for _ in range(4)]
    gate = threading.Barrier(len(sources))
    highs: list[int] = []
    failed: list[Exception] = []

    def look(source: FilesSource) -> None:
        try:
            gate.wait(10)
            highs.append(source.watermarks()[0].high)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=look, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert highs == [20 << 32] * 4
    for source in sources:
        assert everything(source)[0] == [str(i).encode() for i in range(20)]
        source.close()
    noted = Lakehouse(settings).table(journal_name("raw.t")).read()
    assert sorted(noted["sequence"].to_pylist()) == list(range(20))
    assert len(set(noted["path"].to_pylist())) == 20


def test_two_folders_of_one_table_have_their_own_numbers(settings: Settings, tmp_path: Path) -> None:
    """As when the declared location is changed."""
    for name in ("one", "two"):
        put(tmp_path / name, "a", f"{name}\n".encode())
        with opened(settings, f"file://{tmp_path}/{name}") as source:
            assert everything(source)[0] == [name.encode()]


def test_a_file_that_is_still_written_is_left_for_later(settings: Settings, inbox: Path) -> None:
    path = put(inbox, "a", b"1\n")
    os.utime(path)
    with opened(settings, f"file://{inbox}", settle=0.4) as source:
        assert source.watermarks()[0].high == 0
        with path.open("ab") as file:
            file.write(b"2\n")
        time.sleep(0.5)
        assert everything(source)[0] == [b"1", b"2"]


@pytest.mark.parametrize("name", [".a", "_a", "a.tmp", "a.crc", "_temporary/a", ".hidden/b/a"])
def test_names_that_are_no_files_yet(source: FilesSource, inbox: Path, name: str) -> None:
    path = put(inbox, name, b"1\n")
    assert source.watermarks()[0].high == 0
    path.rename(inbox / "whole")
    assert everything(source)[0] == [b"1"]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("**", ["a.json", "d/b.json", "d/e/c.csv"]),
        ("*.json", ["a.json"]),
        ("**/*.json", ["a.json", "d/b.json"]),
        ("d/**", ["d/b.json", "d/e/c.csv"]),
        ("d/*/?.csv", ["d/e/c.csv"]),
        ("[a].json", []),
    ],
)
def test_patterns(settings: Settings, inbox: Path, pattern: str, wanted: list[str]) -> None:
    for name in ("a.json", "d/b.json", "d/e/c.csv"):
        put(inbox, name, f"{name}\n".encode())
    with opened(settings, f"file://{inbox}", pattern=pattern) as source:
        assert everything(source)[0] == [name.encode() for name in wanted]


def test_a_file_that_vanishes_before_it_is_read(source: FilesSource, inbox: Path) -> None:
    path = put(inbox, "sub/a", b"1\n")
    source.watermarks()
    path.unlink()
    with pytest.raises(IntegrityError, match=r"'sub/a' .* it is gone"):
        source.read(0, 0, EVERYTHING)


@pytest.mark.parametrize("change", [b"1\n2\n", b"9\n"])
def test_a_file_that_changes_before_it_is_read(source: FilesSource, inbox: Path, change: bytes) -> None:
    path = put(inbox, "a", b"1\n")
    source.watermarks()
    path.write_bytes(change)
    with pytest.raises(IntegrityError, match=r"'a' .* changed after it was noticed"):
        source.read(0, 0, EVERYTHING)


def test_a_file_that_changes_while_it_is_read(source: FilesSource, inbox: Path) -> None:
    path = put(inbox, "a", b"1\n2\n3\n")
    source.watermarks()
    first = source.read(0, 0, Limit(10**130, 1))
    with path.open("ab") as file:
        file.write(b"4\n")
    with pytest.raises(IntegrityError, match="changed after it was noticed"):
        source.read(0, first.next_offset, EVERYTHING)


def test_a_file_that_grew_after_it_was_read_stops_the_look(source: FilesSource, inbox: Path) -> None:
    """Its new rows would be lost in silence otherwise."""
    path = put(inbox, "a", b"1\n")
    everything(source)
    path.write_bytes(b"1\n2\n")
    os.utime(path, (OLD, OLD))
    with pytest.raises(IntegrityError, match="it has 4 bytes now"):
        source.watermarks()


def test_an_object_that_is_replaced_by_one_of_the_same_size(settings: Settings, moto_server: Aws) -> None:
    bucket = moto_server.fresh_bucket()
    there = settings.model_copy(update={"s3": type(settings.s3).model_validate(moto_server.s3_settings())})
    with closing(moto_server.client("s3")) as client, opened(there, f"s3://{bucket}") as source:
        client.put_object(Bucket=bucket, Key="a", Body=b"1\n")
        assert source.watermarks()[0].high == 1 << 32
        client.put_object(Bucket=bucket, Key="a", Body=b"2\n")
        with pytest.raises(IntegrityError, match="changed after it was noticed"):
            source.read(0, 0, EVERYTHING)


def test_no_folder(settings: Settings, tmp_path: Path) -> None:
    with opened(settings, f"file://{tmp_path}/nowhere") as source, pytest.raises(NotFoundError):
        source.watermarks()


def read(source: FilesSource) -> Records:
    source.watermarks()
    return source.read(0, 0, EVERYTHING)


def test_lines_are_kept_as_they_are(source: FilesSource, inbox: Path) -> None:
    put(inbox, "a", b'{"a": 1}\r\n\n  \n\xff\n{"b"\n{"last": 1}')
    records = read(source)
    assert records.values == [b'{"a": 1}', b"\xff", b'{"b"', b'{"last": 1}']
    assert list(records.offsets) == [0, 3, 4, 5]
    assert records.describe is not None
    assert dict(records.describe(1).headers) == {"path": b"a", "row": b"3"}


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
def test_compressed_text_of_several_members(settings: Settings, inbox: Path, kind: str) -> None:
    text = content(kind, range(10))
    put(inbox, f"a.{kind}.gz", gzip.compress(text[:9]) + gzip.compress(text[9:]))
    with opened(settings, f"file://{inbox}", kind) as source:
        assert everything(source, rows=3)[0] == [str(i).encode() for i in range(10)]


def test_a_line_that_is_too_long_is_bad_and_the_rest_is_not(
    source: FilesSource, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_text, "LONGEST_LINE", 2_000_000)
    put(inbox, "a", b"1\n" + b"x" * 5_000_000 + b"\n2\n")
    records = read(source)
    assert records.values == [b"1", b"x" * 1024, b"2"]
    assert list(records.bad) == [1]
    assert "longer than 2000000 bytes" in records.bad[1]


@pytest.mark.parametrize("kind", ["ndjson", "csv", "parquet"])
def test_pieces_of_any_size_give_the_same(settings: Settings, inbox: Path, kind: str) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    expected: list[bytes | None] = []
    for i in range(5):
        values = [rng.randrange(10**6) for _ in range(rng.choice([0, 1, 7, 40]))]
        expected += [str(value).encode() for value in values]
        put(inbox, f"{i}", content(kind, values), age=10 - i)
    with opened(settings, f"file://{inbox}", kind) as source:
        for rows in (1, 2, 5, 1000):
            assert everything(source, rows=rows)[0] == expected
        position, values = 0, []
        while position < 5 << 32:
            # Every piece by a reader that has not read before.
            source.close()
            records = source.read(0, position, Limit(5 << 32, rng.randrange(1, 20)))
            values += values_of(records)
            position = records.next_offset
        assert values == expected


def csv_records(settings: Settings, inbox: Path, text: bytes) -> Records:
    put(inbox, "a.csv", text)
    with opened(settings, f"file://{inbox}", "csv") as source:
        return read(source)


def test_rows_of_csv_that_are_bad_leave_the_others_alone(settings: Settings, inbox: Path) -> None:
    text = (
        b'\xef\xbb\xbfnumber,other,value\r\n1,x,"a, ""b""\nc"\n2,y\n\n'
        b'three,z,d\n4,\xff,e\n5,,"f"g\n6,,\n7,,h,i\n'
    )
    records = csv_records(settings, inbox, text)
    assert records.frame is not None
    assert list(records.offsets) == [0, 1, 3, 4, 5, 6, 7]
    assert sorted(records.bad) == [1, 3, 4, 5, 7]
    assert "2 fields and the header 3" in records.bad[1]
    assert "number: no int64" in records.bad[3]
    assert "not UTF-8" in records.bad[4]
    assert "lines 8 to 8" in records.bad[5]
    assert records.frame.rows()[0] == ('a, "b"\nc', 1)
    assert records.frame.rows()[5] == (None, 6)
    assert records.describe is not None
    assert records.describe(3).raw == b"4,\xff,e"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"x,y\n1,2\n", "names none of the declared columns: x, y"),
        (b"value,value\n1,2\n", "names 'value' twice"),
        (b'"value\n1\n', "the header cannot be read"),
    ],
)
def test_a_header_that_does_not_fit_makes_one_bad_record(
    settings: Settings, inbox: Path, text: bytes, match: str
) -> None:
    records = csv_records(settings, inbox, text)
    assert (list(records.offsets), records.next_offset) == ([0], 1 << 32)
    assert match in records.bad[0]


def test_a_quote_that_is_never_closed_costs_its_rows_and_not_the_file(
    settings: Settings, inbox: Path
) -> None:
    rows = b"".join(b"%d,%s\n" % (i, b"x" * 100) for i in range(5000))
    records = csv_records(settings, inbox, b'number,value\n1,a\n2,"b\n' + rows)
    assert len(records.bad) == 1
    assert "field limit" in records.bad[1]
    assert records.frame is not None
    last = records.frame.row(-1)
    assert last == ("x" * 100, 4999)
    assert len(records.offsets) > 3000


def damaged(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 0xFF]) + data[len(data) // 2 + 1 :]


@pytest.mark.parametrize(
    ("kind", "name", "spoil"),
    [
        ("parquet", "a", lambda data: b"no parquet"),
        ("parquet", "a", lambda data: data[:-20]),
        ("ndjson", "a.gz", lambda data: b"no gzip"),
        ("ndjson", "a.gz", lambda data: gzip.compress(data)[:-9]),
        ("csv", "a.gz", lambda data: damaged(gzip.compress(data))),
    ],
)
def test_a_damaged_file_is_one_bad_record_and_the_next_file_is_read(
    settings: Settings, inbox: Path, kind: str, name: str, spoil: Callable[[bytes], bytes]
) -> None:
    values = [random.Random(i).randrange(10**9) for i in range(2000)]
    put(inbox, name, spoil(content(kind, values)), age=9)
    put(inbox, "b", content(kind, ["next"]))
    with opened(settings, f"file://{inbox}", kind) as source:
        records = read(source)
    given = values_of(records)
    assert given[-1] == b"next"
    assert list(records.bad) == [records.offsets[-2]]
    assert "'a" in records.bad[records.offsets[-2]]
    assert "damaged" in records.bad[records.offsets[-2]]
    assert given[:-2] == [str(value).encode() for value in values[: len(given) - 2]]


def test_a_flipped_bit_in_a_page_is_found(settings: Settings, inbox: Path) -> None:
    sink = io.BytesIO()
    table = pa.table({"value": ["a" * 50] * 3 + ["b" * 50] * 3})
    plain = {"use_dictionary": False, "compression": "none", "write_statistics": False}
    pq.write_table(table, sink, row_group_size=3, write_page_checksum=True, **plain)
    data = bytearray(sink.getvalue())
    data[data.index(b"b" * 50)] ^= 1
    put(inbox, "a", bytes(data))
    with opened(settings, f"file://{inbox}", "parquet") as source:
        records = read(source)
    good = [v for v, at in zip(values_of(records), records.offsets, strict=True) if at not in records.bad]
    assert set(good) <= {b"a" * 50}
    assert len(records.bad) == 1
    assert "CRC" in next(iter(records.bad.values()))


@pytest.mark.parametrize("kind", ["ndjson", "csv", "parquet"])
def test_what_is_before_a_damage_is_read_whatever_the_pieces(
    settings: Settings, inbox: Path, kind: str
) -> None:
    rng = random.Random(5)
    values = [f"{rng.randrange(10**18)}{rng.randrange(10**18)}" for _ in range(60_000)]
    if kind == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.table({"value": values}), sink, row_group_size=20_000, use_dictionary=False)
        data = sink.getvalue()
        spoilt = data[: len(data) // 2] + b"\xff" * 1000 + data[len(data) // 2 + 1000 :]
    else:
        spoilt = gzip.compress(content(kind, values))[:-200_000]
    put(inbox, "a" if kind == "parquet" else "a.gz", spoilt)
    found = []
    with opened(settings, f"file://{inbox}", kind) as source:
        source.watermarks()
        for rows in (7_000, 10**6):
            position, given = 0, []
            while position < 1 << 32:
                records = source.read(0, position, Limit(1 << 32, rows))
                given += [*zip(records.offsets, values_of(records), strict=True)]
                bad = list(records.bad)
                position = records.next_offset
            assert bad == [given[-1][0]], "the last record says that the rest is gone"
            found.append(given)
    assert found[0] == found[1]
    good = [value for _, value in found[0][:-1]]
    assert len(good) > 10_000
    assert good == [value.encode() for value in values[: len(good)]]


def test_parquet_of_other_widths_and_columns(settings: Settings, inbox: Path) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"other": [[1], [2]], "number": pa.array([1, 2**40], pa.uint64())}), sink)
    put(inbox, "a", sink.getvalue())
    with opened(settings, f"file://{inbox}", "parquet") as source:
        records = read(source)
    assert records.frame is not None
    assert records.frame.rows() == [(None, 1), (None, 2**40)]
    assert records.bad == {}


def test_memory_stays_bounded_on_a_big_file(settings: Settings, inbox: Path) -> None:
    line = b'{"value": "' + b"x" * 1000 + b'"}\n'
    put(inbox, "a", line * 150_000)
    with opened(settings, f"file://{inbox}") as source:
        source.watermarks()
        first = source.read(0, 0, EVERYTHING)
    size = sum(len(value) for value in first.values if value)
    assert 60 * 2**20 < size < 70 * 2**20
    assert first.next_offset == len(first.values)


def _pickled(source: Any) -> Any:
    import pickle

    return pickle.loads(pickle.dumps(source))


def test_it_pickles_for_a_task(source: FilesSource, inbox: Path) -> None:
    put(inbox, "a", b"1\n")
    source.watermarks()
    source.close()
    with _pickled(source) as there:
        assert there.read(0, 0, EVERYTHING).values == [b"1"]
