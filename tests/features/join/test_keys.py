"""Keys of every kind: equal values are one entity, whatever stands beside them."""

from datetime import date

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from rayplat.features.join.keys import keys_of

KINDS = {
    "int64": (pa.int64(), st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-3, 3))),
    "int32": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "string": (pa.string(), st.text(max_size=3)),
    "binary": (pa.binary(), st.binary(max_size=3)),
    "date": (pa.date32(), st.dates()),
    "bool": (pa.bool_(), st.booleans()),
    "float64": (pa.float64(), st.floats(allow_nan=False)),
}


def agrees(kinds, asked, rows):
    """Two rows have one number when and only when their values are equal; -1 for nulls and the unasked."""
    columns = [pa.array([row[i] for row in asked], kind) for i, kind in enumerate(kinds)]
    keys = keys_of(columns)
    number = {}
    for row, code in zip(asked, keys.asked.tolist(), strict=True):
        if None in row:
            assert code == -1
        else:
            assert 0 <= code < keys.count
            assert number.setdefault(row, code) == code
    assert len(set(number.values())) == len(number)
    # A slice has an offset into Arrow's memory, as batches of a file have.
    sliced = [
        pa.array([row[i] for row in [*rows[:1], *rows]], kind)[len(rows[:1]) :]
        for i, kind in enumerate(kinds)
    ]
    codes = keys.codes(sliced).tolist()
    for row, code in zip(rows, codes, strict=True):
        if None not in row and row in number:
            assert code == number[row]
        else:
            assert code not in number.values()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_one_to_three_columns_of_any_kind(data):
    names = data.draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=3))
    row = st.tuples(*(st.one_of(st.none(), KINDS[name][1]) for name in names))
    asked = data.draw(st.lists(row, max_size=12))
    strange = st.lists(st.one_of(row, st.sampled_from(asked)) if asked else row, max_size=12)
    agrees([KINDS[name][0] for name in names], asked, data.draw(strange))


def test_integers_far_apart_are_hashed_and_found():
    rng = np.random.default_rng(4)
    asked = rng.integers(-(2**62), 2**62, 5000)
    keys = keys_of([pa.array(asked)])
    assert keys.count == 5000
    rows = np.concatenate([asked[::-1], rng.integers(-(2**62), 2**62, 5000)])
    codes = keys.codes([pa.array(rows)])
    assert codes[:5000].tolist() == keys.asked[::-1].tolist()
    assert (codes[5000:] == -1).all()


def test_narrow_and_wide_integers_and_dictionaries_are_the_same_keys():
    keys = keys_of([pa.array([7, -1, 300])])
    assert keys.codes([pa.array([300, 7, 8, None], pa.int32())]).tolist() == [
        keys.asked[2],
        keys.asked[0],
        keys.codes([pa.array([8])])[0],
        -1,
    ]
    texts = keys_of([pa.array(["x", None, "yy"])])
    coded = pa.array(["yy", "q", None, "x"]).dictionary_encode()
    assert texts.codes([coded]).tolist() == [texts.asked[2], -1, -1, texts.asked[0]]


@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.date32()])
def test_nobody_asks(kind):
    keys = keys_of([pa.array([], kind)])
    value = {pa.int64(): 3, pa.string(): "a", pa.date32(): date(2020, 1, 1)}[kind]
    assert keys.codes([pa.array([value, None], kind)]).tolist() == [-1, -1]
