"""Debezium: envelopes in JSON, with and without their schema, and in Avro."""

import base64
import json
import pickle
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.project.source import Avro, Debezium, Json, Protobuf
from rayplat.core.project.table import Column
from rayplat.data.streaming.formats.decoder import Decoder, decoder
from tests.data.streaming.formats.judged import judge
from tests.data.streaming.formats.registry_server import RegistryServer
from tests.data.streaming.formats.test_avro import datum, framed, serialized

COLUMNS = {
    "id": Column("int64", nullable=False),
    "name": Column("string"),
    "at": Column("timestamp"),
    "day": Column("date"),
    "price": Column("string"),
    "body": Column("binary"),
}
MIDNIGHT = datetime(2013, 1, 1, tzinfo=UTC)
TICKS = 1_356_998_400_000_000
DAYS = 15_706


def plain(**row: Any) -> dict[str, Any]:
    return {"id": 1, "name": "a", "at": TICKS, "day": DAYS, "price": "1.50", "body": "AP8=", **row}


ROW = (1, "a", MIDNIGHT, date(2013, 1, 1), "1.50", b"\x00\xff", "upsert")
GONE = (1, None, None, None, None, None, "delete")


def envelope(op: str, before: Any = None, after: Any = None, **more: Any) -> bytes:
    return json.dumps({"op": op, "before": before, "after": after, "source": {"ts_ms": 1}, **more}).encode()


def bare() -> Decoder:
    return decoder(Json(), COLUMNS, envelope=Debezium(), key=("id",))


def test_what_became_of_rows() -> None:
    values = [
        envelope("c", None, plain()),
        envelope("r", None, plain(id=2)),
        envelope("u", plain(), plain(name=None)),
        envelope("d", plain()),
        None,
        envelope("d", {"id": 1}),
    ]
    decoded = judge(pickle.loads(pickle.dumps(bare())), values)
    assert decoded.bad == {}
    assert list(decoded.ignored) == [4]
    assert decoded.frame.columns == [*COLUMNS, "_op"]
    assert decoded.frame.rows() == [ROW, (2, *ROW[1:]), (1, None, *ROW[2:]), GONE, GONE]


WRONG: dict[bytes, str] = {
    envelope("t"): "was truncated",
    envelope("m"): "unknown op 'm'",
    envelope("c"): "no row in `after`",
    envelope("d"): "`before` has no id",
    envelope("d", {"id": None, "name": "a"}): "`before` has no id",
    envelope("u", None, plain(name="__debezium_unavailable_value")): "REPLICA IDENTITY FULL",
    envelope("c", None, plain(at="yesterday")): "at is no timestamp",
    envelope("c", None, plain(id="1")): "id should be int64 and is text",
    envelope("c", None, plain(body="?")): "body is no binary",
    envelope("c", None, plain(name={"a": 1})): "name should be string and is an object",
    b'{"id": 1}': "it has no `op`",
    b"[1]": "not a JSON object",
    b"junk": "not JSON",
    b"": "not JSON",
    b'{"schema": null, "payload": {"op": "c"}}': "none of an envelope",
    b'{"schema": {"fields": []}, "payload": {"op": "c"}}': "none of an envelope",
    b'{"schema": {"fields": [1]}, "payload": {"op": "c"}}': "none of an envelope",
    b'{"op": ["c"]}': "unknown op",
}


def test_what_is_no_change_of_a_row() -> None:
    """A truncation is among them: rows that are gone at the source must not stay here unseen."""
    bad = judge(bare(), list(WRONG)).bad
    for index, reason in enumerate(WRONG.values()):
        assert reason in bad[index], reason


def connect(at: str, at_value: Any) -> bytes:
    fields = [
        {"field": "id", "type": "int64"},
        {"field": "at", "type": "int64", "name": at},
        {"field": "day", "type": "int32", "name": "io.debezium.time.Date"},
        {
            "field": "price",
            "type": "bytes",
            "name": "org.apache.kafka.connect.data.Decimal",
            "parameters": {"scale": "2"},
        },
        {"field": "body", "type": "bytes"},
    ]
    row = {"type": "struct", "fields": fields}
    schema = {"type": "struct", "fields": [{**row, "field": "before"}, {**row, "field": "after"}]}
    unscaled = base64.b64encode((150).to_bytes(2, "big", signed=True)).decode()
    payload = {"op": "c", "before": None, "after": plain(at=at_value, price=unscaled), "ts_ms": 1}
    return json.dumps({"schema": schema, "payload": payload}).encode()


def test_the_schema_beside_the_payload_tells_the_units() -> None:
    values = [
        connect("io.debezium.time.Timestamp", TICKS // 1000),
        connect("io.debezium.time.MicroTimestamp", TICKS),
        connect("io.debezium.time.NanoTimestamp", TICKS * 1000),
        connect("org.apache.kafka.connect.data.Timestamp", TICKS // 1000),
        connect("io.debezium.time.ZonedTimestamp", "2013-01-01T01:00:00+01:00"),
        envelope("c", None, plain()),
        connect("io.debezium.time.MicroTime", 5),
    ]
    decoded = judge(bare(), values)
    assert decoded.frame.rows() == [ROW] * 6
    assert decoded.bad == {6: "at should be timestamp and is a number: 5"}


def avro_schema(at: dict[str, Any]) -> str:
    fields = [
        {"name": "id", "type": "long"},
        {"name": "name", "type": ["null", "string"]},
        {"name": "at", "type": ["null", at]},
        {"name": "day", "type": ["null", {"type": "int", "connect.name": "io.debezium.time.Date"}]},
        {
            "name": "price",
            "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}],
        },
        {"name": "body", "type": ["null", "bytes"]},
    ]
    row = {"type": "record", "name": "Value", "fields": fields}
    return json.dumps(
        {
            "type": "record",
            "name": "Envelope",
            "namespace": "shop.orders",
            "fields": [
                {"name": "before", "type": ["null", row]},
                {"name": "after", "type": ["null", "Value"]},
                {"name": "op", "type": "string"},
            ],
        }
    )


def avro_row(at: int) -> dict[str, Any]:
    from decimal import Decimal

    return {"id": 1, "name": "a", "at": at, "day": DAYS, "price": Decimal("1.50"), "body": b"\x00\xff"}


def test_envelopes_in_avro(registry: RegistryServer) -> None:
    milli = avro_schema({"type": "long", "connect.name": "io.debezium.time.Timestamp"})
    micro = avro_schema({"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"})
    logical = avro_schema({"type": "long", "logicalType": "timestamp-millis"})
    created = {"before": None, "op": "c"}
    values = [
        serialized(registry, milli, {**created, "after": avro_row(TICKS // 1000)}),
        None,
        serialized(registry, micro, {**created, "after": avro_row(TICKS)}),
        serialized(registry, logical, {**created, "after": avro_row(TICKS // 1000)}),
        serialized(registry, micro, {"before": avro_row(TICKS), "after": None, "op": "d"}),
        serialized(registry, micro, {"before": None, "after": None, "op": "t"}),
        framed(1, b"junk"),
    ]
    told = decoder(Avro(), COLUMNS, registry.address, envelope=Debezium(), key=("id",))
    decoded = judge(told, values)
    assert decoded.frame.rows() == [ROW, ROW, ROW, GONE]
    assert sorted(decoded.bad) == [5, 6]
    bare_avro = decoder(Avro(micro), COLUMNS, envelope=Debezium(), key=("id",))
    assert judge(bare_avro, [datum(micro, {**created, "after": avro_row(TICKS)})]).frame.rows() == [ROW]
    registry.failing = 503
    with pytest.raises(UnavailableError):
        decoder(Avro(), COLUMNS, registry.address, envelope=Debezium(), key=("id",)).decode(values)


def test_what_is_declared_is_told_at_the_door() -> None:
    with pytest.raises(UserError, match="needs a table with a key"):
        decoder(Json(), COLUMNS, envelope=Debezium())
    with pytest.raises(UserError, match="in the format Protobuf"):
        decoder(Protobuf("a.B"), COLUMNS, envelope=Debezium(), key=("id",))


_rows = st.none() | st.dictionaries(
    st.sampled_from(list(COLUMNS)),
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.lists(st.integers(), max_size=2),
)
_changes = st.fixed_dictionaries({"op": st.sampled_from("crudtx"), "before": _rows, "after": _rows})
_junk = st.binary(max_size=8) | st.sampled_from([*WRONG, envelope("c", None, plain()), connect("x", 1)])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.none() | _junk | _changes.map(lambda change: json.dumps(change).encode()), max_size=8))
def test_junk_beside_changes_is_judged_like_alone(values: list[bytes | None]) -> None:
    decoded = judge(bare(), values)
    assert list(decoded.ignored) == [index for index, value in enumerate(values) if value is None]
