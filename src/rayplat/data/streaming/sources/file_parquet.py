"""Parquet files in pieces: rows in the declared types, whichever widths the file has.

Knows row groups and page checksums; it does not know which files there are.
"""

from collections.abc import Mapping
from itertools import accumulate

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from rayplat.core.project.table import Column
from rayplat.data.streaming.sources.file_text import Damage, Piece, guarded, nulls
from rayplat.data.streaming.sources.typed import typed_arrow

_BATCH = 16_384


class ParquetReader:
    """Rows of a Parquet file; columns that are not declared are left out.

    Args:
        file: the open file; it is closed by who opened it.
        row: the number of the row to begin with.
        columns: the declared columns.

    Raises:
        OSError, pa.ArrowException: it is no Parquet file.
    """

    def __init__(self, file: pa.NativeFile, row: int, columns: Mapping[str, Column]) -> None:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        self._columns = columns
        self._names = [name for name in parquet.schema_arrow.names if name in columns]
        self._all = parquet.schema_arrow.names
        self._total = parquet.metadata.num_rows
        self._row = row
        sizes = [parquet.metadata.row_group(i).num_rows for i in range(parquet.metadata.num_row_groups)]
        ends = list(accumulate(sizes))
        groups = [i for i, end in enumerate(ends) if end > row]
        skip = row - (ends[groups[0]] - sizes[groups[0]]) if groups else 0
        self._batches = guarded(parquet.iter_batches(_BATCH, row_groups=groups, columns=self._names))
        self._rest: pa.RecordBatch | Damage | None = None
        while skip:
            batch = next(self._batches)
            if isinstance(batch, Damage):
                raise batch.error
            self._rest = batch.slice(skip) if batch.num_rows > skip else None
            skip -= min(skip, batch.num_rows)

    def take(self, most: int, most_bytes: int, before: int) -> Piece:
        """As `FileReader.take`."""
        if self._total and not self._names:
            fault = f"the file has none of the declared columns: {', '.join(self._all)[:200]}"
            return Piece([0], 1, done=True, frame=nulls(1, self._columns), bad={0: fault})
        frames: list[pl.DataFrame] = []
        batches: list[pa.RecordBatch] = []
        bad: dict[int, str] = {}
        begin, size = self._row, 0
        end = min(self._total, before, begin + most)
        while self._row < end and size < most_bytes:
            batch = self._rest if self._rest is not None else next(self._batches)
            if isinstance(batch, Damage):
                self._rest = batch
                if not frames:
                    raise batch.error
                break
            wanted = min(batch.num_rows, end - self._row)
            self._rest = batch.slice(wanted) if wanted < batch.num_rows else None
            batch = batch.slice(0, wanted)
            frame, misfits = typed_arrow(batch, self._columns)
            frames.append(frame)
            batches.append(batch)
            bad.update({self._row + i: reason for i, reason in misfits.items()})
            self._row += wanted
            size += batch.nbytes
        rows = list(range(begin, self._row))
        frame = pl.concat(frames) if frames else nulls(0, self._columns)
        done = self._row >= self._total
        return Piece(rows, self._row, done, frame=frame, bad=bad, raw=lambda i: _json(batches, i))


def _json(batches: list[pa.RecordBatch], index: int) -> bytes:
    row = pa.Table.from_batches(batches).slice(index, 1).to_pylist()[0]
    return orjson.dumps(row, default=_plain, option=orjson.OPT_NON_STR_KEYS)


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
