"""The worlds of the point-in-time benchmarks: events in the order in which they arrived, and asking rows.

Knows how they are made and written to the lakehouse; it does not know who answers.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

START_US = 1_356_998_400_000_000
YEAR_US = 365 * 86_400 * 10**6
TIME = pl.Datetime("us", "UTC")


def world(rows: int, events: int, keys: int, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Asking rows in any order (key, at), and events in the order of their times (key, event_time, x0, n0).

    No two events of a key have one time, so that every engine has one answer to give.
    """
    pick = np.random.default_rng(seed)
    at = np.unique(pick.integers(0, YEAR_US, events)) + START_US
    source = pl.DataFrame(
        {
            "key": pick.integers(0, keys, len(at)),
            "event_time": pl.Series(at).cast(TIME),
            "x0": pick.standard_normal(len(at)),
            "n0": pick.integers(0, 1000, len(at)),
        }
    )
    return asking(rows, keys, pick), source


def asking(rows: int, keys: int, pick: np.random.Generator) -> pl.DataFrame:
    """Asking rows; some keys were never seen."""
    at = pl.Series(pick.integers(0, YEAR_US, rows) + START_US).cast(TIME)
    return pl.DataFrame({"key": pick.integers(0, keys + keys // 50, rows), "at": at})


def late_world(events: int, keys: int, seed: int) -> pl.DataFrame:
    """Events as a log brings them: a tenth known up to two days late, with nulls and with equal times.

    Columns: key (some null), event_time (whole minutes), known_at, x0 and n0 (some null), in the order of
    `known_at`, and of rows known at one time the later position is the later one in the log: `_offset`.
    """
    pick = np.random.default_rng(seed)
    event = pick.integers(0, YEAR_US // 60_000_000, events) * 60_000_000 + START_US
    late = pick.random(events) < 0.1
    known = event + np.where(late, pick.integers(0, 2 * 86_400, events) * 1_000_000, 0)
    order = np.argsort(known, kind="stable")
    key = pl.Series(pick.integers(0, keys, events)).set(pl.Series(pick.random(events) < 0.001), None)
    x0 = pl.Series(pick.standard_normal(events)).set(pl.Series(pick.random(events) < 0.1), None)
    n0 = pl.Series(pick.integers(0, 1000, events)).set(pl.Series(pick.random(events) < 0.1), None)
    made = pl.DataFrame(
        {"key": key, "event_time": pl.Series(event).cast(TIME), "known_at": pl.Series(known).cast(TIME)}
    )
    made = made.with_columns(x0=x0, n0=n0)[order]
    return made.with_columns(
        pl.lit(0, pl.Int32).alias("_partition"), pl.int_range(pl.len(), dtype=pl.Int64).alias("_offset")
    )


@dataclass(frozen=True)
class Stored:
    """Tables of a lakehouse, and the files of each that its peers read too."""

    lake: "object"
    paths: dict[str, list[str]]


def store(home: Path, tables: dict[str, pl.DataFrame]) -> Stored:
    """Write tables to a new lakehouse, each in one commit: ordinary Parquet, zstd."""
    from rayplat.core.settings import Settings
    from rayplat.data.lakehouse.catalog import Lakehouse

    lake = Lakehouse(Settings.model_validate({"home": home}))
    paths = {}
    for name, frame in tables.items():
        data = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        table = lake.ensure_schema(name, data.schema)
        table.append(data)
        scan = table.scan()
        paths[name] = [scan.address(file) for file in scan.files]
    return Stored(lake, paths)
