"""From rows and snapshots back to the offsets of their sources.

Knows how a table's history tells which snapshot brought a row, and which offsets a snapshot holds; it
does not know who asks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rayplat.core.project.project import Project
from rayplat.core.project.source import Kafka
from rayplat.core.project.table import Table
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.snapshot import SnapshotInfo
from rayplat.governance.node import Node, unknown


def event_node(lake: Lakehouse, table: Table, view: str, source: Mapping[str, Any] | None) -> Node:
    """The event behind a view's values in one prediction, and the snapshot that brought it.

    Args:
        source: the provenance in the log: `event_time`, `partition`, `offset`; None: nothing was known.
    """
    if source is None:
        return Node("source event", f"{view}: no event of {table.name} was known for this entity")
    topic = table.source.topic if isinstance(table.source, Kafka) else None
    facts = {"table": table.name, "event time": source.get("event_time")}
    partition, offset = source.get("partition"), source.get("offset")
    if topic is None or partition is None or offset is None:
        return _reference_event(lake, table, view, source, facts)
    facts |= {"topic": topic, "partition": partition, "offset": offset}
    title = f"{view}: {topic}[{partition}] @ {offset}"
    if not lake.exists(table.name):
        return unknown("source event", title, f"the lakehouse has no table {table.name} now", facts)
    brought = _brought_by(lake.table(table.name).history(), str(partition), int(offset))
    if brought is None:
        return unknown("source event", title, "no snapshot tells that it holds this offset", facts)
    return Node("source event", title, facts, (_snapshot(table.name, brought),))


def snapshot_node(lake: Lakehouse, project: Project, name: str, snapshot_id: int) -> Node:
    """A pinned snapshot of a source, with the ranges of offsets that it holds."""
    title = f"{name} at snapshot {snapshot_id}"
    facts = {"table": name, "snapshot": snapshot_id}
    if not lake.exists(name):
        return unknown("snapshot", title, "the lakehouse has no such table now", facts)
    history = lake.table(name).history()
    place = next((i for i, s in enumerate(history) if s.snapshot_id == snapshot_id), None)
    if place is None:
        return unknown("snapshot", title, "the table's history does not have it (any more)", facts)
    pinned = history[place]
    facts |= {"committed at": pinned.at.isoformat(), "rows": pinned.rows_total}
    declared = next((t for t in project.tables if t.name == name), None)
    children = _offsets(declared, history[: place + 1])
    return Node("snapshot", title, facts, children)


def _offsets(declared: Table | None, history: Sequence[SnapshotInfo]) -> tuple[Node, ...]:
    """What the latest offsets of a history say: a node a partition."""
    if declared is None or not isinstance(declared.source, Kafka):
        return ()
    topic = declared.source.topic
    told = next((s.offsets for s in reversed(history) if s.offsets), None)
    if told is None:
        return (unknown("offsets", topic, "no snapshot of the table carries offsets"),)
    return tuple(
        Node(
            "offsets",
            # Ingest starts at offset 0 and refuses gaps; the source's own retention does not shorten this.
            f"{topic}[{partition}] up to {end - 1}" if end else f"{topic}[{partition}]: nothing",
            {"topic": topic, "partition": int(partition), "first after": end},
        )
        for partition, end in sorted(told.items(), key=lambda item: int(item[0]))
    )


def _reference_event(
    lake: Lakehouse, table: Table, view: str, source: Mapping[str, Any], facts: Mapping[str, Any]
) -> Node:
    """A row of a table that no log feeds: only the snapshot that was materialized is known."""
    snapshot_id = source.get("snapshot_id")
    title = f"{view}: a row of {table.name}"
    if snapshot_id is None:
        return unknown("source event", title, "the log does not say which row or snapshot", facts)
    found = lake.table(table.name).history() if lake.exists(table.name) else []
    pinned = next((s for s in found if s.snapshot_id == snapshot_id), None)
    if pinned is None:
        return unknown("source event", title, f"the table has no snapshot {snapshot_id} now", facts)
    return Node("source event", title, facts, (_snapshot(table.name, pinned),))


def _brought_by(history: Sequence[SnapshotInfo], partition: str, offset: int) -> SnapshotInfo | None:
    """The first snapshot whose next offset is past `offset`: the one that committed the record."""
    return next((s for s in history if s.offsets.get(partition, 0) > offset), None)


def _snapshot(table: str, found: SnapshotInfo) -> Node:
    facts = {"table": table, "snapshot": found.snapshot_id, "committed at": found.at.isoformat()}
    return Node("snapshot", f"{table} at snapshot {found.snapshot_id}", facts)
