"""Avro schemas: parsed once, with what is needed to read their times as numbers, or refused.

Knows the Avro specification's schemas and logical types, and the names by which Debezium and Kafka
Connect mark a field's meaning; it does not know records or the registry.
"""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException, UnknownType

from rayplat.data.streaming.formats.registry import SchemaReference
from rayplat.data.streaming.formats.semantics import encoding_of

_LOGICAL = {"timestamp-millis": "ms", "timestamp-micros": "us", "timestamp-nanos": "ns", "date": "days"}
_NESTED = "json"


class AvroSchemaError(Exception):
    """Why records of a schema cannot be read."""


@dataclass(frozen=True, slots=True)
class AvroSchema:
    """A schema that is ready to read datums with.

    Attributes:
        writer: the schema that a datum was written with, parsed; `reader`: the one it is read as.
        encodings: how the fields of the row have to be read, see `fit.ENCODINGS`.
        fields: the names of the row's fields.
    """

    writer: Any
    reader: Any
    encodings: Mapping[str, str]
    fields: frozenset[str]


def prepare(
    text: str, references: Sequence[SchemaReference] = (), reader: str = "", *, inside: Sequence[str] = ()
) -> AvroSchema:
    """Make a schema ready.

    Times of the row are read as whole numbers, which is faster than as objects and has no range of its
    own; their unit is the writer's, or the reader's where the writer's field is a bare number.

    Args:
        text: the writer's schema as JSON; `references`: what it is built on, the deepest first.
        reader: the schema to read as, as JSON; empty: the writer's.
        inside: fields of the record one of which holds the row, such as `before` and `after` of an
            envelope; empty: the record is the row.

    Raises:
        AvroSchemaError: it is no schema of records, or one that a hostile record could kill the reader
            with: a type that holds itself, or an array of items that take no bytes.
    """
    named: dict[str, Any] = {}
    for reference in references:
        _parse(_load(reference.text), named)
    written, wanted = _load(text), _load(reader) if reader else None
    row = _row(written, inside)
    encodings = _open(row)
    if wanted is not None:
        row = _row(wanted, inside)
        theirs = encodings
        encodings = _open(row)
        for field in row["fields"]:
            names = (field["name"], *field.get("aliases", ()))
            told = next((theirs[name] for name in names if name in theirs), _NESTED)
            if told != _NESTED:
                encodings[field["name"]] = told
    return AvroSchema(
        writer=_parse(written, named),
        reader=None if wanted is None else _parse(wanted, {}),
        encodings=encodings,
        fields=frozenset(field["name"] for field in row["fields"]),
    )


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AvroSchemaError(f"it is no JSON: {error}") from error


def _parse(schema: Any, named: dict[str, Any]) -> Any:
    try:
        # Without the check of defaults, which other implementations do not make either.
        parsed = fastavro.parse_schema(copy.deepcopy(schema), named, _ignore_default_error=True)
    except (SchemaParseException, UnknownType, KeyError, TypeError, ValueError, RecursionError) as error:
        raise AvroSchemaError(f"it is no Avro schema: {error}") from error
    _check_bounded(parsed, ())
    return parsed


def _row(schema: Any, inside: Sequence[str]) -> dict[str, Any]:
    """The record that holds the row."""
    record = next(_records(schema), None)
    if record is None:
        raise AvroSchemaError("it is no record with fields")
    if not inside:
        return record
    fields = {field.get("name"): field.get("type") for field in record["fields"]}
    for name in inside:
        found = next(_records(fields.get(name)), None)
        if found is not None:
            return found
    raise AvroSchemaError(f"it has no record in any of the fields {', '.join(inside)}")


def _records(kind: Any) -> Iterator[dict[str, Any]]:
    for branch in kind if isinstance(kind, list) else [kind]:
        if isinstance(branch, dict) and isinstance(branch.get("fields"), list):
            yield branch


def _open(record: dict[str, Any]) -> dict[str, str]:
    """Take the logical types of times off the record's fields; returns the encodings in their place."""
    encodings = {}
    for field in record["fields"]:
        kind = field.get("type")
        branches = [branch for branch in kind if branch != "null"] if isinstance(kind, list) else [kind]
        encodings[field["name"]] = _NESTED
        if len(branches) != 1 or not isinstance(branches[0], dict):
            continue
        only = branches[0]
        marked = encoding_of(only.get("connect.name", ""), only.get("connect.parameters", {}))
        logical = _LOGICAL.get(only.get("logicalType", ""), "")
        if logical and only.get("type") in ("int", "long"):
            del only["logicalType"]
        encodings[field["name"]] = marked or logical or _NESTED
    return encodings


def _check_bounded(kind: Any, above: tuple[str, ...]) -> None:
    """Refuse what lets a few bytes ask for endless work or depth: fastavro follows them until it dies."""
    if isinstance(kind, str):
        if kind in above:
            raise AvroSchemaError(f"the type {kind} holds itself, which no column can hold")
    elif isinstance(kind, list):
        for branch in kind:
            _check_bounded(branch, above)
    elif kind["type"] in ("record", "error"):
        for field in kind["fields"]:
            _check_bounded(field["type"], (*above, kind["name"]))
    elif kind["type"] == "array":
        if _takes_nothing(kind["items"]):
            raise AvroSchemaError("it has an array of items that take no bytes")
        _check_bounded(kind["items"], above)
    elif kind["type"] == "map":
        _check_bounded(kind["values"], above)


def _takes_nothing(kind: Any) -> bool:
    if not isinstance(kind, dict):
        return bool(kind == "null")
    if kind["type"] in ("record", "error"):
        return all(_takes_nothing(field["type"]) for field in kind["fields"])
    return bool(kind["type"] == "null" or (kind["type"] == "fixed" and kind["size"] == 0))
