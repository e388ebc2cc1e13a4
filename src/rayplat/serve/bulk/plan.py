"""What is to be scored, checked before anything is read: rows, version, features and the table to be.

Knows what a table must have to be scored by a model; it does not know how it is scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from rayplat.core.errors import UserError
from rayplat.core.project.model import Model
from rayplat.core.project.project import Project
from rayplat.core.project.view import FeatureView, asking_columns, in_order
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.distributed.tasks import connected
from rayplat.features.lake import pin
from rayplat.registry.model import RegisteredVersion
from rayplat.serve.address import absolute, address_for_workers
from rayplat.serve.bulk.scoring import AT, PROBABILITY, SCORING, VERSION, Scoring


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows are scored.

    Attributes:
        table: its name; `snapshot_id`: None: the current one.
        where: an Iceberg filter.
        at: the time that the features of all rows are as of; None: each row's own event time.
    """

    table: str
    snapshot_id: int | None = None
    where: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class By:
    """By what rows are scored: a registered version, with the features that it was trained with."""

    project: Project
    model: Model
    version: RegisteredVersion


def plan(lake: Lakehouse, by: By, rows: Rows, into: str) -> Scoring:
    """Pin a scoring: the same rows by the same version again are the same scoring.

    Raises:
        NotFoundError: a table does not exist.
        UserError: the table is empty, or lacks a column.
    """
    table = lake.table(rows.table)
    snapshot_id = rows.snapshot_id if rows.snapshot_id is not None else table.snapshot_id()
    if snapshot_id is None:
        raise UserError(f"the table {rows.table!r} has no rows yet", "write to it first")
    own = next((one for one in by.project.tables if one.name == rows.table), by.model.rows)
    time = "" if rows.at is not None else str(own.event_time or by.model.rows.event_time)
    names = table.schema().names
    missing = [name for name in columns(own.key, time, by.model) if name not in names]
    if missing:
        raise UserError(
            f"the table {rows.table!r} has no columns {missing}, which {by.model.name!r} asks for",
            f"it has: {', '.join(names)}",
        )
    views = [view for view in in_order(by.model.features) if isinstance(view, FeatureView)]
    address = by.project.address
    return Scoring(
        project=address_for_workers(address) if connected() else absolute(address),
        model=by.model.name,
        version=by.version.version,
        artifact_uri=by.version.artifact_uri,
        manifest_sha256=by.version.manifest_sha256,
        table=rows.table,
        snapshot_id=snapshot_id,
        where=rows.where,
        keys=tuple(own.key),
        time=time,
        at=rows.at,
        sources=pin(lake, [view.source.name for view in views]),
        into=into,
    )


def columns(keys: Sequence[str], time: str, model: Model) -> list[str]:
    """The columns that are read of the table, each once."""
    return list(dict.fromkeys([*keys, *([time] if time else []), *asking_columns(model.features)]))


def predictions_schema(lake: Lakehouse, scoring: Scoring) -> pa.Schema:
    """The columns of the table of predictions.

    Raises:
        UserError: a key is named as one of its own columns.
    """
    fields = lake.table(scoring.table).schema()
    taken = {AT, PROBABILITY, VERSION, SCORING} & set(scoring.keys)
    if taken:
        raise UserError(
            f"the keys {sorted(taken)} of {scoring.table!r} are named as columns of predictions are",
            "name the key otherwise",
        )
    return pa.schema(
        [
            *(pa.field(name, fields.field(name).type, nullable=False) for name in scoring.keys),
            pa.field(AT, pa.timestamp("us", "UTC"), nullable=False),
            pa.field(PROBABILITY, pa.float64(), nullable=False),
            pa.field(VERSION, pa.int32(), nullable=False),
            pa.field(SCORING, pa.string(), nullable=False),
        ]
    )
