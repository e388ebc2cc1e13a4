"""Protobuf: messages that Confluent's own serializer wrote, and the many ways in which bytes are none."""

import base64
import pickle
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rayplat.core.errors import NotFoundError, UnavailableError, UserError
from rayplat.core.project.source import Protobuf
from rayplat.core.project.table import Column
from rayplat.data.streaming.formats.decoder import Decoder, decoder
from tests.data.streaming.formats.judged import judge
from tests.data.streaming.formats.messages import FILES, Deep, Order
from tests.data.streaming.formats.registry_server import RegistryServer

COLUMNS = {
    "s": Column("string", nullable=False),
    "i": Column("int64"),
    "j": Column("int32"),
    "f": Column("float64"),
    "g": Column("float32"),
    "b": Column("bool"),
    "x": Column("binary"),
    "u": Column("int64"),
    "t": Column("timestamp"),
    "w": Column("int64"),
    "place": Column("string"),
    "e": Column("string"),
    "many": Column("string"),
    "o": Column("int64"),
    "new": Column("string"),
}
CONTEXT = SerializationContext("orders", MessageField.VALUE)
SECOND = datetime(2013, 1, 1, 5, 0, 0, 123456, UTC)


def full() -> Any:
    order = Order(s="é", i=-5, j=7, f=0.5, g=1.5, b=True, x=b"\xff", u=9, e=1, many=[1, 2], o=0)
    order.t.FromDatetime(SECOND)
    order.w.value = 4
    order.place.city = "Oslo"
    return order


FULL = {"s": "é", "i": -5, "j": 7, "f": 0.5, "g": 1.5, "b": True, "x": b"\xff", "u": 9, "t": SECOND, "w": 4}
FULL |= {"place": '{"city":"Oslo"}', "e": "PAID", "many": '["1","2"]', "o": 0, "new": None}
ABSENT = {"s": "", "i": 0, "j": 0, "f": 0.0, "g": 0.0, "b": False, "x": b"", "u": 0, "t": None, "w": None}
ABSENT |= {"place": None, "e": "NEW", "many": "[]", "o": None, "new": None}


def serialized(registry: RegistryServer, message: Any) -> bytes:
    with SchemaRegistryClient({"url": registry.url}) as client:
        conf = {"subject.name.strategy": topic_subject_name_strategy}
        value: bytes = ProtobufSerializer(type(message), client, conf)(message, CONTEXT)
        return value


@pytest.fixture
def bare(tmp_path: Path) -> Decoder:
    path = tmp_path / "orders.desc"
    path.write_bytes(FILES.SerializeToString())
    return decoder(Protobuf("shop.Order", str(path)), COLUMNS)


@pytest.fixture
def head(registry: RegistryServer) -> bytes:
    """What stands before an order: the frame of one without fields."""
    return serialized(registry, Order())


def test_what_the_registrys_own_serializer_wrote(registry: RegistryServer) -> None:
    values = [serialized(registry, full()), serialized(registry, Order())]
    for declared in (Protobuf(), Protobuf("shop.Order")):
        travelled = pickle.loads(pickle.dumps(decoder(declared, COLUMNS, registry.address)))
        decoded = judge(travelled, [*values, None, b"", b"\x00\x00"])
        assert decoded.frame.to_dicts() == [FULL, ABSENT]
        assert sorted(decoded.bad) == [2, 3, 4]


def test_the_frame_says_which_message_it_is(registry: RegistryServer) -> None:
    value = serialized(registry, Deep(s="deep"))
    decoded = judge(decoder(Protobuf(), {"s": Column("string")}, registry.address), [value])
    assert decoded.frame.rows() == [("deep",)]
    bad = judge(
        decoder(Protobuf(), COLUMNS | {"no": Column("bool", nullable=False)}, registry.address), [value]
    )
    assert "shop.Other.Deep has no field no, which may not be null" in bad.bad[0]


def test_bare_messages_of_a_compiled_descriptor(bare: Decoder) -> None:
    values = [full().SerializeToString(), b"", b"\x0a\x02\xff\xff", None, b"\xff"]
    decoded = judge(pickle.loads(pickle.dumps(bare)), values)
    assert decoded.frame.to_dicts() == [FULL, ABSENT]
    assert "UTF-8" in decoded.bad[2]
    assert decoded.bad[3] == "the record has no value"


def test_fields_that_the_schema_does_not_name(registry: RegistryServer, bare: Decoder) -> None:
    """The registry knows the writer's schema, so they are junk; a descriptor may be older than the writer."""
    newer = b"\xf8\x07\x01"
    assert judge(bare, [newer]).frame.to_dicts() == [ABSENT]
    value = serialized(registry, Order(s="a"))
    bad = judge(decoder(Protobuf(), COLUMNS, registry.address), [value, value + newer]).bad
    assert bad == {1: "not a message of its schema: it has fields that the schema does not name"}


def test_values_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "orders.desc"
    path.write_bytes(FILES.SerializeToString())
    late = Order()
    late.t.seconds = 2**50
    cases: list[tuple[str, str, Any, str]] = [
        ("u", "int64", Order(u=2**63), "u should be int64 and is a number: 9223372036854775808"),
        ("i", "int32", Order(i=2**31), "i should be int32"),
        ("i", "timestamp", Order(i=1), "i should be timestamp and is a number: 1"),
        ("s", "int64", Order(s="1"), 's should be int64 and is text: "1"'),
        ("e", "string", Order(e=9), "the enumeration has no value 9"),
        ("many", "int64", Order(many=[1]), "a nested value, which only a string column holds"),
        ("place", "bool", full(), "a nested value"),
        ("f", "float32", Order(f=1e39), "f should be float32"),
        ("t", "timestamp", late, "t should be timestamp"),
        ("x", "string", Order(x=b"a"), "x should be string and is bytes"),
    ]
    for name, kind, message, reason in cases:
        one = decoder(Protobuf("shop.Order", str(path)), {name: Column(kind)})
        assert reason in judge(one, [message.SerializeToString()]).bad[0], name
    numbers = decoder(Protobuf("shop.Order", str(path)), {"e": Column("int32")})
    assert judge(numbers, [Order(e=9).SerializeToString()]).frame.rows() == [(9,)]


def test_schemas_that_cannot_be_used(registry: RegistryServer) -> None:
    def kept(text: str) -> int:
        return registry.register({"schema": text, "schemaType": "PROTOBUF"})

    lonely = base64.b64encode(FILES.file[3].SerializeToString()).decode()
    frames = {
        struct.pack(">bI", 0, kept("syntax = 'proto3';")) + b"\x00": "cannot be read",
        struct.pack(">bI", 0, kept(lonely)) + b"\x00": "do not hold together",
        struct.pack(">bI", 0, registry.register({"schema": '"long"'})) + b"\x00": "is AVRO and not PROTOBUF",
        struct.pack(">bI", 0, 99) + b"\x00": "no schema with the id 99",
        serialized(registry, Order())[:5] + b"\x02\x0e": "no message at 7",
        serialized(registry, Order())[:5] + b"\xff\xff": "ends in the path",
        serialized(registry, Order())[:5] + b"\xff\xff\x01": "steps",
        b"\x01abcdef": "begins with the byte 1",
    }
    bad = judge(decoder(Protobuf(), COLUMNS, registry.address), list(frames)).bad
    for index, reason in enumerate(frames.values()):
        assert reason in bad[index], reason


def test_a_registry_that_is_down_stalls_the_batch(registry: RegistryServer) -> None:
    value = serialized(registry, full())
    registry.failing = 500
    with pytest.raises(UnavailableError, match="cannot answer"):
        decoder(Protobuf(), COLUMNS, registry.address).decode([value])


def test_what_is_declared_is_told_at_the_door(tmp_path: Path) -> None:
    path = tmp_path / "orders.desc"
    with pytest.raises(UserError, match="neither a descriptor nor a registry"):
        decoder(Protobuf("shop.Order"), COLUMNS)
    with pytest.raises(NotFoundError, match="No such file"):
        decoder(Protobuf("shop.Order", str(path)), COLUMNS)
    path.write_bytes(b"junk")
    with pytest.raises(UserError, match="no descriptor set"):
        decoder(Protobuf("shop.Order", str(path)), COLUMNS)
    path.write_bytes(FILES.SerializeToString())
    with pytest.raises(UserError, match="no message shop\\.Nothing"):
        decoder(Protobuf("shop.Nothing", str(path)), COLUMNS)
    with pytest.raises(UserError, match="do not say which message"):
        decoder(Protobuf("", str(path)), COLUMNS)


_values = st.fixed_dictionaries(
    {},
    optional={
        "s": st.text(st.characters(codec="utf-8"), max_size=4),
        "i": st.integers(-(2**63), 2**63 - 1),
        "j": st.integers(-(2**31), 2**31 - 1),
        "f": st.floats(allow_nan=False),
        "g": st.floats(width=32, allow_nan=False),
        "b": st.booleans(),
        "x": st.binary(max_size=4),
        "o": st.integers(-(2**63), 2**63 - 1),
    },
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.none() | st.binary(max_size=30) | _values, max_size=6), st.booleans())
def test_junk_beside_records_is_judged_like_alone(
    registry: RegistryServer, head: bytes, bare: Decoder, given_values: list[Any], frame: bool
) -> None:
    bodies = [Order(**v).SerializeToString() if isinstance(v, dict) else v for v in given_values]
    if frame:
        values = [body if body is None else head + body for body in bodies]
        judged = judge(decoder(Protobuf(), COLUMNS, registry.address), values)
    else:
        judged = judge(bare, bodies)
    for index, row in zip(judged.rows, judged.frame.to_dicts(), strict=True):
        told = given_values[index]
        if isinstance(told, dict):
            assert row == {**ABSENT, **told}
    assert {index for index, value in enumerate(given_values) if isinstance(value, dict)} <= set(judged.rows)
