"""The streamed join: row transforms of a view for many questions, over a source in parts.

Knows the steps from asking rows to features; the rule of the last known row is in `winners`.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import polars as pl
import pyarrow as pa

from rayplat.core.errors import UserError
from rayplat.core.project.table import Table
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.derived import with_defaults
from rayplat.features.instants import BEGINNING, Int64s
from rayplat.features.join import kernels
from rayplat.features.join.asked import Asked, by_time
from rayplat.features.join.gather import gather
from rayplat.features.join.keys import Keys, keys_of
from rayplat.features.join.log_order import in_log_order
from rayplat.features.join.parts import Part
from rayplat.features.join.stretch import Reading
from rayplat.features.join.ways import Way, way
from rayplat.features.join.winners import Tied, Winners, winners
from rayplat.features.latest import masked
from rayplat.features.plan import Plan


@dataclass(frozen=True, slots=True)
class Source:
    """A table's rows at one snapshot.

    Attributes:
        table: the declaration.
        schema: the columns that there are.
        parts: the rows.
    """

    table: Table
    schema: pa.Schema
    parts: Sequence[Part]


@dataclass(frozen=True)
class Asking:
    """Who is asked about, and when. May be asked of several sources: it is numbered and sorted once.

    Attributes:
        keys: the key of each asking row, as columns named and typed as in the source.
        at: its time, in microseconds.
    """

    keys: pl.DataFrame
    at: Int64s

    @cached_property
    def numbered(self) -> Keys:
        """The entities."""
        return keys_of([array_of(series) for series in self.keys])

    @cached_property
    def sorting(self) -> "Future[Asked]":
        """The questions in the order of time; they are sorted aside from when this is first asked for."""
        pool, keys = ThreadPoolExecutor(1, "join-questions"), self.numbered
        sorting = pool.submit(by_time, keys, self.at)
        pool.shutdown(wait=False)
        return sorting

    @property
    def asked(self) -> Asked:
        """The questions in the order of time."""
        return self.sorting.result()


def features(plans: Sequence[Plan], source: Source, asking: Asking) -> list[pl.DataFrame]:
    """The row transforms of views over one source that ask by the same columns, in one pass over it.

    Args:
        plans: the views' plans.
        source: the rows that may answer.
        asking: the questions.

    Returns:
        One frame a view, one row a question; defaults stand for what is null.

    Raises:
        UserError: a time column is no UTC time, or a column is missing.
    """
    entity = tuple(asking.keys.columns)
    _check(plans, entity, source)
    keys = asking.numbered
    ttls = [plan.ttl_us for plan in plans]
    longest = None if None in ttls else max(ttl for ttl in ttls if ttl is not None)
    path = path_of(source, entity, keys, asking.at, longest)
    aged = any(ttl is not None for ttl in ttls)
    found = latest_rows(source, entity, keys, asking.sorting, path, aged=aged)
    asked = asking.asked
    inputs = list(dict.fromkeys(name for plan in plans for name in plan.view.inputs))
    taken, answered = gather(
        source.parts, source.schema, inputs, within(found, asked.at, longest), asked.order
    )
    made = []
    for plan in plans:
        matched = answered
        if plan.ttl_us != longest:
            matched = np.empty(len(asked.at), dtype=bool)
            matched[asked.order] = within(found, asked.at, plan.ttl_us) >= 0
        given = masked(plan, taken, pl.Series(matched), nulled=matched is answered)
        made.append(with_defaults(given, plan.view))
    return made


def _check(plans: Sequence[Plan], entity: tuple[str, ...], source: Source) -> None:
    for plan in plans:
        missing = [c for c in (*entity, *plan.columns) if c not in source.schema.names]
        if missing:
            raise UserError(
                f"the rows of {source.table.name!r} lack {missing}, which view {plan.view.name!r} reads",
                f"they have: {', '.join(source.schema.names)}",
            )


def array_of(series: pl.Series) -> pa.Array:
    """A column of keys or times as Arrow, texts that are kept as numbers as texts."""
    # Without its name: Arrow takes none with a zero byte, as columns of our own have.
    column = series.alias("").to_arrow(compat_level=pl.CompatLevel.oldest())
    return column.cast(column.type.value_type) if isinstance(column, pa.DictionaryArray) else column


def path_of(source: Source, entity: tuple[str, ...], keys: Keys, at: Int64s, ttl_us: int | None) -> Way:
    """How the source is read for questions at these times; see `way`."""
    if len(at) == 0:
        return Way((), ordered=True)
    key = entity[0] if len(entity) == 1 else None
    return way(source.parts, source.table, key, keys, (int(at.min()), int(at.max())), ttl_us)


def latest_rows(
    source: Source,
    entity: tuple[str, ...],
    keys: Keys,
    sorting: "Future[Asked]",
    path: Way,
    *,
    aged: bool = True,
) -> Winners:
    """The row that answers each question, whatever its age; `aged`: and its event time. See `winners`."""
    ties = tuple(name for name in (OFFSET, PARTITION) if name in source.schema.names)

    @cache
    def settled() -> bool:
        return in_log_order(source.parts, ties)

    try:
        # Rows of equal times are rare, so what decides between them is read only where there are any.
        reading = Reading(source.table, entity, keys, ())
        tied = bool(ties)
        return winners(source.parts, path, reading, sorting, ties_matter=tied, settled=settled, aged=aged)
    except Tied:
        reading = Reading(source.table, entity, keys, ties)
        return winners(source.parts, path, reading, sorting, ties_matter=False)


def within(found: Winners, at: Int64s, ttl_us: int | None) -> Int64s:
    """The rows that are not too old: one exactly as old as the ttl still answers."""
    if ttl_us is None:
        return found.row
    row = np.empty(len(at), np.int64)
    kernels.young(found.row, found.event, at, BEGINNING, ttl_us, row)
    return row
