"""The streamed join reads a real lakehouse by row group, and gives what the small join gives."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from rayplat.core.project.source import Kafka
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.lake import pin
from rayplat.features.offline import get_historical_features
from tests.features.worlds import TIME, asking, events, frame, hour, latest_view, project


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


@pytest.mark.parametrize("logged", [False, True])
def test_packed_columns_and_others_are_read_alike(tmp_path: Path, logged: bool):
    """Several pages a file; nulls in one file only; late rows, equal times and a ttl where there is a log."""
    seed = 41
    print("seed", seed)
    rng, lake = np.random.default_rng(seed), Lakehouse(Settings.model_validate({"home": tmp_path}))
    columns = {"key": "int64", "event": "timestamp", "known": "timestamp", "x": "float64", "n": "int64"}
    table = project().table(
        "raw.packed",
        columns=columns,
        key=("key", "event"),
        event_time="event",
        known_at="known" if logged else None,
        source=Kafka("packed") if logged else None,
    )
    count, each = 100_000, 25_000
    event = np.sort(rng.integers(0, 60_000, count)) * 1_000_000
    late = np.where(rng.random(count) < 0.1, rng.integers(0, 5_000, count), 0) * 1_000_000
    known = np.sort(event + late)
    data = pl.DataFrame(
        {
            "key": rng.integers(0, 3_000, count),
            "event": pl.Series(event).cast(TIME),
            "known": pl.Series(known).cast(TIME),
            "x": rng.standard_normal(count),
            "n": rng.integers(-(2**63), 2**63 - 1, count),
        }
    )
    nulls = pl.Series(np.arange(count) % 97 == 0) & pl.Series(np.arange(count) >= 3 * each)
    data = data.with_columns(pl.when(~nulls).then(pl.col(name)).alias(name) for name in ("key", "x", "n"))
    if logged:
        data = data.with_columns(
            pl.lit(0, pl.Int32).alias("_partition"), pl.int_range(pl.len(), dtype=pl.Int64).alias("_offset")
        )
    stored = None
    for first in range(0, count, each):
        rows = data[first : first + each].to_arrow(compat_level=pl.CompatLevel.oldest())
        stored = lake.ensure_schema("raw.packed", rows.schema)
        stored.append(rows)
    pins = pin(lake, ["raw.packed"])
    parts = stored.parts(list(columns), pins["raw.packed"])
    assert [part.packed("event") is not None for part in parts] == [True] * 4
    assert [part.packed("x") is not None for part in parts] == [
        part.packed("key") is not None for part in parts
    ]
    assert sum(part.packed("n") is not None for part in parts) == 3
    assert max(len(part.packed("event").rows) for part in parts) > 1
    view = project().feature_view(
        "last",
        source=table,
        entity="key",
        ttl=timedelta(hours=2) if logged else None,
        features={"x": pl.col("x"), "n": pl.col("n"), "event": pl.col("event")},
    )
    questions = pl.DataFrame(
        {
            "key": rng.integers(0, 3_100, 20_000),
            "at": pl.Series(rng.integers(-1_000, 70_000, 20_000) * 1_000_000).cast(TIME),
        }
    )
    small = get_historical_features(questions, "at", [view], lake, pins)
    assert get_historical_features(questions, "at", [view], lake, pins, few=0).equals(small)
    assert 0 < small.get_column("last__x").null_count() < small.height // 2
    lake.close()


def _micros(hours):
    return tuple(int(hour(h).timestamp()) * 10**6 for h in (min(hours), max(hours)))
