"""Seen values: a memory of the hashes of what a table holds, kept up with its files.

Knows which rows cannot repeat a stored one; it does not know which ones do (a read tells that).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from rayplat.data.lakehouse.table import LakeTable
from rayplat.data.profile.parts import FilePart

Hashes = npt.NDArray[np.uint64]

_RUNS = 16


class Seen:
    """The hashes of some columns of a table. 8 bytes a row; each file is read once, when it is first seen.

    Files that are gone leave their hashes here: a row is then looked up for nothing, and never missed.

    Args:
        columns: whose values together are hashed; rows with a null among them are left out.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        self._paths: set[str] = set()
        self._runs: list[Hashes] = []

    def follow(self, table: LakeTable) -> None:
        """Take in the files that have come since the last time."""
        new = sorted(table.paths() - self._paths)
        if not new:
            return
        writer = table.writer()
        schema = pa.schema([writer.schema.field(name) for name in self._columns])
        batches = (b for path in new for b in FilePart(path, schema, writer.systems).batches())
        found = [self._hashes(pl.DataFrame(pl.from_arrow(pa.Table.from_batches([b])))) for b in batches]
        self._runs.append(np.sort(np.concatenate([np.empty(0, np.uint64), *found])))
        self._paths.update(new)
        if len(self._runs) > _RUNS:
            self._runs = [np.sort(np.concatenate(self._runs))]

    def maybe(self, frame: pl.DataFrame) -> pl.Series:
        """Mark the rows that may repeat a stored one; the others surely do not, or have a null."""
        there = frame.select(pl.all_horizontal(pl.col(self._columns).is_not_null()).alias("there"))["there"]
        hashes = self._hashes(frame)
        # Looked up in their own order: places that are near each other are in the cache.
        order = np.argsort(hashes)
        hashes = hashes[order]
        known = np.zeros(len(hashes), dtype=bool)
        for run in self._runs:
            if len(run):
                places = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
                known |= run[places] == hashes
        marked = np.zeros(frame.height, dtype=bool)
        marked[np.flatnonzero(there.to_numpy())[order]] = known
        return pl.Series("maybe", marked)

    def _hashes(self, frame: pl.DataFrame) -> Hashes:
        whole = frame.select(self._columns).drop_nulls()
        hashes: Hashes = whole.hash_rows().to_numpy()
        return hashes
