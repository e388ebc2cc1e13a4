"""Historical features are pinned: the same call gives the same bytes, whatever was written since."""

import polars as pl
import pyarrow as pa
import pytest

from rayplat.core.errors import NotFoundError, UserError
from rayplat.features.lake import pin
from rayplat.features.pinned import historical_features
from rayplat.features.plan import plan
from tests.features.fakes import FakeLake
from tests.features.worlds import asking, events, frame, hour, latest_view


def test_the_same_snapshots_give_the_same_bytes_and_the_result_says_which():
    lake, view = FakeLake(), latest_view()
    lake.tell("raw.events", frame(events(("a", 1, 1, 1.0), ("b", 2, 2, 2.0))))
    rows = asking([("a", hour(3)), ("b", hour(3)), (None, hour(3))])
    first = historical_features(rows, "at", [view], lake)
    assert first.snapshots == pin(lake, ["raw.events"])
    assert first.definitions == {"last": plan(view).digest}
    lake.tell("raw.events", frame(events(("a", 2, 2, 9.0))))
    again = historical_features(rows, "at", [view], lake, first.snapshots)
    assert again.frame.equals(first.frame)
    assert again.digest == first.digest
    now = historical_features(rows, "at", [view], lake)
    assert now.frame.get_column("last__x").to_list() == [9, 2, None]
    assert now.digest != first.digest


def test_asking_rows_come_as_arrow_or_as_a_table_of_the_lakehouse():
    lake, view = FakeLake(), latest_view()
    lake.tell("raw.events", frame(events(("a", 1, 1, 1.0))))
    rows = asking([("a", hour(3)), ("b", hour(3))])
    arrow = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    lake.ensure_schema("raw.asks", arrow.schema).append(arrow)
    wanted = historical_features(rows, "at", [view], lake)
    for other in (arrow, "raw.asks"):
        assert historical_features(other, "at", [view], lake).frame.equals(wanted.frame)
    assert set(historical_features("raw.asks", "at", [view], lake).snapshots) == {"raw.asks", "raw.events"}
    lake.ensure_schema("raw.none", pa.schema(arrow.schema))
    with pytest.raises(UserError, match="no rows that could ask"):
        historical_features("raw.none", "at", [view], lake)
    with pytest.raises(NotFoundError):
        historical_features("raw.gone", "at", [view], lake)
