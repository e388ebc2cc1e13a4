"""Scans: what one read of a table means, planned once and carried out anywhere.

Knows the files of a snapshot that may have rows for a filter, and gives them as Arrow or as a Polars
LazyFrame; it does not know how a file is decoded (see `stored`), nor torch and Ray (see `batches` and
`datasource`).
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.expressions.parser import parse
from pyiceberg.expressions.visitors import bind, extract_field_ids, translate_column_names
from pyiceberg.io.pyarrow import expression_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.table import Table as NativeTable
from pyparsing import ParseBaseException

from rayplat.core.errors import NotFoundError, UserError
from rayplat.data.lakehouse.ahead import ahead
from rayplat.data.lakehouse.objects import FileSystems, by_address
from rayplat.data.lakehouse.schema import FIELD_ID, with_field_ids
from rayplat.data.lakehouse.stored import ScanFile, StoredFile, Wanted

if TYPE_CHECKING:
    import polars as pl

Verify = Literal["always", "sampled", "never"]

_THREADS = 2


@dataclass(frozen=True, slots=True)
class Scan:
    """A planned read of one snapshot. The same scan gives the same rows in the same order; it pickles.

    Attributes:
        snapshot_id: what is read; None: a table without snapshots.
        files: those that may have rows for the filter, in the order of the manifests.
        wanted: columns and filter.
        verify: which files are hashed and compared with the digest in their name before their rows are
            handed out: `always` all, `sampled` a random `fraction` of them, `never` none.
        filter: the row filter, bound to the columns by id; for engines that filter by themselves.
        storage: how such engines reach a bucket (see `lazy.storage_options`).
    """

    snapshot_id: int | None
    files: tuple[ScanFile, ...]
    wanted: Wanted
    verify: Verify = "never"
    fraction: float = 0.1
    filter: BooleanExpression = field(default_factory=AlwaysTrue)
    storage: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def table(self) -> str:
        """The table's name."""
        return self.wanted.table

    @property
    def schema(self) -> pa.Schema:
        """The columns that come out."""
        return self.wanted.result_schema()

    def select(self, columns: Sequence[str]) -> "Scan":
        """The same scan with fewer columns.

        Raises:
            NotFoundError: it has no such column.
        """
        _check_columns(self.table, columns, self.wanted.columns)
        filtered = extract_field_ids(self.filter)
        schema = pa.schema(
            [f for f in self.wanted.schema if f.name in columns or int(f.metadata[FIELD_ID]) in filtered]
        )
        return replace(self, wanted=replace(self.wanted, columns=tuple(columns), schema=schema))

    def open(self, file: ScanFile, footer: pq.FileMetaData | None = None) -> StoredFile:
        """Open one of the files, whose `footer` may be known; verified if its turn has come."""
        chosen = self.verify == "always" or (
            self.verify == "sampled" and random.random() < self.fraction  # noqa: S311  # a sample, not a secret
        )
        return StoredFile(file, self.wanted, verify=chosen, footer=footer)

    def arrow(self) -> pa.Table:
        """All rows.

        Raises:
            IntegrityError: a file is not what was written.
        """
        with ThreadPoolExecutor(_THREADS, "lake-read") as pool:
            parts = list(pool.map(self._read, self.files))
        return pa.concat_tables([self.schema.empty_table(), *parts])

    def _read(self, file: ScanFile) -> pa.Table:
        stored = self.open(file)
        try:
            return stored.read()
        finally:
            stored.close()

    def tables(self) -> Iterator[pa.Table]:
        """The rows by row group, the next one decoded while the last one is used; empty ones left out.

        Raises:
            IntegrityError: a file is not what was written; no row of it was handed out before where it is
                verified.
        """
        return ahead(self._tables)

    def _tables(self) -> Iterator[pa.Table]:
        for file in self.files:
            stored = self.open(file)
            try:
                for group in stored.row_groups():
                    data = stored.read([group])
                    if data.num_rows:
                        yield data
            finally:
                stored.close()

    def polars(self) -> "pl.LazyFrame":
        """All rows, lazily: Polars pushes its own filters and columns down to row groups.

        Files whose turn it is to be verified are verified now, before a frame is made.

        Raises:
            IntegrityError: a file is not what was written.
        """
        from rayplat.data.lakehouse.lazy import lazy_frame

        if self.verify != "never":
            for file in self.files:
                self.open(file).close()
        paths = [self.address(file) for file in self.files]
        return lazy_frame(paths, self.wanted.schema, self.filter, self.storage).select(self.wanted.columns)

    def address(self, file: ScanFile) -> str:
        """Where other engines find a file: a path on a local disk, else the address."""
        system, inside = self.wanted.systems(file.path)
        return inside if isinstance(system, pafs.LocalFileSystem) else file.path


def plan(
    native: NativeTable,
    snapshot_id: int | None = None,
    *,
    columns: Sequence[str] | None = None,
    where: str | None = None,
    verify: Verify = "never",
    fraction: float = 0.1,
    systems: FileSystems = by_address,
    storage: Mapping[str, str] | None = None,
) -> Scan:
    """Plan a read: files that cannot have a wanted row are left out by partition and by column bounds.

    Args:
        native: the table, freshly loaded, with the snapshot in its metadata.
        snapshot_id: the snapshot to read (see `travel.resolve`), with the names and types that columns had
            then; the table as it is now if None.
        columns: their names, in the order wanted; all if None.
        where: an Iceberg row filter such as `"distance > 100 and origin = 'JFK'"`.
        verify: see `Scan`; `fraction`: of the files, for `sampled`, 0 to 1.
        systems: gives the file system of an address; must pickle. `storage`: see `Scan`.

    Raises:
        NotFoundError: there is no such column.
        UserError: the filter cannot be read, or the files need deletes of another engine to be applied.
    """
    name = ".".join(native.name())
    _check_verify(verify, fraction)
    # The current state has today's columns, also those that came after the last snapshot.
    full = native.scan(snapshot_id=snapshot_id).projection()
    if snapshot_id is None and (current := native.current_snapshot()):
        snapshot_id = current.snapshot_id
    # `full.column_names` would name the elements of lists, too.
    known = tuple(field.name for field in full.fields)
    if columns is not None:
        _check_columns(name, columns, known)
    chosen = tuple(columns) if columns is not None else known
    bound = _bound(where, full, name)
    filtered = extract_field_ids(bound)
    schema = pa.schema(
        arrow
        for arrow, f in zip(with_field_ids(full), full.fields, strict=True)
        if f.name in chosen or f.field_id in filtered
    )
    expression = None if bound == AlwaysTrue() else expression_to_pyarrow(bound)
    files = _files(native, snapshot_id, bound, name) if snapshot_id is not None else ()
    wanted = Wanted(name, chosen, schema, expression, systems)
    return Scan(snapshot_id, files, wanted, verify, fraction, bound, dict(storage or {}))


def _files(
    native: NativeTable, snapshot_id: int, bound: BooleanExpression, name: str
) -> tuple[ScanFile, ...]:
    now = native.schema()
    prunes = extract_field_ids(bound) <= now.field_ids
    # The planner reads a filter in today's names; where a column is gone since, every file is read.
    row_filter = translate_column_names(bound, now) if prunes else AlwaysTrue()
    tasks = list(native.scan(row_filter=row_filter, snapshot_id=snapshot_id).plan_files())
    if any(task.delete_files for task in tasks):
        raise UserError(
            f"table {name} has row-level deletes of another engine at snapshot {snapshot_id}",
            "compact the table with that engine first",
        )
    return tuple(
        ScanFile(task.file.file_path, task.file.record_count, task.file.file_size_in_bytes) for task in tasks
    )


def _bound(where: str | None, schema: Schema, name: str) -> BooleanExpression:
    if where is None:
        return AlwaysTrue()
    try:
        return bind(schema, parse(where), case_sensitive=True)
    except ParseBaseException as error:
        reason: object = f"it is not understood from {error.line[error.loc :]!r} on"
        raise _bad_filter(where, name, reason) from error
    except (ValueError, TypeError) as error:
        raise _bad_filter(where, name, error) from error


def _bad_filter(where: str, name: str, reason: object) -> UserError:
    return UserError(
        f"table {name} cannot be read where {where!r}: {reason}", "write it like 'distance > 100'"
    )


def _check_columns(table: str, columns: Sequence[str], known: Sequence[str]) -> None:
    unknown = [c for c in columns if c not in known]
    if unknown:
        raise NotFoundError(f"table {table} has no column {', '.join(unknown)}", f"use: {', '.join(known)}")


def _check_verify(verify: str, fraction: float) -> None:
    if verify not in ("always", "sampled", "never"):
        raise UserError(f"verify={verify!r} is not known", "use 'always', 'sampled' or 'never'")
    if not 0 <= fraction <= 1:
        raise UserError(f"a fraction of {fraction} of the files cannot be verified", "give 0 to 1")
