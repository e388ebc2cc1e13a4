"""Compaction: small files packed into few, in an order that filters like.

Knows how a plan becomes snapshots beside other writers; it does not know how a bin is rewritten.

Why nothing is lost. A commit of compaction takes out exactly the files that it has read, by name, and adds
files that were proven to hold the same rows. The catalog takes it only if every one of those files is live
in the newest snapshot: what others appended is not named and stays; if another writer took one of them out
(an upsert, a delete, another compaction), the commit is refused whole, the new files are thrown away and
the partition is planned again from the newest snapshot. The snapshot that was planned on is never asked
for again, so it does not matter if it expires in between; a file that expiry has already deleted shows as
a missing file, which is the same conflict. A partition that loses every time is told in the report: a run
that packed nothing never looks like one with nothing to pack. A process that is killed leaves files that
no snapshot names (see `orphans`) or a finished commit, and nothing in between.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyiceberg.conversions import from_bytes

from rayplat.core.errors import ConflictError, UserError
from rayplat.core.project.table import Clustering
from rayplat.data.lakehouse.files import DataFile
from rayplat.data.lakehouse.maintenance.plan import Bin, Packing, plan_bins
from rayplat.data.lakehouse.maintenance.rewrite import Rewrite, Rewritten
from rayplat.data.lakehouse.objects import remove
from rayplat.data.lakehouse.reachable import NamedFile, fetcher, live_files
from rayplat.data.lakehouse.snapshot import Base
from rayplat.data.lakehouse.table import LakeTable

MAINTENANCE = "rayplat.maintenance"
"""The snapshot property that says which maintenance made it."""
_TRIES = 4

Runner = Callable[[Callable[[Bin], Rewritten], Sequence[Bin]], Iterable[Rewritten]]
"""Rewrites bins, here or elsewhere, in any order."""
Key = tuple[int, tuple[tuple[str, Any], ...]]


def inline(work: Callable[[Bin], Rewritten], bins: Sequence[Bin]) -> Iterable[Rewritten]:
    """Rewrite bins in this process, one after another: one is in memory at a time."""
    return map(work, bins)


def _no_step(name: str) -> None:
    """Nobody watches the steps."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What becomes, or became, of one partition.

    Attributes:
        partition: its values by field name.
        files_before, bytes_before: what is taken out; `files_after`, `bytes_after`: what is put in. In a
            plan they are what is expected: a file for every bin, of the same length together.
        rows: how many rows are written again.
        snapshot_id: the commit; None in a plan, and where every try was in conflict.
        problem: why nothing was done; empty where it was.
    """

    partition: Mapping[str, Any]
    files_before: int
    bytes_before: int
    files_after: int
    bytes_after: int
    rows: int
    snapshot_id: int | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class CompactionReport:
    """What a compaction did, or with `dry_run` would do.

    Attributes:
        based_on: the snapshot that was current at the beginning; None: the table is empty.
        partitions: those with something to pack.
    """

    table: str
    dry_run: bool
    based_on: int | None
    partitions: tuple[Packed, ...]

    def check(self) -> None:
        """Raise if a partition could not be packed.

        Raises:
            ConflictError: other writers were faster every time.
        """
        lost = [one for one in self.partitions if one.problem]
        if lost:
            raise ConflictError(
                f"{len(lost)} partitions of {self.table} were not packed: {lost[0].problem}",
                "run it again, at a calmer time",
            )


class Compaction:
    """Compacts one table.

    Args:
        table: the table.
        packing: what is worth packing.
        clustering: the order of the rows; None: the table's sort order.
        run: rewrites bins.
        step: called after each step (`planned`, `rewritten`, `committed`); tests kill the process there.
    """

    def __init__(
        self,
        table: LakeTable,
        packing: Packing | None = None,
        clustering: Clustering | None = None,
        *,
        run: Runner = inline,
        step: Callable[[str], None] = _no_step,
    ) -> None:
        self._table = table
        self._packing = packing or Packing()
        self._clustering = clustering
        self._run = run
        self._step = step

    def plan(self) -> CompactionReport:
        """What would be done, by the metadata alone.

        Raises:
            UserError: the table has row deletes of another engine, or lacks a column to cluster by.
        """
        base = self._table.base()
        bins = self._bins(base)
        found = tuple(_expected(key[1], mine) for key, mine in bins.items())
        return CompactionReport(self._table.name, True, base.head.current_id, found)

    def compact(self) -> CompactionReport:
        """Pack every partition that is worth it, each in a snapshot of its own.

        Returns:
            What was done; partitions that lost to other writers every time say so.

        Raises:
            UserError: as `plan`.
            IntegrityError: a file is not what was written; its partition was not changed.
        """
        base = self._table.base()
        bins = self._bins(base)
        self._step("planned")
        found = tuple(self._settle(key, mine) for key, mine in bins.items())
        return CompactionReport(self._table.name, False, base.head.current_id, found)

    def _settle(self, key: Key, bins: list[Bin]) -> Packed:
        """Pack one partition; planned again whenever it lost."""
        problem = ""
        for _ in range(_TRIES):
            try:
                return self._pack(key, bins)
            except (ConflictError, FileNotFoundError) as error:
                problem = error.what if isinstance(error, ConflictError) else f"{error} is gone"
            bins = self._bins(self._table.base()).get(key, [])
            if not bins:
                return Packed(dict(key[1]), 0, 0, 0, 0, 0)  # whoever was faster has left nothing to do
        return Packed(dict(key[1]), 0, 0, 0, 0, 0, problem=problem)

    def _pack(self, key: Key, bins: list[Bin]) -> Packed:
        written: list[DataFile] = []
        try:
            rewrite = self._rewrite()
            for done in self._run(rewrite, bins):
                written += done.files
                self._step("rewritten")
            taken = [file.path for one in bins for file in one.files]
            told = {MAINTENANCE: "compact"}
            snapshot_id = self._table.replace(written, taken, told, operation="replace")
        except (ConflictError, FileNotFoundError):
            # A conflict has written nothing to the catalog, so nobody can know these files. After any
            # other error they may be live: then they stay, for the removal of orphans to judge.
            for file in written:
                remove(self._table.base().publisher.systems, file.path)
            raise
        self._step("committed")
        planned = _expected(key[1], bins)
        return Packed(
            planned.partition,
            planned.files_before,
            planned.bytes_before,
            len(written),
            sum(file.bytes for file in written),
            planned.rows,
            snapshot_id,
        )

    def _rewrite(self) -> Rewrite:
        writer = self._table.writer()
        native = self._table.native()  # loaded later: it knows every schema and spec that the writer does
        return Rewrite(writer, native.metadata, native.io, self._clustering)

    def _bins(self, base: Base) -> dict[Key, list[Bin]]:
        self._check_columns(base)
        if base.head.current_id is None:
            return {}
        snapshot = base.head.snapshot(base.head.current_id)
        files = live_files(snapshot, fetcher(base.publisher.systems)) if snapshot else []
        if any(file.content for file in files):
            raise UserError(
                f"table {base.name} has delete files, which another engine wrote",
                "compact it once with that engine: rayplat writes none",
            )
        return plan_bins(files, self._packing, self._order(base))

    def _check_columns(self, base: Base) -> None:
        known = base.head.schema().column_names
        for name in self._clustering.columns if self._clustering else ():
            if name not in known:
                raise UserError(f"table {base.name} has no column {name!r}", f"use: {', '.join(known)}")

    def _order(self, base: Base) -> Callable[[NamedFile], Any]:
        """Neighbours by the first column of the clustering; else by age."""
        if self._clustering is None:
            return lambda file: (file.sequence, file.path)
        column = base.head.schema().find_field(self._clustering.columns[0])
        kind: Any = column.field_type  # columns are flat: it is a primitive type

        def key(file: NamedFile) -> tuple[bool, Any, str]:
            lowest = file.lower.get(column.field_id)
            known = from_bytes(kind, lowest) if lowest is not None else None
            return (known is None, 0 if known is None else known, file.path)

        return key


def _expected(partition: tuple[tuple[str, Any], ...], bins: Sequence[Bin]) -> Packed:
    size = sum(one.size for one in bins)
    before = sum(len(one.files) for one in bins)
    return Packed(dict(partition), before, size, len(bins), size, sum(one.rows for one in bins))
