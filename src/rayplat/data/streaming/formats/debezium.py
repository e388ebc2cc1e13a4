"""Debezium: change envelopes, unwrapped to the row that they speak of and what became of it.

Knows the envelope (`op`, `before`, `after`; as JSON with or without its schema, or as Avro); it does not
know how a change is merged into a table.

Creations, updates and snapshot reads (c, u, r) are upserts of `after`; a deletion (d) is a delete of the
key in `before`, with null in all other columns; a tombstone is ignored. Everything else has a reason: a
truncation (t) too, because the rows that it took away are still in the table, and somebody has to see it.
Without a schema a number in a `timestamp` column is microseconds (as in a JSON record), in a `date`
column days, and a `binary` column is base64; with one, Debezium's semantic names decide. Columns with a
time but no zone are taken as UTC, as Debezium writes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import polars as pl

from rayplat.core.project.table import Column
from rayplat.data.streaming.formats.avro import AvroReader
from rayplat.data.streaming.formats.fit import Misfit
from rayplat.data.streaming.formats.json_records import Decoded
from rayplat.data.streaming.formats.rows import Group, assemble
from rayplat.data.streaming.formats.semantics import encoding_of

OP = "_op"
"""The column that says what became of a row: `upsert` or `delete`."""
INSIDE = ("after", "before")
"""The fields of an envelope that hold the row."""
_UPSERTS = ("c", "u", "r")
_UNAVAILABLE = "__debezium_unavailable_value"
_UNTOLD = Misfit("the database did not tell the unchanged value: set REPLICA IDENTITY FULL on its table")
_BARE = {"timestamp": "us", "date": "days", "binary": "base64"}


class EnvelopeError(Exception):
    """Why an envelope is no change of a row."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What one record says.

    Attributes:
        index: its place in the batch; `body`: the envelope.
        encodings: how the row's values have to be read; None: no schema tells it.
    """

    index: int
    body: Mapping[str, Any]
    encodings: Mapping[str, str] | None


class EnvelopeReader(Protocol):
    """Reads records as envelopes."""

    def read(self, values: Sequence[bytes | None]) -> tuple[list[Envelope], dict[int, str]]:
        """The envelopes, and the reason for each record that is none. No value here is None.

        Raises:
            UnavailableError: the schema registry does not answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class JsonEnvelopes:
    """Envelopes in JSON, as `{"schema": …, "payload": …}` or bare."""

    def read(self, values: Sequence[bytes | None]) -> tuple[list[Envelope], dict[int, str]]:
        """The envelopes, and the reason for each record that is none."""
        found: list[Envelope] = []
        bad: dict[int, str] = {}
        for index, value in enumerate(values):
            if value is None:
                continue
            try:
                record = orjson.loads(value)
                if not isinstance(record, dict):
                    raise EnvelopeError("not a JSON object")
                if "schema" in record and "payload" in record:
                    body, encodings = record["payload"], _encodings(record["schema"])
                else:
                    body, encodings = record, None
                if not isinstance(body, dict):
                    raise EnvelopeError("its payload is no JSON object")
                found.append(Envelope(index, body, encodings))
            except orjson.JSONDecodeError as error:
                bad[index] = f"not JSON: {error}"
            except EnvelopeError as error:
                bad[index] = str(error)
        return found, bad


@dataclass(frozen=True, slots=True)
class AvroEnvelopes:
    """Envelopes in Avro; the reader has to look `INSIDE` for the row."""

    reader: AvroReader

    def read(self, values: Sequence[bytes | None]) -> tuple[list[Envelope], dict[int, str]]:
        """The envelopes, and the reason for each record that is none.

        Raises:
            UnavailableError: the schema registry does not answer.
        """
        datums, bad = self.reader.read(values)
        found = [
            Envelope(index, record, group.schema.encodings)
            for group in datums
            for index, record in zip(group.rows, group.records, strict=True)
        ]
        return found, bad


@dataclass(frozen=True, slots=True)
class DebeziumDecoder:
    """Envelopes as rows of the declared columns, and `_op`.

    Args:
        key: the columns whose values together name a row: all that a delete has to say.
    """

    envelopes: EnvelopeReader
    columns: Mapping[str, Column]
    key: tuple[str, ...]

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode a batch; see the module for the rules. Order is kept.

        Returns:
            The frame has the declared columns and `_op`.

        Raises:
            UnavailableError: the schema registry does not answer.
        """
        ignored = [index for index, value in enumerate(values) if value is None]
        found, bad = self.envelopes.read(values)
        bad = {index: reason for index, reason in bad.items() if values[index] is not None}
        operations: dict[int, str] = {}
        bare = tuple((n, _BARE[column.type]) for n, column in self.columns.items() if column.type in _BARE)
        rows: dict[tuple[tuple[str, str], ...], list[tuple[int, Mapping[str, Any]]]] = {}
        for envelope in found:
            try:
                operation, row = self._unwrap(envelope.body)
            except EnvelopeError as error:
                bad[envelope.index] = str(error)
                continue
            operations[envelope.index] = operation
            read_as = bare if envelope.encodings is None else tuple(sorted(envelope.encodings.items()))
            rows.setdefault(read_as, []).append((envelope.index, row))
        groups = [
            Group(
                [index for index, _ in members],
                {name: _available([row.get(name) for _, row in members]) for name in self.columns},
                dict(encodings),
            )
            for encodings, members in rows.items()
        ]
        decoded = assemble(groups, self.columns, bad, ignored)
        told = pl.Series(OP, [operations[index] for index in decoded.rows], pl.String())
        return Decoded(decoded.frame.with_columns(told), decoded.rows, decoded.bad, ignored)

    def _unwrap(self, body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        operation = body.get("op")
        if operation in _UPSERTS:
            after = body.get("after")
            if not isinstance(after, Mapping):
                raise EnvelopeError(f"an envelope with op {operation!r} and no row in `after`")
            return "upsert", after
        if operation == "d":
            before = body.get("before")
            lacking = [
                name for name in self.key if not isinstance(before, Mapping) or before.get(name) is None
            ]
            if not isinstance(before, Mapping) or lacking:
                raise EnvelopeError(
                    f"a deletion that does not say of which row: `before` has no {', '.join(lacking)} "
                    "(the source table needs a primary key or REPLICA IDENTITY FULL)"
                )
            return "delete", {name: before[name] for name in self.key}
        if operation == "t":
            raise EnvelopeError(
                "the source table was truncated (op 't'), which is not applied: delete the rows by hand"
            )
        if operation is None:
            raise EnvelopeError("no change envelope: it has no `op`")
        raise EnvelopeError(f"a change envelope with the unknown op {str(operation)[:20]!r}")


def _available(values: list[Any]) -> list[Any]:
    """The values, without Debezium's word for one that the database did not tell (unchanged TOAST)."""
    if _UNAVAILABLE not in values and _UNAVAILABLE.encode() not in values:
        return values
    return [_UNTOLD if value in (_UNAVAILABLE, _UNAVAILABLE.encode()) else value for value in values]


def _encodings(schema: Any) -> dict[str, str]:
    """How the row's values have to be read, by the schema that stands beside the payload.

    Raises:
        EnvelopeError: it is no schema of an envelope.
    """
    try:
        parts = {part["field"]: part for part in schema["fields"]}
        row = next(parts[name] for name in INSIDE if name in parts)
        encodings = {}
        for column in row["fields"]:
            encoding = encoding_of(column.get("name") or "", column.get("parameters") or {})
            if not encoding and column["type"] == "bytes":
                encoding = "base64"
            if not encoding and column["type"] in ("struct", "array", "map"):
                encoding = "json"
            if encoding:
                encodings[column["field"]] = encoding
        return encodings
    except (KeyError, TypeError, AttributeError, StopIteration) as error:
        raise EnvelopeError("the schema beside the payload is none of an envelope") from error
