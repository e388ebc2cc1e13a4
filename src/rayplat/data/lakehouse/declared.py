"""What a table is wanted to be: columns, key, layout and the properties that other tools can read.

Knows how a declaration is told to Iceberg; it does not know what the table is at present.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from rayplat.core.project.column_types import vector_length
from rayplat.core.project.table import Partitioning, Table
from rayplat.data.lakehouse.partitioning import declared_order, declared_partitioning
from rayplat.data.lakehouse.schema import arrow_schema
from rayplat.data.lakehouse.vectors import VECTORS, told

KEY = "rayplat.key"
"""Property: the key's columns, a JSON list."""
EVENT_TIME = "rayplat.event_time"
KNOWN_AT = "rayplat.known_at"
MODE = "rayplat.mode"
RETENTION = "rayplat.retention_s"
"""Property: seconds, decimal text."""
PII = "rayplat.pii"
"""Property: the columns with personal data, a JSON list."""
CLUSTER_BY = "rayplat.cluster_by"
"""Property: a JSON object with `kind` and `columns`."""
LAYOUT = "rayplat.layout"
DESCRIPTION = "comment"
"""Property: what the table is, for people; the name that other engines use."""

PROPERTIES = (KEY, EVENT_TIME, KNOWN_AT, MODE, RETENTION, PII, CLUSTER_BY, LAYOUT, VECTORS, DESCRIPTION)
"""Every property that a declaration decides; one that it does not give is taken away."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A table as it is to be.

    Attributes:
        name: `namespace.name`.
        schema: the columns, with their documentation; not nullable means required.
        renamed: new name to old name.
        key: the columns that name a row; None: not said, and left as it is.
        partition_by: the terms of partitioning; None: not said, and left as it is.
        order: (column, greatest first); None: not said, and left as it is.
        properties: those of `PROPERTIES`; None: not said, and left as they are, as is the documentation
            of columns.
    """

    name: str
    schema: pa.Schema
    renamed: Mapping[str, str] = field(default_factory=dict)
    key: tuple[str, ...] | None = None
    partition_by: tuple[Partitioning, ...] | None = None
    order: tuple[tuple[str, bool], ...] | None = None
    properties: Mapping[str, str] | None = None


def declared(table: Table) -> Declared:
    """What a declared table is to be.

    Raises:
        UserError: a column's type or a term of the partitioning is wrong.
    """
    return Declared(
        name=table.name,
        schema=arrow_schema(table),
        renamed={name: c.renamed_from for name, c in table.columns.items() if c.renamed_from},
        key=table.key,
        partition_by=tuple(declared_partitioning(table)),
        order=tuple(declared_order(table)),
        properties=declared_properties(table),
    )


def declared_properties(table: Table) -> dict[str, str]:
    """The table's properties, of `PROPERTIES`; what is not declared is not among them."""
    cluster = table.cluster_by
    personal = [name for name, column in table.columns.items() if column.pii]
    vectors = {name: length for name, c in table.columns.items() if (length := vector_length(c.type))}
    found = {
        KEY: json.dumps(list(table.key)),
        EVENT_TIME: table.event_time or "",
        KNOWN_AT: table.known_at or "",
        MODE: table.mode,
        RETENTION: "" if table.retention is None else f"{table.retention.total_seconds():.0f}",
        PII: json.dumps(personal) if personal else "",
        CLUSTER_BY: json.dumps({"kind": cluster.kind, "columns": list(cluster.columns)}) if cluster else "",
        LAYOUT: table.layout,
        VECTORS: told(vectors),
        DESCRIPTION: table.description,
    }
    return {name: value for name, value in found.items() if value}
