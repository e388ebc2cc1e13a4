"""The journal of a folder: which files were noticed, in which order, each exactly once.

Knows that the journal is a table of the lakehouse, appended to under a fence, so that two drivers that
look at the same moment agree; it does not know what is in the files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from rayplat.core.errors import ConflictError, IntegrityError
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter, rows_property
from rayplat.data.streaming.sources.file_listing import Arrived, Folder

SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("modified", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
    ]
)
"""The columns of a journal: a row a file, numbered from 0 in each source."""

_PARTITION = "0"
_TRIES = 20


def journal_name(table: str) -> str:
    """The journal of a declared table: `streams.files_<namespace>_<name>`."""
    return f"streams.files_{table.replace('.', '_')}"


@dataclass(frozen=True, slots=True)
class Noted:
    """A file that was noticed: its number, and how it was then."""

    sequence: int
    file: Arrived


class FileJournal:
    """The journal of one source.

    Args:
        lake: the lakehouse; opened at first use.
        table_name: the journal's table; made at the first look.
        source: the name of the source.
    """

    def __init__(self, lake: Lakehouse, table_name: str, source: str) -> None:
        self.lake = lake
        self.table_name = table_name
        self.source = source
        self._noted: list[Noted] = []
        self._by_path: dict[str, Noted] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_noted": [], "_by_path": {}}

    def close(self) -> None:
        """Give the database connections back; the next use opens them again."""
        self.lake.close()

    def noted(self, least: int) -> Sequence[Noted]:
        """The noted files by number; looked up again if there are not more than `least`."""
        if len(self._noted) <= least and self.lake.exists(self.table_name):
            self._catch_up(self._committer().committed())
        return self._noted

    def notice(self, folder: Folder) -> Sequence[Noted]:
        """Look at the folder, and note the files that are new, in the order in which they were changed.

        Raises:
            ConflictError: other drivers were faster all the time.
            IntegrityError: a file that was noted has another size now, or the journal has lost rows.
            NotFoundError: there is no such folder.
            UnavailableError: the folder or the catalog does not answer.
        """
        self.lake.ensure_schema(self.table_name, SCHEMA)
        committer = self._committer()
        for _ in range(_TRIES):
            # Listed after the journal was read, a file could be noted by another driver in between and
            # have changed since: the fence then refuses us, and we look again.
            committed = committer.committed()
            self._catch_up(committed)
            arrived = folder.files()
            new = folder.tagged([file for file in arrived if file.path not in self._by_path])
            self._check(arrived)
            if not new:
                return self._noted
            rows = self._rows(new)
            moved = {_PARTITION: len(self._noted) + len(new)}
            try:
                files = committer.table.writer().write(rows)
                committer.commit(files, committed, moved, rows_property(len(new)))
            except ConflictError:
                continue
        raise ConflictError(
            f"other drivers noted files in {self.table_name} all the time", "run the ingest again"
        )

    def _committer(self) -> FencedCommitter:
        return FencedCommitter(self.lake, self.table_name, self.source)

    def _rows(self, new: Sequence[Arrived]) -> pa.Table:
        rows = [
            {
                "source": self.source,
                "sequence": sequence,
                "path": file.path,
                "bytes": file.bytes,
                "modified": file.modified,
                "etag": file.etag,
            }
            for sequence, file in enumerate(new, len(self._noted))
        ]
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def _catch_up(self, committed: Mapping[str, int]) -> None:
        wanted = committed.get(_PARTITION, 0)
        if len(self._noted) >= wanted:
            return
        where = f"sequence >= {len(self._noted)} and sequence < {wanted}"
        rows = self.lake.table(self.table_name).read(where=where).sort_by("sequence").to_pylist()
        for row in rows:
            if row["source"] == self.source:
                file = Arrived(row["modified"], row["path"], row["bytes"], row["etag"])
                noted = Noted(row["sequence"], file)
                self._noted.append(noted)
                self._by_path[file.path] = noted
        if [noted.sequence for noted in self._noted] != list(range(wanted)):
            raise IntegrityError(
                f"the journal {self.table_name} should have {wanted} files of {self.source}, "
                f"and has {len(self._noted)}",
                "roll the journal back to a good snapshot",
            )

    def _check(self, arrived: Sequence[Arrived]) -> None:
        for file in arrived:
            noted = self._by_path.get(file.path)
            if noted and noted.file.bytes != file.bytes:
                raise changed(self.source, noted, f"it has {file.bytes} bytes now")


def changed(source: str, noted: Noted, how: str) -> IntegrityError:
    """The error that tells that a file is not what was noticed."""
    return IntegrityError(
        f"the file {noted.file.path!r} of {source} changed after it was noticed ({noted.file.bytes} bytes, "
        f"changed last at {noted.file.modified.isoformat()}): {how}",
        "put the file back as it was, and give new content a new name; write files under a name that begins "
        "with . or _ and rename them when they are whole",
    )
