"""An index in memory: made of a source's rows, and asked.

Knows a feature view with row transforms; it does not know files and snapshots. Windows are not indexed.

Every change of an entity's winner is a step: the time from which it answers, and the values of the features
that it answers with. Late rows make a step when they become known, and one that never wins makes none.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl

from rayplat.core.errors import UserError
from rayplat.core.project.view import FeatureView, PythonFeature
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.derived import with_defaults
from rayplat.features.index.kernel import (
    SLOTS,
    Bools,
    Int64s,
    UInt32s,
    UInt64s,
    fill_directory,
    frozen,
    group_rows,
    look_up,
    winner_steps,
)
from rayplat.features.index.keys import Keys, number
from rayplat.features.index.ranks import Ranks, ranks_of
from rayplat.features.index.words import from_words, to_words
from rayplat.features.instants import BEGINNING, asked_at, instants
from rayplat.features.latest import transform
from rayplat.features.plan import plan
from rayplat.features.point_in_time import needed
from rayplat.features.timeline import Timeline

THREADS = min(8, os.cpu_count() or 1)
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Column:
    """How a feature stands in a step.

    Attributes:
        dtype: of the values.
        kept: the values that the word is a position in; None: the word is the value.
        null: the bit of the null words that says that there is no value; -1: there always is one.
    """

    dtype: pl.DataType
    kept: pl.Series | None
    null: int


@dataclass(frozen=True, slots=True)
class Index:
    """The steps of a view's entities. See `kernel.look_up` for the arrays.

    Attributes:
        keys: the entities.
        columns: one a feature, in declared order; step words: features, then null words.
        timeless: the source has no times, so that every row is seen at any time.
        rows: how many rows of the source name an entity.
        ranks: what tells which of two rows answers; None: not loaded, for only who extends asks for it.
    """

    keys: Keys
    columns: tuple[Column, ...]
    starts: UInt32s
    directory: UInt32s
    steps: Int64s
    shape: UInt64s
    timeless: bool
    rows: int
    ranks: Ranks | None

    def answer(self, rows: pl.DataFrame, at: str, view: FeatureView) -> pl.DataFrame:
        """The view's features for asking rows, as `point_in_time.join` gives them, without the asking rows.

        Args:
            rows: the asking rows, with the columns `view.asks` and `at`.
            at: the column with the time of the question (UTC).
            view: the view that the index was made of, perhaps by another name or asking columns.

        Raises:
            UserError: a column is missing or of the wrong kind.
        """
        code = self.keys.codes(rows, view.asks)
        asked = asked_at(rows, at)
        out, found = self._look_up(code, np.zeros_like(asked) if self.timeless else asked)
        answered = [self._column(i, out, found).alias(name) for i, name in enumerate(view.names)]
        return with_defaults(pl.DataFrame(answered), view)

    def _look_up(self, code: Int64s, at: Int64s) -> tuple[Int64s, Bools]:
        answer = int(self.shape[6])
        out = np.empty((self.steps.shape[1] - answer, len(code)), np.int64)
        found = np.empty(len(code), np.bool_)

        code, at = frozen(code), frozen(at)
        starts, directory = frozen(self.starts), frozen(self.directory)
        steps, shape = frozen(self.steps), frozen(self.shape)

        def part(begin: int) -> None:
            cut = slice(begin, min(begin + _CHUNK, len(code)))
            look_up(code[cut], at[cut], starts, directory, steps, shape, out[:, cut], found[cut])

        begins = range(0, len(code), _CHUNK)
        if len(begins) <= 1:
            for begin in begins:
                part(begin)
            return out, found
        with ThreadPoolExecutor(THREADS, "index") as pool:
            list(pool.map(part, begins))
        return out, found

    def features(self, names: Sequence[str]) -> pl.DataFrame:
        """The features of all steps, in their order."""
        count, answer = int(self.starts[-1]), int(self.shape[6])
        words = [
            np.ascontiguousarray(self.steps[:count, place]) for place in range(answer, self.steps.shape[1])
        ]
        found = np.ones(count, np.bool_)
        return pl.DataFrame([self._column(i, words, found).alias(name) for i, name in enumerate(names)])

    def _column(self, position: int, out: Sequence[Int64s] | Int64s, found: Bools) -> pl.Series:
        column = self.columns[position]
        valid = found
        if column.null >= 0:
            nulls = out[len(self.columns) + column.null // 63]
            valid = found & ((nulls >> (column.null % 63)) & 1 == 0)
        return from_words(out[position], None if valid.all() else valid, column.dtype, column.kept)


def indexable(view: FeatureView) -> str:
    """Why a view cannot have an index; empty where it can."""
    if view.windowed:
        return "its features are windows, and an index holds row transforms"
    if any(isinstance(f, PythonFeature) for f in view.features.values()):
        return "a Python function is among its features, whose types nobody knows before it runs"
    return ""


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a view's entities, before they are laid out.

    Attributes:
        keys: the entities; `starts`: where each one's steps begin, and one more.
        time: from when on each step answers (any where the source has no times).
        event, known, offset, partition: of the row that does.
        features: what it answers.
        rows: how many rows of the source name an entity.
    """

    keys: Keys
    starts: UInt32s
    time: Int64s
    event: Int64s
    known: Int64s
    offset: Int64s
    partition: Int64s
    features: pl.DataFrame
    rows: int


Numbering = Callable[[pl.DataFrame], tuple[Keys, Int64s]]
"""Gives the entities and, by row of the source, the number of its own; -1: none."""


def build(view: FeatureView, source: pl.DataFrame) -> Index:
    """Make the index of a view.

    Args:
        view: the view.
        source: all rows of its source, as for `point_in_time.join`.

    Raises:
        UserError: the view cannot have an index, or a column is missing or of the wrong kind.
    """
    return laid_out(view, steps_of(view, source, lambda held: number(held, view.entity)))


def steps_of(view: FeatureView, source: pl.DataFrame, numbering: Numbering) -> Steps:
    """The steps that rows make; see `build`."""
    reason = indexable(view)
    if reason:
        raise UserError(f"view {view.name!r} cannot have an index: {reason}", "ask it without one")
    prepared = plan(view)
    held = needed(source, prepared)
    event, known, seen = _times(held, view)
    keys, named = numbering(held)
    code = named if seen is None else np.where(seen, named, -1)
    ties = (_tie(held, OFFSET, len(code)), _tie(held, PARTITION, len(code)))
    visible = np.maximum(event, known)
    starts, time, winner = _steps(code, keys.count, (event, known, visible), ties)
    features = transform(prepared, Timeline(held, code, event, known), winner)
    ranks = (event[winner], known[winner], ties[0][winner], ties[1][winner])
    return Steps(keys, starts, time, *ranks, features, int((named >= 0).sum()))


def laid_out(view: FeatureView, steps: Steps) -> Index:
    """Steps as an index."""
    ttl_us = plan(view).ttl_us
    timeless = view.source.event_time is None and view.source.known_at is None
    time = steps.time
    # Only late rows have another event time than the time of their step.
    aged = ttl_us is not None and bool((steps.event != time).any())
    words, columns = _values(steps.features)
    head = [np.zeros_like(time) if timeless else time, *([steps.event] if aged else [])]
    ranks = ranks_of(time, steps.event, steps.known, steps.offset, steps.partition)
    laid = _rows([*head, *words])
    entities = (steps.keys, steps.starts, steps.rows)
    return indexed(entities, columns, laid, ranks, ttl_us, aged=aged, timeless=timeless)


def indexed(
    entities: tuple[Keys, UInt32s, int],
    columns: tuple[Column, ...],
    laid: Int64s,
    ranks: Ranks,
    ttl_us: int | None,
    *,
    aged: bool,
    timeless: bool,
) -> Index:
    """An index of steps that are laid out; see `Index` and `Steps`.

    Args:
        entities: they, where the steps of each begin, and how many rows of the source name one.
        columns: the features; `laid`: the steps as rows of words.
        ranks: of each step.
        ttl_us: of the view; `aged`: whether the rows have an event time beside their time.
        timeless: whether the source has no times.
    """
    keys, starts, rows = entities
    shape = _shape(keys, laid[:, 0], ttl_us, aged=aged)
    directory = np.zeros(SLOTS * int(starts[-1]) + 1, np.uint32)
    fill_directory(starts, laid, shape, directory)
    return Index(keys, columns, starts, directory, laid, shape, timeless, rows, ranks)


def _times(held: pl.DataFrame, view: FeatureView) -> tuple[Int64s, Int64s, Bools | None]:
    """Event time, known time, and which rows have both (None: all)."""
    event, with_event = _time(held, view.source.event_time or view.source.known_at, view)
    known, with_known = _time(held, view.source.told_by, view)
    if with_event is None or with_known is None:
        return event, known, with_event if with_known is None else with_known
    return event, known, with_event & with_known


def _time(held: pl.DataFrame, column: str | None, view: FeatureView) -> tuple[Int64s, Bools | None]:
    if column is None:
        return np.full(held.height, BEGINNING), None
    series = instants(held, column, f"the rows of {view.source.name!r}")
    times = series.to_physical()
    if series.null_count() == 0:
        return times.to_numpy(), None
    return times.fill_null(0).to_numpy(), series.is_not_null().to_numpy()


def _steps(
    code: Int64s, count: int, times: tuple[Int64s, Int64s, Int64s], ties: tuple[Int64s, Int64s]
) -> tuple[UInt32s, Int64s, Int64s]:
    """Where each entity's steps begin, and by step its time and the row that answers."""
    event, known, visible = times
    if len(code) >= 1 << 31:
        raise UserError(
            f"an index of {len(code)} rows is too large", "split the table, or ask without an index"
        )
    rising = bool((visible[1:] >= visible[:-1]).all())
    order = np.arange(len(code)) if rising else np.argsort(visible, kind="stable")
    begins, rows = np.zeros(count + 2, np.int64), np.empty(len(code), np.int64)
    group_rows(frozen(code), frozen(order), begins, rows)
    del order
    winner = np.empty(len(code), np.int64)
    made = winner_steps(
        rows,
        begins[: count + 1],
        frozen(visible),
        frozen(event),
        frozen(known),
        frozen(ties[0]),
        frozen(ties[1]),
        winner,
    )
    return begins[: count + 1].astype(np.uint32), rows[:made], winner[:made]


def _tie(held: pl.DataFrame, column: str, height: int) -> Int64s:
    if column not in held.columns:
        return np.zeros(height, np.int64)
    return held.get_column(column).cast(pl.Int64).fill_null(-1).to_numpy()


def _values(features: pl.DataFrame) -> tuple[list[Int64s], tuple[Column, ...]]:
    """The words of the features by step, and after them the words that tell nulls, 63 features each."""
    words: list[Int64s] = []
    nulls: list[Int64s] = []
    columns: list[Column] = []
    without = 0
    for series in features.iter_columns():
        word, kept = to_words(series)
        words.append(word)
        null = -1
        if series.null_count():
            null, without = without, without + 1
            if null % 63 == 0:
                nulls.append(np.zeros(features.height, np.int64))
            nulls[-1] |= series.is_null().to_numpy().astype(np.int64) << (null % 63)
        columns.append(Column(series.dtype, kept, null))
    return words + nulls, tuple(columns)


def _rows(columns: Sequence[Int64s]) -> Int64s:
    """The columns side by side; at least one row, because a search looks at one before it knows."""
    steps = np.zeros((max(1, len(columns[0])), len(columns)), np.int64)
    for position, column in enumerate(columns):
        steps[: len(column), position] = column
    return steps


def _shape(keys: Keys, times: Int64s, ttl_us: int | None, *, aged: bool) -> UInt64s:
    least, greatest = int(times.min()), int(times.max())
    shift = max(0, (greatest - least).bit_length() - 32)
    limit = 0 if ttl_us is None else ttl_us
    told = [keys.first, least, shift, ttl_us is not None, limit, int(aged), 1 + int(aged)]
    return np.array([int(number) % 2**64 for number in told], np.uint64)
