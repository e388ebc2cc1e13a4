"""Bulk scoring: rows a second from a table to a table of predictions, against plain PyTorch loops.

Run: .venv/bin/python benchmarks/bulk_scoring.py [--json] [--quick]

A table of readings (a key, a time, three float64; 40 bytes a row, several files) is scored by a small network
over five features of the row, and the predictions (key, probability) are written as Parquet. rayplat runs
`rayplat predict TABLE` from its call to its commit: pinned, verified artifact, features as Polars
expressions, tasks of Ray Data, one Iceberg snapshot. The peers read the same files with pyarrow, compute the
same features with torch, and write plain Parquet:

- torch_loop: one process, one batch after the other, two threads of torch; the batch size that was best.
- torch_loop_2: two such processes with one thread each, half of the files each: what two cores can do.
- ray_data: the loop of Ray's documentation: `read_parquet`, `map_batches` with a class, `write_parquet`.

The probabilities are compared: they may differ by the order of float32 sums.
"""

import logging
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from harness import Claim, interleave, main

from rayplat.cluster.session import connect, disconnect, down, up
from rayplat.core.events import EventBus
from rayplat.core.project.load import load_project
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.registry.store import Registry
from rayplat.serve.bulk.plan import Rows
from rayplat.serve.bulk.score import BulkScoring

HERE = Path(__file__).resolve().parent
COLUMNS = ["reading", "read_at", "a", "b", "c"]
BATCHES = (8_192, 65_536)


def measure(quick: bool) -> Sequence[Claim]:
    files, rows = (4, 500_000) if quick else (8, 2_000_000)
    with tempfile.TemporaryDirectory(prefix="rayplat-bulk-") as folder:
        settings = Settings.model_validate(
            {"home": folder, "ray": {"cpus": 2, "object_store_mib": 512}, "serve": {"port": 0}}
        )
        with ProcessPoolExecutor(1, get_context("spawn")) as writer:
            writer.submit(_write, settings, files, rows).result()
        up(settings)
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        try:
            connect(settings)
            return _compared(settings, files * rows, 1 if quick else 5)
        finally:
            disconnect()
            down(settings)


def _write(settings: Settings, files: int, rows: int) -> None:
    from bulk_project import fill, make

    make(settings.home, settings)
    fill(settings, files, rows).close()


def _compared(settings: Settings, rows: int, runs: int) -> list[Claim]:
    lake = Lakehouse(settings)
    paths = sorted(p.removeprefix("file://") for p in lake.table("raw.readings").paths())
    out = settings.home / "peers"
    best = min(BATCHES, key=lambda batch: _timed(lambda: _loop(paths, out, batch, 2)))
    seconds = interleave(
        {
            "rayplat": lambda: _timed(lambda: _rayplat(settings, lake)),
            "torch_loop": lambda: _timed(lambda: _apart(paths, out, best, processes=1)),
            "torch_loop_2": lambda: _timed(lambda: _apart(paths, out, best, processes=2)),
            "ray_data": lambda: _timed(lambda: _ray_data(paths, out)),
        },
        runs,
        within_s=240,
    )
    _check(lake, out)
    lake.close()
    rates = {name: [rows / s for s in values] for name, values in seconds.items()}
    note = f"{rows / 1e6:g} M rows, batches of {best:,} for the loops"
    ours = rates.pop("rayplat")
    return [Claim("bulk_rows_per_s", "rows/s", ours, rates, higher_is_better=True, note=note)]


def _timed(work: Any) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _rayplat(settings: Settings, lake: Lakehouse) -> None:
    """A scoring that was not done before: into another table each time."""
    version = Registry(settings).version("leak", 1)
    project = load_project(str(settings.home / "meters"))
    bulk = BulkScoring(settings, lake, EventBus())
    made = bulk.score(project, version, Rows("raw.readings"), f"scores.run_{time.time_ns()}")
    assert not made.found


def _network() -> Any:
    from bulk_project import network

    return network(5).eval()


def _features(rows: pa.RecordBatch) -> torch.Tensor:
    a, b, c = (torch.from_numpy(rows.column(name).to_numpy()) for name in ("a", "b", "c"))
    micros = torch.from_numpy(rows.column("read_at").cast(pa.int64()).to_numpy())
    hour = micros // 3_600_000_000 % 24
    features = [a, a / (b.abs() + 1.0), b * c, (c.abs() + 1.0).log(), hour]
    return torch.stack([one.float() for one in features], dim=1)


def _loop(paths: Sequence[str], out: Path, batch: int, threads: int) -> None:
    """The plain loop: read, compute, infer, write."""
    torch.set_num_threads(threads)
    network = _network()
    out.mkdir(exist_ok=True)
    schema = pa.schema([("reading", pa.int64()), ("probability", pa.float64())])
    with torch.inference_mode():
        for path in paths:
            with pq.ParquetWriter(out / Path(path).name, schema, compression="zstd") as writer:
                for rows in pq.ParquetFile(path).iter_batches(batch, columns=COLUMNS):
                    found = torch.sigmoid(network(_features(rows)).double().reshape(-1)).numpy()
                    writer.write_batch(
                        pa.record_batch([rows.column("reading"), pa.array(found)], schema=schema)
                    )


def _apart(paths: Sequence[str], out: Path, batch: int, processes: int) -> None:
    """The loop in processes that are there already, each with its share of the files."""
    pool = _POOLS.setdefault(processes, ProcessPoolExecutor(processes, get_context("spawn")))
    jobs = [pool.submit(_loop, paths[i::processes], out, batch, 2 // processes) for i in range(processes)]
    for job in jobs:
        job.result()


_POOLS: dict[int, ProcessPoolExecutor] = {}


class _Infer:
    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._network = _network()

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = batch.combine_chunks().to_batches()[0]
        with torch.inference_mode():
            found = torch.sigmoid(self._network(_features(rows)).double().reshape(-1)).numpy()
        return pa.table({"reading": rows.column("reading"), "probability": found})


def _ray_data(paths: Sequence[str], out: Path) -> None:
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    DataContext.get_current().enable_progress_bars = False

    folder = out.with_name("ray_data")
    shutil.rmtree(folder, ignore_errors=True)
    rows = ray.data.read_parquet(list(paths), columns=COLUMNS)
    made = rows.map_batches(
        _Infer, batch_size=65_536, batch_format="pyarrow", compute=ActorPoolStrategy(size=1)
    )
    made.write_parquet(str(folder))


def _check(lake: Lakehouse, out: Path) -> None:
    name = next(one for one in lake.names() if one.startswith("scores."))
    ours = lake.table(name).read(["reading", "probability"]).sort_by("reading")
    theirs = pq.read_table(out).sort_by("reading")
    assert ours["reading"].equals(theirs["reading"])
    difference = np.abs(ours["probability"].to_numpy() - theirs["probability"].to_numpy()).max()
    assert difference < 1e-5, difference  # float32 sums of 64 products


if __name__ == "__main__":
    main(measure, __doc__ or "")
