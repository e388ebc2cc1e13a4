"""Packed pages: columns of 64-bit values without nulls, unpacked into memory that the reader gives.

Knows where a column's pages lie in a local Parquet file; it does not know tables. Arrow's decoder takes about
twice as long for such columns, and gives fresh memory; whatever is not such a column is left to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rayplat.core.errors import IntegrityError

if TYPE_CHECKING:
    from zstandard import ZstdDecompressor

Int64s = npt.NDArray[np.int64]

_PHYSICAL = {"INT64", "DOUBLE"}
_ENCODINGS = {"PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "RLE", "BIT_PACKED"}
_DATA_PAGE = 0
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A local Parquet file; pickles. Any thread may read it.

    Attributes:
        path: the file; `footer`: its metadata.
        columns: number and type of those of its columns that may be asked for, by name.
    """

    path: str
    footer: pq.FileMetaData
    columns: Mapping[str, tuple[int, pa.DataType]]

    def column(self, row_group: int, name: str) -> "PackedColumn | None":
        """A column of one row group.

        Returns:
            None where the values are not of 64 bits, null in places, or encoded in other ways.

        Raises:
            IntegrityError: the file is not there.
            OSError: it cannot be read.
        """
        if name not in self.columns:
            return None
        number, kind = self.columns[name]
        chunk = self.footer.row_group(row_group).column(number)
        told, described = chunk.statistics, self.footer.schema.column(number)
        if (
            chunk.physical_type not in _PHYSICAL
            or chunk.compression not in {"ZSTD", "UNCOMPRESSED"}
            or chunk.has_dictionary_page
            or not set(chunk.encodings) <= _ENCODINGS
            or told is None
            or not told.has_null_count
            or told.null_count
            or described.max_repetition_level > 0  # a list's values are not one a row
        ):
            return None
        try:
            with pa.memory_map(self.path) as mapped:
                mapped.seek(chunk.data_page_offset)
                data = mapped.read_buffer(chunk.total_compressed_size)
        except FileNotFoundError as error:
            raise _broken(self.path, "is not there") from error
        pages = _pages(data)
        if pages is None or sum(page[3] for page in pages) != chunk.num_values:
            return None
        nullable = described.max_definition_level > 0
        return PackedColumn(
            self.path, kind, data, pages, packed=chunk.compression == "ZSTD", nullable=nullable
        )


class PackedColumn:
    """One column of one row group, for one thread at a time.

    Args:
        path: of the file, for messages.
        kind: the type of the values.
        data: the bytes of its pages; `pages`: what their headers say (see `unpacking.headers`).
        packed: whether the pages are compressed, as zstd.
        nullable: whether there could be nulls.
    """

    def __init__(
        self,
        path: str,
        kind: pa.DataType,
        data: pa.Buffer,
        pages: list[list[int]],
        *,
        packed: bool,
        nullable: bool,
    ) -> None:
        self.kind = kind
        self._path, self._data, self._pages, self._nullable = path, memoryview(data), pages, nullable
        self._zstd = _decompressor() if packed else None

    @property
    def rows(self) -> list[int]:
        """How many rows each page has."""
        return [page[3] for page in self._pages]

    def into(self, page: int, out: Int64s) -> None:
        """Unpack the values of a page, or the bits of floats.

        Args:
            page: its number.
            out: becomes its values; as many as it has rows.

        Raises:
            IntegrityError: the page is not what was written.
        """
        # Imported here, and below: kernels are loaded only by who has many rows.
        from rayplat.data.lakehouse.unpacking import unpack

        _, whole, size, _, encoding, first = self._pages[page]
        data: memoryview | bytes = self._data[first : first + size]
        if self._zstd is not None:
            data = self._decompressed(self._zstd, self._data[first : first + size], whole)
        if not unpack(np.frombuffer(data, np.uint8), self._nullable, encoding, out):
            raise _broken(self._path, "cannot be decoded: a page is not as its header says")

    def _decompressed(self, zstd: "ZstdDecompressor", data: memoryview, whole: int) -> bytes:
        from zstandard import ZstdError

        try:
            return zstd.decompress(data, max_output_size=whole)
        except ZstdError as error:
            raise _broken(self._path, f"cannot be decoded: {error}") from error


def _broken(path: str, what: str) -> IntegrityError:
    return IntegrityError(
        f"data file {path} {what}", "see `rayplat data verify`; restore the file, or read an older snapshot"
    )


def _decompressor() -> "ZstdDecompressor":
    from zstandard import ZstdDecompressor

    return ZstdDecompressor()


def _pages(data: pa.Buffer) -> list[list[int]] | None:
    """What the header of each page says; None where they are not as expected."""
    from rayplat.data.lakehouse.unpacking import DELTA, ENCODING, KIND, PLAIN, SPLIT, headers

    view, at = np.frombuffer(data, np.uint8), 0
    found: list[list[int]] = []
    while at < len(view):
        told = np.full((_AT_ONCE, 6), -1)
        count, at = headers(view, at, told)
        if at < 0:
            return None
        found += told[:count].tolist()
    fits = all(page[KIND] == _DATA_PAGE and page[ENCODING] in {PLAIN, DELTA, SPLIT} for page in found)
    return found if fits and all(min(page) >= 0 for page in found) else None
