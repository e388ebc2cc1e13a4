"""What the page of the loop shows, as plain read-only values.

Knows which facts belong on the page and in what form; it does not know how they are drawn or laid out.
"""

from dataclasses import dataclass
from io import BytesIO

import polars as pl

from rayplat.core.project.model import HIGHER_IS_BETTER, METRICS
from rayplat.core.project.project import Project
from rayplat.core.project.source import Kafka
from rayplat.core.project.table import Table
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.streaming.report import dead_name, late_name, quarantine_name
from rayplat.delivery.parts import Parts
from rayplat.registry.artifact import EVALUATION, read_artifact_file
from rayplat.train.trainer import TrainOutcome


@dataclass(frozen=True, slots=True)
class Tile:
    """A number with its name."""

    title: str
    value: str


@dataclass(frozen=True, slots=True)
class TableRow:
    """A table as it stands: rows, records put aside, snapshots, and the next offset of each partition."""

    name: str
    source: str
    rows: int
    aside: int
    snapshots: int
    offsets: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A metric's value; `best` among the models compared."""

    text: str
    best: bool


@dataclass(frozen=True, slots=True)
class Score:
    """A model's or a baseline's metrics, in the order of `METRICS`."""

    name: str
    cells: tuple[Cell, ...]


def table_rows(lake: Lakehouse, project: Project) -> list[TableRow]:
    """Every table of the project that exists."""
    return [_table_row(lake, t) for t in project.tables if lake.exists(t.name)]


def _table_row(lake: Lakehouse, table: Table) -> TableRow:
    history = lake.table(table.name).history()
    offsets = next((s.offsets for s in reversed(history) if s.offsets), {})
    beside = [name(table) for name in (quarantine_name, dead_name, late_name)]
    return TableRow(
        name=table.name,
        source=f"Kafka topic {table.source.topic}" if isinstance(table.source, Kafka) else "reference",
        rows=lake.table(table.name).count(),
        aside=sum(lake.table(name).count() for name in beside if lake.exists(name)),
        snapshots=len(history),
        offsets=", ".join(f"{p}: {o:,}" for p, o in sorted(offsets.items())) or "-",
    )


def scores(outcome: TrainOutcome) -> list[Score]:
    """The model's metrics beside those of its baselines, the best of each marked."""
    measured = {"this model": outcome.metrics, **outcome.baselines}
    best = {
        m: (max if m in HIGHER_IS_BETTER else min)(v[m] for v in measured.values() if m in v) for m in METRICS
    }
    return [
        Score(
            name.replace("_", " "),
            tuple(Cell(f"{v[m]:.4f}" if m in v else "-", v.get(m) == best[m]) for m in METRICS),
        )
        for name, v in measured.items()
    ]


def evaluation(outcome: TrainOutcome) -> pl.DataFrame:
    """The test rows' labels and probabilities, from the artifact, verified."""
    content = read_artifact_file(outcome.artifact_uri, EVALUATION, outcome.manifest_sha256)
    return pl.read_parquet(BytesIO(content))


def curves(parts: Parts, outcome: TrainOutcome) -> dict[str, list[tuple[int, float]]]:
    """The losses of the run by epoch, from the registry."""
    named = {"train_loss": "training rows", "log_loss": "test rows"}
    found = parts.registry.curves(outcome.run_id, tuple(named))
    return {named[name]: points for name, points in found.items() if points}
