"""Rewriting: the rows of some files as new files, proven to be the same rows.

Knows how a bin is read, ordered, written and compared; it does not know the catalog, so that it runs in
a task. A source whose bytes are not what was written is refused: a flipped bit must not get a new digest.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.manifest import DataFile as NativeFile
from pyiceberg.manifest import DataFileContent, FileFormat
from pyiceberg.table import FileScanTask
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.typedef import Record

from rayplat.core.errors import BugError, IntegrityError
from rayplat.core.project.table import Clustering
from rayplat.data.lakehouse.files import DataFile, FileWriter
from rayplat.data.lakehouse.integrity import Damage, verify_file
from rayplat.data.lakehouse.maintenance.clustering import clustered
from rayplat.data.lakehouse.maintenance.plan import Bin

_SEEDS = (0x5EED, 0xF00D)


@dataclass(frozen=True, slots=True)
class Content:
    """What rows are, whatever their order: their number, and two sums of their hashes."""

    rows: int
    hashes: tuple[int, ...]


def content_of(data: pa.Table) -> Content:
    """The content of rows; the columns' order counts, the rows' order does not."""
    if data.num_rows == 0:
        return Content(0, tuple(0 for _ in _SEEDS))
    frame = pl.DataFrame(data)
    return Content(data.num_rows, tuple(int(frame.hash_rows(seed).sum()) for seed in _SEEDS))


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A bin, and the files that hold the same rows."""

    bin: Bin
    files: tuple[DataFile, ...]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Rewrites bins of one table; pickles.

    Attributes:
        writer: writes the files, by the current schema and partition spec.
        metadata, io: how the present files are read.
        clustering: the order of the rows; None: the table's sort order.
    """

    writer: FileWriter
    metadata: TableMetadata
    io: FileIO
    clustering: Clustering | None = None

    def __call__(self, one: Bin) -> Rewritten:
        """Write the rows of a bin again. Nothing is committed, and no file is removed.

        Raises:
            IntegrityError: a file is not what was written.
            FileNotFoundError: a file is not there: its snapshots have expired meanwhile.
            BugError: the new files do not hold the same rows.
        """
        for file in one.files:
            self._check(verify_file(file, self.writer.systems))
        data = self._read(
            self._native(file.path, file.rows, file.size, one.spec_id, file.partition) for file in one.files
        )
        before = content_of(data)
        if before.rows != one.rows:
            raise IntegrityError(
                f"{len(one.files)} files of {self.writer.name} have {before.rows} rows, not the {one.rows} "
                "that their manifests tell",
                "run `rayplat data verify`",
            )
        files = self._write(data)
        del data  # what was written is read back whole: both at once would double the memory
        after = content_of(
            self._read(
                self._native(file.path, file.rows, file.bytes, file.spec_id, file.described["partition"])
                for file in files
            )
        )
        if after != before:
            raise BugError(f"{self.writer.name}: rewriting changed the rows: {before} became {after}")
        return Rewritten(one, tuple(files))

    def _check(self, found: Damage | str | None) -> None:
        if not isinstance(found, Damage):
            return
        if found.kind == "missing":
            raise FileNotFoundError(found.path)
        raise IntegrityError(
            f"{found.path} is damaged: {found.detail}", "run `rayplat data verify`; nothing was changed"
        )

    def _write(self, data: pa.Table) -> list[DataFile]:
        if self.clustering is None:
            return self.writer.write(data)
        unsorted = replace(self.writer, order=UNSORTED_SORT_ORDER)
        return unsorted.write(clustered(data, self.clustering))

    def _read(self, files: Iterable[NativeFile]) -> pa.Table:
        scan = ArrowScan(self.metadata, self.io, self.writer.iceberg, AlwaysTrue())
        data = scan.to_table([FileScanTask(file) for file in files])
        schema = self.writer.schema
        return pa.table([data[field.name].cast(field.type) for field in schema], schema=schema)

    def _native(
        self, path: str, rows: int, size: int, spec_id: int, partition: Mapping[str, Any]
    ) -> NativeFile:
        file = NativeFile.from_args(
            content=DataFileContent.DATA,
            file_path=path,
            file_format=FileFormat.PARQUET,
            partition=Record(*(partition.get(f.name) for f in self.metadata.specs()[spec_id].fields)),
            record_count=rows,
            file_size_in_bytes=size,
        )
        file.spec_id = spec_id
        return file
