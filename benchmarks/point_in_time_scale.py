"""Historical features on Ray: seconds and memory as the events grow from 5 to 50 millions.

Run: .venv/bin/python benchmarks/point_in_time_scale.py [--json] [--quick]

Ten events a question, 100 k keys; one view by its last row; every appended million of events covers the
whole time, so that time orders no files. `pit_scale_linearity` is the time an event at the largest size over
that at the smallest: 1 is linear. `pit_scale_peak_gib` is the memory of all processes of the platform, the
object store included, at the largest size, less what they have when idle: what they share counts once, and
pages of files, which the system takes back when it wants them, do not. Questions and answers grow with the
events there; `pit_scale_same_questions_gib` is the same where every size is asked the questions of the
smallest, which is done first: what the events alone need. Events are written by processes that end before
anything is asked, so that what an allocator keeps of them does not count. The seconds are the median of
several runs. The rows of the smallest size are compared with those of one process, to the bit.
"""

import gc
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
import psutil
import pyarrow as pa
import ray
from harness import Claim, main
from pit_indexed import SPAN_US, START_US, TIME, VALUES, view

from rayplat.cluster.processes import ours
from rayplat.cluster.session import connect, disconnect, down, up
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.distributed.historical import get_historical_dataset
from rayplat.features.lake import pin
from rayplat.features.offline import get_historical_features

KEYS, CHUNK, PER_QUESTION = 100_000, 1_000_000, 10


def measure(quick: bool) -> Sequence[Claim]:
    millions = (2, 5) if quick else (5, 10, 20, 50)
    with tempfile.TemporaryDirectory(prefix="rayplat-scale-") as folder:
        settings = settings_of(folder)
        return asked(settings, written(settings, millions), 1 if quick else 3)


def settings_of(folder: str) -> Settings:
    ray_settings = {"cpus": 2, "object_store_mib": 1024}
    return Settings.model_validate({"home": folder, "ray": ray_settings, "serve": {"port": 0}})


def written(settings: Settings, millions: Sequence[int]) -> dict[int, dict[str, int]]:
    """The pinned snapshots with so many million events; 0: with ten thousand, which the later ones hold."""
    snapshots, have = {0: _apart(settings, 0, 1, 0.01)}, 0
    for size in millions:
        snapshots[size] = _apart(settings, have, size, 1.0)
        have = size
    return snapshots


def _apart(settings: Settings, have: int, size: int, part: float) -> dict[str, int]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as writer:
        return writer.submit(_append, settings, have, size, part).result()


def asked(settings: Settings, snapshots: Mapping[int, dict[str, int]], runs: int) -> list[Claim]:
    """Ask what was written; nobody else's platform is at this home."""
    up(settings)
    lake = Lakehouse(settings)
    try:
        connect(settings)
        _ask(lake, _rows(1000), snapshots[0])  # starts the workers
        return _claims(settings, lake, snapshots, runs)
    finally:
        lake.close()
        disconnect()
        down(settings)


def _claims(
    settings: Settings, lake: Lakehouse, snapshots: Mapping[int, dict[str, int]], runs: int
) -> list[Claim]:
    millions, idle = sorted(set(snapshots) - {0}), held(settings)
    least, most = millions[0], millions[-1]
    seconds, gib, same = {}, {}, {}
    few = _rows(least * 1_000_000 // PER_QUESTION)
    for size in millions:
        with Peak(settings, idle) as peak:
            _ask(lake, few, snapshots[size])
        same[size] = peak.gib
    for size in millions:
        rows = _rows(size * 1_000_000 // PER_QUESTION)
        with Peak(settings, idle) as peak:
            seconds[size] = [_ask(lake, rows, snapshots[size]) for _ in range(runs)]
        gib[size] = peak.gib
    _compare(lake, few, snapshots[least])  # last: this process then holds what answers without tasks need
    took = {size: median(of) for size, of in seconds.items()}
    ratio = (took[most] / most) / (took[least] / least)
    spent = ", ".join(f"{size} M: {took[size]:.1f} s" for size in millions)
    peaks, alone = (", ".join(f"{size} M: {of[size]:.2f}" for size in millions) for of in (gib, same))
    return [
        *(Claim(f"pit_scale_{size}m_s", "s", seconds[size]) for size in millions),
        Claim("pit_scale_linearity", "x", [ratio], note=f"time an event, {most} M to {least} M ({spent})"),
        Claim("pit_scale_peak_gib", "GiB", [gib[most]], note=peaks),
        Claim("pit_scale_same_questions_gib", "GiB", [same[most]], note=alone),
    ]


def _compare(lake: Lakehouse, rows: pl.DataFrame, snapshots: dict[str, int]) -> None:
    """The rows of tasks are those of one process."""
    made = get_historical_features(rows, "at", [view()], lake, snapshots)
    dataset = get_historical_dataset(rows, "at", [view()], lake, snapshots)
    theirs = pl.concat([pl.DataFrame(table) for table in ray.get(dataset.to_arrow_refs())])
    bits = [frame.select(pl.col(pl.Float64).reinterpret(signed=True)) for frame in (made, theirs)]
    assert bits[0].equals(bits[1], null_equal=True)
    assert made.select("key", "at").equals(theirs.select("key", "at"))


def _append(settings: Settings, have: int, size: int, part: float) -> dict[str, int]:
    """Append events until there are `size` millions; the pinned snapshot."""
    lake = Lakehouse(settings)
    table = lake.ensure(view().source)
    columns = table.schema().names
    for chunk in range(have, size):
        pick = np.random.default_rng(chunk)
        rows = int(CHUNK * part)
        made = pl.DataFrame(
            {
                "key": pick.integers(0, KEYS, rows),
                "event": np.sort(pick.integers(0, SPAN_US, rows)) + START_US,
                **{name: pick.standard_normal(rows) for name in VALUES},
                "_partition": np.zeros(rows, np.int32),
                "_offset": np.arange(rows) + chunk * CHUNK,
            }
        ).with_columns(pl.col("event").cast(TIME))
        data: pa.Table = made.select(columns).to_arrow(compat_level=pl.CompatLevel.oldest())
        table.append(data)
    snapshot = pin(lake, [table.name])
    lake.close()
    return snapshot


def _rows(count: int) -> pl.DataFrame:
    pick = np.random.default_rng(count)
    rows = {"key": pick.integers(0, KEYS, count), "at": pick.integers(0, SPAN_US, count) + START_US}
    return pl.DataFrame(rows).with_columns(pl.col("at").cast(TIME))


def _ask(lake: Lakehouse, rows: pl.DataFrame, snapshots: dict[str, int]) -> float:
    begin = time.perf_counter()
    made = get_historical_dataset(rows, "at", [view()], lake, snapshots)
    assert made.count() == rows.height
    seconds = time.perf_counter() - begin
    del made
    gc.collect()  # lets go of what the object store holds
    return seconds


class Peak:
    """The most memory that the platform's processes have while the block runs, over what they have idle."""

    def __init__(self, settings: Settings, idle: int) -> None:
        self._settings, self._idle, self._done = settings, idle, threading.Event()
        self._most = 0
        self._watch = threading.Thread(target=self._look)

    @property
    def gib(self) -> float:
        return (self._most - self._idle) / 2**30

    def __enter__(self) -> "Peak":
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._watch.join()

    def _look(self) -> None:
        pause = 0.1
        while not self._done.wait(pause):
            begin = time.perf_counter()
            self._most = max(self._most, held(self._settings))
            pause = max(0.1, 9 * (time.perf_counter() - begin))  # looking takes no more than a tenth


def held(settings: Settings) -> int:
    """The memory of this process and the platform's processes, in bytes; what they share is counted once."""
    total = 0
    for process in [psutil.Process(), *ours(settings)]:
        try:
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it has just ended
        total += sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon", "Pss_Shmem")))
    return total * 1024


if __name__ == "__main__":
    main(measure, __doc__ or "")
