"""What an ingest reports, and where it puts what it cannot take.

Knows names and numbers only; it does not know how they came about.
"""

from dataclasses import dataclass

from rayplat.core.project.table import Table


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one call has committed.

    Attributes:
        rows: rows added to the table; `quarantined`: records added to its quarantine.
        snapshots: the table's new snapshots, oldest first; empty if there was nothing to do.
        offsets: the next offset to read, by partition.
    """

    table: str
    rows: int
    quarantined: int
    snapshots: tuple[int, ...]
    offsets: dict[str, int]


def quarantine_name(table: Table) -> str:
    """The table that takes the bad records of `table`: `quarantine.<namespace>_<name>`."""
    return f"quarantine.{table.name.replace('.', '_')}"


def topic_source(topic: str) -> str:
    """How a topic is named as a source in snapshots: `kafka:<topic>`."""
    return f"kafka:{topic}"
