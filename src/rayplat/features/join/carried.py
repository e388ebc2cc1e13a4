"""Carried values: those of the best rows, brought to who asked while the source is still being read.

Knows when carrying pays and where values go; it does not know which row is the best, nor how it is found.

Rows are read for their order anyway. Where few columns are wanted and many questions ask, each entity holds
the values of its best row beside its place, and a question takes them along: no row is looked up twice.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from rayplat.features.instants import BEGINNING, Int64s
from rayplat.features.join import arrays, kernels
from rayplat.features.join.asked import Asked
from rayplat.features.join.carrying import MOST, Load, deliver, tell_unmatched

# So many rows a question, and no more, and so many values in all (they are held twice meanwhile).
_SPARSE, _VALUES = 64, 1 << 23
NONE = np.empty(0, np.int64)


def pays(kinds: Sequence[pa.DataType], rows: int, questions: int) -> bool:
    """Whether values are to be carried, and not looked up when all rows are known.

    Args:
        kinds: the types of the columns.
        rows: how many are read; `questions`: how many ask.
    """
    fits = len(kinds) <= MOST and all(arrays.fixed(kind) for kind in kinds)
    return fits and rows <= _SPARSE * questions and len(kinds) * questions <= _VALUES


def four(columns: Sequence[Int64s]) -> tuple[Int64s, Int64s, Int64s, Int64s]:
    """At most four columns, as the kernels take them."""
    first, second, third, fourth, *_ = *columns, NONE, NONE, NONE, NONE
    return first, second, third, fourth


class Carried:
    """Values on their way: by question in the order of time, then by asking row.

    Args:
        columns: their names and types.
        ttl_us: of rows older than this nothing is told; None: every age counts.
    """

    def __init__(self, columns: Sequence[pa.Field], ttl_us: int | None) -> None:
        self._columns, self._ttl_us = columns, ttl_us

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(column.name for column in self._columns)

    def start(self, asked: Asked, row: Int64s, event: Int64s) -> None:
        """Begin, with nothing told; a second time too.

        Args:
            asked: the questions.
            row, event: become the position and the event time of the row that answers each of them.
        """
        self._asked, self._row, self._event = asked, row, event
        count = len(asked.at)
        self._values = np.empty((len(self._columns), count), np.int64)
        self._out = [np.zeros(count, np.int64) for _ in self._columns]
        self._matched = np.ones(count, dtype=bool)

    def lack(self) -> None:
        """From now on there are rows that lack values; what was told before stays."""
        if self._tells:
            return
        # In this order: who delivers meanwhile, and finds the bits of questions, finds a place for them.
        self._out = [*self._out, np.zeros(len(self._asked.at), np.int64)]
        none = np.zeros((1, len(self._asked.at)), np.int64)
        self._values = np.concatenate([self._values, none])

    @property
    def _tells(self) -> bool:
        return len(self._values) > len(self._columns)

    def load(self, values: Sequence[Int64s], lacking: arrays.Values) -> Load:
        """What a kernel is given with a stretch of rows."""
        return four([*values, *[_NOTHING] * (MOST - len(values))]), lacking, len(self._columns)

    def table(self, values: Sequence[Int64s], lacking: arrays.Values) -> Int64s:
        """The same as one array, a column in a row, the bits of what is lacking last."""
        made = np.zeros((len(self._values), len(values[0]) if values else 0), np.int64)
        for position, column in enumerate([*values, *([lacking] if len(lacking) else [])]):
            made[position] = column
        return made

    @property
    def out(self) -> Int64s:
        """Where the questions get it, a column in a row."""
        return self._values

    def deliver(self, begin: int, end: int) -> None:
        """Bring what the questions [begin, end) got to their asking rows. Any thread, each question once."""
        if begin == end:
            return
        row = self._row[begin:end]
        if self._ttl_us is not None:
            young = np.empty(end - begin, np.int64)
            at = self._asked.at[begin:end]
            kernels.young(row, self._event[begin:end], at, BEGINNING, self._ttl_us, young)
            row = young
        order, got = self._asked.order, self._values
        for values, out in zip(got, self._out, strict=False):
            deliver(begin, end, order, row, values, out)
        tell_unmatched(begin, end, order, row, self._matched)

    def result(self) -> tuple[pl.DataFrame, arrays.Bools]:
        """The columns, one row an asking row, null where none answers; and where one does."""
        made = []
        for position, (column, out) in enumerate(zip(self._columns, self._out, strict=False)):
            valid = self._matched
            if self._tells:
                valid = valid & ((self._out[-1] >> position) & 1 == 0)
            values = out.astype(arrays.bits(pa.array([], column.type)).dtype, copy=False)
            array = arrays.column_of(values, column.type, None if valid.all() else valid)
            made.append(pl.Series(column.name, array))
        return pl.DataFrame(made), self._matched


_NOTHING = arrays.frozen(np.empty(0, np.int64))
NO_LOAD: Load = (four([_NOTHING] * MOST), arrays.frozen(np.empty(0, np.uint8)), 0)
NO_OUT = np.empty((0, 0), np.int64)
"""Nothing is carried."""
