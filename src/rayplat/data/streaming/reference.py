"""Reference tables: small data read whole, written again only when its content has changed.

Knows the digest of a table's content; it does not know where the project reads it from.
"""

import hashlib
import io

import polars as pl
import pyarrow as pa

from rayplat.core.errors import UserError
from rayplat.core.events import EventBus, SnapshotCommitted
from rayplat.core.project.source import Reference
from rayplat.core.project.table import Table
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.offsets import SOURCE
from rayplat.data.lakehouse.schema import arrow_schema
from rayplat.data.quality.rows import split
from rayplat.data.streaming.report import IngestReport

DIGEST = "rayplat.digest"
_SOURCE = "reference"


def ingest_reference(lake: Lakehouse, table: Table, bus: EventBus) -> IngestReport:
    """Read a reference table and replace the stored one if the content differs.

    Raises:
        UserError: the function fails or gives other columns than declared, or rows fail the checks;
            the stored table stays as it was. (Reference data is all or nothing: there is no record
            to set aside, and half a table joins wrongly.)
    """
    stored = lake.ensure(table)
    rows = read_reference(table)
    digest = content_digest(rows)
    history = stored.history()
    if history and history[-1].properties.get(DIGEST) == digest:
        return IngestReport(table.name, 0, 0, (), {})
    snapshot_id = stored.overwrite(rows, {DIGEST: digest, SOURCE: _SOURCE})
    bus.emit(
        SnapshotCommitted(
            table=table.name, snapshot_id=snapshot_id, rows=rows.num_rows, source=_SOURCE, offsets={}
        )
    )
    return IngestReport(table.name, rows.num_rows, 0, (snapshot_id,), {})


def read_reference(table: Table) -> pa.Table:
    """The rows that the project's function gives, in the declared columns and types, checked.

    Raises:
        UserError: as `ingest_reference` says.
    """
    if not isinstance(table.source, Reference):
        raise UserError(f"table {table.name} is not a reference table", "declare source=rp.Reference(read)")
    try:
        given = table.source.read()
    except Exception as error:
        raise UserError(
            f"the function that reads table {table.name} failed: {type(error).__name__}: {error}",
            "call it by hand and mend it",
        ) from error
    rows = to_declared(given, table)
    _, bad = split(pl.DataFrame(pl.from_arrow(rows)), table)
    if bad.height:
        raise UserError(
            f"{bad.height} of {rows.num_rows} rows of reference table {table.name} are bad; the first: "
            f"{bad['reason'][0]} in {dict(zip(table.key, bad.select(table.key).row(0), strict=True))}",
            "mend the data or the checks; the stored table was left as it was",
        )
    return rows


def to_declared(given: pa.Table, table: Table) -> pa.Table:
    """The declared columns of an Arrow table, cast to the declared types.

    Raises:
        UserError: a column is missing or cannot be cast without loss.
    """
    schema = pa.schema(
        f.with_nullable(True).remove_metadata() for f in arrow_schema(table) if f.name in table.columns
    )
    missing = [name for name in schema.names if name not in given.column_names]
    if missing:
        raise UserError(
            f"the rows for table {table.name} lack the columns {', '.join(missing)}",
            f"they have {', '.join(given.column_names)}; give them, or declare others",
        )
    try:
        return given.select(schema.names).cast(schema).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise UserError(
            f"the rows for table {table.name} cannot become what is declared: {error}",
            "cast them, or declare other types",
        ) from error


def content_digest(rows: pa.Table) -> str:
    """The SHA-256 of schema and values; it does not depend on how the rows are chunked."""
    sink = io.BytesIO()
    whole = pl.DataFrame(pl.from_arrow(rows)).rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    with pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole)
    return hashlib.sha256(sink.getvalue()).hexdigest()
