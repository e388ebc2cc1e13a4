"""The streamed join reads a real lakehouse by row group, and gives what the small join gives."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.lake import pin
from rayplat.features.offline import get_historical_features
from tests.features.worlds import asking, events, frame, hour, latest_view


def test_files_of_several_commits_and_an_older_snapshot(tmp_path: Path):
    lake = Lakehouse(Settings.model_validate({"home": tmp_path}))
    rng = np.random.default_rng(12)
    hours = rng.integers(0, 90, 900).tolist()
    world = frame(events(*((f"e{h % 7}", h, h + int(rng.integers(0, 9)), float(h)) for h in hours)))
    data = world.drop("x").to_arrow(compat_level=pl.CompatLevel.oldest())
    table = lake.ensure_schema("raw.events", data.schema)
    # The first files are older than the column `x`, which the view reads.
    table.append(data[:100])
    whole = world.to_arrow(compat_level=pl.CompatLevel.oldest())
    table = lake.ensure_schema("raw.events", data.schema.append(pa.field("x", pa.float64())))
    for first in range(100, 900, 200):
        table.append(whole[first : first + 200].select(table.schema().names))
    pins = pin(lake, ["raw.events"])
    table.append(whole[:1].select(table.schema().names))
    rows = asking([(f"e{k}", hour(t)) for k, t in rng.integers(0, 95, (300, 2)).tolist()])
    rows = rows.with_columns(pl.format("e{}", pl.int_range(pl.len()) % 9).alias("entity"))
    small = get_historical_features(rows, "at", [latest_view()], lake, pins)
    assert get_historical_features(rows, "at", [latest_view()], lake, pins, few=0).equals(small)
    assert 0 < small.get_column("last__x").null_count() < small.height
    parts = table.parts(["event", "x"], pins["raw.events"])
    assert sum(part.rows for part in parts) == 900
    # Only files that have the columns under their names say what their bounds are.
    told = [bounds for part in parts if (bounds := part.bounds("event")) is not None]
    assert len(told) == len(parts) - 1
    assert (min(low for low, _ in told), max(high for _, high in told)) == _micros(hours[100:])
    assert parts[0].bounds("x") is None
    lake.close()


def _micros(hours):
    return tuple(int(hour(h).timestamp()) * 10**6 for h in (min(hours), max(hours)))
