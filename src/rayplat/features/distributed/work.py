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
from rayplat.features.join.parts import Part
from rayplat.features.point_in_time import join
from rayplat.features.questions import keys_as
from rayplat.features.windows.reading import During, reached

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


@dataclass(frozen=True, slots=True)
class Counted:
    """How many questions of a block each partition has, and the first and last time of them (us)."""

    by_partition: Sequence[int]
    ends: tuple[int, int] | None


def cut_events(
    group: Group, schema: pa.Schema, parts: Sequence[Part], partitions: int, during: During
) -> list[pa.Buffer]:
    """The events of parts of the source, by partition; what has no entity or cannot matter is left out.

    Args:
        schema: of the parts.
        during: the event times that matter to the questions.
    """
    # One row group at a time: decoded and cut before the next one is read.
    tables = [schema.empty_table()] if not parts else (_table(part, schema) for part in parts)
    pieces = [_cut_table(group, table, partitions, during) for table in tables]
    return [piece[0] if len(piece) == 1 else pack(unpack(piece)) for piece in zip(*pieces, strict=True)]


def _table(part: Part, schema: pa.Schema) -> pa.Table:
    return pa.Table.from_batches(part.batches(schema.names))


def _cut_table(group: Group, table: pa.Table, partitions: int, during: During) -> list[pa.Buffer]:
    events = pl.DataFrame(table).select(group.columns).drop_nulls(list(group.keys))
    events = during.rows(events, group.views[0].source)
    return cut(events, events.select(list(group.keys)), partitions)


def cut_questions(
    group: Group, at: str, block: int, rows: pa.Table, partitions: int
) -> list[pa.Buffer | Counted]:
    """First what there is in a block, then its questions, by partition."""
    frame = pl.DataFrame(rows)
    keys = keys_as(group.keys, frame, group.asks)
    numbered = keys.with_columns(
        pl.lit(block, pl.Int32).alias(BLOCK),
        pl.int_range(pl.len(), dtype=pl.Int64).alias(NUMBER),
        pl.Series(AT, asked_at(frame, at)).cast(pl.Datetime("us", "UTC")),
    )
    pieces = cut(numbered, keys, partitions)
    times = numbered.get_column(AT).to_physical()
    least, most = times.min(), times.max()
    ends = (least, most) if isinstance(least, int) and isinstance(most, int) else None
    return [Counted([unpack([piece]).height for piece in pieces], ends), *pieces]


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
        # By time, so that each part needs only the events that its questions reach.
        order = np.argsort(asked.get_column(AT).to_physical().to_numpy(), kind="stable")
        asked = asked.select(pl.all().gather(np.sort(np.array_split(order, k)[j])))
    source = _reached(unpack(events), group, asked)
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


def _reached(events: pl.DataFrame, group: Group, asked: pl.DataFrame) -> pl.DataFrame:
    """The events that the questions can see."""
    if asked.height == 0:
        return events
    times = asked.get_column(AT).to_physical().to_numpy()
    during = reached(group.views, int(times.min()), int(times.max()))
    return during.rows(events, group.views[0].source)


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
