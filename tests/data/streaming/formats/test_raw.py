"""Raw records: what came is what is kept."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayplat.core.errors import UserError
from rayplat.core.project.source import Raw
from rayplat.core.project.table import Column
from rayplat.data.streaming.formats.decoder import decoder
from tests.data.streaming.formats.judged import judge

COLUMNS = {"body": Column("binary"), "text": Column("string"), "n": Column("int64")}


@given(st.lists(st.none() | st.binary(max_size=5), max_size=6))
def test_bytes_are_kept(values: list[bytes | None]) -> None:
    decoded = judge(pickle.loads(pickle.dumps(decoder(Raw("body"), COLUMNS))), values)
    assert decoded.frame.rows() == [(value, None, None) for value in values if value is not None]


@given(st.lists(st.binary(max_size=5) | st.text(st.characters(codec="utf-8")).map(str.encode), max_size=6))
def test_text_is_utf8(values: list[bytes]) -> None:
    decoded = judge(decoder(Raw("text"), COLUMNS), values)
    kept = [values[index].decode() for index in decoded.rows]
    assert decoded.frame["text"].to_list() == kept
    assert len(kept) == sum(value.decode(errors="replace").encode() == value for value in values)


def test_the_place_of_the_fault() -> None:
    assert judge(decoder(Raw("text"), COLUMNS), [b"ab\xff"]).bad == {0: "text: not UTF-8: the byte 0xff at 2"}


@pytest.mark.parametrize("column", ["n", "nowhere"])
def test_the_column_has_to_hold_bytes(column: str) -> None:
    with pytest.raises(UserError, match=f"raw records go into the column '{column}'"):
        decoder(Raw(column), COLUMNS)
