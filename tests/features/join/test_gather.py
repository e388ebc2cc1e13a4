"""Values are brought from where they lie to who asked, nulls as nulls, wherever batches begin."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from rayplat.features.join.gather import SHIFT, gather


@dataclass(frozen=True)
class Sliced:
    """Rows whose batches lie at odd places of Arrow's memory."""

    data: pa.RecordBatch
    cut: int

    @property
    def rows(self) -> int:
        return self.data.num_rows

    def bounds(self, column: str) -> None:
        return None

    def packed(self, column: str) -> None:
        return None

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        chosen = self.data.select(columns)
        return (chosen.slice(i, self.cut) for i in range(0, self.rows, self.cut))


KINDS = {
    "bool": (pa.bool_(), [True, False]),
    "int16": (pa.int16(), [-3, 2**14]),
    "int64": (pa.int64(), [-3, 2**60]),
    "float32": (pa.float32(), [1.5, float("-inf")]),
    "float64": (pa.float64(), [1.5, -0.0]),
    "date": (pa.date32(), [date(2020, 1, 1), date(1960, 5, 1)]),
    "time": (pa.timestamp("us", "UTC"), [datetime(2020, 1, 1, tzinfo=UTC), datetime(1960, 1, 1, tzinfo=UTC)]),
    "text": (pa.large_string(), ["a", "ä long one"]),
}


@pytest.mark.parametrize("kind", sorted(KINDS))
@settings(max_examples=25, deadline=None)
@given(
    picks=st.lists(st.integers(0, 2), min_size=1, max_size=70),
    wanted=st.lists(st.integers(-1, 69), max_size=40),
    cuts=st.tuples(st.integers(1, 5), st.integers(1, 80)),
    seed=st.integers(0, 9),
)
def test_values_and_nulls_of_every_type(kind, picks, wanted, cuts, seed):
    parts, cut = cuts
    arrow, pair = KINDS[kind]
    values = [[*pair, None][pick] for pick in picks]
    batch = pa.record_batch({"v": pa.array(values, arrow)})
    each = -(-len(values) // parts)
    pieces = [Sliced(batch.slice(i, each), cut) for i in range(0, len(values), each)]
    row = np.array([want if want < len(values) else -1 for want in wanted], np.int64)
    order = np.random.default_rng(seed).permutation(len(row))
    frame, matched = gather(pieces, batch.schema, ["v"], row, order)
    answers = [None] * len(row)
    for place, want in zip(order.tolist(), row.tolist(), strict=True):
        answers[place] = None if want < 0 else values[want]
    assert frame.get_column("v").to_list() == answers
    assert matched[order].tolist() == (row >= 0).tolist()


def test_nulls_in_some_batches_only_and_more_rows_than_a_block():
    rows = (1 << SHIFT) + 5000
    values = np.arange(rows, dtype=np.float64)
    null = np.zeros(rows, bool)
    null[rows - 3000 : rows - 2000] = True
    batch = pa.record_batch({"v": pa.array(values, mask=null)})
    row = np.random.default_rng(5).integers(-1, rows, 9000)
    frame, _ = gather([Sliced(batch, 1001)], batch.schema, ["v"], row, np.arange(9000))
    gone = (row < 0) | null[row]
    assert frame.get_column("v").to_list() == [
        None if missing else float(at) for at, missing in zip(row, gone, strict=True)
    ]
    assert 0 < gone.sum() < 9000
