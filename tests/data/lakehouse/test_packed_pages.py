"""Packed columns are unpacked to what Arrow reads, and what is broken is told and never read past its end."""

import pickle
import struct
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from rayplat.core.errors import IntegrityError
from rayplat.data.lakehouse.packed_pages import PackedFile
from rayplat.data.lakehouse.unpacking import DELTA, FIRST, PLAIN, SPLIT, STORED, headers, unpack

LEAST, GREATEST = -(2**63), 2**63 - 1
NUMBERS = st.one_of(
    st.integers(LEAST, GREATEST),
    st.integers(-3, 3),
    st.sampled_from([LEAST, GREATEST, 0]),
    st.integers(0, 2**57),
)
# Random numbers of so many bits, so that every width of a packed difference comes, over several pages.
WIDTHS = range(65)
CODES = {"PLAIN": PLAIN, "DELTA_BINARY_PACKED": DELTA, "BYTE_STREAM_SPLIT": SPLIT}


INT64 = pa.int64()


def written(path: Path, values, kind=INT64, **options):
    """Write a column as the lakehouse does; gives the file and the column as Arrow reads it."""
    options = {"compression": "zstd", "use_dictionary": False, "store_schema": False, **options}
    data = pa.table(
        {"v": pa.array(values, pa.int64()).view(kind) if isinstance(values, np.ndarray) else values}
    )
    pq.write_table(data, path, **options)
    return PackedFile(str(path), pq.read_metadata(path), {"v": (0, kind)})


def read(column):
    out = np.zeros(sum(column.rows), np.int64)
    done = 0
    for page, rows in enumerate(column.rows):
        column.into(page, out[done : done + rows])
        done += rows
    return out


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(NUMBERS, min_size=1, max_size=400),
    encoding=st.sampled_from(sorted(CODES)),
    page=st.integers(1, 150),
    compression=st.sampled_from(["zstd", "none"]),
    nullable=st.booleans(),
)
def test_any_values_come_back(tmp_path, values, encoding, page, compression, nullable):  # noqa: PLR0917
    values = np.array(values, np.int64)
    field = pa.field("v", pa.int64(), nullable)
    path = tmp_path / "a.parquet"
    options = {"column_encoding": {"v": encoding}, "compression": compression, "max_rows_per_page": page}
    data = pa.table([pa.array(values)], schema=pa.schema([field]))
    pq.write_table(data, path, use_dictionary=False, write_batch_size=1, **options)
    column = PackedFile(str(path), pq.read_metadata(path), {"v": (0, pa.int64())}).column(0, "v")
    assert read(column).tolist() == values.tolist()
    assert max(column.rows) <= page


@pytest.mark.parametrize("width", WIDTHS)
def test_differences_of_every_width_over_pages_and_row_groups(tmp_path, width):
    seed = 30 + width
    rng = np.random.default_rng(seed)
    print("seed", seed)
    steps = (
        rng.integers(0, 2**64 - 1, 5_000, np.uint64, endpoint=True) >> np.uint64(64 - width) if width else 0
    )
    values = np.cumsum(np.broadcast_to(steps, 5_000), dtype=np.uint64).view(np.int64)
    file = written(
        tmp_path / "a.parquet",
        values,
        column_encoding={"v": "DELTA_BINARY_PACKED"},
        row_group_size=3_000,
        max_rows_per_page=1_111,
    )
    columns = [file.column(group, "v") for group in (0, 1)]
    assert [column.rows for column in columns] == [[1_111, 1_111, 778], [1_111, 889]]
    assert np.concatenate([read(column) for column in columns]).tolist() == values.tolist()


def test_the_bits_of_floats_and_times_are_kept(tmp_path):
    odd = [0.0, -0.0, float("inf"), struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_0123))[0], 5e-324]
    bits = np.array(odd * 500).view(np.int64)
    file = written(tmp_path / "f.parquet", bits, pa.float64(), column_encoding={"v": "BYTE_STREAM_SPLIT"})
    column = pickle.loads(pickle.dumps(file)).column(0, "v")
    assert column.kind == pa.float64()
    assert read(column).tolist() == bits.tolist()
    times = pa.timestamp("us", "UTC")
    file = written(tmp_path / "t.parquet", bits, times, column_encoding={"v": "DELTA_BINARY_PACKED"})
    assert read(file.column(0, "v")).tolist() == bits.tolist()


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ([1, None, 3], {}),
        ([1, 1, 1], {"use_dictionary": True}),
        ([1, 2, 3], {"compression": "snappy"}),
        ([1, 2, 3], {"write_statistics": False}),
        ([1, 2, 3], {"data_page_version": "2.0"}),
        (pa.array([1, 2, 3], pa.int32()), {}),
        (["a", "b"], {}),
        ([[1], [2, 3]], {}),
    ],
)
def test_what_is_not_packed_is_left_to_arrow(tmp_path, values, options):
    assert written(tmp_path / "a.parquet", values, **options).column(0, "v") is None
    file = written(tmp_path / "b.parquet", [1, 2, 3])
    assert file.column(0, "v") is not None
    assert file.column(0, "w") is None


def test_a_broken_page_is_told(tmp_path):
    path = tmp_path / "a.parquet"
    rng = np.random.default_rng(3)
    for compression in ("zstd", "none"):
        values = rng.integers(0, 1 << 40, 2_000)
        encoding = {"v": "DELTA_BINARY_PACKED"}
        file = written(path, values, column_encoding=encoding, compression=compression)
        content = bytearray(path.read_bytes())
        begin, _ = _first_page(content, file.footer)
        content[begin : begin + 4] = b"\xff" * 4
        path.write_bytes(content)
        with pytest.raises(IntegrityError, match="cannot be decoded"):
            read(file.column(0, "v"))
    path.write_bytes(bytes(len(content)))
    assert file.column(0, "v") is None
    path.write_bytes(content[:60])
    assert file.column(0, "v") is None
    path.unlink()
    with pytest.raises(IntegrityError, match="is not there"):
        file.column(0, "v")


@pytest.mark.parametrize("step", [0, 1, -7])
def test_no_place_outside_of_what_was_given_is_written(step):
    """Equal differences have no bits at all: nothing in the page says where they end."""
    for count in range(1, 140):
        values = [5 + step * i for i in range(count)]
        for encoding, code in CODES.items():
            page = np.frombuffer(_page(values, encoding), np.uint8)
            memory = np.full(count + 300, -9)
            assert unpack(page, False, code, memory[:count])
            assert memory.tolist() == values + [-9] * 300


@settings(max_examples=300, deadline=None)
@given(
    values=st.lists(NUMBERS, min_size=1, max_size=200),
    encoding=st.sampled_from(sorted(CODES)),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8),
    kept=st.floats(0, 1),
    more=st.integers(0, 3),
)
def test_no_byte_outside_of_a_page_is_read(values, encoding, changes, kept, more):
    """The bytes behind the page are a mark; a value made of it would differ when the mark does."""
    page = bytearray(_page(values, encoding))
    for place, byte in changes:
        page[place % len(page)] = byte
    cut = page[: int(len(page) * kept)] if more else page
    answers = []
    for mark in (0x00, 0xFF):
        memory = np.full(len(cut) + 64, mark, np.uint8)
        memory[: len(cut)] = cut
        given, out = memory[: len(cut)], np.zeros(len(values) + (more == 2), np.int64)
        given.flags.writeable = False
        answers.append((unpack(given, False, CODES[encoding], out), out.tolist()))
    assert answers[0] == answers[1]
    if not (changes or more):
        assert answers[0] == (True, values)


def _page(values, encoding):
    """The bytes of a page that Arrow writes."""
    sink = pa.BufferOutputStream()
    data = pa.table([pa.array(values, pa.int64())], schema=pa.schema([pa.field("v", pa.int64(), False)]))
    options = {"column_encoding": {"v": encoding}, "use_dictionary": False, "compression": "none"}
    pq.write_table(data, sink, **options)
    content = sink.getvalue().to_pybytes()
    first, size = _first_page(content, pq.read_metadata(pa.BufferReader(content)))
    return content[first : first + size]


def _first_page(content, footer):
    """Where the bytes of the first page begin, and how many there are."""
    begin = footer.row_group(0).column(0).data_page_offset
    told = np.full((1, 6), -1)
    headers(np.frombuffer(bytes(content[begin:]), np.uint8), 0, told)
    return begin + int(told[0, FIRST]), int(told[0, STORED])
