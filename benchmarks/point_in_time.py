"""How fast features are joined as of each asking row: 1 M rows, 5 M events, 100 k keys, from Parquet files.

Run: .venv/bin/python benchmarks/point_in_time.py [--json] [--quick]

All answer the same asking rows (in memory, in any order) from the same data files (warm cache, zstd), and end
with a frame in the asking order; the answers must be equal to the bit. `pit_in_time_order` is the plainest
case: the asking rows rise by time, and one value is wanted. `pit_three_views` has three tables with rows that
come late, equal times, nulls and two ttls. The limit is the decoding of the columns alone, by
pyarrow in two threads.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pit_peers
import polars as pl
from harness import Claim, interleave, main
from pit_world import Stored, asking, late_world, store, world

ROWS, EVENTS, KEYS = 1_000_000, 5_000_000, 100_000
QUICK = 5
TTLS = (None, timedelta(days=7), timedelta(days=30))
SHARES = (0.5, 0.3, 0.2)
Ask = Callable[[], pl.DataFrame]


def features(stored: Stored, rows: pl.DataFrame, views: Sequence[Any]) -> Ask:
    """What rayplat does: the views' features at the pinned snapshots."""
    from rayplat.features.lake import pin
    from rayplat.features.offline import get_historical_features

    lake: Any = stored.lake
    snapshots = pin(lake, [view.source.name for view in views])
    names = [name for view in views for name in view.names]
    return lambda: get_historical_features(rows, "at", views, lake, snapshots).select(names)


def declared(
    name: str,
    columns: dict[str, str],
    known_at: str | None,
    ttl: timedelta | None,
    names: Sequence[str] = pit_peers.VALUES,
) -> Any:
    from rayplat.core.project.project import Project

    project = Project("benchmarks", owner="benchmarks@example.com")
    key = ("key", "event_time")
    table = project.table(f"raw.{name}", columns=columns, key=key, event_time="event_time", known_at=known_at)
    values = {value: pl.col(value) for value in names}
    return project.feature_view(name, source=table, entity="key", ttl=ttl, features=values)


def from_files(home: Path, quick: bool) -> Claim:
    """One view, with what every as-of join can say: no row is late, no two are equal."""
    rows_n, events_n, keys = sizes(quick)
    rows, events = world(rows_n, events_n, keys, 1)
    stored = store(home, {"raw.plain": events})
    types = {"key": "int64", "event_time": "timestamp", "x0": "float64", "n0": "int64"}
    paths = stored.paths["raw.plain"]
    frame, arrow = rows.to_pandas(), rows.with_row_index("n").to_arrow()
    candidates: dict[str, Ask] = {
        "rayplat": features(stored, rows, [declared("plain", types, None, None)]),
        "pandas": lambda: pit_peers.pandas_latest(paths, frame),
        "polars": lambda: pit_peers.polars_latest(paths, rows),
        "duckdb": lambda: pit_peers.duckdb_latest(paths, arrow),
    }
    limit = rows_n / _decoding(paths, list(types)) / 1e6
    return _claim("pit_from_files", candidates, rows_n, quick, limit, "1 view, 2 values")


def in_time_order(home: Path, quick: bool) -> Claim:
    """The same view with one value, asked by rows that rise by time."""
    rows_n, events_n, keys = sizes(quick)
    rows, events = world(rows_n, events_n, keys, 1)
    rows = rows.sort("at")
    stored = store(home, {"raw.plain": events})
    types = {"key": "int64", "event_time": "timestamp", "x0": "float64"}
    paths, names = stored.paths["raw.plain"], ["x0"]
    frame, arrow = rows.to_pandas(), rows.with_row_index("n").to_arrow()
    candidates: dict[str, Ask] = {
        "rayplat": features(stored, rows, [declared("plain", types, None, None, names)]),
        "pandas": lambda: pit_peers.pandas_latest(paths, frame, names, in_order=True),
        "polars": lambda: pit_peers.polars_latest(paths, rows, names, in_order=True),
        "duckdb": lambda: pit_peers.duckdb_latest(paths, arrow, names),
    }
    limit = rows_n / _decoding(paths, list(types)) / 1e6
    note = "1 view, 1 value, asking rows by time"
    return _claim("pit_in_time_order", candidates, rows_n, quick, limit, note)


def three_views(home: Path, quick: bool) -> Claim:
    """Three views of three tables, 5 M events in all."""
    rows_n, events_n, keys = sizes(quick)
    import numpy as np

    rows = asking(rows_n, keys, np.random.default_rng(2))
    tables = {
        f"raw.late{i}": late_world(int(events_n * share), keys, 3 + i) for i, share in enumerate(SHARES)
    }
    stored = store(home, tables)
    types = {"key": "int64", "event_time": "timestamp", "known_at": "timestamp"}
    types |= {"x0": "float64", "n0": "int64"}
    views = [declared(f"late{i}", types, "known_at", ttl) for i, ttl in enumerate(TTLS)]
    arrow = rows.with_row_index("n").to_arrow()

    def each(answer: Callable[..., pl.DataFrame], asked: Any) -> Ask:
        def ask() -> pl.DataFrame:
            parts = [
                answer(paths, asked, ttl).rename(lambda name, i=i: f"late{i}__{name}")
                for i, (paths, ttl) in enumerate(zip(stored.paths.values(), TTLS, strict=True))
            ]
            return pl.concat(parts, how="horizontal")

        return ask

    candidates = {
        "rayplat": features(stored, rows, views),
        "polars": each(pit_peers.polars_latest_known, rows),
        "duckdb": each(pit_peers.duckdb_latest_known, arrow),
    }
    paths = [path for each_table in stored.paths.values() for path in each_table]
    limit = rows_n / _decoding(paths, list(types)) / 1e6
    return _claim("pit_three_views", candidates, rows_n, quick, limit, "ttl, ties, nulls, late rows")


def sizes(quick: bool) -> tuple[int, int, int]:
    parts = QUICK if quick else 1
    return ROWS // parts, EVENTS // parts, KEYS // parts


def _decoding(paths: Sequence[str], columns: list[str]) -> float:
    """Seconds for reading the columns and nothing else, the best of five."""
    import pyarrow.parquet as pq

    groups = [(path, i) for path in paths for i in range(pq.ParquetFile(path).num_row_groups)]

    def read(item: tuple[str, int, str]) -> None:
        path, group, column = item
        file = pq.ParquetFile(path, memory_map=True)
        for _ in file.iter_batches(1 << 14, row_groups=[group], columns=[column], use_threads=False):
            pass

    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(read, [(path, group, name) for name in columns for path, group in groups]))
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def _claim(  # noqa: PLR0917 - private
    name: str, candidates: dict[str, Ask], rows: int, quick: bool, limit: float, note: str
) -> Claim:
    wanted = to_bits(candidates["rayplat"]())
    for peer, ask in candidates.items():
        if not to_bits(ask()).equals(wanted, null_equal=True):
            raise SystemExit(f"{name}: {peer} answers otherwise")
    measured = {peer: rate(ask, rows) for peer, ask in candidates.items()}
    samples = interleave(measured, 3 if quick else 9, 8 if quick else 120)
    ours = samples.pop("rayplat")
    return Claim(name, "M rows/s", ours, samples, higher_is_better=True, limit=limit, note=note)


def to_bits(frame: pl.DataFrame) -> pl.DataFrame:
    """Floats as the integers that their bits are; names are not compared."""
    plain = frame.rename({name: str(i) for i, name in enumerate(frame.columns)})
    return plain.select(pl.all().reinterpret(signed=True))


def rate(ask: Ask, rows: int) -> Callable[[], float]:
    def run() -> float:
        begin = time.perf_counter()
        ask()
        return rows / (time.perf_counter() - begin) / 1e6

    return run


def measure(quick: bool) -> list[Claim]:
    claims = []
    for claim in (from_files, in_time_order, three_views):
        with tempfile.TemporaryDirectory(prefix="rayplat-pit-") as home:
            claims.append(claim(Path(home), quick))
    return [*claims, *_others(quick)]


def _others(quick: bool) -> list[Claim]:
    from pit_indexed import indexed_claim
    from pit_windows import windows_claim

    windows = windows_claim(quick)
    return [*indexed_claim(quick), *([windows] if isinstance(windows, Claim) else windows)]


if __name__ == "__main__":
    main(measure, __doc__ or "")
