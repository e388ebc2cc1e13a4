"""Damage in a Parquet file: which rows of which columns the broken bytes belong to.

Knows the pages and their CRC-32 checksums, and reads them without decoding a value, so that broken bytes
can neither crash nor mislead a decoder; it does not know what the file should have been. The page header
is read as the Parquet specification (`parquet.thrift`, Thrift compact protocol) lays it out.
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

EVERY_COLUMN = "*"
"""Stands for all columns, where the damage is not in a page."""

_DICTIONARY = 2
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 11, 12
_LONGEST_VARINT = 10
_DEEPEST = 4  # of structs in structs: broken bytes must not exhaust the stack


@dataclass(frozen=True, slots=True, order=True)
class RowRange:
    """Rows of a file by their position: from `first` up to, not with, `end`; and the column."""

    first: int
    end: int
    column: str


def damaged_rows(system: pafs.FileSystem, inside: str, rows: int) -> tuple[RowRange, ...]:
    """The rows whose pages do not have the checksum that was written with them.

    Args:
        inside: the file's path in `system`; `rows`: how many rows it should have.

    Returns:
        The ranges, by column and position; all rows of every column where the footer cannot be read. None,
        where all pages are whole, or have no checksum: headers and footer may still be broken.
    """
    try:
        with system.open_input_file(inside) as source:
            return tuple(_joined(_walk(source, pq.read_metadata(source))))
    except (pa.ArrowException, OSError, ValueError):
        return (RowRange(0, rows, EVERY_COLUMN),)


def _walk(source: Any, footer: pq.FileMetaData) -> Iterator[RowRange]:
    first = 0
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for index in range(group.num_columns):
            chunk = group.column(index)
            if footer.schema.column(index).max_repetition_level == 0:
                for start, end in _walk_chunk(source, chunk, group.num_rows):
                    yield RowRange(first + start, first + end, chunk.path_in_schema)
            elif _walk_chunk(source, chunk, chunk.num_values):
                # Pages of lists count elements, and do not say in which row the first one is.
                yield RowRange(first, first + group.num_rows, chunk.path_in_schema.partition(".")[0])
        first += group.num_rows


def _walk_chunk(source: Any, chunk: Any, rows: int) -> list[tuple[int, int]]:
    """The damaged ones of the `rows` values of a column chunk, counted from its first."""
    source.seek(chunk.dictionary_page_offset or chunk.data_page_offset)
    content = memoryview(source.read(chunk.total_compressed_size))
    if len(content) != chunk.total_compressed_size:
        return [(0, rows)]
    found: list[tuple[int, int]] = []
    at = row = 0
    while at < len(content):
        try:
            header, at = _struct(content, at)
            page, at = _page(content, at, header)
            count = _values_of(header)
        except (ValueError, IndexError, KeyError, TypeError):
            # The chain of headers is broken: nothing behind this place can be told apart.
            return [*found, (row, rows)]
        whole = header.get(4) is None or zlib.crc32(page) == header[4] & 0xFFFFFFFF
        if not whole and header[1] == _DICTIONARY:
            return [(0, rows)]  # every value of the chunk is looked up in it
        if not whole:
            found.append((row, row + count))
        row += count
    return found if row == rows else [(0, rows)]


def _page(content: memoryview, at: int, header: dict[int, Any]) -> tuple[memoryview, int]:
    size = header[3]
    if size < 0 or at + size > len(content):
        raise ValueError(f"a page of {size} bytes at {at} of {len(content)}")
    return content[at : at + size], at + size


def _values_of(header: dict[int, Any]) -> int:
    """How many values a page has; in a flat column a value is a row."""
    if header[1] == _DICTIONARY:
        return 0
    return int(header[8 if 8 in header else 5][1])


def _struct(content: memoryview, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """A Thrift struct in the compact protocol: its fields by id, and where it ends."""
    if depth > _DEEPEST:
        raise ValueError("structs in structs without end")
    fields: dict[int, Any] = {}
    last = 0
    while True:
        head = content[at]
        at += 1
        kind = head & 0x0F
        if kind == _STOP:
            return fields, at
        if head >> 4:
            last += head >> 4
        else:
            last, at = _zigzag(content, at)
        fields[last], at = _value(content, at, kind, depth)


def _value(content: memoryview, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, at
    if kind == _BYTE:
        return content[at], at + 1
    if kind < _DOUBLE:
        return _zigzag(content, at)
    if kind == _DOUBLE:
        return None, at + 8
    if kind == _BINARY:
        size, at = _varint(content, at)
        if at + size > len(content):
            raise ValueError(f"a text of {size} bytes")
        return None, at + size
    if kind == _STRUCT:
        return _struct(content, at, depth + 1)
    raise ValueError(f"a page header has no field of the type {kind}")


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for position in range(_LONGEST_VARINT):
        byte = content[at + position]
        value |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return value, at + position + 1
    raise ValueError("a number that does not end")


def _zigzag(content: memoryview, at: int) -> tuple[int, int]:
    value, at = _varint(content, at)
    return (value >> 1) ^ -(value & 1), at


def _joined(ranges: Iterable[RowRange]) -> Iterator[RowRange]:
    """Ranges of one column that touch, as one."""
    pending: RowRange | None = None
    for part in sorted(ranges, key=lambda r: (r.column, r.first)):
        if pending and pending.column == part.column and part.first <= pending.end:
            pending = RowRange(pending.first, max(pending.end, part.end), pending.column)
            continue
        if pending:
            yield pending
        pending = part
    if pending:
        yield pending
