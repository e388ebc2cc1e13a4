"""Rounds: what each snapshot of a table says was received, and what became of it.

Knows the properties that an ingest and a replay leave in snapshots; it does not know the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rayplat.data.lakehouse.snapshot import ROWS, SnapshotInfo

RECEIVED = "rayplat.received"
OUTCOMES = ("accepted", "quarantined", "dead", "late", "ignored")
"""What becomes of a received record; each is the property `rayplat.<outcome>`."""
MAX_EVENT_TIME = "rayplat.max_event_time"
REPLAYED = "rayplat.replayed"
"""How many records a replay has brought into the table with this snapshot."""
REPLAY = "rayplat.replay"
"""The id of the replay that made this snapshot; its marks count because the snapshot is there."""
UNCHANGED = "replace"
"""The operation of a snapshot that changes files and no row: compaction."""


@dataclass(frozen=True, slots=True)
class Round:
    """The counts of one round of an ingest."""

    received: int
    accepted: int
    quarantined: int
    dead: int
    late: int
    ignored: int

    @property
    def outcomes(self) -> int:
        """How many records have become something."""
        return self.accepted + self.quarantined + self.dead + self.late + self.ignored

    def __add__(self, other: "Round") -> "Round":
        return Round(*(getattr(self, n) + getattr(other, n) for n in ("received", *OUTCOMES)))


NOTHING = Round(0, 0, 0, 0, 0, 0)


def round_of(snapshot: SnapshotInfo) -> Round | None:
    """What a snapshot says it received; None where it is not of an ingest that counts."""
    told = snapshot.properties
    if RECEIVED not in told:
        return None
    return Round(int(told[RECEIVED]), *(int(told.get(f"rayplat.{name}", 0)) for name in OUTCOMES))


def rows_of(snapshot: SnapshotInfo) -> int:
    """How many rows of the world a snapshot brought: rewritten ones do not count."""
    if snapshot.operation == UNCHANGED:
        return 0
    told = snapshot.properties.get("rayplat.accepted", snapshot.properties.get(ROWS))
    return int(told) if told is not None else snapshot.rows_added


def newest_event(history: Sequence[SnapshotInfo]) -> datetime | None:
    """The greatest event time that the snapshots tell of; None where none does."""
    told = [s.properties[MAX_EVENT_TIME] for s in history if s.properties.get(MAX_EVENT_TIME)]
    return max((datetime.fromisoformat(text) for text in told), default=None)
