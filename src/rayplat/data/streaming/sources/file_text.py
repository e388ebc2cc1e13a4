"""Text files in pieces: lines of NDJSON as they are, rows of CSV in the declared types.

Knows lines, quotes and how memory stays bounded; it does not know which files there are.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Protocol, TypeVar

import polars as pl
import pyarrow as pa

from rayplat.core.project.table import Column
from rayplat.data.streaming.sources.typed import typed_text

Item = TypeVar("Item")

LONGEST_LINE = 16 * 2**20
"""A longer line is told as bad: memory must stay bounded."""
_BLOCK = 2**20
_SHOWN = 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """Some records of a file, in order.

    Attributes:
        rows: the number of each record in the file; there may be gaps.
        values: the raw bytes, unless there is a `frame`, which then has one row a record.
        bad: the numbers of records that could not be read, with the reason.
        raw: gives the record at an index as text in UTF-8, beside a frame.
        next_row: where the next piece begins; `done`: the file ends here.
    """

    rows: list[int]
    next_row: int
    done: bool
    values: list[bytes | None] = field(default_factory=list)
    frame: pl.DataFrame | None = None
    bad: Mapping[int, str] = field(default_factory=dict)
    raw: Callable[[int], bytes] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Damage:
    """Stands behind the last thing that could be read of a file."""

    error: Exception


DAMAGES = (OSError, pa.ArrowException)
"""What is raised by a file that cannot be read on."""


class FileReader(Protocol):
    """An open file, read on from where the last piece ended."""

    def take(self, most: int, most_bytes: int, before: int) -> Piece:
        """Up to `most` records or about `most_bytes`, with numbers below `before`.

        What is before a damage is given first, so that pieces of any size give the same.

        Raises:
            OSError, pa.ArrowException: the file cannot be read on from here.
        """
        ...


class LineReader:
    """Lines of a stream; each is a record, but blank ones.

    Args:
        stream: the decompressed bytes; it is closed by who opened it.
        row: the number of the line to begin with.
    """

    def __init__(self, stream: pa.NativeFile, row: int) -> None:
        self._row = row
        self._lines = islice(guarded(lines(stream)), row, None)
        self._damage: Damage | None = None

    def take(self, most: int, most_bytes: int, before: int) -> Piece:
        """As `FileReader.take`."""
        rows: list[int] = []
        values: list[bytes | None] = []
        bad: dict[int, str] = {}
        size = 0
        while len(rows) < most and size < most_bytes and self._row < before:
            line = self._damage or next(self._lines, None)
            if line is None:
                return Piece(rows, self._row, done=True, values=values, bad=bad)
            if isinstance(line, Damage):
                self._damage = line
                if not rows:
                    raise line.error
                break
            if len(line) > LONGEST_LINE:
                bad[self._row] = f"longer than {LONGEST_LINE} bytes; only its beginning is kept here"
                line = line[:_SHOWN]
            if line.strip():
                rows.append(self._row)
                values.append(line)
                size += len(line)
            self._row += 1
        return Piece(rows, self._row, done=False, values=values, bad=bad)


class CsvReader:
    """Rows of CSV with a header (RFC 4180: commas, double quotes, line breaks inside quotes).

    The number of a row is its place behind the header. Columns that are not declared are left out, and
    an empty field is null. A row with more or fewer fields than the header is bad, and so is a row that
    is not UTF-8 or whose quote is not closed within 128 KiB.

    Args:
        stream: the decompressed bytes; it is closed by who opened it.
        row: the number of the row to begin with.
        columns: the declared columns.
    """

    def __init__(self, stream: pa.NativeFile, row: int, columns: Mapping[str, Column]) -> None:
        self._columns = columns
        self._row = 0
        self._damage: Damage | None = None
        self._parsed = guarded(_parsed(lines(stream, keep_ends=True)))
        header = next(self._parsed, None)
        if isinstance(header, Damage):
            raise header.error
        self._header = header
        if row:
            next(islice(self._parsed, row - 1, row), None)
            self._row = row

    def take(self, most: int, most_bytes: int, before: int) -> Piece:
        """As `FileReader.take`."""
        fault = self._fault_of_header()
        if fault:
            return Piece([0], 1, done=True, frame=nulls(1, self._columns), bad={0: fault})
        rows: list[int] = []
        fields: list[list[str]] = []
        bad: dict[int, str] = {}
        size, done = 0, self._header is None
        while not done and len(rows) < most and size < most_bytes and self._row < before:
            parsed = self._damage or next(self._parsed, None)
            if parsed is None:
                done = True
                break
            if isinstance(parsed, Damage):
                self._damage = parsed
                if not rows:
                    raise parsed.error
                break
            if isinstance(parsed, str) or parsed:
                reason = self._fault(parsed)
                if reason:
                    bad[self._row] = reason
                rows.append(self._row)
                fields.append([] if isinstance(parsed, str) else parsed)
                size += sum(map(len, parsed))
            self._row += 1
        return self._piece(rows, fields, bad, done=done)

    def _piece(self, rows: list[int], fields: list[list[str]], bad: dict[int, str], *, done: bool) -> Piece:
        names = self._header if isinstance(self._header, list) else []
        good = [i for i, row in enumerate(rows) if row not in bad]
        values = {name: [""] * len(rows) for name in names if name in self._columns}
        for at, name in enumerate(names):
            if name in values:
                column = values[name]
                for i in good:
                    column[i] = fields[i][at]
        frame, misfits = typed_text(values, len(rows), self._columns)
        reasons = {**{rows[i]: reason for i, reason in misfits.items()}, **bad}
        return Piece(rows, self._row, done, frame=frame, bad=reasons, raw=lambda i: _line(fields[i]))

    def _fault_of_header(self) -> str:
        header = self._header
        if header is None:
            return ""
        if isinstance(header, str):
            return f"the header cannot be read: {header}"
        shown = ", ".join(header)[:200]
        twice = [name for name in header if header.count(name) > 1 and name in self._columns]
        if twice:
            return f"the header names {twice[0]!r} twice: {shown}"
        if not any(name in self._columns for name in header):
            return f"the header names none of the declared columns: {shown}"
        return ""

    def _fault(self, parsed: list[str] | str) -> str:
        if isinstance(parsed, str):
            return parsed
        if any("\udc80" <= char <= "\udcff" for text in parsed if not text.isascii() for char in text):
            return "the row is not UTF-8"
        wanted = len(self._header or ())
        return "" if len(parsed) == wanted else f"the row has {len(parsed)} fields and the header {wanted}"


def guarded(items: Iterator[Item]) -> Iterator[Item | Damage]:
    """The items, and behind the last one what kept the next from being read.

    A generator that has raised looks as if it had come to its end.
    """
    try:
        yield from items
    except DAMAGES as error:
        yield Damage(error)


def lines(stream: pa.NativeFile, *, keep_ends: bool = False) -> Iterator[bytes]:
    """The lines of a stream, in bounded memory: of an endless line no more than `LONGEST_LINE` + a block."""
    rest: list[bytes] = []
    size = 0
    while block := stream.read(_BLOCK):
        head, *more = block.split(b"\n")
        for piece in more:
            line = b"".join([*rest, head]) if rest else head
            yield line + b"\n" if keep_ends else line.removesuffix(b"\r")
            rest, size, head = [], 0, piece
        if head and size <= LONGEST_LINE:
            rest.append(head)
            size += len(head)
    if rest:
        yield b"".join(rest)


def _parsed(source: Iterator[bytes]) -> Iterator[list[str] | str]:
    """The rows of CSV; a text is the reason why a row is none."""
    first = next(source, None)
    if first is None:
        return
    whole = chain([first.removeprefix(b"\xef\xbb\xbf")], source)
    text = (line.decode(errors="surrogateescape") for line in whole)
    reader = csv.reader(text, strict=True)
    while True:
        begin = reader.line_num + 1
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield f"lines {begin} to {reader.line_num}: {error}"


def nulls(rows: int, columns: Mapping[str, Column]) -> pl.DataFrame:
    """Rows without values, such as stand for records that could not be read."""
    return typed_text({}, rows, columns)[0]


def _line(fields: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue().encode(errors="surrogateescape")
