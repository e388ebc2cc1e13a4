"""Values become bytes and come back as they were."""

import math
import struct
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from rayplat.core.errors import IntegrityError, UserError
from rayplat.features.online.head import read_head, to_json
from rayplat.features.online.keys import entity_key, entity_keys, ordered, ordered_all
from rayplat.features.online.layout import Layout

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)
FRAME = pl.DataFrame(
    {
        "f": [1.5, None, math.nan, -0.0],
        "f32": pl.Series([0.1, None, math.inf, 0.0], dtype=pl.Float32),
        "i": pl.Series([2**62 + 1, None, -5, 0], dtype=pl.Int64),
        "i8": pl.Series([-128, None, 127, 0], dtype=pl.Int8),
        "u": pl.Series([2**64 - 1, None, 0, 1], dtype=pl.UInt64),
        "b": [True, None, False, True],
        "s": ["", None, "grün\0", "x" * 300],
        "bin": [b"", None, b"\xff\0", b"abc"],
        "t": pl.Series([NOON, None, NOON, NOON], dtype=pl.Datetime("us", "UTC")),
        "zone": pl.Series([NOON] * 4, dtype=pl.Datetime("us", "America/New_York")),
        "ms": pl.Series([NOON.replace(tzinfo=None)] * 4, dtype=pl.Datetime("ms")),
        "d": [date(2013, 3, 1), None, date(1969, 1, 1), date(1970, 1, 1)],
        "dt": [timedelta(seconds=1), None, timedelta(days=-3), timedelta(0)],
        "v": pl.Series([[1.0, 2.0], None, [], [3.5]], dtype=pl.List(pl.Float64)),
        "w": pl.Series([[1, 2], None, [], [-3]], dtype=pl.List(pl.Int32)),
        "none": pl.Series([None] * 4, dtype=pl.Null),
    }
)


def test_every_type_comes_back_alone_and_as_a_frame():
    layout = Layout(FRAME.schema)
    rows = layout.encode(FRAME)
    for row, expected in zip(rows, FRAME.rows(), strict=True):
        found = layout.values(row)
        assert [str(v) for v in found] == [str(v) for v in expected]
        assert layout.values(b"1234567" + row, 7)[:7] == found[:7] or math.isnan(found[0])
    assert layout.frame(rows).equals(FRAME)
    missing = layout.frame([rows[3], None, rows[0]])
    assert missing.schema == FRAME.schema
    assert missing.rows()[0] == FRAME.rows()[3]
    assert missing.rows()[1] == (None,) * FRAME.width
    assert layout.frame([]).schema == FRAME.schema


def test_more_than_64_columns_and_none():
    wide = pl.DataFrame({f"c{i}": [None if i % 3 == 0 else float(i), 1.0] for i in range(130)})
    layout = Layout(wide.schema)
    rows = layout.encode(wide)
    assert len(rows[0]) == 8 * (3 + 130)
    assert layout.values(rows[0]) == list(wide.row(0))
    assert layout.frame(rows).equals(wide)
    assert Layout({}).encode(pl.DataFrame({"x": [1, 2]}).select([])) == []


def test_the_bytes_are_as_documented():
    (row,) = Layout({"a": pl.Float64(), "b": pl.Int64(), "c": pl.String()}).encode(
        pl.DataFrame({"a": [2.5], "b": pl.Series([None], dtype=pl.Int64), "c": ["hi"]})
    )
    assert row == struct.pack("<Qdqii", 0b010, 2.5, 0, 32, 2) + b"hi"


def test_types_that_are_not_kept_and_bytes_that_are_no_rows():
    with pytest.raises(UserError, match="'x' is of type"):
        Layout({"x": pl.Struct({"a": pl.Int64()})})
    with pytest.raises(IntegrityError, match="not of 16 bytes"):
        Layout({"x": pl.Int64()}).frame([b"123"])
    for broken in (b"", b"\7" * 100):
        with pytest.raises(IntegrityError, match="version"):
            read_head(broken)


def test_json_tells_what_json_can():
    values = [1.5, math.nan, None, True, NOON, timedelta(milliseconds=1), b"\xff", [1.0], "grün"]
    told = '[1.5,null,null,true,"2013-03-01T12:00:00+00:00",1000,"/w==",[1.0],"grün"]'
    assert to_json(values) == told.encode()


def test_keys_of_entities_are_the_same_from_a_frame_and_from_values():
    rows = [("a", 1, NOON, date(2013, 3, 1)), ("b", None, NOON, date(2013, 3, 1))]
    frame = pl.DataFrame(rows, schema=["s", "i", "t", "d"], orient="row")
    for unit in ("ms", "us"):
        timed = frame.with_columns(pl.col("t").cast(pl.Datetime(unit, "UTC")))
        assert entity_keys(timed, timed.columns) == [entity_key(rows[0]), None]


def test_numbers_sort_as_bytes():
    rng = np.random.default_rng(1)
    pairs = [(int(a), int(b)) for a, b in rng.integers(-(2**63), 2**63 - 1, (200, 2), dtype=np.int64)]
    pairs += [(-(2**63), 0), (2**63 - 1, -1), (0, 0), (-1, 5), (0, -5)]
    assert sorted(pairs) == sorted(pairs, key=lambda pair: ordered(*pair))
    columns = np.array(pairs, dtype=np.int64).T
    assert ordered_all(*columns) == [ordered(*pair) for pair in pairs]
