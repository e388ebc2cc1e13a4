"""Parts of a scan: row groups that can be read one by one, in any order, several times.

Knows how a row group is decoded batch by batch and what its footer says of its columns; it does not know
which files a snapshot has.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from rayplat.data.lakehouse.packed_pages import PackedColumn, PackedFile
from rayplat.data.lakehouse.scan import Scan
from rayplat.data.lakehouse.stored import ScanFile, StoredFile

BATCH = 65_536


@dataclass(frozen=True, slots=True)
class RowGroup:
    """One row group of a data file. Any thread may read it.

    Attributes:
        rows: how many rows it has.
        least, greatest: by column, as integers; columns whose bounds the footer does not tell are left out.
        footer: of the file, so that it is read once.
        pages: the file as packed columns, where it may be read so.
    """

    scan: Scan
    file: ScanFile
    number: int
    rows: int
    least: dict[str, int]
    greatest: dict[str, int]
    footer: pq.FileMetaData
    pages: PackedFile | None = None

    @property
    def place(self) -> str:
        """Where the rows lie; data files never change."""
        return f"{self.file.path}#{self.number}"

    def bounds(self, column: str) -> tuple[int, int] | None:
        """Least and greatest value as integers (times: microseconds); None where the footer does not say."""
        return (self.least[column], self.greatest[column]) if column in self.least else None

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows in their order, as batches of some of the scan's columns.

        Raises:
            IntegrityError: the file is not what was written.
        """
        stored = self.scan.open(self.file, self.footer)
        try:
            yield from stored.batches(self.number, columns, BATCH)
        finally:
            stored.close()

    def packed(self, column: str) -> PackedColumn | None:
        """A column of 64-bit values without nulls, to be unpacked page by page; None where it is no such one.

        Raises:
            IntegrityError: the file is not what was written.
        """
        return None if self.pages is None else self.pages.column(self.number, column)


def row_groups(scan: Scan) -> list[RowGroup]:
    """The row groups of an unfiltered scan, in the order of `Scan.arrow`.

    Raises:
        IntegrityError: a file is not there or is no Parquet file.
    """
    found = []
    for file in scan.files:
        stored = scan.open(file)
        try:
            pages = stored.packed()
            found += [_row_group(scan, file, stored, number, pages) for number in stored.row_groups()]
        finally:
            stored.close()
    return found


def _row_group(
    scan: Scan, file: ScanFile, stored: StoredFile, number: int, pages: PackedFile | None
) -> RowGroup:
    told = {name: stored.bounds(number, name) for name in scan.wanted.columns}
    least = {name: bounds[0] for name, bounds in told.items() if bounds}
    greatest = {name: bounds[1] for name, bounds in told.items() if bounds}
    return RowGroup(scan, file, number, stored.rows(number), least, greatest, stored.footer, pages)
