"""How commit, plan and verify grow with the number of files of a table.

Run: .venv/bin/python benchmarks/growth.py [--json] [--quick]

A table is filled with small files, ten a commit, and measured at 10, 100, 1,000 and 10,000 files
(--quick: up to 1,000). The claim is the figure at the most files; the note has the smaller tables.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
from harness import Claim, main

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.integrity import verify_table
from rayplat.data.lakehouse.table import LakeTable

_ROWS = 100
_A_COMMIT = 10
_RUNS = 5


def rows(number: int) -> pa.Table:
    columns = {f"x{i}": np.random.default_rng(i).random(_ROWS) for i in range(7)}
    return pa.table({"id": np.arange(number * _ROWS, (number + 1) * _ROWS), **columns})


def fill(table: LakeTable, have: int, want: int) -> None:
    writer = table.writer()
    for first in range(have, want, _A_COMMIT):
        files = [file for number in range(first, first + _A_COMMIT) for file in writer.write(rows(number))]
        table.replace(files, ())


def measured(table: LakeTable, files: int) -> dict[str, list[float]]:
    """Milliseconds of each; a plan is of one row's file, so that all others must be left out."""
    where = f"id = {files * _ROWS // 2}"
    work: dict[str, Callable[[], object]] = {
        "plan": lambda: table.scan(["x0"], where),
        "verify": lambda: verify_table(table.base()),
    }
    samples = {name: [_milliseconds(one) for _ in range(_RUNS)] for name, one in work.items()}
    fresh = table.write_files(rows(files))
    paths = {file.path for file in fresh}
    samples["commit"] = [_milliseconds(lambda: table.replace(fresh, ()))]
    for _ in range(_RUNS - 1):
        table.replace((), paths, operation="delete")
        fresh = table.write_files(rows(files))
        paths = {file.path for file in fresh}
        samples["commit"].append(_milliseconds(lambda one=fresh: table.replace(one, ())))
    table.replace((), paths, operation="delete")
    return samples


def _milliseconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1e3


def measure(quick: bool) -> list[Claim]:
    sizes = [10, 100, 1_000] if quick else [10, 100, 1_000, 10_000]
    found: dict[int, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        lake = Lakehouse(Settings(home=Path(folder)))
        table = lake.ensure_schema("raw.a", rows(0).schema)
        have = 0
        for files in sizes:
            fill(table, have, files)
            have = files
            found[files] = measured(table, files)
        lake.close()
    return [
        Claim(
            f"{name}_at_{sizes[-1]}_files_ms",
            "ms",
            found[sizes[-1]][name],
            note=", ".join(f"{files:,} files: {median(found[files][name]):.3g} ms" for files in sizes[:-1]),
        )
        for name in ("commit", "plan", "verify")
    ]


if __name__ == "__main__":
    main(measure, __doc__ or "")
