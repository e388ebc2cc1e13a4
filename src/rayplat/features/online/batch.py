"""A batch of source rows on its way into the online store: numbered, sorted, each row once.

Knows rows and entities; it does not know views' values nor stores.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from rayplat.core.project.view import FeatureView
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.instants import Int64s
from rayplat.features.online.keys import entity_keys
from rayplat.features.timeline import Timeline, timeline

_CODE = "\0code"


Rank = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows sorted by entity, and within an entity in their order; rows without key or time left out.

    Attributes:
        entities: the names of the entities.
        line: the rows; `line.code` is the place of a row's entity in `entities`.
        offset, partition: where each row came from; position and 0 where the source is not fed by a log.
        visible: from when on each row is visible.
        starts: by entity, its first row; one more at the end.
        ranks: where each row stands in the order of rows: event time, known time, offset, partition.
        newest, latest: by entity, the greatest known time and the greatest visible time.
    """

    entities: list[bytes]
    line: Timeline
    offset: Int64s
    partition: Int64s
    visible: Int64s
    starts: Int64s
    ranks: list[Rank]
    newest: list[int]
    latest: list[int]

    def split(self, rows: Int64s) -> list[list[int]]:
        """Rising positions of rows, by entity."""
        cuts = np.searchsorted(rows, self.starts).tolist()
        found = rows.tolist()
        return [found[a:b] for a, b in pairwise(cuts)]


def batch(view: FeatureView, rows: pl.DataFrame) -> Batch:
    """Bring rows in order.

    Args:
        view: whose source they are of.
        rows: with the columns that `point_in_time.needed` takes.
    """
    names = entity_keys(rows, view.entity)
    numbers: dict[bytes | None, int] = {None: -1}
    code = np.array([numbers.setdefault(name, len(numbers) - 1) for name in names], dtype=np.int64)
    logged = OFFSET in rows.columns
    if not logged:
        rows = rows.with_columns(
            pl.int_range(pl.len(), dtype=pl.Int64).alias(OFFSET), pl.lit(0, pl.Int64).alias(PARTITION)
        )
    line = timeline(rows.with_columns(pl.Series(_CODE, code)), view.source, code)
    if logged:
        line = _once(line)
    offset, partition = (line.frame.get_column(c).cast(pl.Int64).to_numpy() for c in (OFFSET, PARTITION))
    entities = [name for name in numbers if name is not None]
    present = np.unique(line.code)
    if len(present) < len(entities):
        # Entities all of whose rows lack a time are not among the entities.
        line = Timeline(line.frame, np.searchsorted(present, line.code), line.event, line.known)
        entities = [entities[i] for i in present.tolist()]
    starts = np.searchsorted(line.code, np.arange(len(entities) + 1))
    visible = np.maximum(line.event, line.known)
    columns = (line.event, line.known, offset, partition)
    newest, latest = (
        np.maximum.reduceat(times, starts[:-1]).tolist() if entities else []
        for times in (line.known, visible)
    )
    ranks = list(zip(*(column.tolist() for column in columns), strict=True))
    return Batch(entities, line, offset, partition, visible, starts, ranks, newest, latest)


def _once(line: Timeline) -> Timeline:
    """Rows of an entity with one partition and offset are the same row."""
    first = line.frame.select(pl.struct(_CODE, PARTITION, OFFSET).is_first_distinct()).to_series()
    if first.all():
        return line
    kept = first.to_numpy()
    return Timeline(line.frame.filter(first), line.code[kept], line.event[kept], line.known[kept])
