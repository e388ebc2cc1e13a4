"""Windows in the online store, written: every row that a window can still see, and tiles of the past.

Knows when rows become a tile; it does not know stores, nor how windows are answered (`window_answers`).

A row is a part of its own: `known time, values` under `event time, offset, partition`; nothing is written
again when another row comes, and a row that comes twice is the same part. What is older than the longest
window and the slack is dropped. A tile is made when an entity's newest row has left it behind and it holds at
least `WORTH` rows: fewer are read faster than a tile. A late row goes into the tile that there is. Entities
leave their tiles at different times, up to a width later, or all of them would be made at once, at each full
minute; until then the rows answer.
"""

import struct
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import polars as pl

from rayplat.features.aggregates.accumulator import Rank
from rayplat.features.instants import Int64s
from rayplat.features.online.batch import Batch
from rayplat.features.online.head import NEVER, WINDOW, Head, horizon, read_head, text_of, write_changed
from rayplat.features.online.kept import KeptView
from rayplat.features.online.keys import ordered, ordered_all
from rayplat.features.online.store import Change, Part, Range, Reader
from rayplat.features.online.tiles import Level, Shape, make_tile, merge_tile, read_tile, write_tile

ROWS, TILES = b"r", b"t"
KNOWN = struct.Struct("<q")
WORTH = 16
"""How many rows make a tile worth its while."""

_SIGN = 1 << 63


def row_range(entity: bytes, low: int, high: int) -> Range:
    """The rows of an entity with low <= event time <= high."""
    return entity, ROWS + ordered(low), ROWS + ordered(high + 1)


def tile_range(entity: bytes, level: Level, low: int, high: int) -> Range:
    """The tiles of an entity with low <= number <= high; the number is event time // width."""
    start = TILES + bytes([level.number])
    return entity, start + ordered(low), start + ordered(high + 1)


def rank_of(part: Part) -> Rank:
    """The rank of a row that is a part."""
    key, value = part
    event, offset, partition = (int.from_bytes(key[at : at + 8], "big") - _SIGN for at in (1, 9, 17))
    return event, KNOWN.unpack_from(value)[0], offset, partition


def tile_number(key: bytes) -> int:
    """The number of a tile that is a part."""
    return int.from_bytes(key[2:10], "big") - _SIGN


@dataclass(slots=True)
class _Entity:
    """What a batch brings of one entity."""

    entity: bytes
    before: bytes | None
    held: Head | None
    head: Head
    seen: dict[str, int]
    rows: list[int] = field(default_factory=list)
    puts: list[Part] = field(default_factory=list)
    drops: list[tuple[bytes, bytes]] = field(default_factory=list)


def changes(reader: Reader, view: KeptView, rows: Batch) -> dict[bytes, Change]:
    """What rows change of their entities.

    Args:
        reader: the store as it stands.
        view: a view of windows.
        rows: the rows; those that came before may be among them.
    """
    entities = _entities(view, rows, reader.heads(view.key, rows.entities))
    _leave_known_out(reader, view, rows, entities)
    numbered = [(entity, row) for entity in entities for row in entity.rows]
    wanted = np.array([row for _, row in numbered], dtype=np.int64)
    values = _values(view, rows, wanted)
    layout = view.shape.layout if view.shape else view.inputs
    assert layout is not None
    keys = ordered_all(rows.line.event[wanted], rows.offset[wanted], rows.partition[wanted])
    for (entity, row), key, data in zip(numbered, keys, layout.encode(values), strict=True):
        entity.puts.append((ROWS + key, KNOWN.pack(rows.ranks[row][1]) + data))
    if view.shape is not None:
        plain = dict(zip((row for _, row in numbered), values.rows(), strict=True))
        _Tiles(reader, view, view.shape, rows, plain).close(entities)
    return {e.entity: _change(e) for e in entities if e.puts or e.drops or e.head != e.held}


def _entities(view: KeptView, rows: Batch, heads: Sequence[bytes | None]) -> list[_Entity]:
    reach, features = view.plan.reach_us, len(view.layout.kinds)
    held = [None if data is None else read_head(data) for data in heads]
    newest = [
        new if old is None else max(new, old.newest) for new, old in zip(rows.newest, held, strict=True)
    ]
    back = [max(horizon(known) - reach, NEVER) for known in newest]
    taken = rows.line.event > np.array(back, dtype=np.int64)[rows.line.code]
    made = []
    for i, of in enumerate(rows.split(np.flatnonzero(taken))):
        old, before = held[i], heads[i]
        rank, seen = rows.ranks[int(rows.starts[i + 1]) - 1], {}
        visible, pruned, count = rows.latest[i], back[i], 0
        if old is not None and before is not None:
            rank, seen = max(rank, old.rank), orjson.loads(text_of(before))
            visible, pruned, count = max(visible, old.visible), old.pruned, old.changes
        length = 0 if old is None else old.text_length
        head = Head(WINDOW, features, length, *rank, newest[i], visible, pruned, count)
        entity = _Entity(rows.entities[i], before, old, head, seen, of)
        if back[i] - pruned > reach // 16:
            _prune(entity, view, back[i])
        made.append(entity)
    return made


def _prune(entity: _Entity, view: KeptView, back: int) -> None:
    """Drop rows up to the horizon, and tiles that lie before it whole."""
    entity.drops.append((ROWS, ROWS + ordered(back + 1)))
    for level in view.shape.levels if view.shape else ():
        start = TILES + bytes([level.number])
        entity.drops.append((start, start + ordered((back + 1) // level.width)))
    entity.head = entity.head._replace(pruned=back)


def _leave_known_out(reader: Reader, view: KeptView, rows: Batch, entities: Sequence[_Entity]) -> None:
    """Leave out rows that are in the store; only one that is not beyond all seen offsets can be."""
    if not view.logged:
        return
    doubtful: list[tuple[int, int]] = []
    for i, entity in enumerate(entities):
        top = dict(entity.seen)
        for row in entity.rows:
            _, _, offset, number = rows.ranks[row]
            partition = str(number)
            if offset <= entity.seen.get(partition, -1):
                doubtful.append((i, row))
            top[partition] = max(offset, top.get(partition, -1))
        entity.seen = top
    wanted = []
    for i, row in doubtful:
        event, _, offset, number = rows.ranks[row]
        key = ROWS + ordered(event, offset, number)
        wanted.append((entities[i].entity, key, key + b"\0"))
    known: dict[int, set[int]] = defaultdict(set)
    for (i, row), found in zip(doubtful, reader.parts(view.key, wanted), strict=True):
        if found:
            known[i].add(row)
    for i, gone in known.items():
        entities[i].rows = [row for row in entities[i].rows if row not in gone]


def _values(view: KeptView, rows: Batch, wanted: Int64s) -> pl.DataFrame:
    """What is kept of rows: the values of their streams, or the columns that the windows read."""
    taken = rows.line.frame.select(pl.all().gather(pl.Series(wanted)))
    if view.shape is None:
        return taken.select(view.plan.view.inputs)
    made = [stream.of(taken).alias(str(i)) for i, stream in enumerate(view.shape.streams)]
    return pl.DataFrame(made)


def _change(entity: _Entity) -> Change:
    data = write_changed(entity.head, b"", orjson.dumps(entity.seen, option=orjson.OPT_SORT_KEYS))
    return Change(entity.before, data, entity.puts, entity.drops)


@dataclass(slots=True)
class _Tiles:
    """Makes and mends the tiles of a batch."""

    reader: Reader
    view: KeptView
    shape: Shape
    rows: Batch
    values: dict[int, tuple[Any, ...]]

    def close(self, entities: Sequence[_Entity]) -> None:
        """Bring the tiles of all entities up to their new rows."""
        for level in self.shape.levels:
            work = [
                (entity, number, new)
                for entity in entities
                for number, new in self._touched(entity, level).items()
            ]
            wanted = [tile_range(entity.entity, level, number, number) for entity, number, _ in work]
            tiles = self.reader.parts(self.view.key, wanted)
            missing = [
                (entity, number, new)
                for (entity, number, new), found in zip(work, tiles, strict=True)
                if not found and number < _left(entity.entity, level, entity.head.event)
            ]
            spans = [
                row_range(e.entity, max(n * level.width, e.head.pruned + 1), (n + 1) * level.width - 1)
                for e, n, _ in missing
            ]
            for (entity, number, new), old in zip(
                missing, self.reader.parts(self.view.key, spans), strict=True
            ):
                self._make(entity, level, number, new, old)
            for (entity, number, new), found in zip(work, tiles, strict=True):
                if found and new:
                    self._mend(entity, level, number, new, found[0][1])

    def _touched(self, entity: _Entity, level: Level) -> dict[int, list[int]]:
        """The tiles of the past in which something may change, with their new rows."""
        open_ = entity.head.event // level.width
        touched: dict[int, list[int]] = {}
        if entity.held is not None:
            last = entity.held.event // level.width
            before, after = (_left(entity.entity, level, e.event) for e in (entity.held, entity.head))
            touched = {number: [] for number in (last - 1, last) if before <= number < after}
        for row in entity.rows:
            number = self.rows.ranks[row][0] // level.width
            if number < open_:
                touched.setdefault(number, []).append(row)
        return touched

    def _make(self, entity: _Entity, level: Level, number: int, new: list[int], old: list[Part]) -> None:
        if len(new) + len(old) < WORTH:
            return
        layout = self.shape.layout
        ranks = [*map(rank_of, old), *(self.rows.ranks[row] for row in new)]
        values = [*(layout.values(value, KNOWN.size) for _, value in old), *(self.values[row] for row in new)]
        self._put(entity, level, number, write_tile(make_tile(self.shape, level, ranks, values)))

    def _mend(self, entity: _Entity, level: Level, number: int, new: list[int], data: bytes) -> None:
        tile = read_tile(self.shape, level, data)
        values = [self.values[row] for row in new]
        merge_tile(tile, make_tile(self.shape, level, [*(self.rows.ranks[row] for row in new)], values))
        self._put(entity, level, number, write_tile(tile))

    def _put(self, entity: _Entity, level: Level, number: int, data: bytes) -> None:
        entity.puts.append((TILES + bytes([level.number]) + ordered(number), data))


def _left(entity: bytes, level: Level, event: int) -> int:
    """The first tile that an entity has not left behind when its newest row is of a time."""
    late = zlib.crc32(entity) * level.width >> 32
    return (event - late) // level.width
