"""Payloads: values in one piece of memory are the values that were put in."""

import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayplat.data.streaming.payloads import Payloads, concatenated, gather, joined

VALUES = st.lists(st.one_of(st.none(), st.binary(max_size=40)), max_size=30)


def scattered(values: list[bytes | None], gaps: list[int]) -> tuple[Payloads, object]:
    """Payloads gathered from memory where the values lie with gaps between them, as after a fetch."""
    memory = bytearray(
        b"".join(b"#" * gap + (value or b"") for gap, value in zip(gaps, values, strict=True)) + b"#"
    )
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    lengths = [len(value or b"") for value in values]
    starts = np.cumsum(gaps) + np.concatenate([[0], np.cumsum(lengths)[:-1]]) if values else np.array([])
    addresses = [0 if v is None else base + int(s) for v, s in zip(values, starts, strict=True)]
    return gather(np.array(addresses, np.int64), np.array(lengths, np.int64)), memory


@given(values=VALUES, data=st.data())
def test_gathered_values_are_the_values(values: list[bytes | None], data: st.DataObject) -> None:
    gaps = [data.draw(st.sampled_from([0, 1, 2, 9, 40, 3000])) for _ in values]
    payloads, _memory = scattered(values, gaps)
    assert payloads == values
    assert [payloads[i] for i in range(len(values))] == values
    if payloads.complete:
        lines = payloads.lines()
        assert lines.count(b"\n") == sum(v.count(b"\n") for v in values if v) + max(len(values) - 1, 0)
        assert lines.translate(None, b"\n ") == b"".join(v or b"" for v in values).translate(None, b"\n ")


@given(parts=st.lists(VALUES, min_size=1, max_size=5), data=st.data())
def test_parts_and_slices(parts: list[list[bytes | None]], data: st.DataObject) -> None:
    whole = [value for part in parts for value in part]
    payloads = concatenated([joined(part) for part in parts])
    assert payloads == whole
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(0, len(whole)))
    assert payloads[begin:end] == whole[begin:end]
    assert payloads[::2] == whole[::2]
    assert payloads[begin:end].lines().count(b"\n") >= max(end - begin - 1, 0)
    assert payloads.nbytes == sum(len(v or b"") for v in whole)
    assert payloads.complete == all(whole)


def test_an_index_that_is_not_there() -> None:
    with pytest.raises(IndexError):
        joined([b"a"])[1]
    assert concatenated([]) == []
