"""The profile of a table: one pass over its files tells what each column holds.

Knows which parts a snapshot has and where they are best sketched; it does not know how a profile is shown.
"""

import json
import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from rayplat.core.errors import NotFoundError
from rayplat.data.lakehouse.table import LakeTable
from rayplat.data.profile.columns import ColumnProfile, column_profile
from rayplat.data.profile.executor import Advance, Executor, InlineExecutor, RayExecutor
from rayplat.data.profile.parts import FilePart, Part, TablePart, merged

_PII = "rayplat.pii"
_INLINE_ROWS = 20_000_000
"""Up to here the tasks would take longer to start than the rows to read."""


@dataclass(frozen=True, slots=True)
class TableProfile:
    """What a table holds.

    Attributes:
        snapshot_id: of which snapshot; None of a table without one. `committed_at`: when that was made.
        files: how many data files were read; 0 where they were not read one by one.
        seconds: how long it took.
    """

    table: str
    snapshot_id: int | None
    committed_at: datetime | None
    rows: int
    files: int
    seconds: float
    columns: tuple[ColumnProfile, ...]


def profile(
    table: LakeTable,
    *,
    columns: Sequence[str] | None = None,
    snapshot_id: int | None = None,
    hidden: Collection[str] = (),
    executor: Executor | None = None,
    advance: Advance = lambda _parts: None,
) -> TableProfile:
    """Profile a table in one pass.

    Args:
        columns: their names; all but the platform's own (`_partition`, `_offset`) if None.
        snapshot_id: the snapshot to read; the current one if None.
        hidden: columns whose values may not be shown, beside those that the table itself names as
            personal data.
        executor: where the files are sketched; if None, on Ray Data where Ray is connected and the table
            is large, else in this process.
        advance: is told how many parts are done since the last call.

    Raises:
        NotFoundError: there is no such snapshot or column.
    """
    started = time.monotonic()
    current = table.snapshot_id()
    wanted = current if snapshot_id is None else snapshot_id
    schema = table.schema()
    names = list(columns) if columns is not None else [n for n in schema.names if not n.startswith("_")]
    unknown = [n for n in names if n not in schema.names]
    if unknown:
        raise NotFoundError(
            f"table {table.name} has no column {', '.join(unknown)}", f"use: {', '.join(schema.names)}"
        )
    rows = table.count(wanted) if wanted is not None else 0
    parts = _parts(table, names, wanted, current=current) if rows else []
    chosen = executor or _executor_for(rows, parts)
    sketches = merged(chosen.run(parts, advance))
    private = {*hidden, *json.loads(table.writer().properties.get(_PII, "[]"))}
    return TableProfile(
        table=table.name,
        snapshot_id=wanted,
        committed_at=next((s.at for s in table.history() if s.snapshot_id == wanted), None),
        rows=rows,
        files=len({part.path for part in parts if isinstance(part, FilePart)}),
        seconds=time.monotonic() - started,
        columns=tuple(
            column_profile(n, str(schema.field(n).type), sketches[n], hidden=n in private)
            for n in names
            if n in sketches
        ),
    )


def _parts(table: LakeTable, names: Sequence[str], wanted: int | None, *, current: int | None) -> list[Part]:
    if wanted != current:
        return [TablePart(table.read(names, snapshot_id=wanted))]
    writer = table.writer()
    schema = writer.schema
    chosen = schema.empty_table().select(list(names)).schema
    files = [FilePart(path, chosen, writer.systems) for path in sorted(table.paths())]
    cpus = os.cpu_count() or 1
    if len(files) >= cpus:
        return list(files)
    return [part for file in files for part in file.split(-(-cpus // len(files)))]


def _executor_for(rows: int, parts: Sequence[Part]) -> Executor:
    if rows <= _INLINE_ROWS or len(parts) == 1:
        return InlineExecutor()
    import ray

    return RayExecutor() if ray.is_initialized() else InlineExecutor()
