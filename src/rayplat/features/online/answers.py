"""What a view of the online store answers to entities at a time: values, and the row they came from.

Knows row transforms and windows alike, ttl, slack and defaults; it does not know requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from rayplat.core.errors import NotFoundError, UserError
from rayplat.features.derived import with_defaults
from rayplat.features.online.head import (
    HEADER,
    NEVER,
    ROW,
    Head,
    read_head,
    text_of,
    to_json,
    values_of,
    write_head,
)
from rayplat.features.online.kept import KeptView, kept
from rayplat.features.online.keys import SLACK, store_key
from rayplat.features.online.row_values import past
from rayplat.features.online.store import Progress, Reader
from rayplat.features.online.window_answers import window_answers
from rayplat.features.plan import Plan

Rank = tuple[int, int, int, int]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Answered:
    """What a view answers.

    Attributes:
        features: one row a question.
        ranks: by question the row that answered (of windows: the newest in the longest): event time, known
            time, offset, partition; None: there was none.
        progress: how far the view had come.
        logged: whether offset and partition tell something.
    """

    features: pl.DataFrame
    ranks: list[Rank | None]
    progress: Progress
    logged: bool


def answer_view(reader: Reader, prepared: Plan, entities: Sequence[bytes | None], at: int) -> Answered:
    """Answer one view.

    Args:
        reader: the store.
        prepared: the plan of a feature view.
        entities: one a question; None: its key is null.
        at: the time of the questions in microseconds.

    Raises:
        NotFoundError: the view was never materialized.
        UserError: `at` is too far behind an entity's newest row.
    """
    progress, view = opened(reader, prepared)
    distinct = list(dict.fromkeys(entity for entity in entities if entity is not None))
    heads = dict(zip(distinct, reader.heads(view.key, distinct), strict=True))
    if prepared.windows:
        features, ranks = _windows(reader, view, entities, heads, at)
    else:
        found = resolve(reader, view, distinct, [heads[entity] for entity in distinct], at)
        rows = dict(zip(distinct, found, strict=True))
        chosen = [None if entity is None else rows[entity] for entity in entities]
        told = [None if data is None else read_head(data) for data in chosen]
        features = view.layout.frame(
            [None if d is None or h is None else values_of(d, h) for d, h in zip(chosen, told, strict=True)]
        )
        ranks = [None if head is None else head.rank for head in told]
    named = features.rename(dict(zip(features.columns, prepared.view.names, strict=True)))
    return Answered(with_defaults(named, prepared.view), ranks, progress, view.logged)


def opened(reader: Reader, prepared: Plan) -> tuple[Progress, KeptView]:
    """A view as it is stored.

    Raises:
        NotFoundError: it was never materialized.
    """
    progress = reader.progress(store_key(prepared))
    if progress is None:
        raise NotFoundError(
            f"view {prepared.view.name!r} as it is now defined was never materialized",
            "materialize it: rayplat features materialize PROJECT",
        )
    return progress, kept(prepared, progress)


def resolve(
    reader: Reader, view: KeptView, entities: Sequence[bytes], heads: Sequence[bytes | None], at: int
) -> list[bytes | None]:
    """The heads that answer a view of row transforms at a time; None: nothing does."""
    found = list(heads)
    behind: list[int] = []
    for i, data in enumerate(heads):
        if data is not None:
            head = read_head(data)
            check_slack(view.plan, entities[i], head, at)
            if at < head.visible:
                behind.append(i)
    pairs = [(entities[i], data) for i in behind if (data := heads[i]) is not None]
    for i, data in zip(behind, past(reader, view.key, pairs, at), strict=True):
        found[i] = data
    ttl = view.plan.ttl_us
    if ttl is None:
        return found
    return [None if data is None or at - read_head(data).event > ttl else data for data in found]


def check_slack(prepared: Plan, entity: bytes, head: Head, at: int) -> None:
    """Refuse a question that lies too far back to be answered exactly.

    Raises:
        UserError: it does.
    """
    if at < head.earliest:
        asked, newest = (_EPOCH + timedelta(microseconds=t) for t in (at, head.newest))
        raise UserError(
            f"{asked.isoformat()} is more than {SLACK} behind the newest row of {entity.decode()} in view "
            f"{prepared.view.name!r} ({newest.isoformat()})",
            "ask about the present, or use get_historical_features",
        )


def blobs(reader: Reader, prepared: Plan, entities: Sequence[bytes | None], at: int) -> list[bytes | None]:
    """The answers of a view as heads of row transforms with their text, whatever the view is.

    Of windows there is an answer to every entity, also to one never seen; None: the key is null.

    Raises:
        NotFoundError, UserError: see `answer_view`.
    """
    _, view = opened(reader, prepared)
    if not prepared.windows:
        named = [entity for entity in entities if entity is not None]
        found = iter(resolve(reader, view, named, reader.heads(view.key, named), at))
        return [None if entity is None else _with_text(view, next(found)) for entity in entities]
    answered = answer_view(reader, prepared, entities, at)
    values = view.layout.encode(answered.features)
    return [
        None if entity is None else _fresh_head(view, rank, at, data, to_json(row))
        for entity, rank, data, row in zip(
            entities, answered.ranks, values, answered.features.iter_rows(), strict=True
        )
    ]


def _with_text(view: KeptView, data: bytes | None) -> bytes | None:
    if data is None or text_of(data):
        return data
    return write_head(read_head(data), data[HEADER.size :], to_json(view.layout.values(data, HEADER.size)))


def _fresh_head(view: KeptView, rank: Rank | None, at: int, values: bytes, text: bytes) -> bytes:
    row = rank or (NEVER, NEVER, 0, 0)
    return write_head(Head(ROW, len(view.layout.kinds), 0, *row, at, at, NEVER, 0), values, text)


def _windows(
    reader: Reader,
    view: KeptView,
    entities: Sequence[bytes | None],
    heads: dict[bytes, bytes | None],
    at: int,
) -> tuple[pl.DataFrame, list[Rank | None]]:
    for entity, data in heads.items():
        if data is not None:
            check_slack(view.plan, entity, read_head(data), at)
    distinct = [*heads, None]
    # An entity never seen has empty windows, as has the last; a question without entity has no answer.
    features, ranks = window_answers(reader, view, [e if e and heads[e] else None for e in distinct], at)
    places = {entity: i for i, entity in enumerate(heads)}
    where = [None if entity is None else places[entity] for entity in entities]
    taken = features.select(pl.all().gather(pl.Series(where, dtype=pl.UInt32)))
    return taken, [None if place is None else ranks[place] for place in where]
