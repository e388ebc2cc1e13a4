"""Where Ray Data's time goes between a Parquet file and a torch batch of 8,192 rows, layer by layer.

Run: .venv/bin/python benchmarks/ray_data_layers.py [--json] [--quick]

The table, the columns and the way to ask Ray are those of `lakehouse_read.py` (warm cache, layout `compact`).
Each step does what the ones before it do and one thing more; what it takes longer, in the same round, is that
layer's time:

    decode   pyarrow decodes the row groups, a thread a core, in one process (no Ray)
    start    Ray plans and runs a read of one row: what every execution costs before the first value
    tasks    the read tasks decode, cut blocks and put them into the object store; nobody fetches them
    fetch    the driver gets each block from the object store
    slice    blocks become Arrow tables of 8,192 rows (`iter_batches(batch_format="pyarrow")`)
    numpy    these become numpy arrays (`batch_format="numpy"`)
    collate  tensors in place of arrays (`iter_torch_batches`)
    use      torch sums every column, as `lakehouse_read.py` does

Layers that run beside one another hide in wall time: CPU seconds of the driver, and of all other processes of
Ray, are told beside it (those of `decode` are the driver's; `tasks` moves them to the workers). The claims of
layers are of Ray Data and have no peer; `ray_data_layer_total_s` has rayplat's reader beside it.
"""

import logging
import os
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from harness import Claim, interleave, main
from lakehouse_read import BATCH, COLUMNS, QUICK_ROWS, ROWS, World, checksum, data, warmed

AFTER: Mapping[str, Sequence[str]] = {
    "decode": (),
    "start": (),
    "tasks": ("decode", "start"),
    "fetch": ("tasks",),
    "slice": ("fetch",),
    "numpy": ("slice",),
    "collate": ("numpy",),
    "use": ("collate",),
}
"""Layer to the steps whose time is no part of it."""
WHOLE = "use"


class Steps:
    """Ways to go through the table, each one layer longer than the one before."""

    def __init__(self, world: World, folder: Path) -> None:
        import pyarrow.parquet as pq

        self.world = world
        self.one = str(folder / "one.parquet")
        pq.write_table(data(1), self.one)

    def decode(self) -> int:
        import pyarrow.parquet as pq

        def rows(todo: Sequence[tuple[str, int]]) -> int:
            files = {path: pq.ParquetFile(path, memory_map=True) for path, _ in todo}
            return sum(
                files[path].read_row_group(group, columns=COLUMNS, use_threads=False).num_rows
                for path, group in todo
            )

        groups = [(p, g) for p in self.world.paths for g in range(pq.ParquetFile(p).num_row_groups)]
        threads = os.cpu_count() or 1
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(rows, [groups[i::threads] for i in range(threads)]))

    def start(self) -> int:
        for _ in ray_read([self.one]).iter_internal_ref_bundles():
            pass
        return self.world.rows

    def tasks(self) -> int:
        return sum(bundle.num_rows() or 0 for bundle in self._read().iter_internal_ref_bundles())

    def fetch(self) -> int:
        import ray

        bundles = self._read().iter_internal_ref_bundles()
        return sum(ray.get(ref).num_rows for bundle in bundles for ref in bundle.block_refs)

    def slice(self) -> int:
        return sum(
            batch.num_rows for batch in self._read().iter_batches(batch_size=BATCH, batch_format="pyarrow")
        )

    def numpy(self) -> int:
        return _rows(self._read().iter_batches(batch_size=BATCH, batch_format="numpy"))

    def collate(self) -> int:
        return _rows(self.world.ray())

    def use(self) -> int:
        checksum(self.world.ray(), self.world.rows)
        return self.world.rows

    def rayplat(self) -> int:
        checksum(self.world.ours(), self.world.rows)
        return self.world.rows

    def _read(self) -> Any:
        return ray_read(self.world.paths)


def ray_read(paths: Sequence[str]) -> Any:
    import ray.data

    return ray.data.read_parquet(list(paths)).select_columns(COLUMNS)


def _rows(batches: Iterable[Any]) -> int:
    return sum(len(batch["id"]) for batch in batches)


class Clock:
    """Wall time of steps, and beside it the CPU seconds of the driver and of Ray's other processes."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.driver: dict[str, list[float]] = defaultdict(list)
        self.workers: dict[str, list[float]] = defaultdict(list)

    def timed(self, name: str, step: Callable[[], int]) -> float:
        driver, workers, begin = _own_cpu(), _ray_cpu(), time.perf_counter()
        rows = step()
        spent = time.perf_counter() - begin
        self.driver[name].append(_own_cpu() - driver)
        self.workers[name].append(_ray_cpu() - workers)
        if rows != self.rows:
            raise SystemExit(f"{rows} rows of {self.rows} were read by {name}")
        return spent


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _ray_cpu() -> float:
    """CPU seconds so far of this session's Ray: its services, workers, and workers that have ended."""
    import psutil
    import ray

    session = Path(ray._private.worker._global_node.get_session_dir_path()).name
    found = 0.0
    services = [p for p in psutil.process_iter(["cmdline"]) if _is_of(p, session)]
    known = {p.pid: p for service in services for p in (service, *_below(service))}
    for process in known.values():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        found += times.user + times.system + times.children_user + times.children_system
    return found


def _is_of(process: Any, session: str) -> bool:
    return process.pid != os.getpid() and any(session in part for part in process.info["cmdline"] or ())


def _below(process: Any) -> list[Any]:
    import psutil

    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def claims(walls: Mapping[str, Sequence[float]], clock: Clock) -> list[Claim]:
    """The time of each layer: how much longer its step takes than those before, round by round."""
    total = median(walls[WHOLE])
    # The first round warmed up: interleave took no sample of it.
    clocks = [{step: taken[1:] for step, taken in c.items()} for c in (clock.driver, clock.workers)]
    found = []
    for name, before in AFTER.items():
        extra = _apart(walls, name, before)
        driver, workers = (median(_apart(cpu, name, before)) for cpu in clocks)
        note = (
            f"{median(extra) / total:.0%} of Ray's read; CPU {driver:+.2f} s driver, {workers:+.2f} s others"
        )
        found.append(Claim(f"ray_data_layer_{name}_s", "s", extra, note=f"Ray Data's own: {note}"))
    cpu = {
        who: "{:.2f} s driver, {:.2f} s others".format(*(median(c[who]) for c in clocks))
        for who in ("rayplat", WHOLE)
    }
    note = f"the whole read; CPU of rayplat {cpu['rayplat']}, of Ray Data {cpu[WHOLE]}"
    found.append(Claim("ray_data_layer_total_s", "s", walls["rayplat"], {"ray": walls[WHOLE]}, note=note))
    return found


def _apart(seconds: Mapping[str, Sequence[float]], name: str, before: Sequence[str]) -> list[float]:
    """What a step took beyond the steps before it, by round."""
    rounds = zip(*(seconds[step] for step in (name, *before)), strict=True)
    return [now - sum(then) for now, *then in rounds]


def measure(quick: bool) -> Sequence[Claim]:
    import torch

    from rayplat.cluster.session import connect, disconnect, down, up
    from rayplat.core.settings import Settings

    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    torch.set_num_threads(1)  # as in lakehouse_read.py
    rows = QUICK_ROWS if quick else ROWS
    runs, within_s = (2, 12.0) if quick else (7, 300.0)
    with tempfile.TemporaryDirectory(prefix="rayplat-layers-") as folder:
        settings = Settings.model_validate(
            {"home": Path(folder) / "platform", "ray": {"cpus": os.cpu_count(), "object_store_mib": 1024}}
        )
        up(settings)
        connect(settings)
        import ray

        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        try:
            world = World(Path(folder) / "home", "compact", rows)
            warmed(world)
            steps, clock = Steps(world, Path(folder)), Clock(rows)
            walls = interleave(
                {
                    name: lambda name=name: clock.timed(name, getattr(steps, name))
                    for name in (*AFTER, "rayplat")
                },
                runs,
                within_s,
            )
            return claims(walls, clock)
        finally:
            disconnect()
            down(settings)


if __name__ == "__main__":
    if "--quick" in sys.argv:
        print(f"--quick: {QUICK_ROWS:,} rows in place of {ROWS:,}", file=sys.stderr)
    main(measure, "Where Ray Data's time goes between a Parquet file and a torch batch.")
