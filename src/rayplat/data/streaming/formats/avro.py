"""Avro: framed datums with schemas from the registry, or bare datums of one declared schema.

Knows how to read each datum alone and how to say why one cannot be read; it does not know how values fit
columns (see `rows`).

Every datum has to be read to its last byte: what is left over is the sign of another schema. A number in
a `timestamp` or `date` column needs a logical type (or Debezium's semantic name) that tells its unit. A
nested record, array or map in a `string` column is kept as JSON text.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import fastavro

from rayplat.core.project.table import Column
from rayplat.data.streaming.formats.avro_schema import AvroSchema, AvroSchemaError, prepare
from rayplat.data.streaming.formats.framing import HEADER_BYTES, frames
from rayplat.data.streaming.formats.json_records import Decoded
from rayplat.data.streaming.formats.registry import SchemaLookup
from rayplat.data.streaming.formats.rows import Group, assemble

_BARE = -1
"""Stands for the id of the declared schema where records name none."""


@dataclass(frozen=True, slots=True)
class Datums:
    """Datums of one schema: the index of each in the batch, and what it says."""

    rows: Sequence[int]
    records: Sequence[Mapping[str, Any]]
    schema: AvroSchema


@dataclass(frozen=True)
class AvroReader:
    """Reads datums as Python values.

    Args:
        schema: the reader's schema as JSON; empty: each datum's own.
        lookup: finds schemas by id; None: records are bare datums of exactly `schema`.
        inside: where in a record the row is, see `avro_schema.prepare`.
    """

    schema: str
    lookup: SchemaLookup | None
    inside: tuple[str, ...] = ()
    _ready: dict[int, AvroSchema | str] = field(default_factory=dict, init=False, repr=False)

    def read(self, values: Sequence[bytes | None]) -> tuple[list[Datums], dict[int, str]]:
        """The datums by schema, and the reason for each record that could not be read.

        Raises:
            UnavailableError: the registry does not answer.
        """
        if self.lookup is None:
            if _BARE not in self._ready:
                self._ready[_BARE] = prepare(self.schema, inside=self.inside)
            filled = [i for i, value in enumerate(values) if value is not None]
            bad = {i: "the record has no value" for i, value in enumerate(values) if value is None}
            schema = self._ready[_BARE]
            return ([] if isinstance(schema, str) else [self._read_all(values, filled, schema, 0, bad)]), bad
        framed = frames(values)
        bad = dict(framed.bad)
        groups = []
        for schema_id, rows in framed.by_schema.items():
            schema = self._schema(schema_id, self.lookup)
            if isinstance(schema, str):
                bad.update(dict.fromkeys(rows, schema))
            else:
                groups.append(self._read_all(values, rows, schema, HEADER_BYTES, bad))
        return groups, bad

    def _schema(self, schema_id: int, lookup: SchemaLookup) -> AvroSchema | str:
        """A schema that is ready, or why it cannot be."""
        ready = self._ready.get(schema_id)
        if ready is not None:
            return ready
        registered = lookup.by_id(schema_id)
        if registered is None:
            return f"the registry has no schema with the id {schema_id}"
        if registered.kind != "AVRO":
            return f"the schema with the id {schema_id} is {registered.kind} and not AVRO"
        try:
            ready = prepare(registered.text, registered.references, self.schema, inside=self.inside)
        except AvroSchemaError as error:
            ready = f"the schema with the id {schema_id} cannot be used: {error}"
        self._ready[schema_id] = ready
        return ready

    def _read_all(
        self,
        values: Sequence[bytes | None],
        rows: Sequence[int],
        schema: AvroSchema,
        start: int,
        bad: dict[int, str],
    ) -> Datums:
        read: Any = fastavro.schemaless_reader
        writer, reader, stream = schema.writer, schema.reader, io.BytesIO
        good, records = [], []
        for index in rows:
            value: Any = values[index]
            buffer = stream(value)
            buffer.seek(start)
            try:
                record = read(buffer, writer, reader)
            except MemoryError:
                bad[index] = "not a datum of its schema: it names a length that no memory holds"
            except Exception as error:  # what fastavro raises on junk is not a closed set
                bad[index] = f"not a datum of its schema: {type(error).__name__}: {error}"
            else:
                if buffer.tell() != len(value):
                    bad[index] = f"{len(value) - buffer.tell()} bytes are left behind the datum"
                elif not isinstance(record, dict):
                    bad[index] = "not a record with fields"
                else:
                    good.append(index)
                    records.append(record)
        return Datums(good, records, schema)


@dataclass(frozen=True)
class AvroDecoder:
    """Datums as rows of the declared columns."""

    reader: AvroReader
    columns: Mapping[str, Column]

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode a batch; see the module for the rules. Order is kept.

        Raises:
            UnavailableError: the registry does not answer.
        """
        datums, bad = self.reader.read(values)
        groups = []
        for found in datums:
            lacking = lacks(found.schema.fields, self.columns)
            if lacking:
                bad.update(
                    dict.fromkeys(found.rows, f"its schema has no field {lacking}, which may not be null")
                )
                continue
            by_column = {
                name: [record[name] for record in found.records]
                for name in self.columns
                if name in found.schema.fields
            }
            groups.append(Group(found.rows, by_column, found.schema.encodings))
        return assemble(groups, self.columns, bad)


def lacks(fields: frozenset[str], columns: Mapping[str, Column]) -> str:
    """The first column that may not be null and has no field; empty: there is none."""
    return next((n for n, column in columns.items() if not column.nullable and n not in fields), "")
