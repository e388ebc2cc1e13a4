"""How long a commit takes, whether it stays so, and how fast every stored byte is verified.

Run: .venv/bin/python benchmarks/commits.py [--json] [--quick]

A commit is: 1,000 rows of 8 columns written as one durable Parquet file with its digest, and made visible
with the source's offsets, fenced. Ours makes 1,000 of them; a peer makes as many as its growth allows
(they are slower with every commit), in turns with ours. The limit of a commit is the same bytes written
and synced as four files, with one transaction of SQLite. The limit of verifying is SHA-256 over memory.
"""

import hashlib
import os
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
from harness import Claim, main, peer_python

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.data.lakehouse.integrity import verify_table

_ROWS = 1_000
_THREADS = 2
_DELTA = """
import sys, time, tempfile
import numpy as np, pyarrow as pa
from deltalake import write_deltalake
columns = {f"x{i}": np.random.default_rng(i).random(1000) for i in range(7)}
with tempfile.TemporaryDirectory() as folder:
    for number in range(int(sys.argv[1])):
        data = pa.table({"offset": np.arange(number * 1000, (number + 1) * 1000), **columns})
        begin = time.perf_counter()
        write_deltalake(folder, data, mode="append")
        print((time.perf_counter() - begin) * 1e3)
"""


def rows(number: int) -> pa.Table:
    columns = {f"x{i}": np.random.default_rng(i).random(_ROWS) for i in range(7)}
    return pa.table({"offset": np.arange(number * _ROWS, (number + 1) * _ROWS), **columns})


def ours(folder: Path) -> Callable[[int], None]:
    lake = Lakehouse(Settings(home=folder / "rayplat"))
    lake.ensure_schema("raw.a", rows(0).schema)
    committer = FencedCommitter(lake, "raw.a", "kafka:a")
    expected: dict[str, int] = {}

    def commit(number: int) -> None:
        nonlocal expected
        offsets = {"0": (number + 1) * _ROWS}
        committer.commit(committer.table.write_files(rows(number)), expected, offsets)
        expected = offsets

    return commit


def pyiceberg(folder: Path) -> Callable[[int], None]:
    from pyiceberg.catalog.sql import SqlCatalog

    (folder / "pyiceberg").mkdir()
    catalog = SqlCatalog(
        "peer", uri=f"sqlite:///{folder}/pyiceberg.db", warehouse=f"file://{folder}/pyiceberg"
    )
    catalog.create_namespace("raw")
    table = catalog.create_table("raw.a", rows(0).schema)
    return lambda number: table.append(rows(number), snapshot_properties={"offset": str(number)})


def limit(folder: Path) -> Callable[[int], None]:
    """The least that a durable commit can be: its bytes in four files, and one transaction."""
    database = sqlite3.connect(folder / "limit.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE pointer (address TEXT)")
    database.execute("INSERT INTO pointer VALUES ('')")
    sizes = (66_000, 4_000, 4_000, 60_000)

    def commit(number: int) -> None:
        for place, size in enumerate(sizes):
            with (folder / f"{number}-{place}").open("wb") as file:
                file.write(b"x" * size)
                file.flush()
                os.fsync(file.fileno())
        database.execute("UPDATE pointer SET address = ?", (str(number),))

    return commit


def commits(quick: bool) -> list[Claim]:
    count, peer_count = (1_000, 60) if quick else (1_000, 300)
    samples: dict[str, list[float]] = {"rayplat": [], "pyiceberg": [], "limit": []}
    with tempfile.TemporaryDirectory() as folder:
        made = {"rayplat": ours, "pyiceberg": pyiceberg, "limit": limit}
        work = {name: make(Path(folder)) for name, make in made.items()}
        for number in range(count):
            for name in work if number < peer_count else ["rayplat"]:
                begin = time.perf_counter()
                work[name](number)
                samples[name].append((time.perf_counter() - begin) * 1e3)
    peers = {"pyiceberg": samples["pyiceberg"]}
    if not quick:
        python = peer_python("deltalake", ["deltalake>=1.2", "pyarrow", "numpy"])
        told = subprocess.run(
            [python, "-c", _DELTA, str(peer_count)], capture_output=True, text=True, check=True
        )
        peers["delta_rs"] = [float(line) for line in told.stdout.splitlines()]
    note = f"rayplat over {count:,} commits, peers over {peer_count}"
    return [
        Claim("commit_p50_ms", "ms", samples["rayplat"], peers, limit=median(samples["limit"]), note=note),
        Claim(
            "commit_flatness",
            "last/first",
            [_growth(samples["rayplat"], 100)],
            {name: [_growth(values, len(values) // 10)] for name, values in peers.items()},
            limit=1.0,
            note="median of the last tenth over that of the first",
        ),
    ]


def _growth(samples: Sequence[float], part: int) -> float:
    return median(samples[-part:]) / median(samples[:part])


def verifying(quick: bool) -> Claim:
    files, runs = (4, 3) if quick else (8, 7)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lakehouse(Settings(home=Path(folder)))
        table = lake.ensure_schema("raw.a", pa.schema([pa.field("x", pa.float64())]))
        for number in range(files):
            values = np.random.default_rng(number).random(4_000_000)
            table.append(pa.table({"x": values}))
        paths = [path.removeprefix("file://") for path in table.paths()]
        size = sum(Path(path).stat().st_size for path in paths)
        memory = os.urandom(size // _THREADS)
        samples: dict[str, list[float]] = {"rayplat": [], "sha256sum": [], "limit": []}
        for _ in range(runs):
            samples["rayplat"].append(_rate(size, lambda: verify_table(table.base(), threads=_THREADS)))
            samples["sha256sum"].append(_rate(size, lambda: _sha256sum(paths)))
            samples["limit"].append(_rate(size, lambda: _hash_memory(memory)))
    return Claim(
        "verify_gb_per_s",
        "GB/s",
        samples["rayplat"],
        {"sha256sum": samples["sha256sum"]},
        higher_is_better=True,
        limit=median(samples["limit"]),
        note=f"{size / 1e9:.2f} GB in {files} files, {_THREADS} threads",
    )


def _rate(size: int, work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return size / 1e9 / (time.perf_counter() - begin)


def _sha256sum(paths: Sequence[str]) -> None:
    half = len(paths) // _THREADS
    running = [
        subprocess.Popen(["sha256sum", *part], stdout=subprocess.DEVNULL)
        for part in (paths[:half], paths[half:])
    ]
    for process in running:
        process.wait()


def _hash_memory(memory: bytes) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda _: hashlib.sha256(memory).digest(), range(_THREADS)))


def measure(quick: bool) -> list[Claim]:
    return [*commits(quick), verifying(quick)]


if __name__ == "__main__":
    main(measure, __doc__ or "")
