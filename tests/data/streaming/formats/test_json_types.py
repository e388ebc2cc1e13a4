"""32-bit numbers, dates and bytes in JSON: the same verdict in company as alone."""

import json
import math
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayplat.core.project.table import Column
from rayplat.data.streaming.formats.json_records import decode

ODD: dict[str, list[Any]] = {
    "int32": [0, 2**31 - 1, -(2**31), 2**31, 1.0, "1", True, None],
    "float32": [0, 1.5, 0.1, 3.4e38, 3.5e38, -1e39, 1e308, 2**200, "1", False, None],
    "date": ["2013-01-31", "2013-02-30", "2013-1-31", "0000-01-01", "9999-12-31", "12013-01-01", "", 5, None],
    "vector(2)": [
        [1, 2],
        [0.1, None],
        [1.0],
        [],
        [1e39, 0],
        [2**200, 1],
        ["1"],
        [True],
        [[1]],
        "[]",
        7,
        None,
    ],
    "binary": ["aGk=", "aGk", "", "aGl=", "a-_=", "AA==", "AB==", "hello", "\u00e9", 5, [1], None],
}


@pytest.mark.parametrize("kind", ODD)
@given(data=st.data())
def test_company_changes_nothing(kind: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.sampled_from(ODD[kind]), min_size=1, max_size=6))
    records = [json.dumps({"x": value}).encode() for value in values]
    columns = {"x": Column(kind)}
    together = decode(records, columns)
    alone = [decode([record], columns) for record in records]
    assert sorted(together.bad) == [i for i, one in enumerate(alone) if one.bad]
    assert together.frame["x"].to_list() == [v for one in alone for v in one.frame["x"].to_list()]


def test_values() -> None:
    columns = {"i": Column("int32"), "f": Column("float32"), "d": Column("date"), "b": Column("binary")}
    decoded = decode([b'{"i": 7, "f": 0.5, "d": "2013-01-31", "b": "aGk="}'] * 2, columns)
    assert decoded.frame.rows() == [(7, 0.5, date(2013, 1, 31), b"hi")] * 2
    assert not decoded.bad
    assert not math.isnan(decoded.frame["f"][0])
