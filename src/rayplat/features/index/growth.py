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
from rayplat.features.index.built import Index, Steps, laid_out, steps_of
from rayplat.features.index.keys import together
from rayplat.features.index.merging import merge_steps
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
    old = _old_steps(index, view)
    if new.features.schema != old.features.schema:
        return None
    return laid_out(view, _merged(old, new, joined.old_of, later=more.later))


def _old_steps(index: Index, view: FeatureView) -> Steps:
    assert index.ranks is not None  # asked before
    count = int(index.starts[-1])
    time = np.full(count, BEGINNING) if index.timeless else np.ascontiguousarray(index.steps[:count, 0])
    ranks = index.ranks.columns(time)
    return Steps(index.keys, index.starts, time, *ranks, index.features(view.names), index.rows)


def _merged(old: Steps, new: Steps, old_of: Int64s, *, later: bool) -> Steps:
    both = len(old.time) + len(new.time)
    starts = np.zeros(len(old_of) + 1, np.uint32)
    picked, times = np.empty(both, np.int64), np.empty(both, np.int64)
    made = merge_steps(
        old_of, old.starts.copy(), _ranked(old), new.starts, _ranked(new), later, starts, picked, times
    )
    picked, times = picked[:made].copy(), times[:made].copy()

    def of(name: str) -> Int64s:
        return np.concatenate([getattr(old, name), getattr(new, name)])[picked]

    features = pl.concat([old.features, new.features]).select(pl.all().gather(pl.Series(picked)))
    ranks = (of("event"), of("known"), of("offset"), of("partition"))
    return Steps(new.keys, starts, times, *ranks, features, old.rows + new.rows)


def _ranked(steps: Steps) -> tuple[Int64s, Int64s, Int64s, Int64s, Int64s]:
    # Copies of what is mapped from a file: kernels would be compiled anew for memory that is read-only.
    columns = (steps.time, steps.event, steps.known, steps.offset, steps.partition)
    time, event, known, offset, partition = (np.require(column, requirements="W") for column in columns)
    return time, event, known, offset, partition
