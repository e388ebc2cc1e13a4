"""How fast a table is profiled: nulls, extremes, moments, distinct values, quantiles, frequent values.

Run: .venv/bin/python benchmarks/data_profile.py [--json] [--quick]

The table is that of `lakehouse_read.py`: 15 columns, 13 of them numbers, in the layouts `compact` and `read`.
The limit is a plain scan: every column of the same files decoded to Arrow by pyarrow with a thread a core,
and nothing done with it. Peers: DuckDB's `SUMMARIZE` (extremes, moments, approximate distinct values and
quartiles) and Polars' `describe()` (extremes, moments, quartiles; no distinct values). All read the same
files in a warm cache; rows, extremes and means must agree.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from harness import Claim, interleave, main
from lakehouse_read import COLUMNS, data

ROWS, QUICK_ROWS = 5_000_000, 1_000_000
Facts = Mapping[str, tuple[float, float, float]]
"""Least, greatest and mean by column."""


class World:
    """One table in one layout, and everybody who looks at it."""

    def __init__(self, home: Path, layout: str, rows: int) -> None:
        from rayplat.core.settings import Settings
        from rayplat.data.lakehouse.catalog import Lakehouse
        from rayplat.data.lakehouse.layout import LAYOUT

        self.rows = rows
        lake = Lakehouse(Settings.model_validate({"home": home}))
        self.table = lake.ensure_schema(f"raw.{layout}", data(1).schema)
        with self.table.native().transaction() as change:
            change.set_properties({LAYOUT: layout})
        self.table.append(data(rows))
        self.paths = [path.removeprefix("file://") for path in sorted(self.table.paths())]
        self.facts: Facts | None = None

    def rate(self, look: Callable[[], Facts | None]) -> float:
        """Rows a second of one look at the whole table."""
        begin = time.perf_counter()
        facts = look()
        spent = time.perf_counter() - begin
        if facts is not None:
            self.facts = self.facts or facts
            _agree(facts, self.facts)
        return self.rows / spent

    def ours(self) -> Facts:
        from rayplat.data.profile.executor import InlineExecutor
        from rayplat.data.profile.profile import profile

        found = profile(self.table, executor=InlineExecutor())
        if found.rows != self.rows:
            raise SystemExit(f"{found.rows} rows of {self.rows} were profiled")
        return {c.name: (c.least, c.greatest, c.mean) for c in found.columns if c.name in COLUMNS}

    def plain(self) -> None:
        """Row groups decoded by two threads: the fastest of pyarrow's ways on this table."""
        import pyarrow.parquet as pq

        def decode(files: Sequence[tuple[str, int]]) -> int:
            opened = {path: pq.ParquetFile(path, memory_map=True) for path, _ in files}
            return sum(
                opened[path].read_row_group(group, use_threads=False).num_rows for path, group in files
            )

        todo = [(p, g) for p in self.paths for g in range(pq.ParquetFile(p).num_row_groups)]
        threads = os.cpu_count() or 1
        with ThreadPoolExecutor(threads) as pool:
            read = sum(pool.map(decode, [todo[i::threads] for i in range(threads)]))
        if read != self.rows:
            raise SystemExit(f"{read} rows of {self.rows} were read")

    def duckdb(self) -> Facts:
        import duckdb

        with duckdb.connect() as database:
            found = database.sql(
                "summarize select * from read_parquet($1)", params=[list(self.paths)]
            ).fetchall()
        names = ("column_name", "column_type", "min", "max", "approx_unique", "avg")
        lines = (dict(zip(names, line, strict=False)) for line in found)
        return {
            line["column_name"]: (float(line["min"]), float(line["max"]), float(line["avg"]))
            for line in lines
            if line["column_name"] in COLUMNS
        }

    def polars(self) -> Facts:
        import polars as pl

        found = pl.scan_parquet(list(self.paths)).describe()
        rows = {line["statistic"]: line for line in found.iter_rows(named=True)}
        return {n: (float(rows["min"][n]), float(rows["max"][n]), float(rows["mean"][n])) for n in COLUMNS}


def _agree(facts: Facts, others: Facts) -> None:
    for name in COLUMNS:
        for value, other in zip(facts[name], others[name], strict=True):
            # Of doubles the order of additions may differ; a text of a single has seven digits.
            if abs(value - other) > 1e-6 * max(abs(other), 1):
                raise SystemExit(f"{name}: {value} here and {other} there")


def compared(name: str, world: World, *, peers: bool, runs: int, within_s: float) -> Claim:
    looks: dict[str, Callable[[], Any]] = {"rayplat": world.ours, "plain": world.plain}
    if peers:
        looks |= {"duckdb_summarize": world.duckdb, "polars_describe": world.polars}
    samples = interleave(
        {key: (lambda look=look: world.rate(look)) for key, look in looks.items()}, runs, within_s
    )
    ours, limit = samples.pop("rayplat"), median(samples.pop("plain"))
    note = f"{median(ours) / limit:.0%} of a plain scan; {world.rows:,} rows, 15 columns"
    return Claim(name, "rows/s", ours, samples, higher_is_better=True, limit=limit, note=note)


def measure(quick: bool) -> Sequence[Claim]:
    rows = QUICK_ROWS if quick else ROWS
    runs, within_s = (5, 15.0) if quick else (9, 300.0)
    with tempfile.TemporaryDirectory(prefix="rayplat-profile-") as folder:
        return [
            compared(claim, World(Path(folder), layout, rows), peers=peers, runs=runs, within_s=within_s)
            for claim, layout, peers in (
                ("profile_rows_per_s", "compact", True),
                ("profile_rows_per_s_fast_layout", "read", not quick),
            )
        ]


if __name__ == "__main__":
    if "--quick" in sys.argv:
        print(f"--quick: {QUICK_ROWS:,} rows in place of {ROWS:,}", file=sys.stderr)
    main(measure, "How fast a table is profiled.")
