"""Row transforms in the online store: the answer of now in the head, answers of the recent past as parts.

Knows which rows of an entity can still answer; it does not know stores, nor windows.

Every time from an entity's newest known time minus `keys.SLACK` on is answered exactly. Let h be that
horizon: kept are the greatest row (the head), the rows visible only after h, and the one that answers at h.
Transforms are evaluated when rows come, by the expressions that make training sets; a part is
`event time, known time, values`, its key `visible time, offset, partition`. Pruning is put off until an
eighth of the slack is due.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from rayplat.features.derived import with_defaults
from rayplat.features.evaluate import evaluate
from rayplat.features.online.batch import Batch, Rank
from rayplat.features.online.head import (
    ROW,
    Head,
    horizon,
    read_head,
    text_of,
    to_json,
    values_of,
    write_head,
)
from rayplat.features.online.keys import SLACK_US, ordered, ordered_all
from rayplat.features.online.layout import Layout
from rayplat.features.online.store import Change, Part, Reader
from rayplat.features.plan import Plan

_KIND = b"r"
_TIMES = struct.Struct("<qq")
_SIGN = 1 << 63


def transformed(prepared: Plan, rows: pl.DataFrame) -> pl.DataFrame:
    """The row transforms of a view, with the defaults that it declares in place of null."""
    # A batch has columns of its own, so that a literal, too, has a value for every row.
    features = evaluate(rows, (expr.alias(name) for name, expr in prepared.rows.items()))
    return with_defaults(features, prepared.view)


def changes(reader: Reader, key: str, prepared: Plan, layout: Layout, rows: Batch) -> dict[bytes, Change]:
    """What rows change of their entities.

    Args:
        reader: the store as it stands.
        key: the name of the view there.
        prepared: the plan of a view of row transforms.
        layout: of its features.
        rows: the rows; those that came before may be among them.
    """
    heads = reader.heads(key, rows.entities)
    held = [None if head is None else read_head(head) for head in heads]
    news = _news(rows, held)
    due = [
        i for i, head in enumerate(held) if head is not None and news.horizon[i] - head.pruned > SLACK_US // 8
    ]
    wanted = [(rows.entities[i], _KIND, _KIND + ordered(news.horizon[i] + 1)) for i in due]
    old = dict(zip(due, reader.parts(key, wanted), strict=True))
    encoded = _encode(prepared, layout, rows, news)
    made = {}
    for i, entity in enumerate(rows.entities):
        change = _change(i, rows, news, encoded, _Held(heads[i], held[i], old.get(i)))
        if change is not None:
            made[entity] = change
    return made


@dataclass(frozen=True, slots=True)
class _News:
    """By entity what a batch brings.

    Attributes:
        newest, visible, horizon: of the entity with these rows.
        last: its greatest new row.
        wins: whether that is the greatest of all.
        kept: its new rows that may answer questions in the past.
    """

    newest: list[int]
    visible: list[int]
    horizon: list[int]
    last: list[int]
    wins: list[bool]
    kept: list[list[int]]


def _news(rows: Batch, held: Sequence[Head | None]) -> _News:
    if not rows.entities:
        return _News([], [], [], [], [], [])
    last = (rows.starts[1:] - 1).tolist()
    newest, visible = list(rows.newest), list(rows.latest)
    wins = []
    for i, head in enumerate(held):
        if head is not None:
            newest[i], visible[i] = max(head.newest, newest[i]), max(head.visible, visible[i])
        wins.append(head is None or rows.ranks[last[i]] > head.rank)
    back = [horizon(known) for known in newest]
    recent = rows.visible > np.array(back)[rows.line.code]
    # Of what is visible at the horizon, the greatest may answer there.
    before = np.maximum.reduceat(np.where(recent, -1, np.arange(len(recent))), rows.starts[:-1])
    recent[before[before >= 0]] = True
    recent[rows.starts[1:][wins] - 1] = False
    return _News(newest, visible, back, last, wins, rows.split(np.flatnonzero(recent)))


@dataclass(frozen=True, slots=True)
class _Encoded:
    """How many features; by row, key and value of its part; by entity that has a new head, values as JSON."""

    features: int
    parts: dict[int, Part]
    texts: dict[int, bytes]


def _encode(prepared: Plan, layout: Layout, rows: Batch, news: _News) -> _Encoded:
    won = [i for i, wins in enumerate(news.wins) if wins]
    wanted = [*(news.last[i] for i in won), *(row for kept in news.kept for row in kept)]
    places = np.array(wanted, dtype=np.int64)
    features = transformed(prepared, rows.line.frame.select(pl.all().gather(pl.Series(places))))
    line = rows.line
    keys = ordered_all(rows.visible[places], rows.offset[places], rows.partition[places])
    times = np.stack([line.event[places], line.known[places]], axis=1).tobytes()
    parts = {
        row: (_KIND + key, times[16 * i : 16 * i + 16] + values)
        for i, (row, key, values) in enumerate(zip(wanted, keys, layout.encode(features), strict=True))
    }
    texts = map(to_json, features.head(len(won)).rows())
    return _Encoded(len(layout.kinds), parts, dict(zip(won, texts, strict=True)))


@dataclass(frozen=True, slots=True)
class _Held:
    """What the store has of an entity: its head, the fields of it, and parts that are due to be pruned."""

    before: bytes | None
    head: Head | None
    old: list[Part] | None


def _change(i: int, rows: Batch, news: _News, encoded: _Encoded, stored: _Held) -> Change | None:
    before, held, old = stored.before, stored.head, stored.old
    rank = None if held is None else held.rank
    puts = [encoded.parts[row] for row in news.kept[i] if rows.ranks[row] != rank]
    newest, visible = news.newest[i], news.visible[i]
    if held is None or before is None or news.wins[i]:
        if held is not None and before is not None:
            puts.append(_part(held.rank, values_of(before, held)))
        last = news.last[i]
        rank, values, text = rows.ranks[last], encoded.parts[last][1][_TIMES.size :], encoded.texts[i]
    elif not puts and (newest, visible) == (held.newest, held.visible):
        return None
    else:
        rank, values, text = held.rank, values_of(before, held), text_of(before)
    pruned = news.horizon[i] if held is None or old is not None else held.pruned
    count = 1 if held is None else held.changes + 1
    head = Head(ROW, encoded.features, 0, *rank, newest, visible, pruned, count)
    return Change(before, write_head(head, values, text), puts, _pruned(old or []))


def _part(rank: Rank, values: bytes) -> Part:
    event, known, offset, partition = rank
    return _KIND + ordered(max(event, known), offset, partition), _TIMES.pack(event, known) + values


def _rank(part: Part) -> Rank:
    key, value = part
    event, known = _TIMES.unpack_from(value)
    offset, partition = (int.from_bytes(key[at : at + 8], "big") - _SIGN for at in (9, 17))
    return event, known, offset, partition


def _pruned(parts: Sequence[Part]) -> list[tuple[bytes, bytes]]:
    """The ranges to be removed of the parts that are visible at the horizon: all but the one that answers."""
    stays = max(parts, key=_rank)[0] if parts else b""
    return [(key, key + b"\0") for key, _ in parts if key != stays]


def past(reader: Reader, key: str, entities: Sequence[tuple[bytes, bytes]], at: int) -> list[bytes | None]:
    """What entities answered at a time before the newest of their rows was visible, as heads.

    Args:
        reader: the store, of which the heads were read.
        key: the name of the view there.
        entities: names and heads.
        at: the time of the question, not before the horizon of any of them.

    Returns:
        for each entity a head without text, whose row and values are those of then; None: nothing was known.
    """
    ranges = [(entity, _KIND, _KIND + ordered(at + 1)) for entity, _ in entities]
    found: list[bytes | None] = []
    for (_, data), parts in zip(entities, reader.parts(key, ranges), strict=True):
        head = read_head(data)
        known = [(_rank(part), part[1][_TIMES.size :]) for part in parts]
        if max(head.event, head.known) <= at:
            known.append((head.rank, values_of(data, head)))
        if not known:
            found.append(None)
            continue
        rank, values = max(known, key=lambda pair: pair[0])
        found.append(write_head(Head(*head[:3], *rank, *head[7:]), values, b""))
    return found
