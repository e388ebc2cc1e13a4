"""What the tasks do: cut events, cut questions, answer a partition, put answers back in order.

Knows one view group (views that share source and entity) at a time; it does not know where tasks run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from rayplat.core.project.view import FeatureView, View
from rayplat.features.derived import derived_features, with_defaults
from rayplat.features.distributed.pieces import cut, pack, unpack
from rayplat.features.instants import asked_at
from rayplat.features.lake import Split
from rayplat.features.point_in_time import join
from rayplat.features.questions import keys_as

BLOCK, NUMBER, AT = "__block", "__number", "__at"
"""Columns that travel with a question. Arrow takes no name with a zero byte, which nobody else would use."""


@dataclass(frozen=True, slots=True)
class Group:
    """Views that are answered together, because they share source and entity.

    Attributes:
        views: at least one.
        columns: of the source that they read, with its system columns.
        keys: the entity columns and their types in the source.
    """

    views: tuple[FeatureView, ...]
    columns: tuple[str, ...]
    keys: Mapping[str, pl.DataType]

    @property
    def asks(self) -> tuple[str, ...]:
        """The asking columns that name the entity."""
        return self.views[0].asks


def cut_events(group: Group, split: Split, partitions: int) -> list[pa.Buffer]:
    """The events of a part of the source, by partition; those without an entity are left out."""
    # One row group at a time: decoded and cut before the next one is read.
    parts = [_cut_table(group, table, partitions) for table in split.tables()]
    if not parts:
        empty = pl.DataFrame(split.schema.empty_table()).select(group.columns)
        parts = [cut(empty, empty.select(list(group.keys)), partitions)]
    return [part[0] if len(part) == 1 else pack(unpack(part)) for part in zip(*parts, strict=True)]


def _cut_table(group: Group, table: pa.Table, partitions: int) -> list[pa.Buffer]:
    events = pl.DataFrame(table).select(group.columns).drop_nulls(list(group.keys))
    return cut(events, events.select(list(group.keys)), partitions)


def cut_questions(
    group: Group, at: str, block: int, rows: pa.Table, partitions: int
) -> list[pa.Buffer | list[int]]:
    """First how many questions each partition has, then the questions of a block, by partition."""
    frame = pl.DataFrame(rows)
    keys = keys_as(group.keys, frame, group.asks)
    numbered = keys.with_columns(
        pl.lit(block, pl.Int32).alias(BLOCK),
        pl.int_range(pl.len(), dtype=pl.Int64).alias(NUMBER),
        pl.Series(AT, asked_at(frame, at)).cast(pl.Datetime("us", "UTC")),
    )
    pieces = cut(numbered, keys, partitions)
    counts = [unpack([piece]).height for piece in pieces]
    return [counts, *pieces]


def answer(
    group: Group,
    slice_of: tuple[int, int],
    blocks: int,
    questions: Sequence[pa.Buffer],
    events: Sequence[pa.Buffer],
) -> list[pa.Buffer]:
    """The features of a partition's questions, by block.

    Args:
        slice_of: (j, k): the j-th of k parts of the questions, by their time.
        blocks: how many blocks there are.
        questions: of the partition, by block; `events`: of the partition.
    """
    asked, (j, k) = unpack(questions), slice_of
    if k > 1:
        # By time, so that each part needs only the events up to its last question.
        order = np.argsort(asked.get_column(AT).to_physical().to_numpy(), kind="stable")
        asked = asked.select(pl.all().gather(np.sort(np.array_split(order, k)[j])))
    source = _until(unpack(events), group, asked)
    named = asked.rename(dict(zip(group.keys, group.asks, strict=True)))
    found = pl.concat(
        [
            named.select(BLOCK, NUMBER),
            *(join(named, AT, view, source).select(view.names) for view in group.views),
        ],
        how="horizontal",
    )
    by_block = found.partition_by(BLOCK, as_dict=True, maintain_order=True, include_key=False)
    none = found.clear().drop(BLOCK)
    return [pack(by_block.get((block,), none)) for block in range(blocks)]


def _until(events: pl.DataFrame, group: Group, asked: pl.DataFrame) -> pl.DataFrame:
    column = group.views[0].source.event_time
    if column is None or asked.height == 0:
        return events
    return events.filter(pl.col(column) <= asked.get_column(AT).max())


def assemble(
    views: Sequence[View], rows: pa.Table, answers: Mapping[int, Sequence[int]], *pieces: pa.Buffer
) -> Iterator[pa.Table]:
    """A block of asking rows with its features, in the order of the views.

    Args:
        answers: by the position of each feature view's group the positions of its pieces.
    """
    frame = pl.DataFrame(rows)
    found = [unpack([pieces[i] for i in where]).sort(NUMBER).drop(NUMBER) for where in answers.values()]
    features = pl.concat(found, how="horizontal") if found else pl.DataFrame()
    whole, known = frame, frame.hstack(features)
    for view in views:
        if not isinstance(view, FeatureView):
            known = known.hstack(derived_features(known, view))
        whole = whole.hstack(with_defaults(known.select(view.names), view))
    yield whole.to_arrow(compat_level=pl.CompatLevel.oldest())
