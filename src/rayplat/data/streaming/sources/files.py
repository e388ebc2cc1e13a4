"""Files that arrive in a folder or bucket as a source: each is noticed once, and read once.

Knows how files become one partition of records; it does not know what a record of NDJSON means.

There is one partition, 0. The offset of a record is `sequence << 32 | row`: the number under which its
file was noticed (see `file_journal`), and its place in the file. Looking at the watermarks notices what
is new, oldest first. A file on a local disk is noticed when it was unchanged for `files.settle_s`, or was
renamed into place, which is the better way; a slow writer that pauses for longer is noticed too early.
An object appears whole. When a file is opened and when its end was read it must be what was noticed
(size, time of its last change, ETag), otherwise the read stops with an error that names it. A file may be
deleted once it was read: the look lists the whole folder, so that is what keeps looks fast.

NDJSON comes as raw lines; CSV and Parquet come as frames. A line or row that cannot be read is bad, and
the rest of its file is not. Where a file is damaged (gzip, Parquet), what can be read of it is given, and
then one bad record that says so: how many more there were is not known.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Self

import polars as pl
import pyarrow as pa
import pyarrow.fs as pafs

from rayplat.core.errors import UnavailableError
from rayplat.core.project.table import Column
from rayplat.data.streaming.sources.file_journal import FileJournal, Noted, changed
from rayplat.data.streaming.sources.file_listing import Folder
from rayplat.data.streaming.sources.file_parquet import ParquetReader
from rayplat.data.streaming.sources.file_text import DAMAGES, CsvReader, FileReader, LineReader, Piece, nulls
from rayplat.data.streaming.sources.source import Limit, RecordMeta, Records, Watermarks, check_start

PARTITION = 0
"""The one partition."""

_BITS = 32
_ROWS = (1 << _BITS) - 1
_MOST_BYTES = 64 * 2**20
_BLOCK = 8 * 2**20


@dataclass(slots=True)
class _Open:
    """A file that is being read: where it stands, its reader, and what to close."""

    position: int
    noted: Noted
    reader: FileReader
    held: ExitStack


class FilesSource:
    """A folder or bucket of files.

    Args:
        journal: which files were noticed.
        location: the folder's address; `called`: as it is declared, which names the source.
        format: `ndjson`, `csv` or `parquet`.
        columns: the declared columns, for the formats that give frames.
        pattern: a glob that a file's path below the folder must match.
        systems: gives the file system of an address; must pickle.
        settle: how long a local file must be unchanged.
    """

    wide = False

    def __init__(
        self,
        journal: FileJournal,
        location: str,
        format: str,  # noqa: A002  # the declaration's word
        columns: Mapping[str, Column],
        *,
        systems: Any,
        pattern: str = "**",
        settle: timedelta = timedelta(seconds=1),
    ) -> None:
        self.journal = journal
        self.location = location
        self.format = format
        self.columns = dict(columns)
        self.pattern = pattern
        self.settle = settle
        self._systems = systems
        self._folder: Folder | None = None
        self._open: _Open | None = None

    @property
    def name(self) -> str:
        """`files:` and the folder as it is declared."""
        return self.journal.source

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file that is being read, and the journal; the next use opens them again."""
        self._drop()
        self._folder = None
        self.journal.close()

    def _drop(self) -> None:
        if self._open is not None:
            self._open.held.close()
            self._open = None

    @property
    def folder(self) -> Folder:
        """The folder that is looked at."""
        if self._folder is None:
            system, root = self._systems(self.location)
            self._folder = Folder(system, root, self.name, self.pattern, self.settle)
        return self._folder

    def partitions(self) -> list[int]:
        """The one partition."""
        return [PARTITION]

    def watermarks(self) -> dict[int, Watermarks]:
        """Notice what is new; the high watermark is behind the last file that was noticed.

        Raises:
            IntegrityError: a file that was noted has another size now, or the journal has lost rows.
            NotFoundError: there is no such folder.
            UnavailableError: the folder or the catalog does not answer.
        """
        count = len(self.journal.notice(self.folder))
        return {PARTITION: Watermarks(0, count << _BITS, dense=False)}

    def read(self, partition: int, start: int, limit: Limit) -> Records:
        """Read from `start`, in the files that were noticed, until the limit or their end.

        Raises:
            IntegrityError: a file is gone or changed; or `start` is behind all files.
            UnavailableError: the folder does not answer.
        """
        noted = self.journal.noted(start >> _BITS)
        high = len(noted) << _BITS
        check_start(self.name, partition, start, Watermarks(0, high))
        until, position = min(limit.until, high), start
        gathered = _Gathered()
        while position < until and gathered.count < limit.rows and gathered.bytes < _MOST_BYTES:
            piece = self._piece(noted[position >> _BITS], position, until, limit.rows - gathered.count)
            gathered.add(noted[position >> _BITS], piece)
            following = (position >> _BITS) + 1 << _BITS if piece.done else None
            position = following or (position >> _BITS << _BITS) + piece.next_row
        return gathered.records(position, None if self.format == "ndjson" else self.columns)

    def _piece(self, noted: Noted, position: int, until: int, rows: int) -> Piece:
        before = until & _ROWS if until >> _BITS == noted.sequence else _ROWS
        row = position & _ROWS
        try:
            opened = self._opened(noted, position)
            piece = opened.reader.take(rows, _MOST_BYTES, before)
        except DAMAGES as error:
            self._drop()
            self._check_unchanged(noted)
            self._check_plain(noted)
            fault = f"the file {noted.file.path!r} is damaged from here on: {error}"
            frame = None if self.format == "ndjson" else nulls(1, self.columns)
            values: list[bytes | None] = [None] if frame is None else []
            return Piece([row], row + 1, done=True, values=values, frame=frame, bad={row: fault})
        opened.position = (noted.sequence << _BITS) + piece.next_row
        if piece.done:
            self._drop()
            self._check_unchanged(noted)
        return piece

    def _opened(self, noted: Noted, position: int) -> _Open:
        if self._open is not None and self._open.position == position:
            return self._open
        self._drop()
        self._check_unchanged(noted)
        path = self.folder.inside(noted.file.path)
        with ExitStack() as stack:
            file = stack.enter_context(_opened_file(self.folder.system, path, self.format))
            reader: FileReader
            if self.format == "parquet":
                reader = ParquetReader(file, position & _ROWS, self.columns)
            elif self.format == "csv":
                reader = CsvReader(file, position & _ROWS, self.columns)
            else:
                reader = LineReader(file, position & _ROWS)
            self._open = _Open(position, noted, reader, stack.pop_all())
        return self._open

    def _check_unchanged(self, noted: Noted) -> None:
        now = self.folder.look(noted.file.path)
        if now is None:
            raise changed(self.name, noted, "it is gone, and was not read to its end")
        if now != noted.file:
            raise changed(
                self.name, noted, f"it has {now.bytes} bytes now, changed at {now.modified.isoformat()}"
            )

    def _check_plain(self, noted: Noted) -> None:
        """See that the bytes can be read at all: a storage that fails is no damaged file."""
        try:
            path = self.folder.inside(noted.file.path)
            with self.folder.system.open_input_stream(path, compression=None) as stream:
                while stream.read(_BLOCK):
                    pass
        except OSError as error:
            raise UnavailableError(
                f"the file {noted.file.path!r} of {self.name} cannot be read: {error}",
                "see that the storage answers, and run the ingest again",
            ) from error


def _opened_file(system: pafs.FileSystem, path: str, kind: str) -> pa.NativeFile:
    if kind == "parquet":
        return system.open_input_file(path)
    return system.open_input_stream(path, compression="gzip" if path.endswith(".gz") else None)


class _Gathered:
    """What one read has gathered, of one file or several."""

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0
        self._pieces: list[tuple[Noted, Piece]] = []

    def add(self, noted: Noted, piece: Piece) -> None:
        """Take a piece of a file."""
        self._pieces.append((noted, piece))
        self.count += len(piece.rows)
        self.bytes += sum(map(len, filter(None, piece.values)))
        self.bytes += int(piece.frame.estimated_size()) if piece.frame is not None else 0

    def records(self, next_offset: int, columns: Mapping[str, Column] | None) -> Records:
        """All that was taken; as a frame if `columns` are given."""
        values: list[bytes | None] = []
        offsets: list[int] = []
        bad: dict[int, str] = {}
        for noted, piece in self._pieces:
            base = noted.sequence << _BITS
            values += piece.values
            offsets += [base + row for row in piece.rows]
            bad.update({base + row: reason for row, reason in piece.bad.items()})
        frame = None
        if columns is not None:
            given = [piece.frame for _, piece in self._pieces if piece.frame is not None]
            frame = pl.concat(given) if given else nulls(0, columns)
        meta = partial(_meta, self._pieces)
        return Records(values, offsets, next_offset, frame=frame, bad=bad, describe=meta)


def _meta(pieces: list[tuple[Noted, Piece]], index: int) -> RecordMeta:
    for noted, piece in pieces:
        if index < len(piece.rows):
            headers = (("path", noted.file.path.encode()), ("row", str(piece.rows[index]).encode()))
            raw = piece.raw(index) if piece.raw is not None else None
            return RecordMeta(headers=headers, at=noted.file.modified, raw=raw)
        index -= len(piece.rows)
    raise IndexError(index)
