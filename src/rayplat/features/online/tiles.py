"""Tiles: what the windows of a view remember of the past, cut by event time.

Knows which streams of values a view reduces, how wide their tiles are, and the bytes of a tile; it does not
know stores, nor when tiles are made.

Each window has tiles of the greatest width of `WIDTHS` that is at most a 32nd of its length (at least a
second), aligned to 1970: 32 to 96 tiles a window. Windows whose tiles are equally wide share them.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from rayplat.features.aggregates.accumulator import Accumulator, Rank
from rayplat.features.aggregates.values import Value, family, normal, output_dtype
from rayplat.features.evaluate import evaluate
from rayplat.features.online.layout import Layout
from rayplat.features.plan import Plan, WindowFeature

_SECOND = 1_000_000
WIDTHS = tuple(
    seconds * _SECOND
    for seconds in (1, 2, 5, 10, 30, 60, 120, 300, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400)
)
PER_WINDOW = 32
"""A window is cut in at least so many tiles, but for windows of less than 32 seconds."""

_FIXED = struct.Struct("<8q")
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Stream:
    """Values of the rows that pass a filter.

    Attributes:
        value, where: as in `WindowFeature`.
        dtype: of the values.
    """

    value: pl.Expr
    where: pl.Expr | None
    dtype: pl.DataType

    def of(self, rows: pl.DataFrame) -> pl.Series:
        """The value of each row in its one form; null where the row has none or does not pass."""
        wanted = [self.value.alias("\0value")]
        if self.where is not None:
            wanted.append(self.where.cast(pl.Boolean).fill_null(value=False).alias("\0where"))
        found = evaluate(rows, wanted)
        if self.where is not None:
            found = found.select(pl.when("\0where").then("\0value").alias("\0value"))
        values = found.get_column("\0value")
        if family(values.dtype) != "float" or not values.null_count():
            return normal(values)
        absent = values.is_null()
        return normal(values.cast(pl.Float64).fill_null(0.0)).set(absent, None)


@dataclass(frozen=True, slots=True)
class Level:
    """Tiles of one width.

    Attributes:
        number: tells the levels of a view apart.
        width: in microseconds.
        streams: by the place of a stream, the kinds of aggregates that are made of it here.
    """

    number: int
    width: int
    streams: tuple[tuple[int, frozenset[str]], ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """How a view's windows are computed from rows and tiles.

    Attributes:
        streams: each stream once.
        levels: the tiles.
        features: each feature with the places of its stream and its level.
        layout: of a row's values, one a stream.
    """

    streams: tuple[Stream, ...]
    levels: tuple[Level, ...]
    features: tuple[tuple[WindowFeature, int, int], ...]
    layout: Layout


@dataclass(slots=True)
class Tile:
    """The rows of an entity in a piece of time, reduced.

    Attributes:
        count: how many rows.
        first, last: the least and the greatest event time.
        known: the greatest known time.
        rank: of the greatest row.
        states: one a stream of the level.
    """

    count: int
    first: int
    last: int
    known: int
    rank: Rank
    states: list[Accumulator]


def width_for(length_us: int) -> int:
    """The width of the tiles of a window, in microseconds."""
    return max((w for w in WIDTHS if w * PER_WINDOW <= length_us), default=WIDTHS[0])


def shape(prepared: Plan, schema: pl.DataFrame) -> Shape:
    """The shape of a view whose windows are all of `core.project.window.KINDS`.

    Args:
        prepared: the plan.
        schema: no rows, with the columns of the source.

    Raises:
        UserError: a kind has no meaning for values of a type.
    """
    places: dict[tuple[bytes, bytes], int] = {}
    streams: list[Stream] = []
    widths = sorted({width_for(feature.length_us) for feature in prepared.windows})
    kinds: list[dict[int, set[str]]] = [{} for _ in widths]
    features = []
    for feature in prepared.windows:
        where = b"" if feature.where is None else feature.where.meta.serialize()
        place = places.setdefault((feature.value.meta.serialize(), where), len(streams))
        if place == len(streams):
            values = schema.with_columns(feature.value.alias("\0value")).get_column("\0value")
            streams.append(Stream(feature.value, feature.where, values.dtype))
        output_dtype(feature.kind, streams[place].dtype)
        level = widths.index(width_for(feature.length_us))
        kinds[level].setdefault(place, set()).add(feature.kind)
        features.append((feature, place, level))
    levels = [
        Level(i, width, tuple((place, frozenset(of)) for place, of in sorted(kinds[i].items())))
        for i, width in enumerate(widths)
    ]
    forms = {str(i): _FORMS[family(stream.dtype)] for i, stream in enumerate(streams)}
    return Shape(tuple(streams), tuple(levels), tuple(features), Layout(forms))


_FORMS: dict[str, pl.DataType] = {
    "float": pl.Float64(), "int": pl.Int64(), "bool": pl.Int64(), "time": pl.Int64(), "text": pl.String(),
}  # fmt: skip


def make_tile(
    shape: Shape, level: Level, ranks: Sequence[Rank], values: Sequence[Sequence[Value | None]]
) -> Tile:
    """The tile of rows.

    Args:
        shape: of the view.
        level: of the tile.
        ranks: of the rows, at least one.
        values: of each row, one a stream of the shape.
    """
    events = [rank[0] for rank in ranks]
    made = Tile(len(ranks), min(events), max(events), max(rank[1] for rank in ranks), max(ranks), [])
    for place, kinds in level.streams:
        state = Accumulator(kinds, shape.streams[place].dtype)
        take(state, place, ranks, values)
        made.states.append(state)
    return made


def take(
    state: Accumulator, place: int, ranks: Sequence[Rank], values: Sequence[Sequence[Value | None]]
) -> None:
    """Take the values of rows into the state of a stream."""
    pairs = [(row[place], rank) for row, rank in zip(values, ranks, strict=True)]
    taken = [(value, rank) for value, rank in pairs if value is not None]
    state.update([value for value, _ in taken], [rank for _, rank in taken])


def merge_tile(into: Tile, other: Tile) -> None:
    """Take another tile of the same level into one."""
    into.count += other.count
    into.first, into.last = min(into.first, other.first), max(into.last, other.last)
    into.known, into.rank = max(into.known, other.known), max(into.rank, other.rank)
    for state, more in zip(into.states, other.states, strict=True):
        state.merge(more)


def write_tile(tile: Tile) -> bytes:
    """A tile as bytes."""
    parts = [_FIXED.pack(tile.count, tile.first, tile.last, tile.known, *tile.rank)]
    for state in tile.states:
        data = state.to_bytes()
        parts += [_LENGTH.pack(len(data)), data]
    return b"".join(parts)


def read_tile(shape: Shape, level: Level, data: bytes) -> Tile:
    """The tile that `write_tile` wrote.

    Raises:
        IntegrityError: the bytes are no such tile.
    """
    count, first, last, known, *rank = _FIXED.unpack_from(data)
    at, states = _FIXED.size, []
    for place, kinds in level.streams:
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        states.append(Accumulator.from_bytes(kinds, shape.streams[place].dtype, data[at : at + length]))
        at += length
    return Tile(count, first, last, known, (rank[0], rank[1], rank[2], rank[3]), states)
