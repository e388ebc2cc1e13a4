"""Protobuf: framed messages with schemas from the registry, or messages of a compiled descriptor.

Knows messages and what presence means; it does not know how values fit columns (see `rows`).

A field that tracks presence and is not set is null; one that does not (proto3 without `optional`) is its
default, as Protobuf cannot tell the two apart. `google.protobuf.Timestamp` and the wrappers are values;
an enumeration is its name in a `string` column and its number in an integer one; any other message, a
repeated field or a map is kept as JSON text in a `string` column, and fits no other. With a registry,
which knows the writer's schema, bytes that the schema does not name are the sign of another schema and
make a record bad; without one they may be newer fields, and are left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from rayplat.core.project.table import Column
from rayplat.data.streaming.formats.fit import Misfit
from rayplat.data.streaming.formats.framing import HEADER_BYTES, FramingError, frames, message_indexes
from rayplat.data.streaming.formats.json_records import Decoded
from rayplat.data.streaming.formats.protobuf_schema import MessageTypes, ProtobufSchemaError, from_registry
from rayplat.data.streaming.formats.registry import SchemaLookup
from rayplat.data.streaming.formats.rows import Group, assemble

_TIMESTAMP = "google.protobuf.Timestamp"
_WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_Get = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Reading:
    """How messages of one type become columns."""

    message: type[Message]
    getters: Mapping[str, _Get]
    encodings: Mapping[str, str]


@dataclass(frozen=True)
class ProtobufDecoder:
    """Messages as rows of the declared columns.

    Args:
        message: the full name of the message; empty: the frame says it.
        lookup: finds schemas by id; None: records are bare messages.
        types: the messages of a compiled descriptor; None: those of the registry.
    """

    message: str
    columns: Mapping[str, Column]
    lookup: SchemaLookup | None
    types: MessageTypes | None
    _ready: dict[tuple[int, tuple[int, ...]], "_Reading | str"] = field(
        default_factory=dict, init=False, repr=False
    )
    _types: dict[int, MessageTypes] = field(default_factory=dict, init=False, repr=False)

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode a batch; see the module for the rules. Order is kept.

        Raises:
            UnavailableError: the registry does not answer.
        """
        bad: dict[int, str] = {}
        batches: dict[tuple[int, tuple[int, ...]], list[tuple[int, int]]] = {}
        for index, key, start in self._places(values, bad):
            batches.setdefault(key, []).append((index, start))
        groups = []
        for key, places in batches.items():
            reading = self._reading(key)
            if isinstance(reading, str):
                bad.update({index: reading for index, _ in places})
            else:
                groups.append(self._read_all(values, places, reading, bad))
        return assemble(groups, self.columns, bad)

    def _places(
        self, values: Sequence[bytes | None], bad: dict[int, str]
    ) -> list[tuple[int, tuple[int, tuple[int, ...]], int]]:
        """For each record its index, its schema and message, and where the message begins."""
        if self.lookup is None:
            bad.update({i: "the record has no value" for i, value in enumerate(values) if value is None})
            return [(i, (0, ()), 0) for i, value in enumerate(values) if value is not None]
        framed = frames(values)
        bad.update(framed.bad)
        places = []
        for schema_id, rows in framed.by_schema.items():
            for index in rows:
                try:
                    path, start = message_indexes(values[index] or b"", HEADER_BYTES)
                except FramingError as error:
                    bad[index] = str(error)
                else:
                    places.append((index, (schema_id, path), start))
        return places

    def _reading(self, key: tuple[int, tuple[int, ...]]) -> _Reading | str:
        """How messages with this schema and path are read, or why they cannot be."""
        ready = self._ready.get(key)
        if ready is not None:
            return ready
        schema_id, path = key
        name = f"the schema with the id {schema_id}" if self.lookup else "the descriptor"
        try:
            types = self.types or self._types.get(schema_id)
            if types is None and self.lookup is not None:
                registered = self.lookup.by_id(schema_id)
                if registered is None:
                    return f"the registry has no schema with the id {schema_id}"
                if registered.kind != "PROTOBUF":
                    return f"the schema with the id {schema_id} is {registered.kind} and not PROTOBUF"
                types = self._types[schema_id] = from_registry(registered)
            if types is None:
                raise ProtobufSchemaError("there is none")
            ready = _reading(types.named(self.message) if self.message else types.at(path), self.columns)
        except ProtobufSchemaError as error:
            ready = f"{name} cannot be used: {error}"
        self._ready[key] = ready
        return ready

    def _read_all(
        self,
        values: Sequence[bytes | None],
        places: Sequence[tuple[int, int]],
        reading: _Reading,
        bad: dict[int, str],
    ) -> Group:
        parse = reading.message.FromString
        strict = self.types is None
        rows, messages = [], []
        for index, start in places:
            value: Any = values[index]
            try:
                message = parse(value[start:] if start else value)
            except DecodeError as error:
                bad[index] = f"not a message of its schema: {error}"
                continue
            if strict and len(UnknownFieldSet(message)):
                bad[index] = "not a message of its schema: it has fields that the schema does not name"
                continue
            rows.append(index)
            messages.append(message)
        by_column = {name: [get(message) for message in messages] for name, get in reading.getters.items()}
        return Group(rows, by_column, reading.encodings)


def _reading(message: type[Message], columns: Mapping[str, Column]) -> _Reading:
    getters: dict[str, _Get] = {}
    encodings: dict[str, str] = {}
    descriptor: Descriptor = message.DESCRIPTOR
    for name, column in columns.items():
        found = descriptor.fields_by_name.get(name)
        if found is None:
            if not column.nullable:
                raise ProtobufSchemaError(
                    f"{descriptor.full_name} has no field {name}, which may not be null"
                )
            continue
        getters[name] = _getter(found, column.type)
        if found.message_type is not None and found.message_type.full_name == _TIMESTAMP:
            encodings[name] = "us"
    return _Reading(message, getters, encodings)


def _getter(found: FieldDescriptor, kind: str) -> _Get:
    name = found.name
    whole = found.message_type.full_name if found.message_type is not None else ""
    if found.is_repeated or (whole and whole != _TIMESTAMP and whole not in _WRAPPERS):
        return _nested(found, kind)
    if whole == _TIMESTAMP:
        return lambda m: _micros(getattr(m, name)) if m.HasField(name) else None
    if whole:
        return lambda m: getattr(m, name).value if m.HasField(name) else None
    if found.enum_type is not None and kind == "string":
        names = {number: value.name for number, value in found.enum_type.values_by_number.items()}
        return lambda m: (
            None if found.has_presence and not m.HasField(name) else _named(names, getattr(m, name))
        )
    if found.has_presence:
        return lambda m: getattr(m, name) if m.HasField(name) else None
    return lambda m: getattr(m, name)


def _micros(time: Any) -> int:
    return int(time.seconds * 1_000_000 + time.nanos // 1000)


def _named(names: Mapping[int, str], number: int) -> str | Misfit:
    return names.get(number) or Misfit(f"the enumeration has no value {number}")


def _nested(found: FieldDescriptor, kind: str) -> _Get:
    """The JSON text of a nested value, by Protobuf's own mapping, with the fields' own names."""
    name = found.name

    def text(message: Any) -> Any:
        if kind != "string":
            return Misfit(f"a nested value, which only a string column holds (as JSON), and this is {kind}")
        if not found.is_repeated and not message.HasField(name):
            return None
        alone = type(message)()
        try:
            alone.MergeFrom(message) if found.is_repeated else getattr(alone, name).CopyFrom(
                getattr(message, name)
            )
            for other, _ in alone.ListFields():
                if other.name != name:
                    alone.ClearField(other.name)
            value = json_format.MessageToDict(alone, preserving_proto_field_name=True)
        except (json_format.Error, ValueError, TypeError, OverflowError) as error:
            return Misfit(f"no JSON: {error}")
        return _json(value.get(name, {} if _is_map(found) else []))

    return text


def _is_map(found: FieldDescriptor) -> bool:
    return found.message_type is not None and found.message_type.GetOptions().map_entry


def _json(value: Any) -> str:
    import orjson

    return orjson.dumps(value).decode()
