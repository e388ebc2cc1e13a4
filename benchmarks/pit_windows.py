"""Windows as of each asking row: 3 windows x 4 aggregates, beside DuckDB.

Knows the windows and DuckDB's queries; the world and the command line are those of `point_in_time.py`.

Run alone: .venv/bin/python benchmarks/pit_windows.py [--json] [--quick]

Both start from the same Parquet files and end with a table of one row an asking row. Counts, maxima and null
must be equal, sums and means within 1e-9 (DuckDB's depend on the order in which its threads add).
"""

import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from harness import Claim, interleave, main

ROWS, EVENTS, KEYS = 1_000_000, 5_000_000, 100_000
QUICK = 10
RUNS, QUICK_RUNS = 5, 3
LENGTHS = {"1d": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
KINDS = ("sum", "mean", "max", "count")
START, DAYS = 1_700_000_000_000_000, 60
DAY = 86_400_000_000


def world(folder: Path, rows: int, events: int, keys: int, seed: int = 7) -> tuple[Path, Path]:
    """Questions (`key`, `at`) and events (`key`, `event_time`, `x`), in the order of their times."""
    import polars as pl

    rng = np.random.default_rng(seed)
    times = pl.Datetime("us", "UTC")
    event = np.sort(rng.integers(0, DAYS * DAY, events)) + START
    asked = rng.integers(0, DAYS * DAY, rows) + START
    frames = {
        "questions": pl.DataFrame({"key": rng.integers(0, keys, rows), "at": pl.Series(asked).cast(times)}),
        "events": pl.DataFrame(
            {
                "key": rng.integers(0, keys, events),
                "event_time": pl.Series(event).cast(times),
                "x": rng.normal(size=events),
            }
        ),
    }
    for name, frame in frames.items():
        frame.write_parquet(folder / f"{name}.parquet", compression="zstd", row_group_size=250_000)
    return folder / "questions.parquet", folder / "events.parquet"


def view() -> Any:
    from rayplat.core.project.project import Project
    from rayplat.core.project.source import Kafka
    from rayplat.core.project.window import window

    project = Project("bench", owner="bench@example.com")
    events = project.table(
        "raw.events",
        columns={"key": "int64", "event_time": "timestamp", "x": "float64"},
        key=("key", "event_time"),
        event_time="event_time",
        source=Kafka("events"),
    )
    features = {
        f"{kind}_{length}": getattr(window(length), kind)("x") for length in LENGTHS for kind in KINDS
    }
    return project.feature_view("w", source=events, entity="key", features=features)


def rayplat(questions: Path, events: Path) -> Any:
    import polars as pl

    from rayplat.features.point_in_time import join

    return join(pl.read_parquet(questions), "at", view(), pl.read_parquet(events))


def duckdb_join(questions: Path, events: Path) -> Any:
    """A join on the key and the longest window's range, then one grouped aggregation with filters."""
    columns = ", ".join(
        f'{call} FILTER (e.event_time > q."at" - INTERVAL {length!r}) AS w__{kind}_{name}'
        for name, length in _intervals().items()
        for kind, call in _CALLS.items()
    )
    return _duckdb(
        f"""
        WITH q AS (SELECT *, file_row_number AS i FROM read_parquet('{questions}', file_row_number=true))
        SELECT any_value(q.key) AS key, any_value(q."at") AS "at", {columns}
        FROM q LEFT JOIN '{events}' e
          ON e.key = q.key AND e.event_time <= q."at" AND e.event_time > q."at" - INTERVAL '30 days'
        GROUP BY i ORDER BY i
        """
    )


def duckdb_frames(questions: Path, events: Path) -> Any:
    """Window frames over the union of events and questions."""
    columns = ", ".join(
        f"{call} OVER (PARTITION BY key ORDER BY t RANGE BETWEEN INTERVAL '{length}' PRECEDING "
        f"AND CURRENT ROW) AS w__{kind}_{name}"
        for name, length in _exclusive().items()
        for kind, call in _CALLS.items()
    )
    return _duckdb(
        f"""
        WITH both_ AS (
          SELECT key, "at" AS t, NULL::DOUBLE AS x, file_row_number AS i
          FROM read_parquet('{questions}', file_row_number=true)
          UNION ALL SELECT key, event_time, x, NULL FROM '{events}'
        ), framed AS (SELECT key, t AS "at", i, {columns} FROM both_)
        SELECT * EXCLUDE (i) FROM framed WHERE i IS NOT NULL ORDER BY i
        """
    )


_CALLS = {"sum": "sum(x)", "mean": "avg(x)", "max": "max(x)", "count": "count(x)"}


def _intervals() -> dict[str, str]:
    return {"1d": "1 day", "7d": "7 days", "30d": "30 days"}


def _exclusive() -> dict[str, str]:
    """One microsecond less: a frame holds its first moment, a window does not."""
    return {
        name: f"{length // timedelta(microseconds=1) - 1} microseconds" for name, length in LENGTHS.items()
    }


def _duckdb(query: str) -> Any:
    import duckdb
    import polars as pl

    with duckdb.connect() as db:
        db.execute("SET TimeZone='UTC'; SET enable_progress_bar=false")
        return pl.from_arrow(db.sql(query).to_arrow_table())


def check(ours: Any, theirs: Any) -> None:
    """Counts and maxima equal, sums and means within 1e-9 of the values' sizes."""
    if ours.height != theirs.height or not ours.get_column("key").equals(theirs.get_column("key")):
        raise SystemExit("the answers are about other rows")
    for name in ours.columns[2:]:
        one, two = ours.get_column(name), theirs.get_column(name)
        if "__sum" in name:
            two = two.fill_null(0.0)
        if (one.is_null() != two.is_null()).any():
            raise SystemExit(f"{name}: null in other rows")
        exactly = "__max" in name or "__count" in name
        gap = (one - two).abs().max() or 0.0
        if gap > (0.0 if exactly else 1e-9):
            raise SystemExit(f"{name} differs by {gap}")


def windows_claim(quick: bool) -> Claim:
    """Asking rows answered a second, from Parquet to a table."""
    less = QUICK if quick else 1
    with tempfile.TemporaryDirectory() as folder:
        files = world(Path(folder), ROWS // less, EVENTS // less, KEYS // less)
        candidates = {"rayplat": rayplat, "duckdb_join": duckdb_join, "duckdb_frames": duckdb_frames}
        ours = rayplat(*files)
        for peer in (duckdb_join, duckdb_frames):
            check(ours, peer(*files))

        def timed(answer: Any) -> float:
            begin = time.perf_counter()
            rows = answer(*files).height
            return float(rows) / (time.perf_counter() - begin)

        samples = interleave(
            {name: lambda answer=answer: timed(answer) for name, answer in candidates.items()},
            QUICK_RUNS if quick else RUNS,
            within_s=30 if quick else None,
        )
    return Claim(
        "pit_windows",
        "rows/s",
        samples.pop("rayplat"),
        samples,
        higher_is_better=True,
        note="3 windows x 4 aggregates as of each row, from Parquet",
    )


if __name__ == "__main__":
    main(lambda quick: [windows_claim(quick)], __doc__)
