"""Historical features with what they were made of, so that they can be made again and compared.

Knows which kinds of asking rows are taken and what pins a result; it does not know how features are joined
(see `offline`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl
import pyarrow as pa

from rayplat.core.errors import UserError
from rayplat.core.project.view import FeatureView, View, in_order
from rayplat.features.lake import Indexes, Lake, pin, to_frame
from rayplat.features.offline import get_historical_features
from rayplat.features.plan import plan
from rayplat.features.training_rows import content_digest


@dataclass(frozen=True)
class HistoricalFeatures:
    """Asking rows with their features.

    Attributes:
        frame: the asking rows in their order, and the features as further columns.
        snapshots: what was read, by table.
        definitions: the digest of each view that was evaluated, by name.
    """

    frame: pl.DataFrame
    snapshots: Mapping[str, int]
    definitions: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the content: the same call at the same snapshots gives the same."""
        return content_digest(self.frame)


def historical_features(
    rows: pl.DataFrame | pa.Table | str,
    at: str,
    views: Sequence[View],
    lake: Lake,
    snapshots: Mapping[str, int] | None = None,
    *,
    indexes: Indexes | None = None,
) -> HistoricalFeatures:
    """Append the features of `views` to asking rows, as they were known at each row's time.

    Args:
        rows: the asking rows, as a Polars frame, as an Arrow table, or the name of a table of the lakehouse.
        at: the column of `rows` with the time of the question (UTC).
        views: what to append; see `offline.get_historical_features`.
        lake: the lakehouse.
        snapshots: the snapshot to read by table name; tables that it leaves out are read as they are now.
        indexes: see `offline.get_historical_features`.

    Raises:
        UserError: a column is missing or of the wrong kind, or a named table was never written to.
        NotFoundError: a table does not exist.
    """
    ordered = in_order(views)
    names = {view.source.name for view in ordered if isinstance(view, FeatureView)}
    names |= {rows} if isinstance(rows, str) else set()
    pins = {**pin(lake, sorted(names - set(snapshots or {}))), **(snapshots or {})}
    frame = get_historical_features(_asking(rows, lake, pins), at, views, lake, pins, indexes=indexes)
    read = {name: pins[name] for name in sorted(names) if name in pins}
    return HistoricalFeatures(frame, read, {view.name: plan(view).digest for view in ordered})


def _asking(rows: pl.DataFrame | pa.Table | str, lake: Lake, pins: Mapping[str, int]) -> pl.DataFrame:
    if isinstance(rows, pl.DataFrame):
        return rows
    if isinstance(rows, pa.Table):
        return to_frame(rows)
    if rows not in pins:
        raise UserError(f"table {rows!r} has no rows that could ask", "write to it first")
    return to_frame(lake.table(rows).read(snapshot_id=pins[rows]))
