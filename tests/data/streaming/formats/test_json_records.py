"""Decoding: one verdict and one value for a record, whatever stands beside it."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayplat.core.project.table import Column
from rayplat.data.streaming.formats.json_records import decode

COLUMNS = {
    "s": Column("string"),
    "i": Column("int64"),
    "f": Column("float64"),
    "b": Column("bool"),
    "t": Column("timestamp"),
}
PLAIN = b'{"s":"x","i":1,"f":0.5,"b":true,"t":"2013-01-01T05:00:00Z"}'
GOOD: dict[bytes, tuple[str, object]] = {
    b"{}": ("i", None),
    b'{"i":null}': ("i", None),
    b'{"i":-9223372036854775808}': ("i", -(2**63)),
    b'{"i":-0}': ("i", 0),
    b' {"i" : 1 } \r': ("i", 1),
    b'{"i":\n1}': ("i", 1),
    b'{"f":1}': ("f", 1.0),
    b'{"f":123456789012345678901234567890}': ("f", 1.2345678901234568e29),
    b'{"f":1e-999}': ("f", 0.0),
    b'{"f":0.30000000000000004}': ("f", 0.30000000000000004),
    b'{"b":false}': ("b", False),
    b'{"s":"\\u0000\\u00e9 \xc3\xa9 \\ud83d\\ude00"}': ("s", "\x00é é \U0001f600"),
    b'{"s":"a \\"s\\": 1"}': ("s", 'a "s": 1'),
    b'{"s":"\\u0026"}': ("s", "&"),
    b'{"i":1,"i":2}': ("i", 1),
    b'{"s":"a","s":1}': ("s", "a"),
    b'{"unknown":[1,{"s":2}],"i":3}': ("i", 3),
    b'{"t":"2013-01-01T05:00:00.123456Z"}': ("t", datetime(2013, 1, 1, 5, 0, 0, 123456, UTC)),
    b'{"t":"2013-01-01T07:00:00+02:00"}': ("t", datetime(2013, 1, 1, 5, tzinfo=UTC)),
    b'{"t":"0001-01-01T00:00:00Z"}': ("t", datetime(1, 1, 1, tzinfo=UTC)),
    b'{"t":-1}': ("t", datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)),
    b'{"t":1357016400000000}': ("t", datetime(2013, 1, 1, 5, tzinfo=UTC)),
}
WRONG: dict[bytes | None, str] = {
    None: "no value",
    b"": "no value",
    b" ": "not JSON",
    b"null": "not a JSON object but null",
    b"[1]": "not a JSON object but an array",
    b"{}null{}": "not JSON",
    b'{"i":1}{"i":2}': "not JSON",
    b'{"i":1': "not JSON",
    b'{"i":01}': "not JSON",
    b'{"s":"\xff"}': "not JSON",
    b'{"s":"\\ud800"}': "not JSON",
    b'{"f":NaN}': "not JSON",
    b'{"f":Infinity}': "not JSON",
    b'{"f":1e999}': "not JSON",
    b'{"i":1.0}': "i should be int64 and is a number: 1.0",
    b'{"i":true}': "i should be int64 and is a boolean: true",
    b'{"i":"1"}': 'i should be int64 and is text: "1"',
    b'{"i":9223372036854775808}': "i should be int64",
    b'{"f":"1"}': "f should be float64 and is text",
    b'{"f":true}': "f should be float64 and is a boolean",
    b'{"b":1}': "b should be bool and is a number",
    b'{"s":1}': "s should be string and is a number: 1",
    b'{"s":true}': "s should be string and is a boolean",
    b'{"s":{"a":1}}': "s should be string and is an object",
    b'{"\\u0073":1}': "s should be string and is a number",
    b'{"t":"2013-01-01T05:00:00"}': "t is no time with a zone",
    b'{"t":"2013-02-30T05:00:00Z"}': "t is no time with a zone",
    b'{"t":"0000-01-01T00:00:00Z"}': "t is no time with a zone",
    b'{"t":300000000000000000}': "t is no time with a zone",
    b'{"t":1.5}': "t should be a time and is a number",
    b'{"t":true}': "t should be a time and is a boolean",
}


@pytest.mark.parametrize("beside", [[], [PLAIN], [b'{"t":5}'], [b"junk"], [PLAIN] * 400])
def test_good_records_beside_any_other(beside: list[bytes]) -> None:
    for value, (name, expected) in GOOD.items():
        for values, row in (([value, *beside], 0), ([*beside, value], -1)):
            decoded = decode(values, COLUMNS)
            assert len(values) - 1 not in decoded.bad or values[-1] == b"junk", value
            assert decoded.frame[name][row] == expected, value


@pytest.mark.parametrize("beside", [[], [PLAIN], [b'{"t":5}'], [b"junk"], [PLAIN] * 400])
def test_wrong_records_beside_any_other(beside: list[bytes]) -> None:
    for value, reason in WRONG.items():
        for values, index in (([value, *beside], 0), ([*beside, value], len(beside))):
            bad = decode(values, COLUMNS).bad
            assert reason in bad[index], value


def test_rows_and_records_stay_together() -> None:
    values = [b"junk" if i % 97 == 0 else b'{"i":%d}' % i for i in range(5000)]
    decoded = decode(values, COLUMNS)
    assert sorted(decoded.bad) == [i for i in range(5000) if i % 97 == 0]
    assert list(decoded.rows) == decoded.frame["i"].to_list() == [i for i in range(5000) if i % 97]


def test_line_breaks_and_blanks_shift_nothing() -> None:
    """Two lines in one record and none in the next are as many lines as records."""
    decoded = decode([b'{"i":1}\n{"i":2}', b"\n", b'{"i":3}'], COLUMNS)
    assert sorted(decoded.bad) == [0, 1]
    assert (list(decoded.rows), decoded.frame["i"].to_list()) == ([2], [3])


def test_nothing() -> None:
    decoded = decode([], COLUMNS)
    assert (decoded.frame.height, decoded.frame.columns, decoded.bad) == (0, list(COLUMNS), {})


_names = st.sampled_from([*COLUMNS, "unknown"])
_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.just("2013-01-01T05:00:00Z"),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(_names, st.integers(), max_size=2),
)
_records = st.one_of(
    st.dictionaries(_names, _values, max_size=4).map(lambda value: json.dumps(value).encode()),
    st.dictionaries(_names, _values, max_size=4).map(lambda v: json.dumps(v, ensure_ascii=False).encode()),
    st.binary(max_size=12),
    st.sampled_from([*GOOD, *(value for value in WRONG if value)]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_records, min_size=1, max_size=8))
def test_a_batch_is_judged_like_its_records_one_by_one(values: list[bytes]) -> None:
    together = decode(values, COLUMNS)
    alone = [decode([value, b"junk"], COLUMNS) for value in values]
    assert sorted(together.bad) == [i for i, one in enumerate(alone) if 0 in one.bad]
    rows = [one.frame.row(0) for one in alone if 0 not in one.bad]
    assert together.frame.rows() == rows
