"""Offsets in snapshots: what each says of its source, and how the last word outlives the archive.

Knows the summary properties; it does not know which snapshots lead to the current one.
"""

import json
from collections.abc import Iterable, Sequence

from rayplat.core.errors import IntegrityError
from rayplat.data.lakehouse.head import SnapshotRecord

SOURCE = "rayplat.source"
OFFSETS = "rayplat.offsets"
CARRIED = "rayplat.carried-offsets"
"""The last words of other sources whose own snapshots have left the metadata."""


def words(snapshots: Iterable[SnapshotRecord]) -> dict[str, dict[str, int]]:
    """The newest offsets of each source.

    Args:
        snapshots: the lineage, newest first. What the metadata holds is enough: what an archived snapshot
            said last of a source is carried by a later one.

    Raises:
        IntegrityError: offsets cannot be read.
    """
    found: dict[str, dict[str, int]] = {}
    for snapshot in snapshots:
        told = snapshot.get("summary", {})
        if OFFSETS in told and told.get(SOURCE, "") not in found:
            found[told.get(SOURCE, "")] = parse_offsets(told[OFFSETS], snapshot["snapshot-id"])
        if CARRIED in told:
            for source, offsets in json.loads(told[CARRIED]).items():
                found.setdefault(source, offsets)
    return found


def _own_words(snapshots: Iterable[SnapshotRecord]) -> set[str]:
    return {s["summary"].get(SOURCE, "") for s in snapshots if OFFSETS in s.get("summary", {})}


def committed_offsets(snapshots: Iterable[SnapshotRecord], source: str) -> dict[str, int]:
    """The newest offsets of one source, as `words` finds them; empty if it never said any.

    Raises:
        IntegrityError: the offsets cannot be read.
    """
    for snapshot in snapshots:
        told = snapshot.get("summary", {})
        if (told.get(SOURCE) == source and OFFSETS in told) or CARRIED in told:
            found = words([snapshot]).get(source)
            if found is not None:
                return found
    return {}


def parse_offsets(text: str, snapshot_id: int) -> dict[str, int]:
    """Read the property `rayplat.offsets`: a JSON object, partition to next offset.

    Raises:
        IntegrityError: it is something else.
    """
    try:
        return {str(partition): int(offset) for partition, offset in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise IntegrityError(
            f"snapshot {snapshot_id} has the offsets {text!r}, which are not a JSON object of numbers",
            "roll the table back to a snapshot with good offsets",
        ) from error


def carried(stay: Sequence[SnapshotRecord], line: Sequence[SnapshotRecord]) -> dict[str, str]:
    """The property by which a new snapshot keeps the words that only snapshots to be archived hold.

    Args:
        stay: the part of the lineage that stays in the metadata, newest first; `line`: the whole of it.
    """
    own = {s["summary"].get(SOURCE, "") for s in stay if OFFSETS in s.get("summary", {})}
    kept = {source: offsets for source, offsets in words(line).items() if source not in own}
    return {CARRIED: json.dumps(kept, sort_keys=True)} if kept else {}
