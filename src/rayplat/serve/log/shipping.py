"""Shipping: what write-ahead files hold becomes rows of `serving.predictions`, each of them once.

Knows how far a slot was shipped, and which files may go; it does not know who writes, nor who lives.

The position up to which a slot was shipped is in the table itself: each snapshot carries it as the offset of
a source that is named after the slot, and the fenced committer refuses a snapshot that does not build on the
last one. So a shipper may die at any point and another may begin at once, also while the slot is written to.
Before bytes are read they are flushed: a power cut cannot take back what the table has.

A slot that only one process ever writes to (class `replicated`) may have a copy on another machine, which is
its beginning. Both ship under the same name, so what is shipped of one is not shipped of the other; the
position may then lie behind what the copy holds.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from rayplat.core.errors import IntegrityError
from rayplat.core.events import EventBus, SnapshotCommitted
from rayplat.core.telemetry import counter, get_logger
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.serve.log.frames import scan
from rayplat.serve.log.rows import SCHEMA, TABLE, rows_of
from rayplat.serve.log.slot import Segment, adopt, identity, retire, segments, ship_lock, slots, writer_lock

_PARTITION = "0"
_MOST_BYTES = 48 << 20
"""So much of a slot is one snapshot, about: it bounds the shipper's memory."""


Of = Literal["any", "one", "copies"]
"""Who writes to slots: any process after another; one process each; or they are copies of such.

Copies are shipped when nobody writes to them any more. What one process has written, and copies, are removed
when all of it is in the table and nobody writes to it.
"""


@dataclass(frozen=True, slots=True)
class Shipped:
    """Rows that are new in the table, its snapshots, and the copies of files that are damaged."""

    rows: int
    snapshots: tuple[int, ...]
    damaged: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class _Read:
    rows: pa.Table
    end: int
    seen: int
    damaged: tuple[Segment, ...]


def _nothing(_point: str) -> None:
    return None


def source_of(folder: Path, slot: Path) -> str:
    """The name of the source that a slot's position is committed under."""
    return f"prediction-log/{identity(folder)}/{slot.name}"


def ship(
    folder: Path,
    lake: Lakehouse,
    bus: EventBus,
    *,
    wait: bool = True,
    of: Of = "any",
    reached: Callable[[str], None] = _nothing,
) -> Shipped:
    """Move what all slots of a folder hold into the table. Emits SnapshotCommitted for each snapshot.

    Args:
        wait: for another shipper of this machine to end; else its slots are left to it.
        of: whose slots they are, see `Of`.
        reached: told the name of each point that is passed (`read`, `written`, `committed`, `deleted`).

    Raises:
        ConflictError: a shipper of another machine with the same folder was faster; call again.
        IntegrityError: positions do not fit what the table has; or, after all else was shipped, bytes
            were damaged: the error names the copies that were kept.
    """
    rows, snapshots, damaged = 0, list[int](), list[Path]()
    for slot in slots(folder):
        if of == "copies" and not _left(slot):
            continue
        held = ship_lock(slot, wait=wait)
        if held is None:
            continue
        try:
            one = _Slot(folder, slot, lake, bus, of=of, reached=reached).ship()
            rows, snapshots, damaged = (
                rows + one.rows,
                [*snapshots, *one.snapshots],
                [*damaged, *one.damaged],
            )
        finally:
            os.close(held)
    if damaged:
        counter("prediction_log_damaged_total", "write-ahead files with damaged bytes").inc(len(damaged))
        raise IntegrityError(
            f"write-ahead files hold damaged bytes, kept as {', '.join(map(str, damaged))}; "
            f"{rows} predictions beside them were moved",
            "look at the machine's disk and memory; the copies hold what is left of the damaged predictions",
        )
    return Shipped(rows, tuple(snapshots))


class _Slot:
    """The shipping of one slot."""

    def __init__(
        self,
        folder: Path,
        slot: Path,
        lake: Lakehouse,
        bus: EventBus,
        *,
        of: Of,
        reached: Callable[[str], None],
    ) -> None:
        self._once = of != "any"
        self._folder = folder
        self._slot = slot
        self._lake = lake
        self._bus = bus
        self._reached = reached
        self._source = source_of(folder, slot)

    def ship(self) -> Shipped:
        """Ship what is there now."""
        if not self._once:
            adopt(self._slot)
        if all(s.start == s.end() for s in segments(self._slot)):
            if self._once:
                retire(self._slot, _seen(self._slot))
            return Shipped(0, ())
        table = self._lake.ensure_schema(TABLE, SCHEMA)
        committer = FencedCommitter(self._lake, TABLE, self._source)
        committed = dict(committer.committed())
        place, rows, snapshots, damaged = committed.get(_PARTITION, 0), 0, list[int](), list[Path]()
        self._check(place)
        while True:
            read = _read(self._slot, place)
            self._reached("read")
            damaged += [self._keep(segment) for segment in read.damaged]
            behind = committed.get(_PARTITION, 0) != read.end
            if read.rows.num_rows or (behind and self._passed(read.end)):
                files = table.write_files(read.rows) if read.rows.num_rows else ()
                self._reached("written")
                offsets = {_PARTITION: read.end}
                # Where all that is left of a file is torn, only the position moves: the file may go then.
                snapshots.append(committer.commit(files, committed, offsets))
                self._reached("committed")
                committed, rows = offsets, rows + read.rows.num_rows
            self._delete(read.end)
            self._reached("deleted")
            if read.rows.num_rows:
                self._tell(snapshots[-1], read.rows.num_rows, committed)
            if read.end == place:
                if self._once:
                    retire(self._slot, read.seen)
                return Shipped(rows, tuple(snapshots), tuple(damaged))
            place = read.end

    def _check(self, place: int) -> None:
        found = segments(self._slot)
        if found[0].start <= place and (place <= found[-1].end() or self._once):
            return
        raise IntegrityError(
            f"{TABLE} holds the predictions of {self._slot} up to {place}, but its files are from "
            f"{found[0].start} to {found[-1].end()}",
            "the folder or the warehouse was replaced or restored without the other: restore both",
        )

    def _passed(self, end: int) -> list[Segment]:
        """The files that hold nothing from a position on, but for the one that is written to."""
        return [segment for segment in segments(self._slot)[:-1] if segment.end() <= end]

    def _delete(self, end: int) -> None:
        for segment in self._passed(end):
            segment.path.unlink()

    def _keep(self, segment: Segment) -> Path:
        kept = self._folder / "damaged" / f"{self._slot.name}-{segment.path.name}"
        kept.parent.mkdir(exist_ok=True)
        shutil.copyfile(segment.path, kept)
        get_logger("serve.log").error("damaged bytes in the prediction log", kept=str(kept))
        return kept

    def _tell(self, snapshot_id: int, rows: int, offsets: dict[str, int]) -> None:
        self._bus.emit(
            SnapshotCommitted(
                table=TABLE, snapshot_id=snapshot_id, rows=rows, source=self._source, offsets=offsets
            )
        )


def _left(slot: Path) -> bool:
    """Whether nobody writes to a slot now."""
    held = writer_lock(slot)
    if held is None:
        return False
    os.close(held)
    return True


def _seen(slot: Path) -> int:
    """The position behind the last byte of a slot now."""
    found = segments(slot)
    return found[-1].end() if found else 0


def _read(slot: Path, place: int) -> _Read:
    """What whole frames hold from a position on, file by file until there are enough rows."""
    payloads: list[bytes] = []
    damaged: list[Segment] = []
    found, seen = segments(slot), 0
    for number, segment in enumerate(found):
        last = number == len(found) - 1
        with segment.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size  # what is written behind it meanwhile is not flushed yet
            os.fdatasync(file.fileno())
            seen = segment.start + size
            offset = max(0, place - segment.start)
            file.seek(offset)
            data = file.read(max(0, size - offset))
        begin = max(place, segment.start)
        scanned = scan(data)
        payloads += scanned.payloads
        damaged += [segment] * (scanned.damaged > 0)
        # Behind the last whole frame of a file that is complete there is nothing to come.
        place = begin + (scanned.end if last else len(data))
        if sum(map(len, payloads)) >= _MOST_BYTES:
            break
    return _Read(rows_of(payloads), place, seen, tuple(damaged))
