"""How fast a pinned table gets into PyTorch: batches of 8,192 rows, 13 numeric columns of 15, warm cache.

Run: .venv/bin/python benchmarks/lakehouse_read.py [--json] [--quick]

Every candidate sums every column of every batch; the sums must agree. All read the same data files of the
same snapshot: Ray Data (`iter_torch_batches`), plain pyarrow (row groups, one ahead, sliced into tensors; and
`iter_batches`), pyiceberg, Polars and DuckDB (both of them whole columns, then slices). The limit is the
memory read of the same values, summed where they lie.
"""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import Claim, interleave, main

ROWS, QUICK_ROWS = 5_000_000, 1_000_000
BATCH = 8192
WARM_MOST = 6
FLOATS = [f"float{i}" for i in range(6)]
SINGLES = [f"single{i}" for i in range(3)]
COUNTS = [f"count{i}" for i in range(3)]
COLUMNS = ["id", *FLOATS, *SINGLES, *COUNTS]
Tensors = Mapping[str, Any]


def data(rows: int) -> Any:
    import pyarrow as pa

    values = np.random.default_rng(7)
    columns: dict[str, Any] = {"id": np.arange(rows)}
    columns |= {name: values.normal(size=rows) for name in FLOATS}
    columns |= {name: values.normal(size=rows).astype(np.float32) for name in SINGLES}
    columns |= {name: values.integers(0, 10 ** (2 + 2 * i), rows) for i, name in enumerate(COUNTS)}
    columns["name"] = pa.array([f"name {i}" for i in range(500)]).take(values.integers(0, 500, rows))
    columns["at"] = pa.array(np.arange(rows) * 1000 + 1_356_998_400_000_000, pa.timestamp("us", tz="UTC"))
    return pa.table(columns)


def checksum(batches: Iterator[Tensors], rows: int) -> dict[str, float]:
    """The sum of every column; every batch is read by torch, as a model would."""
    from torch import float64 as double

    sums: dict[str, Any] = dict.fromkeys(COLUMNS, 0)
    seen = 0
    for batch in batches:
        seen += len(batch["id"])
        for name, values in batch.items():
            # In double precision, whatever the column: else the sum would depend on where batches are cut.
            sums[name] = sums[name] + (
                values.sum(dtype=double) if values.is_floating_point() else values.sum()
            )
    if seen != rows:
        raise SystemExit(f"{seen} rows of {rows} were read")
    return {name: value.item() for name, value in sums.items()}


def sliced(columns: Mapping[str, Any]) -> Iterator[Tensors]:
    """Whole columns, in tensors, as batches."""
    rows = len(columns["id"])
    for first in range(0, rows, BATCH):
        yield {name: values[first : first + BATCH] for name, values in columns.items()}


def as_tensors(table: Any) -> dict[str, Any]:
    import pyarrow as pa
    import torch

    found = {}
    for name in COLUMNS:
        chunks = table[name].chunks
        array = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)
        found[name] = torch.utils.dlpack.from_dlpack(array)
    return found


def pyarrow_groups(paths: Sequence[str]) -> Iterator[Tensors]:
    """What a careful user writes: row groups, the next one decoded by a thread while this one is used."""
    from concurrent.futures import ThreadPoolExecutor

    import pyarrow.parquet as pq

    files = [pq.ParquetFile(path, memory_map=True) for path in paths]
    todo = [(file, group) for file in files for group in range(file.num_row_groups)]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(todo[0][0].read_row_group, todo[0][1], columns=COLUMNS)
        for number in range(len(todo)):
            table = waiting.result()
            if number + 1 < len(todo):
                file, group = todo[number + 1]
                waiting = pool.submit(file.read_row_group, group, columns=COLUMNS)
            yield from sliced(as_tensors(table))


def pyarrow_iter(paths: Sequence[str]) -> Iterator[Tensors]:
    """The shortest way: `ParquetFile.iter_batches`."""
    import pyarrow.parquet as pq
    import torch

    for path in paths:
        for batch in pq.ParquetFile(path, memory_map=True).iter_batches(BATCH, columns=COLUMNS):
            arrays = zip(batch.schema.names, batch.columns, strict=True)
            yield {name: torch.utils.dlpack.from_dlpack(array) for name, array in arrays}


def polars_columns(paths: Sequence[str]) -> Iterator[Tensors]:
    import polars as pl
    import torch

    frame = pl.scan_parquet(list(paths)).select(COLUMNS).collect()
    yield from sliced({name: torch.from_numpy(frame[name].to_numpy(writable=True)) for name in COLUMNS})


def duckdb_columns(paths: Sequence[str]) -> Iterator[Tensors]:
    import duckdb
    import torch

    with duckdb.connect() as database:
        chosen = ", ".join(COLUMNS)
        found = database.sql(f"select {chosen} from read_parquet($1)", params=[list(paths)]).fetchnumpy()
    yield from sliced({name: torch.from_numpy(values) for name, values in found.items()})


class World:
    """One table in one layout, and everybody who reads it."""

    def __init__(self, home: Path, layout: str, rows: int) -> None:
        from rayplat.core.settings import Settings
        from rayplat.data.lakehouse.catalog import Lakehouse
        from rayplat.data.lakehouse.layout import LAYOUT
        from rayplat.data.lakehouse.scan import plan

        self.rows = rows
        lake = Lakehouse(Settings.model_validate({"home": home}))
        table = lake.ensure_schema(f"raw.{layout}", data(1).schema)
        with table.native().transaction() as change:
            change.set_properties({LAYOUT: layout})
        content = data(rows)
        begin = time.perf_counter()
        table.append(content)
        self.write_s = time.perf_counter() - begin
        self.native = table.native()
        self.plan: Callable[..., Any] = lambda **how: plan(self.native, columns=COLUMNS, **how)
        self.scan = self.plan()
        self.paths = [self.scan.address(file) for file in self.scan.files]
        self.megabytes = sum(file.bytes for file in self.scan.files) / 1e6
        self.sums: dict[str, float] = {}
        lake.close()

    def rate(self, make: Callable[[], Iterator[Tensors]]) -> float:
        """Rows a second of one whole read."""
        begin = time.perf_counter()
        sums = checksum(make(), self.rows)
        spent = time.perf_counter() - begin
        self.sums = self.sums or sums
        for name, value in sums.items():
            # Integers exactly; of doubles only the order of additions may differ.
            allowed = 0 if isinstance(value, int) else 1e-6
            if abs(value - self.sums[name]) > allowed:
                raise SystemExit(f"the checksum of {name} is {value}, and was {self.sums[name]}")
        return self.rows / spent

    def ours(self, **how: Any) -> Iterator[Tensors]:
        from rayplat.data.lakehouse.batches import torch_batches

        return torch_batches(self.plan(**how) if how else self.scan, BATCH)

    def ray(self) -> Iterator[Tensors]:
        import ray.data

        read = ray.data.read_parquet(self.paths).select_columns(COLUMNS)
        return iter(read.iter_torch_batches(batch_size=BATCH))

    def ray_by_our_source(self) -> Iterator[Tensors]:
        from rayplat.data.lakehouse.datasource import dataset

        return iter(dataset(self.scan).iter_torch_batches(batch_size=BATCH))

    def pyiceberg(self) -> Iterator[Tensors]:
        found = self.native.scan(selected_fields=tuple(COLUMNS)).to_arrow()
        return sliced(as_tensors(found))

    def memory(self) -> Callable[[], Iterator[Tensors]]:
        """The same tensors, already there."""
        ready = {name: values.clone() for name, values in as_tensors(self.scan.arrow()).items()}
        return lambda: sliced(ready)


def warmed(world: World) -> None:
    """Let Ray start its worker processes before anything is timed: that is not what is compared."""
    last = float("inf")
    for _ in range(WARM_MOST):
        begin = time.perf_counter()
        checksum(world.ray(), world.rows)
        spent = time.perf_counter() - begin
        if spent > last / 1.5:
            return
        last = spent


def compared(
    name: str, world: World, peers: Mapping[str, Callable[[], Iterator[Tensors]]], runs: int, within_s: float
) -> Claim:
    candidates = {"rayplat": world.ours, "limit": world.memory(), **peers}
    samples = interleave(
        {who: lambda make=make: world.rate(make) for who, make in candidates.items()}, runs, within_s
    )
    limit = float(np.median(samples.pop("limit")))
    ours = samples.pop("rayplat")
    note = f"{world.megabytes:.0f} MB, written in {world.write_s:.1f} s"
    return Claim(name, "rows/s", ours, samples, higher_is_better=True, limit=limit, note=note)


def verification(world: World, runs: int, within_s: float) -> Claim:
    """How much longer a read takes that hashes files first: 1 is no longer. Peers are the other modes."""
    samples = interleave(
        {
            how: lambda how=how: 1 / world.rate(lambda: world.ours(verify=how))
            for how in ("always", "sampled", "never")
        },
        runs,
        within_s,
    )
    base = float(np.median(samples["never"]))
    slower = {how: [value / base for value in values] for how, values in samples.items()}
    note = f"time of verify=always over never; {len(world.paths)} files, sampled hashes a tenth of them"
    return Claim("read_verify_cost", "x", slower.pop("always"), slower, note=note)


def measure(quick: bool) -> Sequence[Claim]:
    import torch

    from rayplat.cluster.session import connect, disconnect, down, up
    from rayplat.core.settings import Settings

    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    torch.set_num_threads(1)  # 8,192 values are too few to share
    rows = QUICK_ROWS if quick else ROWS
    runs, within_s = (3, 11.0) if quick else (9, 600.0)
    with tempfile.TemporaryDirectory(prefix="rayplat-read-") as folder:
        settings = Settings.model_validate(
            {"home": Path(folder) / "platform", "ray": {"cpus": os.cpu_count(), "object_store_mib": 1024}}
        )
        up(settings)
        connect(settings)
        import ray

        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        try:
            compact = World(Path(folder) / "home", "compact", rows)
            fast = World(Path(folder) / "home", "read", rows)
            peers: dict[str, Callable[[], Iterator[Tensors]]] = {
                "ray": compact.ray,
                "pyarrow": lambda: pyarrow_groups(compact.paths),
            }
            more: dict[str, Callable[[], Iterator[Tensors]]] = {
                "ray_by_our_source": compact.ray_by_our_source,
                "pyarrow_iter_batches": lambda: pyarrow_iter(compact.paths),
                "pyiceberg": compact.pyiceberg,
                "polars": lambda: polars_columns(compact.paths),
                "duckdb": lambda: duckdb_columns(compact.paths),
            }
            if quick:
                print(f"skipped by --quick: {', '.join(more)}", file=sys.stderr)
            else:
                peers |= more
            warmed(compact)
            fast_peers = {"ray": fast.ray, "pyarrow": lambda: pyarrow_groups(fast.paths)}
            return [
                compared("read_to_torch", compact, peers, runs, within_s),
                compared("read_to_torch_fast_layout", fast, fast_peers, runs, within_s),
                verification(compact, runs, within_s),
            ]
        finally:
            disconnect()
            down(settings)


if __name__ == "__main__":
    if "--quick" in sys.argv:
        print(f"--quick: {QUICK_ROWS:,} rows in place of {ROWS:,}", file=sys.stderr)
    main(measure, "How fast a pinned table gets into PyTorch.")
