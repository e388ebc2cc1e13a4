"""Feature vectors made anew: from the lakehouse, as known at their time, as far as a store had come then.

Knows how a view is asked twice, with what the store had consumed and with all that was known; it does
not know what was served. The engine is the one that makes training sets.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from rayplat.core.project.view import FeatureView
from rayplat.core.project.window import WindowAggregate
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.derived import with_defaults
from rayplat.features.instants import BEGINNING, UTC_MICROS, Int64s, asked_at, instants
from rayplat.features.parity.reach import NEVER, Chain, Offsets, chains, consumed_at, outranked, visible_from
from rayplat.features.point_in_time import join

AT = "\0at"
"""The column of asking rows with the time of the question."""

_VISIBLE = "__visible"
_BY_ORDER = frozenset({"first", "last", "expression"})


@dataclass(frozen=True, slots=True)
class Recomputed:
    """A view's features, one row a question.

    Attributes:
        known: from the rows that the store had consumed.
        all: from every row that was known at the time of the question.
    """

    known: pl.DataFrame
    all: pl.DataFrame


def recompute(
    view: FeatureView, rows: pl.DataFrame, source: pl.DataFrame, offsets: Sequence[Offsets], of: Int64s
) -> Recomputed:
    """Make a view's features anew.

    Args:
        view: the view.
        rows: the asking rows, with the view's asking columns and `AT`.
        source: rows of the view's source that are fed by a log, with the system columns.
        offsets: distinct offsets that the store had reached.
        of: for each asking row, the position of its offsets; -1: as far as the source goes.
    """
    everything = with_defaults(join(rows, AT, view, source).select(view.names), view)
    parts, places = [everything.with_row_index("\0row").filter(pl.Series(of < 0))], np.flatnonzero(of < 0)
    at = asked_at(rows, AT)
    limited = np.flatnonzero(of >= 0)
    order = [places]
    for chain in chains(offsets, of[limited], at[limited]):
        asked = limited[chain.questions]
        parts.append(_answer_chain(view, rows, source, replace(chain, questions=asked), at))
        order.append(asked)
    together = pl.concat([part.select(view.names) for part in parts], how="vertical_relaxed")
    back = np.empty(len(of), dtype=np.int64)
    back[np.concatenate(order)] = np.arange(len(of))
    return Recomputed(together.select(pl.all().gather(pl.Series(back))), everything)


def _answer_chain(
    view: FeatureView, rows: pl.DataFrame, source: pl.DataFrame, chain: Chain, at: Int64s
) -> pl.DataFrame:
    times = at[chain.questions]
    consumed = consumed_at(source, chain.steps)
    known = _known(view, source)
    visible = visible_from(known, consumed, chain, times)
    asking = rows.select(pl.all().gather(pl.Series(chain.questions)))
    seen = source.with_columns(
        pl.Series(_VISIBLE, visible).cast(UTC_MICROS), pl.Series("\0consumed", consumed)
    ).filter(pl.Series(visible < NEVER))
    if not view.windowed:
        answered = join(asking, AT, _as_of(view), _without_outranked(view, seen))
        return with_defaults(answered.select(view.names), view)
    answered = with_defaults(join(asking, AT, _as_of(view), seen).select(view.names), view)
    if not _by_order(view):
        return answered
    return _ties_mended(view, asking, seen, chain, answered)


def _known(view: FeatureView, source: pl.DataFrame) -> Int64s:
    """Known times in microseconds; `NEVER` where a time is missing: such a row is never seen."""
    table = view.source
    known = np.full(source.height, BEGINNING, dtype=np.int64)
    missing = np.zeros(source.height, dtype=bool)
    for column in (table.event_time, table.told_by):
        if column is not None:
            times = instants(source, column, f"the rows of {table.name!r}")
            missing |= times.is_null().to_numpy()
            known = times.to_physical().fill_null(0).to_numpy()
    return np.where(missing, NEVER, known)


def _as_of(view: FeatureView) -> FeatureView:
    """The view, whose rows are known from when the store had them."""
    event = view.source.event_time or view.source.known_at
    return replace(
        view, source=replace(view.source, event_time=event, known_at=_VISIBLE), defaults={}, required=()
    )


def _without_outranked(view: FeatureView, seen: pl.DataFrame) -> pl.DataFrame:
    event = view.source.event_time
    keys = [*view.entity, *([event] if event else [])]
    from_ = pl.max_horizontal(pl.col(_VISIBLE), *([pl.col(event)] if event else []))
    ranked = seen.with_columns(from_.alias("\0from"))
    return seen.filter(~outranked(ranked, keys, _rank(view), "\0from"))


def _rank(view: FeatureView) -> list[str]:
    known = view.source.known_at
    return [*([known] if known and known != view.source.event_time else []), OFFSET, PARTITION]


def _by_order(view: FeatureView) -> bool:
    return any(isinstance(f, WindowAggregate) and f.kind in _BY_ORDER for f in view.features.values())


def _ties_mended(
    view: FeatureView, asking: pl.DataFrame, seen: pl.DataFrame, chain: Chain, answered: pl.DataFrame
) -> pl.DataFrame:
    """Answer anew, step by step, for the entities of which two rows of one time came in another order."""
    keys = [*view.entity, str(view.source.event_time)]
    tied = seen.filter(pl.struct(keys).is_duplicated()).sort([*keys, *_rank(view)])
    # The join ranks rows that the store had at one moment by their offsets, also where they were known apart.
    before = _comes_before((_VISIBLE, OFFSET, PARTITION))
    turned = tied.filter(before.over(keys)).select(view.entity).unique()
    if turned.is_empty():
        return answered
    names = dict(zip(view.asks, view.entity, strict=True))
    asks = asking.with_row_index("\0row").with_columns(pl.Series("\0step", chain.step))
    mended = asks.join(turned, left_on=list(names), right_on=list(names.values()), how="semi")
    source = seen.join(turned, on=list(view.entity), how="semi")
    parts = [answered.with_row_index("\0row")]
    for (step,), group in mended.group_by(["\0step"], maintain_order=True):
        had = source.filter(pl.col("\0consumed") <= step)
        anew = with_defaults(join(group.drop("\0row", "\0step"), AT, view, had).select(view.names), view)
        parts.append(anew.with_columns(group.get_column("\0row")).select(parts[0].columns))
    whole = pl.concat(parts, how="vertical_relaxed").unique("\0row", keep="last", maintain_order=True)
    return whole.sort("\0row").select(view.names)


def _comes_before(columns: Sequence[str]) -> pl.Expr:
    """Whether a row is less than the one above it, by the first of some columns in which they differ."""
    less, same = pl.lit(False), pl.lit(True)
    for name in columns:
        above = pl.col(name).shift(1)
        less, same = less | (same & (pl.col(name) < above)), same & (pl.col(name) == above)
    return less


def in_order(views: Sequence[FeatureView], has: Sequence[str]) -> Iterator[FeatureView]:
    """The views, each after those whose features name its entity.

    Args:
        has: the columns that the asking rows have.
    """
    left, have = list(views), set(has)
    while left:
        ready = [view for view in left if have.issuperset(view.asks)] or left[:1]
        yield ready[0]
        have.update(ready[0].names)
        left.remove(ready[0])


def distinct(offsets: Sequence[Mapping[str, int] | None]) -> tuple[list[Offsets], Int64s]:
    """Distinct offsets, and for each of many the position of its own; -1 where there are none."""
    found: dict[tuple[tuple[str, int], ...], int] = {}
    of = [-1 if one is None else found.setdefault(tuple(sorted(one.items())), len(found)) for one in offsets]
    return [dict(key) for key in found], np.asarray(of, dtype=np.int64)
