"""Historical features: views joined to asking rows at pinned snapshots of the lakehouse.

Knows which columns of which snapshot to read; it does not know the semantics of a view, which is
`point_in_time`'s.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import polars as pl

from rayplat.core.errors import UserError
from rayplat.core.project.view import FeatureView, RequestView, View
from rayplat.features.lake import Lake, read_pinned
from rayplat.features.plan import plan
from rayplat.features.point_in_time import join


def get_historical_features(
    rows: pl.DataFrame, at: str, views: Sequence[View], lake: Lake, snapshots: Mapping[str, int]
) -> pl.DataFrame:
    """Append the features of `views` to asking rows, as they were known at each row's time.

    Args:
        rows: the asking rows: entity columns, `at`, and what request views read. Their order and number
            are kept.
        at: the column of `rows` with the time of the question (UTC).
        views: feature views and request views; the columns come in their order.
        lake: the lakehouse.
        snapshots: the snapshot to read by table name (see `lake.pin`): the same snapshots give the same
            values, whatever was written since.

    Raises:
        UserError: a column is missing or of the wrong kind, or a source has no pinned snapshot.
        NotFoundError: a source table does not exist.
    """
    by_source: dict[str, list[FeatureView]] = defaultdict(list)
    parts: dict[str, pl.DataFrame] = {}
    for view in views:
        if isinstance(view, RequestView):
            parts[view.name] = request_features(rows, view)
        else:
            by_source[view.source.name].append(view)
    for name, sharing in by_source.items():
        columns = list(dict.fromkeys(c for view in sharing for c in plan(view).columns))
        source = read_pinned(lake, name, columns, snapshots)
        for view in sharing:
            parts[view.name] = join(rows, at, view, source).select(view.names)
        # A source is let go before the next one is read: the join holds one at a time.
        del source
    return pl.concat([rows, *(parts[view.name] for view in views)], how="horizontal")


def request_features(rows: pl.DataFrame, view: RequestView) -> pl.DataFrame:
    """Evaluate a request view on the asking rows themselves.

    Raises:
        UserError: a column that the view reads is missing, or the definition cannot be trusted.
    """
    prepared = plan(view)
    missing = [c for c in prepared.columns if c not in rows.columns]
    if missing:
        raise UserError(
            f"the asking rows lack {missing}, which view {view.name!r} reads",
            f"they have: {', '.join(rows.columns)}",
        )
    exprs = [expr.alias(name) for name, expr in prepared.rows.items()]
    return rows.with_columns(exprs).select(view.names)
