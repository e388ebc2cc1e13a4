"""Windows in the online store, answered: whole tiles where they hold, rows at the edges and between.

Knows which tiles and rows make up a window at a time; it does not know stores. Any way of cutting the rows
gives the same bits (see `aggregates`), so this is what the offline engine gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from rayplat.features.aggregates.accumulator import Accumulator, Rank
from rayplat.features.aggregates.values import Value, column
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.instants import UTC_MICROS
from rayplat.features.online.kept import KeptView
from rayplat.features.online.store import Part, Range, Reader
from rayplat.features.online.tiles import Level, Shape, Tile, read_tile, take
from rayplat.features.online.window_values import KNOWN, rank_of, row_range, tile_number, tile_range
from rayplat.features.plan import WindowFeature
from rayplat.features.point_in_time import answer
from rayplat.features.questions import Questions

Answers = tuple[pl.DataFrame, list[Rank | None]]
"""Features, one row an entity, and the greatest row in the longest window; None: there is none."""

_Span = tuple[int, int, int]
"""A window at a time: the least and the greatest event time in it, and its level."""


def window_answers(reader: Reader, view: KeptView, entities: Sequence[bytes | None], at: int) -> Answers:
    """What windows answer at a time.

    Args:
        reader: the store, of which the heads of the entities were read.
        view: a view of windows.
        entities: their names; None: never seen, whose windows are empty.
        at: the time of the question in microseconds.
    """
    if view.shape is None:
        return _by_rows(reader, view, entities, at)
    return _Windows(reader, view, view.shape, at).answers(entities)


def bounds(feature: WindowFeature, at: int) -> tuple[int, int]:
    """The least and the greatest event time of the rows in a window."""
    if feature.every_us is None:
        return at - feature.length_us + 1, at
    end = at // feature.every_us * feature.every_us
    return end - feature.length_us, end - 1


@dataclass(slots=True)
class _Piece:
    """What makes up a window of an entity: whole tiles, and the rows outside of them."""

    tiles: list[Tile]
    ranks: list[Rank]
    values: list[Sequence[Value | None]]


@dataclass(slots=True)
class _Windows:
    reader: Reader
    view: KeptView
    shape: Shape
    at: int

    def answers(self, entities: Sequence[bytes | None]) -> Answers:
        spans = [(*bounds(feature, self.at), level) for feature, _, level in self.shape.features]
        distinct = list(dict.fromkeys(spans))
        seen = [entity for entity in entities if entity is not None]
        pieces = dict(zip(seen, self._pieces(seen, distinct), strict=True))
        longest = max(self.shape.features, key=lambda found: found[0].length_us)
        newest = spans[self.shape.features.index(longest)]
        rows: list[list[Value | None]] = []
        ranks: list[Rank | None] = []
        for entity in entities:
            held = {} if entity is None else pieces[entity]
            rows.append(self._results(held, spans))
            ranks.append(_greatest(held.get(newest)))
        results = [
            column(feature.name, feature.kind, self.shape.streams[place].dtype, [row[i] for row in rows])
            for i, (feature, place, _) in enumerate(self.shape.features)
        ]
        return pl.DataFrame(results), ranks

    def _pieces(self, entities: Sequence[bytes], spans: Sequence[_Span]) -> list[dict[_Span, _Piece]]:
        """The pieces of every window, all entities in two reads."""
        wanted: list[Range] = []
        for entity in entities:
            for low, high, number in spans:
                level = self.shape.levels[number]
                first, last = -(-low // level.width), (high + 1) // level.width - 1
                wanted.append(tile_range(entity, level, first, last))
        found = iter(self.reader.parts(self.view.key, wanted))
        tiled = [[self._whole(next(found), self.shape.levels[span[2]]) for span in spans] for _ in entities]
        gaps: list[Range] = []
        counts: list[int] = []
        for entity, of in zip(entities, tiled, strict=True):
            for (low, high, number), tiles in zip(spans, of, strict=True):
                between = _gaps(low, high, tiles, self.shape.levels[number].width)
                counts.append(len(between))
                gaps += [row_range(entity, *gap) for gap in between]
        read, taken = iter(self.reader.parts(self.view.key, gaps)), iter(counts)
        made = []
        for of in tiled:
            piece: dict[_Span, _Piece] = {}
            for span, tiles in zip(spans, of, strict=True):
                parts = [part for _ in range(next(taken)) for part in next(read)]
                piece[span] = self._piece([tile for _, tile in tiles], parts)
            made.append(piece)
        return made

    def _whole(self, parts: Sequence[Part], level: Level) -> list[tuple[int, Tile]]:
        """The tiles of which every row was known, with their numbers."""
        tiles = [(tile_number(key), read_tile(self.shape, level, value)) for key, value in parts]
        return [(number, tile) for number, tile in tiles if tile.known <= self.at]

    def _piece(self, tiles: list[Tile], parts: Sequence[Part]) -> _Piece:
        ranks: list[Rank] = []
        values: list[Sequence[Value | None]] = []
        for part in parts:
            rank = rank_of(part)
            if rank[1] <= self.at:
                ranks.append(rank)
                values.append(self.shape.layout.values(part[1], KNOWN.size))
        return _Piece(tiles, ranks, values)

    def _results(self, pieces: dict[_Span, _Piece], spans: Sequence[_Span]) -> list[Value | None]:
        """The value of each feature; a state is made once for all that share stream and window."""
        states: dict[tuple[int, _Span], Accumulator] = {}
        results = []
        for (feature, place, number), span in zip(self.shape.features, spans, strict=True):
            state = states.get((place, span))
            if state is None:
                level = self.shape.levels[number]
                state = states[place, span] = self._state(place, level, pieces.get(span))
            results.append(state.result(feature.kind, feature.q))
        return results

    def _state(self, place: int, level: Level, piece: _Piece | None) -> Accumulator:
        where = [stream for stream, _ in level.streams].index(place)
        state = Accumulator(level.streams[where][1], self.shape.streams[place].dtype)
        if piece is not None:
            take(state, place, piece.ranks, piece.values)
            for tile in piece.tiles:
                state.merge(tile.states[where])
        return state


def _gaps(low: int, high: int, tiles: Sequence[tuple[int, Tile]], width: int) -> list[tuple[int, int]]:
    """The stretches of a window that no tile covers."""
    found = []
    for number, _ in tiles:
        if number * width > low:
            found.append((low, number * width - 1))
        low = (number + 1) * width
    if low <= high:
        found.append((low, high))
    return found


def _greatest(piece: _Piece | None) -> Rank | None:
    if piece is None:
        return None
    return max([*piece.ranks, *(tile.rank for tile in piece.tiles)], default=None)


def _by_rows(reader: Reader, view: KeptView, entities: Sequence[bytes | None], at: int) -> Answers:
    """Windows with an aggregate that has no state: from all rows, by the offline engine."""
    assert view.inputs is not None
    seen = [entity for entity in entities if entity is not None]
    wanted = [row_range(entity, at - view.plan.reach_us, at) for entity in seen]
    found = reader.parts(view.key, wanted)
    parts = [part for rows in found for part in rows]
    code = np.repeat(np.arange(len(seen)), [len(rows) for rows in found])
    ranks = [rank_of(part) for part in parts]
    source = _source(view, parts, ranks)
    places = iter(range(len(seen)))
    asked = np.array([-1 if entity is None else next(places) for entity in entities], dtype=np.int64)
    count = len(entities)
    questions = Questions(asked, np.zeros(count, dtype=bool), np.full(count, at))
    answered = answer(view.plan, source, code, questions)
    line = answered.line
    offset, partition = (line.frame.get_column(name).to_list() for name in (OFFSET, PARTITION))
    newest: list[Rank | None] = [
        None if row < 0 else (int(line.event[row]), int(line.known[row]), offset[row], partition[row])
        for row in answered.chosen.tolist()
    ]
    return answered.features, newest


def _source(view: KeptView, parts: Sequence[Part], ranks: Sequence[Rank]) -> pl.DataFrame:
    """Rows as the offline engine takes them."""
    assert view.inputs is not None
    frame = view.inputs.frame([value[KNOWN.size :] for _, value in parts])
    table = view.plan.view.source
    assert table is not None
    columns: dict[str, Any] = {name: frame.get_column(name) for name in frame.columns}
    for name, place in ((table.told_by, 1), (table.event_time, 0)):
        if name is not None and name not in columns:
            columns[name] = pl.Series(name, [rank[place] for rank in ranks], pl.Int64).cast(UTC_MICROS)
    for name, place in ((OFFSET, 2), (PARTITION, 3)):
        columns[name] = pl.Series(name, [rank[place] for rank in ranks], pl.Int64)
    return pl.DataFrame(list(columns.values()))
