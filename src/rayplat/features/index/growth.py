"""Growth: an index extended by the rows that came since it was built, with the same answers as a new one.

Knows which rows those are and how their steps join the old ones; it does not know where indexes are kept.
Only the new rows are read and sorted. What it needs is that the table was appended to and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from rayplat.core.errors import NotFoundError
from rayplat.core.project.view import FeatureView
from rayplat.features.index.built import Index, Steps, indexed, laid_out, steps_of
from rayplat.features.index.kernel import UInt32s, frozen
from rayplat.features.index.keys import together
from rayplat.features.index.merging import Ranked, merge_rows, merge_steps
from rayplat.features.index.ranks import Ranks, merged
from rayplat.features.instants import BEGINNING, Int64s
from rayplat.features.join.parts import Part
from rayplat.features.lake import LakeTable, pinned, to_frame
from rayplat.features.plan import plan


@dataclass(frozen=True, slots=True)
class Added:
    """Rows of a table that came after a snapshot.

    Attributes:
        rows: they; `later`: they stand behind the older ones (else before them).
    """

    rows: pl.DataFrame
    later: bool


def added(table: LakeTable, view: FeatureView, since: int, now: int) -> Added | None:
    """The rows that a view's source has more than at an earlier snapshot.

    Args:
        table: the source.
        since, now: two of its snapshots.

    Returns:
        None where rows of the older one are gone, rewritten or in another order, or it is no longer there.
    """
    schema, _ = pinned(table, view.source.name, plan(view).columns, {view.source.name: now})
    try:
        before = [part.place for part in table.parts(schema.names, since)]
    except NotFoundError:
        return None
    parts = table.parts(schema.names, now)
    kept = set(before)
    places = [part.place for part in parts]
    if "" in kept or [place for place in places if place in kept] != before:
        return None
    new = [part for part in parts if part.place not in kept]
    count = len(before)
    if places[:count] != before and places[len(places) - count :] != before:
        return None
    return Added(_read(new, schema), later=places[:count] == before)


def _read(parts: Sequence[Part], schema: pa.Schema) -> pl.DataFrame:
    batches = [batch for part in parts for batch in part.batches(schema.names)]
    if not batches:
        return to_frame(schema.empty_table())
    return to_frame(pa.Table.from_batches(batches)).select(schema.names)


def extended(index: Index, view: FeatureView, more: Added) -> Index | None:
    """An index with more rows.

    Args:
        index: with its ranks; `view`: what it was made of.
        more: the rows.

    Returns:
        What `build` makes of all rows; None where types of columns have changed since.
    """
    if index.ranks is None:
        return None
    entity = more.rows.select(view.entity)
    if dict(entity.schema) != dict(index.keys.schema):
        return None
    joined = together(index.keys, index.starts, entity, index.rows, later=more.later)
    new = steps_of(view, more.rows, lambda _: (joined.keys, joined.code))
    grown = _by_rows(index, view, new, joined.old_of, later=more.later)
    if grown is not None:
        return grown
    old = _old_steps(index, view)
    if new.features.schema != old.features.schema:
        return None
    return laid_out(view, _merged(old, new, joined.old_of, later=more.later))


def _by_rows(index: Index, view: FeatureView, new: Steps, old_of: Int64s, *, later: bool) -> Index | None:
    """The same, by copying the steps as they are laid out; None where both are not laid out alike."""
    made = laid_out(view, new)
    aged = bool(index.shape[5] or made.shape[5])
    plain = all(column.kept is None and column.null < 0 for column in index.columns)
    count = int(index.starts[-1])
    if aged or index.timeless or not plain or made.columns != index.columns or not count or not len(new.time):
        return None
    assert index.ranks is not None  # asked before
    assert made.ranks is not None  # made with it
    time = np.ascontiguousarray(index.steps[:count, 0])
    old, fresh = _implied(index.ranks, time), _implied(made.ranks, new.time)
    starts, picked, times = _walked(old_of, index.starts, old, new.starts, fresh, later=later)
    laid = np.empty((len(picked), made.steps.shape[1]), np.int64)
    merge_rows(frozen(index.steps[:]), frozen(made.steps[:]), count, picked, laid)
    ranks = merged((index.ranks, time), (made.ranks, new.time), picked, times)
    entities = (new.keys, starts, index.rows + new.rows)
    return indexed(entities, index.columns, laid, ranks, plan(view).ttl_us, aged=False, timeless=False)


def _old_steps(index: Index, view: FeatureView) -> Steps:
    assert index.ranks is not None  # asked before
    count = int(index.starts[-1])
    time = np.full(count, BEGINNING) if index.timeless else np.ascontiguousarray(index.steps[:count, 0])
    ranks = index.ranks.columns(time)
    return Steps(index.keys, index.starts, time, *ranks, index.features(view.names), index.rows)


def _merged(old: Steps, new: Steps, old_of: Int64s, *, later: bool) -> Steps:
    ranked = (_ranked(old), _ranked(new))
    starts, picked, times = _walked(old_of, old.starts, ranked[0], new.starts, ranked[1], later=later)

    def of(name: str) -> Int64s:
        return np.concatenate([getattr(old, name), getattr(new, name)])[picked]

    features = pl.concat([old.features, new.features]).select(pl.all().gather(pl.Series(picked)))
    ranks = (of("event"), of("known"), of("offset"), of("partition"))
    return Steps(new.keys, starts, times, *ranks, features, old.rows + new.rows)


def _implied(ranks: Ranks, time: Int64s) -> Ranked:
    event, known, offset, partition = (column if len(column) else time for column in ranks.kept)
    return time, event, known, offset, partition


def _ranked(steps: Steps) -> Ranked:
    return steps.time, steps.event, steps.known, steps.offset, steps.partition


def _walked(
    old_of: Int64s,
    old_starts: UInt32s,
    old: Ranked,
    new_starts: UInt32s,
    new: Ranked,
    *,
    later: bool,
) -> tuple[UInt32s, Int64s, Int64s]:
    """Where each entity's steps begin, and by step which one it was and from when on it answers."""
    both = len(old[0]) + len(new[0])
    starts = np.zeros(len(old_of) + 1, np.uint32)
    picked, times = np.empty(both, np.int64), np.empty(both, np.int64)
    # Copies of what is mapped from a file: kernels would be compiled anew for memory that is read-only.
    made = merge_steps(
        old_of, old_starts.copy(), _writeable(old), new_starts, _writeable(new), later, starts, picked, times
    )
    return starts, picked[:made].copy(), times[:made].copy()


def _writeable(ranked: Ranked) -> Ranked:
    time, event, known, offset, partition = (np.require(column, requirements="W") for column in ranked)
    return time, event, known, offset, partition
