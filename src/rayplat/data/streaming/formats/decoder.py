"""Decoders: the right one for what is declared of a source.

Knows formats and envelopes as they are declared; it does not know how any of them is decoded.

A decoder travels to the process that decodes: what it needs is made there, at the first batch. Keep one
for the life of a task, because it remembers the schemas that it asked the registry for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from rayplat.core.errors import NotFoundError, UserError
from rayplat.core.project.source import Avro, Debezium, Format, Json, Protobuf, Raw
from rayplat.core.project.table import Column
from rayplat.data.streaming.formats import json_records
from rayplat.data.streaming.formats.avro import AvroDecoder, AvroReader
from rayplat.data.streaming.formats.avro_schema import AvroSchemaError, prepare
from rayplat.data.streaming.formats.debezium import INSIDE, AvroEnvelopes, DebeziumDecoder, JsonEnvelopes
from rayplat.data.streaming.formats.json_records import Decoded
from rayplat.data.streaming.formats.protobuf import ProtobufDecoder
from rayplat.data.streaming.formats.protobuf_schema import ProtobufSchemaError, from_descriptor_set
from rayplat.data.streaming.formats.raw import RawDecoder
from rayplat.data.streaming.formats.registry import ConfluentLookup, RegistryAddress


class Decoder(Protocol):
    """Turns the bytes of records into rows."""

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode a batch, with a verdict for each record that does not depend on its neighbours.

        Raises:
            UnavailableError: the schema registry does not answer: the batch has to wait.
            UserError: the schema registry's settings cannot be used.
        """
        ...


@dataclass(frozen=True, slots=True)
class JsonDecoder:
    """JSON records, see `json_records`."""

    columns: Mapping[str, Column]

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode a batch."""
        return json_records.decode(values, self.columns)


class LazyDecoder:
    """A decoder that is made at the first batch in each process, because its parts do not travel.

    Args:
        make: makes it; must pickle.
    """

    def __init__(self, make: Callable[[], Decoder]) -> None:
        self._make = make
        self._decoder: Decoder | None = None

    def __reduce__(self) -> tuple[type["LazyDecoder"], tuple[Callable[[], Decoder]]]:
        return type(self), (self._make,)

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode a batch.

        Raises:
            UnavailableError: the schema registry does not answer: the batch has to wait.
            UserError: the schema registry's settings cannot be used.
        """
        if self._decoder is None:
            self._decoder = self._make()
        return self._decoder.decode(values)


def decoder(
    format: Format,  # noqa: A002  # the word of the declarations
    columns: Mapping[str, Column],
    registry: RegistryAddress | None = None,
    *,
    envelope: Debezium | None = None,
    key: Sequence[str] = (),
) -> Decoder:
    """The decoder of what is declared. It pickles.

    Args:
        format: how a record's bytes become a row.
        columns: the declared columns.
        registry: where the schema registry is; None or without a url: there is none.
        envelope: what is wrapped around the row; then the frame has the column `_op` too.
        key: the columns of the table's key; an envelope needs them.

    Raises:
        NotFoundError: the compiled descriptor is not there.
        UserError: what is declared cannot be decoded.
    """
    address = registry if registry is not None and registry.url else None
    if envelope is not None and not key:
        raise UserError("a Debezium envelope needs a table with a key", "declare the table's key")
    if isinstance(format, Avro):
        _check_avro(format, address, envelope)
        return LazyDecoder(partial(_avro, format.schema, columns, address, envelope is not None, tuple(key)))
    if envelope is not None:
        if not isinstance(format, Json):
            raise UserError(
                f"a Debezium envelope in the format {type(format).__name__}", "use rp.Json() or rp.Avro()"
            )
        return DebeziumDecoder(JsonEnvelopes(), columns, tuple(key))
    if isinstance(format, Json):
        return JsonDecoder(columns)
    if isinstance(format, Raw):
        return _raw(format, columns)
    return LazyDecoder(partial(_protobuf, format.message, columns, address, _descriptor(format, address)))


def _avro(
    schema: str,
    columns: Mapping[str, Column],
    address: RegistryAddress | None,
    enveloped: bool,
    key: tuple[str, ...],
) -> Decoder:
    lookup = ConfluentLookup(address, serialized=False) if address is not None else None
    if enveloped:
        return DebeziumDecoder(AvroEnvelopes(AvroReader(schema, lookup, INSIDE)), columns, key)
    return AvroDecoder(AvroReader(schema, lookup), columns)


def _protobuf(
    message: str, columns: Mapping[str, Column], address: RegistryAddress | None, descriptor: bytes
) -> Decoder:
    lookup = ConfluentLookup(address, serialized=True) if address is not None else None
    types = from_descriptor_set(descriptor) if descriptor else None
    return ProtobufDecoder(message, columns, lookup, types)


def _raw(declared: Raw, columns: Mapping[str, Column]) -> Decoder:
    kind = columns[declared.column].type if declared.column in columns else "not declared"
    if kind not in ("binary", "string"):
        raise UserError(
            f"raw records go into the column {declared.column!r}, which is {kind}",
            "name a declared column of the type binary or string",
        )
    return RawDecoder(declared.column, columns)


def _check_avro(declared: Avro, address: RegistryAddress | None, envelope: Debezium | None) -> None:
    if not declared.schema:
        if address is None:
            raise UserError(
                "Avro records need a schema, and neither a schema nor a registry is given",
                "set schema_registry.url, or declare rp.Avro(schema=…) for bare datums",
            )
        return
    try:
        prepare(declared.schema, inside=INSIDE if envelope else ())
    except AvroSchemaError as error:
        raise UserError(
            f"the declared Avro schema cannot be used: {error}", "correct rp.Avro(schema=…)"
        ) from error


def _descriptor(declared: Protobuf, address: RegistryAddress | None) -> bytes:
    """The content of the compiled descriptor: it travels, because the file may be on this machine only."""
    if not declared.descriptor:
        if address is None:
            raise UserError(
                "Protobuf records need a schema, and neither a descriptor nor a registry is given",
                "set schema_registry.url, or declare rp.Protobuf(message=…, descriptor=…)",
            )
        return b""
    if not declared.message and address is None:
        raise UserError(
            "bare Protobuf records do not say which message they are", "declare rp.Protobuf(message=…)"
        )
    path = Path(declared.descriptor)
    try:
        content = path.read_bytes()
        types = from_descriptor_set(content)
        if declared.message:
            types.named(declared.message)
    except OSError as error:
        raise NotFoundError(
            f"the compiled descriptor {path} cannot be read: {error.strerror}",
            f"write it: protoc --include_imports --descriptor_set_out={path.name} *.proto",
        ) from error
    except ProtobufSchemaError as error:
        raise UserError(
            f"the compiled descriptor {path} cannot be used: {error}",
            "compile it again with --include_imports, and name one of its messages",
        ) from error
    return content
