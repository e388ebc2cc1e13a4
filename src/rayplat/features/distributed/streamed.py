"""Row transforms without moving events: every task has all questions and streams a share of the events.

Knows how the best rows of shares become the best rows of the source; it does not know how a share is walked,
which is `join`'s, nor where tasks run.

A task reads its share once, so time is linear in the events; it holds the questions, their best rows, and a
few row groups, so memory does not depend on the events. An entity with many events is no worse than others.
"""

import copy
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.distributed import layout
from rayplat.features.distributed.pieces import pack
from rayplat.features.distributed.tasks import Tasks
from rayplat.features.distributed.work import NUMBER, Group
from rayplat.features.instants import Int64s, asked_at
from rayplat.features.join import arrays
from rayplat.features.join.arrays import Bools
from rayplat.features.join.asked import Asked, by_time
from rayplat.features.join.gather import gather
from rayplat.features.join.keys import Codes, Keys, keys_of
from rayplat.features.join.parts import Part
from rayplat.features.join.stream import Source, array_of, latest_rows, path_of, within
from rayplat.features.join.winners import Winners
from rayplat.features.lake import to_frame
from rayplat.features.latest import masked
from rayplat.features.plan import plan
from rayplat.features.questions import keys_as

EVENT, KNOWN, ROW = "__event", "__known", "__row"
"""Columns of a share's answers: what orders rows, as integers."""

_NO_ORDER = np.empty(0, np.int64)
_LEAST = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Held:
    """What each task is given besides its share.

    Attributes:
        group: the views.
        schema: the columns of the source that they read.
        keys: who is asked about.
        at, code: time and entity of each question, rising by time.
        ttl_us: rows older than this matter to no view; None: every age does.
    """

    group: Group
    schema: pa.Schema
    keys: Keys
    at: Int64s
    code: Codes
    ttl_us: int | None

    @property
    def inputs(self) -> list[str]:
        """The columns that the transforms read."""
        return list(dict.fromkeys(name for view in self.group.views for name in plan(view).view.inputs))

    @property
    def known(self) -> str | None:
        """The column of known times, where it is another one than that of event times."""
        table = self.group.views[0].source
        return None if table.told_by == (table.event_time or table.known_at) else table.told_by

    @property
    def rank(self) -> list[str]:
        """The columns that order answers to one question, the weightiest first."""
        ties = [name for name in (OFFSET, PARTITION) if name in self.schema.names]
        return [EVENT, *([KNOWN] if self.known else []), *(f"__tie{name}" for name in ties), ROW]


def answers(
    tasks: Tasks, group: Group, at: str, blocks: Sequence[Any], *, heights: Sequence[int], source: Source
) -> list[Any]:
    """References to the answers to each block's questions, as `work.assemble` takes them.

    Args:
        tasks: where shares are streamed. Their results are taken in as they come.
        group: views without windows.
        at, blocks: the questions; `heights`: how many each block has.
        source: the events.
    """
    asked, held = _asked(tasks, group, at, blocks, source)
    path = path_of(source, tuple(group.keys), asked.keys, asked.at, held.ttl_us)
    read = {step.part for step in path.steps}
    weights = [part.rows * (number in read) for number, part in enumerate(source.parts)]
    given, first_rows = tasks.put(held), np.cumsum([0, *(part.rows for part in source.parts)]).tolist()
    running = [
        tasks.call(share, given, first_rows[begin], source.parts[begin:end], returns=1)[0]
        for begin, end in layout.shares(weights, tasks.width())
    ]
    best = Best(held)
    while running:
        done, running = tasks.first(running)
        best.take(tasks.get([done])[0])
        del done  # what was taken in may leave the object store
    found = best.features()
    place = np.empty(len(asked.order), np.int64)
    place[asked.order] = np.arange(len(place))
    ends = np.cumsum(heights).tolist()
    return [
        tasks.put(_numbered(found, place[end - height : end]))
        for end, height in zip(ends, heights, strict=True)
    ]


def _numbered(found: pl.DataFrame, place: Int64s) -> pa.Buffer:
    rows = found.select(pl.all().gather(place))
    return pack(rows.insert_column(0, pl.int_range(len(place), dtype=pl.Int64, eager=True).alias(NUMBER)))


def _asked(tasks: Tasks, group: Group, at: str, blocks: Sequence[Any], source: Source) -> tuple[Asked, Held]:
    made = [tasks.call(questions, group, at, block, returns=1)[0] for block in blocks]
    rows = pl.DataFrame(pa.concat_tables(tasks.get(made)))
    keys = keys_of([array_of(rows.get_column(name)) for name in group.keys])
    asked = by_time(keys, rows.get_column(EVENT).to_numpy())
    ttls = [plan(view).ttl_us for view in group.views]
    longest = None if None in ttls else max(ttl for ttl in ttls if ttl is not None)
    return asked, Held(group, source.schema, keys, asked.at, asked.code, longest)


def questions(group: Group, at: str, rows: pa.Table) -> Iterator[pa.Table]:
    """Entity and time of a block's questions."""
    frame = pl.DataFrame(rows)
    keys = keys_as(group.keys, frame, group.asks)
    made = keys.with_columns(pl.Series(EVENT, asked_at(frame, at), pl.Int64))
    yield made.to_arrow(compat_level=pl.CompatLevel.oldest())


def share(held: Held, first: int, parts: Sequence[Part]) -> Iterator[pa.Table]:
    """The best row of a share for each question that it can answer: question, rank, and the inputs.

    Args:
        held: what is asked.
        first: the position of the share's first row in the source.
        parts: the share.
    """
    table, entity = held.group.views[0].source, tuple(held.group.keys)
    source = Source(table, held.schema, parts)
    # Copies: memory of the object store is read-only, for which kernels would be compiled anew.
    keys = copy.deepcopy(held.keys)
    asked = Asked(keys, _NO_ORDER, held.at.copy(), held.code.copy())
    sorting: Future[Asked] = Future()
    sorting.set_result(asked)
    path = path_of(source, entity, keys, asked.at, held.ttl_us)
    found = latest_rows(source, entity, keys, sorting, path)
    row = within(found, asked.at, held.ttl_us)
    number = np.flatnonzero(row >= 0)
    row, event = row[number], found.event[number]
    del asked, found, keys, sorting
    ties = [name for name in (OFFSET, PARTITION) if name in held.schema.names]
    columns = dict.fromkeys([*held.inputs, *([held.known] if held.known else []), *ties])
    taken, _ = gather(parts, held.schema, list(columns), row, np.arange(len(row)))
    rank = {NUMBER: pl.Series(number.astype(np.int32)), EVENT: event}
    if held.known:
        told = array_of(taken.get_column(held.known))
        rank[KNOWN] = pl.Series(arrays.micros(told, held.known, f"the rows of {table.name!r}"))
    rank |= {f"__tie{name}": taken.get_column(name).cast(pl.Int64) for name in ties}
    made = pl.DataFrame(rank | {ROW: row + first}).hstack(taken.select(held.inputs))
    yield made.to_arrow(compat_level=pl.CompatLevel.oldest())


class Best:
    """The best row of each question among the shares so far, whatever their order."""

    def __init__(self, held: Held) -> None:
        count = len(held.at)
        self._held = held
        self._rank = {name: np.full(count, _LEAST) for name in held.rank}
        self._values = to_frame(held.schema.empty_table()).select(held.inputs).clear(count)

    def take(self, answers: pa.Table) -> None:
        """Take in what `share` gave."""
        frame = pl.DataFrame(answers)
        number = frame.get_column(NUMBER).to_numpy()
        new = {name: frame.get_column(name).to_numpy() for name in self._rank}
        better = self._better(number, new)
        won = number[better]
        for name, ranks in self._rank.items():
            ranks[won] = new[name][better]
        place = np.arange(len(self._held.at))
        place[won] = np.flatnonzero(better) + len(place)
        if self._values.width:
            both = pl.concat([self._values, frame.select(self._values.columns)])
            self._values = both.select(pl.all().gather(place))

    def _better(self, number: Int64s, new: dict[str, Int64s]) -> Bools:
        better, equal = np.zeros(len(number), dtype=bool), np.ones(len(number), dtype=bool)
        for name, ranks in self._rank.items():
            old = ranks[number]
            better |= equal & (new[name] > old)
            equal &= new[name] == old
        return better

    def features(self) -> pl.DataFrame:
        """The features of all views, one row a question, in the order of `Held`."""
        found = Winners(np.where(self._rank[ROW] >= 0, self._rank[ROW], -1), self._rank[EVENT])
        made = []
        for view in self._held.group.views:
            prepared = plan(view)
            matched = pl.Series(within(found, self._held.at, prepared.ttl_us) >= 0)
            made.append(masked(prepared, self._values, matched))
        return pl.concat(made, how="horizontal")
