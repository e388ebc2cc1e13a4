"""Plans: which files are packed together, and which snapshots have had their time.

Knows facts as arguments and gives decisions as values; it does not know a catalog, a file or a clock.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from rayplat.data.lakehouse.head import SnapshotRecord
from rayplat.data.lakehouse.offsets import words
from rayplat.data.lakehouse.reachable import NamedFile

TARGET_BYTES = 128 * 2**20
"""How long a data file should be."""
_SMALL = 0.75


@dataclass(frozen=True, slots=True)
class Bin:
    """Files of one partition that are written again as one.

    Attributes:
        partition: its values by field name; empty where the table is not partitioned.
    """

    spec_id: int
    partition: tuple[tuple[str, Any], ...]
    files: tuple[NamedFile, ...]

    @property
    def size(self) -> int:
        """How many bytes its files have."""
        return sum(file.size for file in self.files)

    @property
    def rows(self) -> int:
        """How many rows its files have."""
        return sum(file.rows for file in self.files)


@dataclass(frozen=True, slots=True)
class Packing:
    """What is worth packing.

    Attributes:
        target_bytes: how long a file should be; a bin holds no more, so it also bounds the memory.
        min_files: a bin of fewer files, that does not reach three quarters of the target, is left alone.
        everything: also files that are long enough, because their rows are to be ordered anew.
    """

    target_bytes: int = TARGET_BYTES
    min_files: int = 5
    everything: bool = False


def plan_bins(
    files: Sequence[NamedFile], packing: Packing, order: Callable[[NamedFile], Any]
) -> dict[tuple[int, tuple[tuple[str, Any], ...]], list[Bin]]:
    """Pack the files of each partition.

    Args:
        order: the key by which the files of a partition are taken, so that a bin holds neighbours.

    Returns:
        The bins by (spec id, partition); partitions with nothing to do are left out.
    """
    parted: dict[tuple[int, tuple[tuple[str, Any], ...]], list[NamedFile]] = {}
    for file in files:
        if packing.everything or file.size < _SMALL * packing.target_bytes:
            parted.setdefault((file.spec_id, partition_key(file.partition)), []).append(file)
    found = {}
    for (spec_id, partition), mine in parted.items():
        bins = [Bin(spec_id, partition, part) for part in _packed(sorted(mine, key=order), packing)]
        if bins:
            found[spec_id, partition] = bins
    return found


def partition_key(partition: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """A partition's values as something that can be compared."""
    return tuple(sorted(partition.items()))


def _packed(files: Sequence[NamedFile], packing: Packing) -> list[tuple[NamedFile, ...]]:
    bins: list[list[NamedFile]] = []
    room = 0
    for file in files:
        if not bins or file.size > room:
            bins.append([])
            room = packing.target_bytes
        bins[-1].append(file)
        room -= file.size
    return [tuple(one) for one in bins if _worthwhile(one, packing)]


def _worthwhile(files: Sequence[NamedFile], packing: Packing) -> bool:
    if packing.everything:
        return True
    full = sum(file.size for file in files) >= _SMALL * packing.target_bytes
    return len(files) >= packing.min_files or (full and len(files) > 1)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a snapshot is kept.

    Attributes:
        older_than: one that was the current one within this time is kept.
        keep_last: this many are kept, however old they are.
        grace: the shortest `older_than` that counts: who began to read a snapshot while it was the current
            one has this long to finish.
    """

    older_than: timedelta = timedelta(days=5)
    keep_last: int = 100
    grace: timedelta = timedelta(hours=1)


def plan_expiry(
    snapshots: Sequence[SnapshotRecord], stay: Collection[int], now: datetime, lifetime: Lifetime
) -> list[int]:
    """Which snapshots have had their time.

    Args:
        snapshots: those that can be read, oldest first.
        stay: the ids that are needed, whatever their age.

    Returns:
        Their ids, oldest first.
    """
    pairs = list(pairwise(snapshots))[: max(0, len(snapshots) - lifetime.keep_last)]
    limit_ms = (now - max(lifetime.older_than, lifetime.grace)).timestamp() * 1000
    return [
        int(one["snapshot-id"])
        for one, after in pairs
        # A snapshot was the current one until its successor came.
        if after["timestamp-ms"] <= limit_ms and int(one["snapshot-id"]) not in stay
    ]


def anchored(line: Sequence[SnapshotRecord]) -> set[int]:
    """The snapshots that must stay in the metadata so that an ingest knows where to go on.

    The offsets of a source are looked for from the current snapshot back to the newest that tells them:
    all on that way must stay. Later commits carry what older snapshots told (see `offsets`), and the
    metadata is bounded, so that a source that fell silent holds up expiry for a bounded number of commits.

    Args:
        line: the lineage, newest first.
    """
    seen: set[str] = set()
    last = -1
    for position, one in enumerate(line):
        told = set(words([one]))
        if told - seen:
            last = position
        seen |= told
    return {int(one["snapshot-id"]) for one in line[: last + 1]}
