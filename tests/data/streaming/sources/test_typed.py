"""Typed rows: what each way of writing a value becomes, and that one bad row leaves the others alone."""

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayplat.core.project.column_types import COLUMN_TYPES, polars_type
from rayplat.core.project.table import Column
from rayplat.data.streaming.sources.typed import typed, typed_arrow, typed_text

COLUMNS = {kind: Column(kind) for kind in COLUMN_TYPES}
NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)
ROW = {
    "string": "a",
    "int32": 1,
    "int64": 2**40,
    "float32": 0.5,
    "float64": 1.5,
    "bool": True,
    "date": date(2024, 5, 6),
    "timestamp": NOON,
    "binary": b"\x00\xff",
}
TEXT = {
    "string": "a",
    "int32": "1",
    "int64": str(2**40),
    "float32": "0.5",
    "float64": "15e-1",
    "bool": "TRUE",
    "date": "2024-05-06",
    "timestamp": "2024-05-06T14:00:00+02:00",
    "binary": "AP8=",
}


def test_every_type_from_values_text_and_arrow() -> None:
    values, bad_values = typed({k: [v, None] for k, v in ROW.items()}, 2, COLUMNS)
    text, bad_text = typed_text({k: [v, ""] for k, v in TEXT.items()}, 2, COLUMNS)
    batch = pa.RecordBatch.from_pydict({k: [v, None] for k, v in ROW.items()})
    arrow, bad_arrow = typed_arrow(batch, COLUMNS)
    assert bad_values == bad_text == bad_arrow == {}
    for frame in (values, text, arrow):
        assert dict(frame.schema) == {kind: polars_type(kind) for kind in COLUMN_TYPES}
        assert frame.rows() == [tuple(ROW.values()), (None,) * len(ROW)]


def test_a_column_that_is_not_there_is_null_and_another_is_left_out() -> None:
    wanted = pl.DataFrame({"a": [None]}, schema={"a": pl.Int64})
    columns = {"a": Column("int64")}
    assert typed({"b": [1]}, 1, columns)[0].equals(wanted)
    assert typed_text({"b": ["1"]}, 1, columns)[0].equals(wanted)
    assert typed_arrow(pa.RecordBatch.from_pydict({"b": [1]}), columns)[0].equals(wanted)


def test_databases_way_of_writing() -> None:
    name = UUID(int=7)
    columns = {"u": Column("string"), "j": Column("string"), "d": Column("float64"), "t": Column("timestamp")}
    columns["b"] = Column("binary")
    naive = NOON.replace(tzinfo=None)
    given = {"u": [name], "j": [{"k": [1]}], "d": [Decimal("1.25")], "t": [naive], "b": [memoryview(b"x")]}
    frame, bad = typed(given, 1, columns)
    assert bad == {}
    assert frame.rows() == [(str(name), '{"k":[1]}', 1.25, NOON, b"x")]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("int64", "1.0"),
        ("int64", "1_0"),
        ("int64", " 1"),
        ("int64", str(2**63)),
        ("int32", str(2**31)),
        ("float64", "nan"),
        ("float64", "far"),
        ("float32", "1e39"),
        ("bool", "1"),
        ("date", "6.5.2024"),
        ("timestamp", "2024-05-06T12:00:00"),
        ("binary", "!"),
    ],
)
def test_a_text_that_does_not_fit_is_told_and_the_others_stay(kind: str, text: str) -> None:
    frame, bad = typed_text({"x": [TEXT[kind], text, TEXT[kind]]}, 3, {"x": Column(kind)})
    assert list(bad) == [1]
    assert "x" in bad[1]
    assert frame["x"].to_list() == [ROW[kind], None, ROW[kind]]


@pytest.mark.parametrize(
    ("array", "kind", "wanted"),
    [
        (pa.array([1, 2**40]), "int32", [1, None]),
        (pa.array([b"a", b"\xff"]).cast(pa.binary()).view(pa.string()), "string", ["a", None]),
        (pa.array([1.5, 1e39]), "float32", [1.5, None]),
        (pa.array([0, 2**62], pa.timestamp("ms")), "timestamp", [datetime(1970, 1, 1, tzinfo=UTC), None]),
        (pa.array([1, 2]).cast(pa.float64()), "int64", [None, None]),
    ],
)
def test_arrow_that_does_not_fit_is_told_by_row(array: pa.Array, kind: str, wanted: list[object]) -> None:
    frame, bad = typed_arrow(pa.RecordBatch.from_arrays([array], ["x"]), {"x": Column(kind)})
    assert frame["x"].to_list() == wanted
    assert sorted(bad) == [i for i, value in enumerate(wanted) if value is None]


@pytest.mark.parametrize(
    ("array", "kind", "wanted"),
    [
        (pa.array(["a", "a"]).dictionary_encode(), "string", ["a", "a"]),
        (pa.array([1, None], pa.int8()), "int64", [1, None]),
        (pa.array([1, None], pa.int64()), "float64", [1.0, None]),
        (pa.array([1_500, None], pa.timestamp("ns")), "timestamp", [1, None]),
        (pa.array([1, None], pa.timestamp("us", "Asia/Tokyo")), "timestamp", [1, None]),
        (pa.array([None, None], pa.null()), "date", [None, None]),
        (pa.array([Decimal("3"), None]), "int64", [3, None]),
    ],
)
def test_arrows_other_widths_and_zones(array: pa.Array, kind: str, wanted: list[object]) -> None:
    frame, bad = typed_arrow(pa.RecordBatch.from_arrays([array], ["x"]), {"x": Column(kind)})
    assert bad == {}
    assert frame["x"].dtype == polars_type(kind)
    found = frame["x"].to_physical() if kind == "timestamp" else frame["x"]
    assert found.to_list() == wanted


@given(st.lists(st.one_of(st.none(), st.text(max_size=6), st.integers().map(str)), max_size=6))
def test_a_row_is_judged_the_same_whatever_stands_beside_it(texts: list[str | None]) -> None:
    columns = {kind: Column(kind) for kind in ("int64", "float64", "bool", "date", "timestamp", "binary")}
    together, bad = typed_text(dict.fromkeys(columns, texts), len(texts), columns)
    assert together.height == len(texts)
    for row, text in enumerate(texts):
        alone, reasons = typed_text({kind: [text] for kind in columns}, 1, columns)
        assert reasons.get(0) == bad.get(row)
        assert alone.rows()[0] == together.rows()[row]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.large_list(pa.float64()),
        pa.list_(pa.float16()),
        pa.list_(pa.float32(), 2),
        pa.list_(pa.int64()),
        pa.list_(pa.string()),
    ],
    ids=str,
)
def test_lists_of_numbers_become_vectors(kind: pa.DataType) -> None:
    given = [["1", "2"], None] if pa.types.is_string(kind.value_type) else [[1, 2], None, [3, None]]
    batch = pa.RecordBatch.from_arrays([pa.array(given, kind)], ["x"])
    frame, misfits = typed_arrow(batch, {"x": Column("vector(2)")})
    assert frame["x"].dtype == polars_type("vector(2)")
    if pa.types.is_string(kind.value_type):
        assert list(misfits) == [0]
    else:
        assert (frame["x"].to_list(), misfits) == (given, {})


def test_an_element_that_overflows_is_told() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([[1e300, 1.0], [1.0, 2.0]])], ["x"])
    frame, misfits = typed_arrow(batch, {"x": Column("vector(2)")})
    assert list(misfits) == [0]
    assert frame["x"].to_list() == [None, [1.0, 2.0]]


def test_vectors_in_text_are_json_arrays() -> None:
    frame, misfits = typed_text({"x": ["[1, 2.5]", "", "1,2", "[true]"]}, 4, {"x": Column("vector(2)")})
    assert frame["x"].to_list() == [[1.0, 2.5], None, None, None]
    assert list(misfits) == [2, 3]
