"""Historical features of any number of questions: cut by entity, answered by partition, put in order.

Knows the steps and which results go where; it does not know the semantics of a view, which is
`point_in_time`'s, nor where tasks run.

Two strategies, by the views and the number of questions. Views without windows, while the questions fit
(`Limits.shared`), are `streamed`: events stay where they are. All else is cut by entity: then a task holds a
partition or a block, of which there are more as events grow, and what lies between steps is in the object
store, which goes to disk when full.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from rayplat.core.errors import UserError
from rayplat.core.project.view import FeatureView, View
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.distributed import layout, work
from rayplat.features.distributed.layout import DEFAULT, Limits
from rayplat.features.distributed.tasks import OnRay, Tasks
from rayplat.features.distributed.work import Group
from rayplat.features.join.parts import Part
from rayplat.features.lake import Lake, to_frame
from rayplat.features.plan import plan
from rayplat.features.windows.reading import During, reached

if TYPE_CHECKING:
    from ray.data import Dataset


def get_historical_dataset(
    rows: "Dataset | pa.Table | pl.DataFrame",
    at: str,
    views: Sequence[View],
    lake: Lake,
    snapshots: Mapping[str, int],
    *,
    limits: Limits = DEFAULT,
) -> "Dataset":
    """What `offline.get_historical_features` gives, as a Ray dataset of the rows in their order.

    The values and the order of the rows are those of one process. Needs a connection to a cluster, whose
    tasks must reach the lakehouse's files.

    Args:
        rows: the asking rows; a dataset is carried out first, and its blocks stay as they are.
        at, views, lake, snapshots: as there.
        limits: what a task may hold.

    Raises:
        UserError: a column is missing or of the wrong kind, or a source has no pinned snapshot.
        NotFoundError: a source table does not exist.
    """
    import ray
    import ray.data

    if isinstance(rows, pa.Table | pl.DataFrame):
        table = rows if isinstance(rows, pa.Table) else rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        blocks = [ray.put(part) for part in _parts(table, limits.block)]
        heights = [part.num_rows for part in _parts(table, limits.block)]
    else:
        blocks = list(_in_order(rows).to_arrow_refs())
        heights = ray.get([ray.remote(_height).remote(block) for block in blocks])
    made: Dataset = ray.data.from_arrow_refs(
        answered(OnRay(), blocks, heights, Asking(at, views, lake, snapshots, limits))
    )
    return made


def get_historical_frame(  # noqa: PLR0917 - the arguments of `get_historical_dataset`
    rows: pl.DataFrame,
    at: str,
    views: Sequence[View],
    lake: Lake,
    snapshots: Mapping[str, int],
    limits: Limits = DEFAULT,
) -> pl.DataFrame:
    """The same as a frame; see `get_historical_dataset`."""
    import ray

    made = get_historical_dataset(rows, at, views, lake, snapshots, limits=limits)
    return pl.concat([pl.DataFrame(block) for block in ray.get(made.to_arrow_refs())])


def _in_order(rows: "Dataset") -> "Dataset":
    """The rows carried out, in their order: left alone, Ray gives blocks as their tasks end."""
    options = rows.context.execution_options
    before, options.preserve_order = options.preserve_order, True
    try:
        kept: Dataset = rows.materialize()
        return kept
    finally:
        options.preserve_order = before


def _height(block: pa.Table) -> int:
    return int(block.num_rows)


def _parts(table: pa.Table, rows: int) -> list[pa.Table]:
    return [table.slice(begin, rows) for begin in range(0, max(table.num_rows, 1), rows)]


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked of the lakehouse; see `get_historical_dataset`."""

    at: str
    views: Sequence[View]
    lake: Lake
    snapshots: Mapping[str, int]
    limits: Limits


def answered(tasks: Tasks, blocks: Sequence[Any], heights: Sequence[int], asking: Asking) -> list[Any]:
    """References to the blocks with their features.

    Args:
        tasks: where the work runs.
        blocks: references to Arrow tables; `heights`: how many rows each has.

    Raises:
        UserError: see `get_historical_dataset`.
    """
    pieces: list[list[Any]] = [[] for _ in blocks]
    places: list[dict[int, list[int]]] = [{} for _ in blocks]
    for position, group in enumerate(_groups(asking)):
        for made in _answers(tasks, group, blocks, heights, asking):
            for block, piece in enumerate(made):
                places[block].setdefault(position, []).append(len(pieces[block]))
                pieces[block].append(piece)
    views = tuple(asking.views)
    whole = [
        tasks.call(work.assemble, views, block, places[i], *pieces[i], returns=1)[0]
        for i, block in enumerate(blocks)
    ]
    tasks.drain(whole)
    return whole


def _groups(asking: Asking) -> list[Group]:
    sharing: dict[tuple[object, ...], list[FeatureView]] = defaultdict(list)
    for view in asking.views:
        if isinstance(view, FeatureView):
            sharing[view.source.name, view.entity, view.asks, view.windowed].append(view)
    return [_group(members, asking.lake) for members in sharing.values()]


def _group(views: Sequence[FeatureView], lake: Lake) -> Group:
    schema = lake.table(views[0].source.name).schema()
    columns = dict.fromkeys(c for view in views for c in plan(view).columns)
    missing = [c for c in columns if c not in schema.names]
    if missing:
        raise UserError(
            f"table {views[0].source.name!r} has no columns {missing}", f"it has: {', '.join(schema.names)}"
        )
    types = to_frame(schema.empty_table()).schema
    system = [c for c in (PARTITION, OFFSET) if c in schema.names and c not in columns]
    return Group(tuple(views), (*columns, *system), {c: types[c] for c in views[0].entity})


def _parts_of(group: Group, lake: Lake, snapshots: Mapping[str, int]) -> tuple[pa.Schema, Sequence[Part]]:
    """The columns of a group's source, and its parts at the pinned snapshot."""
    name = group.views[0].source.name
    table = lake.table(name)
    schema = table.schema()
    read = pa.schema([schema.field(column) for column in group.columns])
    if name in snapshots:
        return read, table.parts(group.columns, snapshots[name])
    if table.snapshot_id() is not None:
        raise UserError(f"no snapshot of {name!r} is pinned", "pin it, as rayplat.features.lake.pin does")
    return read, []


def _answers(
    tasks: Tasks, group: Group, blocks: Sequence[Any], heights: Sequence[int], asking: Asking
) -> list[list[Any]]:
    """References to a group's answers: by task and by block."""
    source = group.views[0].source
    pinned = asking.snapshots.get(source.name)
    if pinned is not None and not group.views[0].windowed and sum(heights) <= asking.limits.shared:
        # Imported here: kernels are loaded only by who streams.
        from rayplat.features.distributed.streamed import answers
        from rayplat.features.join.stream import Source

        table = asking.lake.table(source.name)
        schema = table.schema()
        read = pa.schema([schema.field(name) for name in group.columns])
        events = Source(source, read, table.parts(group.columns, pinned))
        return [answers(tasks, group, asking.at, blocks, heights=heights, source=events)]
    return _cut_answers(tasks, group, blocks, sum(heights), asking)


def _during(group: Group, ends: Sequence[tuple[int, int]]) -> During:
    """The event times that questions reach, given the first and last time of each block that has any."""
    if not ends:
        return During()
    return reached(group.views, min(first for first, _ in ends), max(last for _, last in ends))


def _cut_answers(
    tasks: Tasks, group: Group, blocks: Sequence[Any], questions: int, asking: Asking
) -> list[list[Any]]:
    """The same, by hash partitions."""
    schema, parts = _parts_of(group, asking.lake, asking.snapshots)
    limits, table = asking.limits, group.views[0].source
    events = sum(part.rows for part in parts)
    count = layout.partitions(events, questions, layout.row_bytes(schema), limits)
    asked = [
        tasks.call(work.cut_questions, group, asking.at, i, block, count, returns=count + 1)
        for i, block in enumerate(blocks)
    ]
    counted = tasks.get([made[0] for made in asked])
    by_partition = [sum(column) for column in zip(*(block.by_partition for block in counted), strict=True)]
    ends = [block.ends for block in counted if block.ends is not None]
    during = _during(group, ends)
    kept = [part for part in parts if during.holds(part, table)]
    weights = [part.rows for part in kept]
    shares = layout.shares(weights, max(-(-sum(weights) // limits.share), 1)) or [(0, 0)]
    cut = [
        tasks.call(work.cut_events, group, schema, kept[begin:end], count, during, returns=count)
        for begin, end in shares
    ]
    return [
        tasks.call(
            work.answer,
            group,
            (j, parts),
            len(blocks),
            [made[1 + partition] for made in asked],
            [made[partition] for made in cut],
            returns=len(blocks),
        )
        for partition, parts in enumerate(layout.slices(by_partition, asking.limits))
        for j in range(parts)
    ]
