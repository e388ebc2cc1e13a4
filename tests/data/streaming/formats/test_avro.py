"""Avro: records that Confluent's own serializer wrote, and the many ways in which bytes are none."""

import io
import json
import pickle
import struct
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.project.source import Avro
from rayplat.core.project.table import Column
from rayplat.data.streaming.formats.decoder import decoder
from tests.data.streaming.formats.judged import judge
from tests.data.streaming.formats.registry_server import RegistryServer

FIELDS: dict[str, Any] = {
    "s": ["null", "string"],
    "i": ["null", "long"],
    "j": ["null", "int"],
    "f": ["null", "double"],
    "g": ["null", "double"],
    "b": ["null", "boolean"],
    "t": ["null", {"type": "long", "logicalType": "timestamp-micros"}],
    "d": ["null", {"type": "int", "logicalType": "date"}],
    "x": ["null", "bytes"],
}
COLUMNS = {
    "s": Column("string"),
    "i": Column("int64"),
    "j": Column("int32"),
    "f": Column("float64"),
    "g": Column("float32"),
    "b": Column("bool"),
    "t": Column("timestamp"),
    "d": Column("date"),
    "x": Column("binary"),
}
CONTEXT = SerializationContext("events", MessageField.VALUE)


def schema(fields: dict[str, Any], name: str = "shop.Order") -> str:
    listed = [{"name": field, "type": kind} for field, kind in fields.items()]
    return json.dumps({"type": "record", "name": name, "fields": listed})


def datum(text: str, record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(text)), record)
    return out.getvalue()


def framed(schema_id: int, body: bytes) -> bytes:
    return struct.pack(">bI", 0, schema_id) + body


def serialized(registry: RegistryServer, text: str, record: dict[str, Any]) -> bytes:
    with SchemaRegistryClient({"url": registry.url}) as client:
        conf = {"subject.name.strategy": topic_subject_name_strategy}
        value: bytes = AvroSerializer(client, text, conf=conf)(record, CONTEXT)
        return value


FULL = {
    "s": "é",
    "i": -(2**63),
    "j": 2**31 - 1,
    "f": 0.1,
    "g": 1.5,
    "b": True,
    "t": datetime(2013, 1, 1, 5, 0, 0, 123456, UTC),
    "d": date(2013, 1, 1),
    "x": b"\x00\xff",
}


def test_what_the_registrys_own_serializer_wrote(registry: RegistryServer) -> None:
    text = schema(FIELDS)
    values = [serialized(registry, text, record) for record in (FULL, dict.fromkeys(FULL), FULL)]
    decoded = judge(decoder(Avro(), COLUMNS, registry.address), values)
    assert decoded.frame.to_dicts() == [FULL, dict.fromkeys(FULL), FULL]
    assert not decoded.bad


def test_it_travels_and_asks_once_for_a_schema(registry: RegistryServer) -> None:
    values = [serialized(registry, schema(FIELDS), FULL)] * 50
    registry.asked.clear()
    travelled = pickle.loads(pickle.dumps(decoder(Avro(), COLUMNS, registry.address)))
    for _ in range(3):
        assert travelled.decode(values).frame.height == 50
    assert travelled.decode([framed(9, b"x")] * 50).bad[49] == "the registry has no schema with the id 9"
    assert registry.asked == ["/schemas/ids/1", "/schemas/ids/9"]


def test_schemas_of_many_generations_in_one_batch(registry: RegistryServer) -> None:
    old = schema({"s": "string", "gone": "long"})
    new = schema({"s": "string", "t": {"type": "long", "logicalType": "timestamp-millis"}})
    when = datetime(2013, 1, 1, tzinfo=UTC)
    values = [
        serialized(registry, new, {"s": "1", "t": when}),
        serialized(registry, old, {"s": "2", "gone": 1}),
        serialized(registry, new, {"s": "3", "t": when}),
    ]
    columns = {"s": Column("string"), "t": Column("timestamp")}
    decoded = judge(decoder(Avro(), columns, registry.address), values)
    assert decoded.frame.rows() == [("1", when), ("2", None), ("3", when)]
    strict = {**columns, "t": Column("timestamp", nullable=False)}
    bad = judge(decoder(Avro(), strict, registry.address), values).bad
    assert bad == {1: "its schema has no field t, which may not be null"}


def test_a_schema_built_on_others(registry: RegistryServer) -> None:
    place = schema({"city": "string"}, "shop.Place")
    registry.post(["subjects", "place", "versions"], {"schema": place})
    order = {
        "schema": schema({"s": "string", "place": "shop.Place"}),
        "references": [{"name": "shop.Place", "subject": "place", "version": 1}],
    }
    number = registry.register(order)
    body = datum(schema({"s": "string", "place": json.loads(place)}), {"s": "a", "place": {"city": "Oslo"}})
    columns = {"s": Column("string"), "place": Column("string")}
    decoded = judge(decoder(Avro(), columns, registry.address), [framed(number, body)])
    assert decoded.bad == {}
    assert decoded.frame.rows() == [("a", '{"city":"Oslo"}')]


def test_a_readers_schema(registry: RegistryServer) -> None:
    """It renames, fills in, widens, and tells the unit of a bare number; the writer's unit wins."""
    writer = schema({"id": "int", "at": "long", "seen": {"type": "long", "logicalType": "timestamp-millis"}})
    reader = {
        "type": "record",
        "name": "shop.Order",
        "fields": [
            {"name": "i", "aliases": ["id"], "type": "long"},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "seen", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "s", "type": "string", "default": "none"},
        ],
    }
    number = registry.register({"schema": writer})
    body = datum(writer, {"id": 7, "at": 1_000, "seen": datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)})
    columns = {"i": Column("int64"), "at": Column("timestamp"), "seen": Column("timestamp")}
    columns["s"] = Column("string")
    decoded = judge(decoder(Avro(json.dumps(reader)), columns, registry.address), [framed(number, body)])
    second = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert decoded.frame.rows() == [(7, second, second.replace(second=2), "none")], decoded.bad


def test_bare_datums_of_a_declared_schema() -> None:
    text = schema({"s": "string", "i": "long"})
    bare = decoder(Avro(text), {"s": Column("string"), "i": Column("int64")})
    good = datum(text, {"s": "a", "i": 1})
    decoded = judge(bare, [good, None, good + b"\x00", good[:-1], b""])
    assert decoded.frame.rows() == [("a", 1)]
    assert decoded.bad[1] == "the record has no value"
    assert decoded.bad[2] == "1 bytes are left behind the datum"
    assert "not a datum of its schema" in decoded.bad[3]
    assert "not a datum of its schema" in decoded.bad[4]


FITS: list[tuple[Any, Any, str, Any]] = [
    (
        {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        Decimal("1.50"),
        "string",
        "1.50",
    ),
    (
        {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        Decimal("1.50"),
        "float64",
        1.5,
    ),
    ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 0}, Decimal(7), "int64", 7),
    ({"type": "string", "logicalType": "uuid"}, UUID(int=1), "string", str(UUID(int=1))),
    ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B", "string", "B"),
    ({"type": "array", "items": "long"}, [1, 2], "string", "[1,2]"),
    ({"type": "map", "values": "bytes"}, {"a": b"\x00"}, "string", '{"a":"AA=="}'),
    ("string", "2013-01-01T07:00:00+02:00", "timestamp", datetime(2013, 1, 1, 5, tzinfo=UTC)),
    ("string", "2013-01-02", "date", date(2013, 1, 2)),
    ("long", 3, "float64", 3.0),
    ("double", 1e-50, "float32", 0.0),
    ("double", float("inf"), "float32", float("inf")),
    (["string", "long"], 5, "int64", 5),
    (
        {"type": "long", "logicalType": "timestamp-nanos"},
        -1,
        "timestamp",
        datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
    ),
]
MISFITS: list[tuple[Any, Any, str, str]] = [
    (
        {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 1},
        Decimal("1.5"),
        "int64",
        "a decimal: 1.5",
    ),
    ("long", 2**31, "int32", "v should be int32 and is a number: 2147483648"),
    ("double", 1e39, "float32", "v should be float32 and is a number: 1e+39"),
    ("long", 1, "timestamp", "v should be timestamp and is a number: 1"),
    ("int", 1, "date", "v should be date and is a number: 1"),
    ({"type": "long", "logicalType": "timestamp-millis"}, 2**60, "timestamp", "v should be timestamp"),
    ({"type": "int", "logicalType": "date"}, 2**30, "date", "v should be date"),
    ({"type": "long", "logicalType": "local-timestamp-millis"}, 1, "timestamp", "a time without a zone"),
    ("string", "2013-01-01T05:00:00", "timestamp", "v is no timestamp"),
    ("string", "20130101", "date", "v is no date"),
    ("string", "1", "int64", 'v should be int64 and is text: "1"'),
    ("long", 1, "bool", "v should be bool and is a number: 1"),
    ("boolean", True, "int64", "v should be int64 and is a boolean: True"),
    ("boolean", True, "float64", "v should be float64 and is a boolean: True"),
    ("double", 1.0, "int64", "v should be int64 and is a number: 1.0"),
    ("bytes", b"a", "string", "v should be string and is bytes: 0x61"),
    ("string", "a", "binary", 'v should be binary and is text: "a"'),
    ({"type": "array", "items": "long"}, [1], "int64", "v should be int64"),
]


@pytest.mark.parametrize(("kind", "value", "column", "expected"), FITS)
def test_values_that_fit(kind: Any, value: Any, column: str, expected: Any) -> None:
    text = schema({"v": kind})
    decoded = judge(decoder(Avro(text), {"v": Column(column)}), [datum(text, {"v": value})] * 2)
    assert decoded.frame["v"].to_list() == [expected] * 2, decoded.bad


@pytest.mark.parametrize(("kind", "value", "column", "reason"), MISFITS)
def test_values_that_do_not_fit(kind: Any, value: Any, column: str, reason: str) -> None:
    text = schema({"v": ["null", kind]})
    values = [datum(text, {"v": value}), datum(text, {"v": None})]
    decoded = judge(decoder(Avro(text), {"v": Column(column)}), values)
    assert list(decoded.bad) == [0]
    assert reason in decoded.bad[0]
    assert decoded.frame["v"].to_list() == [None]


def test_schemas_that_cannot_be_used(registry: RegistryServer) -> None:
    recursive = schema({"next": ["null", "shop.Order"]})
    empty = schema({"many": {"type": "array", "items": "null"}})
    numbers = {
        registry.register({"schema": recursive}): "holds itself",
        registry.register({"schema": empty}): "items that take no bytes",
        registry.register({"schema": '"long"'}): "no record",
        registry.register({"schema": "{"}): "no JSON",
        registry.register({"schema": schema({"a": "no.such.Type"})}): "no Avro schema",
        registry.register({"schema": "message", "schemaType": "PROTOBUF"}): "is PROTOBUF and not AVRO",
    }
    # A type that holds itself would be followed by this record until the process dies of its stack.
    values = [framed(number, b"\x02" * 200_000) for number in numbers]
    bad = decoder(Avro(), COLUMNS, registry.address).decode(values).bad
    for index, (number, reason) in enumerate(numbers.items()):
        assert reason in bad[index], number


def test_a_registry_that_is_down_stalls_the_batch_and_loses_nothing(registry: RegistryServer) -> None:
    value = serialized(registry, schema(FIELDS), FULL)
    waiting = decoder(Avro(), COLUMNS, registry.address)
    for status, what in ((503, "cannot answer"), (401, "lets 'nobody' not in")):
        registry.failing = status
        with pytest.raises(UnavailableError, match=what):
            waiting.decode([value, b"junk"])
    registry.failing = 404
    with pytest.raises(UserError, match="does not answer like one"):
        waiting.decode([value])
    registry.failing = 0
    assert waiting.decode([value, b"junk"]).frame.height == 1


def test_a_registry_that_is_not_there() -> None:
    gone = RegistryServer()
    with gone:
        value = serialized(gone, schema(FIELDS), FULL)
    with pytest.raises(UnavailableError, match="does not answer"):
        decoder(Avro(), COLUMNS, gone.address).decode([value])


def test_what_is_declared_is_told_at_the_door() -> None:
    with pytest.raises(UserError, match="neither a schema nor a registry"):
        decoder(Avro(), COLUMNS)
    with pytest.raises(UserError, match="no Avro schema"):
        decoder(Avro(schema({"a": "no.such.Type"})), COLUMNS)


_microseconds = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
_records = st.fixed_dictionaries(
    {
        "s": st.none() | st.text(st.characters(codec="utf-8"), max_size=5),
        "i": st.none() | st.integers(-(2**63), 2**63 - 1),
        "j": st.none() | st.integers(-(2**31), 2**31 - 1),
        "f": st.none() | st.floats(allow_nan=False),
        "g": st.none() | st.floats(width=32, allow_nan=False),
        "b": st.none() | st.booleans(),
        "t": st.none() | _microseconds,
        "d": st.none() | st.integers(-719162, 2932896),
        "x": st.none() | st.binary(max_size=5),
    }
)
_TEXT = schema(FIELDS)


@settings(max_examples=80, deadline=None)
@given(st.lists(_records, max_size=6))
def test_random_records_come_back(records: list[dict[str, Any]]) -> None:
    decoded = decoder(Avro(_TEXT), COLUMNS).decode([datum(_TEXT, record) for record in records])
    frame = decoded.frame.with_columns(t=decoded.frame["t"].to_physical(), d=decoded.frame["d"].to_physical())
    assert (frame.to_dicts(), decoded.bad) == (records, {})


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.none() | st.binary(max_size=40) | _records, max_size=6), st.booleans())
def test_junk_beside_records_is_judged_like_alone(
    registry: RegistryServer, given_values: list[Any], frame: bool
) -> None:
    number = registry.register({"schema": _TEXT})
    bodies = [datum(_TEXT, value) if isinstance(value, dict) else value for value in given_values]
    if frame:
        values = [body if body is None else framed(number, body) for body in bodies]
        judged = judge(decoder(Avro(), COLUMNS, registry.address), values)
    else:
        judged = judge(decoder(Avro(_TEXT), COLUMNS), bodies)
    good = {index for index, value in enumerate(given_values) if isinstance(value, dict)}
    assert good <= set(judged.rows)
