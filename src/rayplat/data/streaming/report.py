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
        dead: records that could not be decoded; `late`: rows put aside for being late; `ignored`: records
            that say nothing new, such as tombstones.
    """

    table: str
    rows: int
    quarantined: int
    snapshots: tuple[int, ...]
    offsets: dict[str, int]
    dead: int = 0
    late: int = 0
    ignored: int = 0

    def after(self, earlier: "IngestReport") -> "IngestReport":
        """This report and an earlier one of the same table, added up."""
        return IngestReport(
            table=self.table,
            rows=earlier.rows + self.rows,
            quarantined=earlier.quarantined + self.quarantined,
            snapshots=earlier.snapshots + self.snapshots,
            offsets={**earlier.offsets, **self.offsets},
            dead=earlier.dead + self.dead,
            late=earlier.late + self.late,
            ignored=earlier.ignored + self.ignored,
        )


def quarantine_name(table: Table) -> str:
    """The table that takes the bad records of `table`: `quarantine.<namespace>_<name>`."""
    return f"quarantine.{table.name.replace('.', '_')}"


def dead_name(table: Table) -> str:
    """The table that takes the records of `table` that cannot be decoded: `dead.<namespace>_<name>`."""
    return f"dead.{table.name.replace('.', '_')}"


def late_name(table: Table) -> str:
    """The table that takes the late rows of `table`: `late.<namespace>_<name>`."""
    return f"late.{table.name.replace('.', '_')}"


def topic_source(topic: str) -> str:
    """How a topic is named as a source in snapshots: `kafka:<topic>`."""
    return f"kafka:{topic}"
