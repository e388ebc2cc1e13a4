"""The recorded past, told to the broker and taken into the tables.

Knows how telling and ingesting take turns; it does not know what the events mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from rayplat.core.project.project import Project
from rayplat.core.project.source import Kafka
from rayplat.core.project.table import Table
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.data.streaming.development.broker import resolve_bootstrap
from rayplat.data.streaming.development.tell import Teller
from rayplat.data.streaming.ingest import ingest_project
from rayplat.data.streaming.report import IngestReport, topic_source
from rayplat.delivery.parts import Parts
from rayplat.delivery.work import Work


@dataclass(frozen=True, slots=True)
class Taken:
    """What was told and what arrived: events told, rows accepted, records put aside."""

    told: int
    rows: int
    aside: int


def kafka_tables(project: Project) -> list[Table]:
    """The tables that a topic feeds."""
    return [t for t in project.tables if isinstance(t.source, Kafka)]


def topics(project: Project) -> dict[str, int]:
    """The project's topics and how many partitions each is declared to have."""
    return {t.source.topic: t.source.partitions for t in kafka_tables(project) if isinstance(t.source, Kafka)}


def teller(parts: Parts, project: Project) -> Teller | None:
    """Who tells the recorded events; None where the project has no recorded topic."""
    tables = [t for t in kafka_tables(project) if isinstance(t.source, Kafka) and t.source.replay]
    return Teller(resolve_bootstrap(parts.settings), tables) if tables else None


def tell_and_ingest(work: Work, until: datetime) -> Taken:
    """Tell all that was known before `until`, and ingest all that the broker has.

    Telling waits for the ingest where the broker would otherwise forget what was not yet read. Both
    continue where an earlier, interrupted call left off: the broker's watermarks and the tables'
    committed offsets are the only memory.
    """
    parts, project = work.parts, work.project

    def committed(name: str) -> Mapping[str, int]:
        table = next(t for t in kafka_tables(project) if t.name == name)
        if not parts.lake.exists(name):
            return {}
        return FencedCommitter(parts.lake, name, source_name(table)).committed()

    told = rows = aside = 0
    done = False
    while not done:
        if work.teller is None:
            done = True
        else:
            step = work.teller.tell(until, committed)
            told, done = told + step.events, step.done
        reports: list[IngestReport] = ingest_project(parts.lake, project, parts.settings, parts.bus)
        rows += sum(r.rows for r in reports)
        aside += sum(r.quarantined + r.dead + r.late for r in reports)
    return Taken(told, rows, aside)


def source_name(table: Table) -> str:
    """How the table's topic is named in the snapshots."""
    if not isinstance(table.source, Kafka):
        raise TypeError(f"{table.name} has no topic")
    return topic_source(table.source.topic)
