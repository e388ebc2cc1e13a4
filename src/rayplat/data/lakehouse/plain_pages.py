"""Plain pages: columns of a Parquet file that can be used where they lie, without decoding.

Knows the header of a data page (Apache Parquet Format: parquet.thrift, Thrift compact protocol) and when
the bytes behind it are the values themselves; it does not know tables. What is not so is left to a decoder.
"""

import errno
import mmap
import os
import sys
from typing import Any

import numpy as np
import pyarrow.parquet as pq

_TYPES = {"INT32": "<i4", "INT64": "<i8", "FLOAT": "<f4", "DOUBLE": "<f8"}
_ENCODINGS = {"PLAIN", "RLE", "BIT_PACKED"}
_DATA_PAGE = 0
_PLAIN = 0
# The fields of PageHeader and DataPageHeader, by their Thrift numbers.
_KIND, _SIZE, _DATA_HEADER = 1, 2, 5
_VALUES, _ENCODING = 1, 2
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 0, 1, 2, 3, 7, 8, 12
_INTEGERS = (4, 5, 6)
# Linux 5.14: map the pages now, and say with an error that the disk cannot give them (else SIGBUS later).
_MADV_POPULATE_READ = 22
# Else a private mapping counts as memory that may be needed, where the system does not overcommit.
# (Python names the flag from 3.13 on.)
_NORESERVE = 0x4000 if sys.platform == "linux" else 0


class PlainPages:
    """A local Parquet file, mapped. Arrays live on after it: they hold the mapping.

    The mapping is private: whoever writes into an array changes his copy of that memory, never the file.

    Args:
        path: the file.
        footer: its metadata.

    Raises:
        OSError: the file is not there or cannot be mapped.
    """

    def __init__(self, path: str, footer: pq.FileMetaData) -> None:
        self._footer = footer
        handle = os.open(path, os.O_RDONLY)
        try:
            self._mapping = mmap.mmap(
                handle,
                0,
                flags=mmap.MAP_PRIVATE | _NORESERVE,
                prot=mmap.PROT_READ | mmap.PROT_WRITE,
            )
        finally:
            os.close(handle)

    def column(self, row_group: int, column: int) -> "np.ndarray[Any, Any] | None":
        """The values of one column of one row group, where they lie.

        Args:
            row_group, column: their numbers in the file.

        Returns:
            A view of the mapped file, shape (rows,), of the physical type (int32, int64, float32 or
            float64); None where the values are encoded, compressed, null in places or in several pages.

        Raises:
            OSError: the disk cannot read the bytes.
        """
        chunk = self._footer.row_group(row_group).column(column)
        kind = _TYPES.get(chunk.physical_type)
        told = chunk.statistics
        if (
            kind is None
            or chunk.compression != "UNCOMPRESSED"
            or chunk.has_dictionary_page
            or not set(chunk.encodings) <= _ENCODINGS
            or told is None
            or not told.has_null_count
            or told.null_count
        ):
            return None
        described = self._footer.schema.column(column)
        if described.max_repetition_level > 0:
            return None  # a list's values are not one a row
        nullable = described.max_definition_level > 0
        return self._page(chunk, np.dtype(kind), nullable=nullable)

    def _page(self, chunk: Any, kind: "np.dtype[Any]", *, nullable: bool) -> "np.ndarray[Any, Any] | None":
        begin, end = chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size
        try:
            header, first = _struct(self._mapping, begin)
        except (ValueError, IndexError):
            return None
        data = header.get(_DATA_HEADER)
        size, values = header.get(_SIZE, -1), chunk.num_values
        if header.get(_KIND) != _DATA_PAGE or not isinstance(data, dict) or first + size != end:
            return None
        if data.get(_VALUES) != values or data.get(_ENCODING) != _PLAIN:
            return None
        levels = 0
        if nullable:
            # Definition levels: their length, then all ones, for nothing is null.
            levels = 4 + int.from_bytes(self._mapping[first : first + 4], "little")
        if levels + values * kind.itemsize != size:
            return None
        self._populate(begin, end)
        return np.frombuffer(self._mapping, kind, values, first + levels)

    def _populate(self, begin: int, end: int) -> None:
        start = begin // mmap.PAGESIZE * mmap.PAGESIZE
        try:
            self._mapping.madvise(_MADV_POPULATE_READ, start, end - start)
        except OSError as error:
            if error.errno != errno.EINVAL:  # an older kernel: the pages come when they are touched
                raise


def _struct(data: Any, at: int) -> tuple[dict[int, Any], int]:
    """Read a Thrift struct; returns its numbers, flags and structs by field, and where it ends."""
    found: dict[int, Any] = {}
    field = 0
    while True:
        head = data[at]
        at += 1
        if head == _STOP:
            return found, at
        step, kind = head >> 4, head & 15
        if step:
            field += step
        else:
            number, at = _varint(data, at)
            field = _signed(number)
        found[field], at = _value(data, at, kind)


def _value(data: Any, at: int, kind: int) -> tuple[Any, int]:
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, at
    if kind == _BYTE:
        return data[at], at + 1
    if kind in _INTEGERS:
        number, at = _varint(data, at)
        return _signed(number), at
    if kind == _DOUBLE:
        return None, at + 8
    if kind == _BINARY:
        length, at = _varint(data, at)
        return None, at + length
    if kind == _STRUCT:
        return _struct(data, at)
    raise ValueError(f"a page header has a field of Thrift type {kind}")


def _varint(data: Any, at: int) -> tuple[int, int]:
    found = shift = 0
    while True:
        byte = data[at]
        at += 1
        found |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return found, at


def _signed(number: int) -> int:
    return (number >> 1) ^ -(number & 1)
