"""Historical features: views joined to asking rows at pinned snapshots of the lakehouse.

Knows which columns of which snapshot to read; it does not know the semantics of a view, which is
`point_in_time`'s.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, overload

import polars as pl

from rayplat.core.errors import UserError
from rayplat.core.project.view import DerivedView, FeatureView, RequestView, View, in_order, upstream
from rayplat.features.derived import derived_features, with_defaults
from rayplat.features.distributed.layout import stays_here
from rayplat.features.distributed.tasks import connected
from rayplat.features.instants import asked_at
from rayplat.features.lake import Indexes, Lake, LakeTable, pinned, read_pinned, to_frame
from rayplat.features.plan import plan
from rayplat.features.point_in_time import FEW, join
from rayplat.features.questions import keys_as
from rayplat.features.windows.reading import read_reached

if TYPE_CHECKING:
    from ray.data import Dataset

    from rayplat.features.join.stream import Asking

Askings = dict[tuple[tuple[str, ...], tuple[tuple[str, pl.DataType], ...]], "Asking"]
"""Questions by asking columns, names and types of the key: what several sources are asked alike."""


@overload
def get_historical_features(
    rows: pl.DataFrame,
    at: str,
    views: Sequence[View],
    lake: Lake,
    snapshots: Mapping[str, int],
    *,
    indexes: Indexes | None = None,
    few: int = FEW,
) -> pl.DataFrame: ...


@overload
def get_historical_features(
    rows: "Dataset",
    at: str,
    views: Sequence[View],
    lake: Lake,
    snapshots: Mapping[str, int],
    *,
    indexes: Indexes | None = None,
    few: int = FEW,
) -> "Dataset": ...


def get_historical_features(
    rows: "pl.DataFrame | Dataset",
    at: str,
    views: Sequence[View],
    lake: Lake,
    snapshots: Mapping[str, int],
    *,
    indexes: Indexes | None = None,
    few: int = FEW,
) -> "pl.DataFrame | Dataset":
    """Append the features of `views` to asking rows, as they were known at each row's time.

    A frame is answered in this process, unless it is larger than `distributed.layout.stays_here` says (20 M
    rows, 2 GiB) and Ray is connected: then, as for a Ray dataset, by tasks (see `distributed.historical`),
    which use no indexes. The values are the same.

    Args:
        rows: the asking rows: entity columns, `at`, and what request views read. Their order and number
            are kept. A Ray dataset gives a Ray dataset.
        at: the column of `rows` with the time of the question (UTC).
        views: feature views and request views; the columns come in their order.
        lake: the lakehouse.
        snapshots: the snapshot to read by table name (see `lake.pin`): the same snapshots give the same
            values, whatever was written since.
        indexes: where a view has an index at its snapshot, it answers (the same, sooner); None: not used.
        few: a source of more rows is streamed, and never in memory as a whole; the answers are the same.

    Raises:
        UserError: a column is missing or of the wrong kind, or a source has no pinned snapshot.
        NotFoundError: a source table does not exist.
    """
    if not isinstance(rows, pl.DataFrame):
        # Imported here and below: Ray is loaded only by who has it.
        from rayplat.features.distributed.historical import get_historical_dataset

        return get_historical_dataset(rows, at, views, lake, snapshots)
    ordered = in_order(views)
    _refuse_taken(rows, ordered)
    if not stays_here(rows.height, int(rows.estimated_size())) and connected():
        from rayplat.features.distributed.historical import get_historical_frame

        return get_historical_frame(rows, at, views, lake, snapshots)
    known = rows
    while waiting := [view for view in ordered if not set(view.names) <= set(known.columns)]:
        # What others are made of comes first; views that are ready together share the reading of sources.
        ready = [v for v in waiting if not any(u in waiting for u in upstream(v))]
        made = _indexed(known, at, ready, snapshots, indexes)
        rest = [view for view in ready if view.name not in made]
        made_too = _answers(known, at, rest, lake, snapshots, few)
        known = pl.concat([known, *made.values(), *made_too], how="horizontal")
    return known.select(*rows.columns, *(name for view in views for name in view.names))


def _refuse_taken(rows: pl.DataFrame, views: Sequence[View]) -> None:
    for view in views:
        taken = [name for name in view.names if name in rows.columns]
        if taken:
            raise UserError(
                f"the asking rows have columns {taken} already", f"drop them, or rename view {view.name!r}"
            )


def _indexed(
    rows: pl.DataFrame, at: str, views: Sequence[View], snapshots: Mapping[str, int], indexes: Indexes | None
) -> dict[str, pl.DataFrame]:
    """The features of views that have an index, by view."""
    found: dict[str, pl.DataFrame] = {}
    for view in views:
        if indexes is None or not isinstance(view, FeatureView):
            continue
        index = indexes.find(view, snapshots.get(view.source.name))
        if index is not None:
            found[view.name] = with_defaults(index.answer(rows, at, view), view)
    return found


def _answers(  # noqa: PLR0917 - the arguments of `get_historical_features`
    rows: pl.DataFrame, at: str, views: Sequence[View], lake: Lake, snapshots: Mapping[str, int], few: int
) -> list[pl.DataFrame]:
    """The features of views that need no other view which is not among the columns of `rows` already."""
    found: list[pl.DataFrame] = []
    together: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[FeatureView]] = defaultdict(list)
    for view in views:
        if isinstance(view, FeatureView):
            together[view.source.name, view.entity, view.asks].append(view)
        else:
            found.append(derived_features(rows, view))
    askings: Askings = {}
    for sharing in together.values():
        found += _of_source(rows, at, sharing, lake, snapshots, few, askings)
    return found


def _of_source(  # noqa: PLR0917 - the arguments of `get_historical_features`
    rows: pl.DataFrame,
    at: str,
    views: Sequence[FeatureView],
    lake: Lake,
    snapshots: Mapping[str, int],
    few: int,
    askings: Askings,
) -> list[pl.DataFrame]:
    """The features of views that share source, entity and asking columns."""
    latest = [view for view in views if not view.windowed]
    name = views[0].source.name
    table = lake.table(name)
    if latest and _many(rows, table, snapshots.get(name), few):
        found = _streamed(rows, at, latest, table, snapshots, askings)
        views = [view for view in views if view.windowed]
    else:
        found = []
    if views:
        columns = list(dict.fromkeys(c for view in views for c in plan(view).columns))
        source = None
        windowed = rows.height > 0 and all(view.windowed for view in views)
        if windowed and _many(rows, table, snapshots.get(name), few):
            source = read_reached(views, asked_at(rows, at), lake, snapshots)
        if source is None:
            source = read_pinned(lake, name, columns, snapshots)
        found += [join(rows, at, view, source).select(view.names) for view in views]
    return found


def _many(rows: pl.DataFrame, table: LakeTable, snapshot: int | None, few: int) -> bool:
    return snapshot is not None and rows.height + table.count(snapshot) > few


def _streamed(  # noqa: PLR0917 - the arguments of `get_historical_features`
    rows: pl.DataFrame,
    at: str,
    views: Sequence[FeatureView],
    stored: LakeTable,
    snapshots: Mapping[str, int],
    askings: Askings,
) -> list[pl.DataFrame]:
    """Row transforms, without the source ever being in memory as a whole."""
    # Imported here: kernels are loaded only by who has many rows.
    from rayplat.features.join.stream import Asking, Source, features

    plans, table = [plan(view) for view in views], views[0].source
    columns = list(dict.fromkeys(c for prepared in plans for c in prepared.columns))
    schema, snapshot = pinned(stored, table.name, columns, snapshots)
    kinds = to_frame(schema.empty_table()).select(views[0].entity).schema
    same = (views[0].asks, tuple(kinds.items()))
    if same not in askings:
        askings[same] = Asking(keys_as(kinds, rows, views[0].asks), asked_at(rows, at))
    asking = askings[same]
    _ = asking.sorting  # begins while the files are looked for
    return features(plans, Source(table, schema, stored.parts(schema.names, snapshot)), asking)


def request_features(rows: pl.DataFrame, view: RequestView | DerivedView) -> pl.DataFrame:
    """Evaluate a view of the asking row; see `derived.derived_features`."""
    return derived_features(rows, view)
