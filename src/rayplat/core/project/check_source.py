"""What makes a declared source hold together: topics, streams, folders, databases and late rows.

Knows sources alone; the table they feed is checked beside it.
"""

import json
import re
from datetime import timedelta
from typing import Any, get_args

from rayplat.core.errors import Where
from rayplat.core.project.faults import Faults
from rayplat.core.project.source import (
    FILE_FORMATS,
    LATE_POLICIES,
    Avro,
    Database,
    Debezium,
    Files,
    Format,
    Kafka,
    Kinesis,
    Late,
    Protobuf,
    Raw,
    Reference,
    Stream,
)
from rayplat.core.project.table import Column, Table

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_STREAM = re.compile(r"[A-Za-z0-9._-]{1,128}")
_MESSAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_WATERMARKS = ("timestamp", "int32", "int64")


def check_source(table: Table, faults: Faults) -> None:
    """Note every fault of the table's source, and of what becomes of its late rows."""
    where, name, source = table.where, f"table {table.name!r}", table.source
    _check_late(table, faults)
    if source is None:
        return
    if isinstance(source, Reference):
        faults.takes(where, f"{name}: the function that reads it", source.read, 0)
    elif faults.expect(where, f"{name}: source", source, get_args(Stream), "rp.Kafka(…) or another source"):
        if isinstance(source, Kafka):
            _check_kafka(table, source, faults)
        if isinstance(source, Kinesis):
            _check_kinesis(table, source, faults)
        if isinstance(source, Kafka | Kinesis):
            _check_format(table, source.format, faults)
            _check_envelope(table, source, faults)
        if isinstance(source, Files):
            _check_files(where, name, source, faults)
        if isinstance(source, Database):
            _check_database(table, source, faults)


def _check_kafka(table: Table, source: Kafka, faults: Faults) -> None:
    where, name = table.where, f"table {table.name!r}"
    _check_name(table, "topic", source.topic, _TOPIC, faults)
    if (faults.expect(where, f"{name}: partitions", source.partitions, int, "a number of 1 or more")) and (
        source.partitions < 1
    ):
        faults.add(where, f"{name}: {source.partitions} partitions", "give 1 or more")
    if source.replay is not None:
        faults.takes(where, f"{name}: the replay function", source.replay, 0)
        if table.event_time is None:
            faults.add(where, f"{name} is replayed and has no event_time", "name its event_time")


def _check_kinesis(table: Table, source: Kinesis, faults: Faults) -> None:
    _check_name(table, "stream", source.stream, _STREAM, faults)
    for field in ("region", "endpoint"):
        subject = f"table {table.name!r}: {field}"
        faults.expect(table.where, subject, getattr(source, field), str, "text")


def _check_name(table: Table, word: str, value: Any, pattern: re.Pattern[str], faults: Faults) -> None:
    where, name = table.where, f"table {table.name!r}"
    if faults.expect(where, f"{name}: {word}", value, str, "text") and not pattern.fullmatch(value):
        faults.add(where, f"{name}: {value!r} is no name for a {word}", "use letters, digits, . _ -")


def _check_format(table: Table, given: Any, faults: Faults) -> None:
    where, name = table.where, f"table {table.name!r}"
    if not faults.expect(where, f"{name}: format", given, get_args(Format), "rp.Json() or another format"):
        return
    if isinstance(given, Avro):
        _check_avro(where, name, given, faults)
    if isinstance(given, Protobuf):
        _check_protobuf(where, name, given, faults)
    if isinstance(given, Raw):
        _check_raw(table, given, faults)


def _check_avro(where: Where, name: str, given: Avro, faults: Faults) -> None:
    if (
        not faults.expect(where, f"{name}: the Avro schema", given.schema, str, "JSON text")
        or not given.schema
    ):
        return
    try:
        json.loads(given.schema)
    except (ValueError, RecursionError) as error:
        faults.add(where, f"{name}: the Avro schema is not JSON: {error}", "give the schema as JSON text")


def _check_protobuf(where: Where, name: str, given: Protobuf, faults: Faults) -> None:
    texts = [
        faults.expect(where, f"{name}: Protobuf {field}", getattr(given, field), str, "text")
        for field in ("message", "descriptor")
    ]
    if not all(texts):
        return
    if given.message and not _MESSAGE.fullmatch(given.message):
        faults.add(where, f"{name}: {given.message!r} is no name of a message", "write it like 'shop.Order'")
    if given.descriptor and not given.message:
        faults.add(
            where,
            f"{name}: a descriptor set may hold several messages, and none is named",
            "name it: rp.Protobuf(message='shop.Order', descriptor=…)",
        )


def _check_raw(table: Table, given: Raw, faults: Faults) -> None:
    where, name = table.where, f"table {table.name!r}"
    if not faults.known(where, f"{name}: the raw column", given.column, table.columns):
        return
    declared = table.columns[given.column]
    if isinstance(declared, Column) and declared.type not in ("binary", "string"):
        faults.add(
            where,
            f"{name}: the raw column {given.column!r} is {declared.type}",
            "declare it as 'binary', or as 'string' for records in UTF-8",
        )
    for column, other in table.columns.items():
        if column != given.column and isinstance(other, Column) and other.nullable is False:
            faults.add(
                where,
                f"{name}: raw records fill {given.column!r} alone, and {column!r} may not be null",
                f"make {given.column!r} the key and no other column required, or give another format",
            )


def _check_envelope(table: Table, source: Kafka | Kinesis, faults: Faults) -> None:
    where, name = table.where, f"table {table.name!r}"
    if source.envelope is None:
        return
    if not faults.expect(where, f"{name}: envelope", source.envelope, Debezium, "rp.Debezium()"):
        return
    if table.mode != "upsert":
        faults.add(where, f"{name} takes changes and only appends", "declare the table with mode='upsert'")
    if isinstance(source.format, Protobuf | Raw):
        kind = type(source.format).__name__
        faults.add(where, f"{name}: Debezium envelopes in {kind} are not read", "use rp.Json() or rp.Avro()")


def _check_files(where: Where, name: str, source: Files, faults: Faults) -> None:
    for field in ("location", "pattern"):
        value = getattr(source, field)
        if faults.expect(where, f"{name}: {field}", value, str, "text") and not value.strip():
            faults.add(where, f"{name}: the {field} is empty", f"give the {field}")
    faults.known(where, f"{name}: the format of files", source.format, FILE_FORMATS)


def _check_database(table: Table, source: Database, faults: Faults) -> None:
    where, name = table.where, f"table {table.name!r}"
    for field in ("url", "table", "watermark"):
        value = getattr(source, field)
        if faults.expect(where, f"{name}: the database's {field}", value, str, "text") and not value.strip():
            faults.add(where, f"{name}: the database's {field} is empty", f"give the {field}")
    _check_span(where, f"{name}: settle", source.settle, faults)
    declared = table.columns.get(source.watermark) if isinstance(source.watermark, str) else None
    if isinstance(declared, Column) and declared.type not in _WATERMARKS:
        faults.add(
            where,
            f"{name}: the watermark {source.watermark!r} is {declared.type}",
            f"name a column that only grows: {', '.join(_WATERMARKS)}",
        )


def _check_late(table: Table, faults: Faults) -> None:
    where, name = table.where, f"table {table.name!r}"
    if table.late is None or not faults.expect(where, f"{name}: late", table.late, Late, "rp.Late(…)"):
        return
    _check_span(where, f"{name}: the lateness allowed", table.late.allowed, faults)
    faults.known(where, f"{name}: the policy for late rows", table.late.policy, LATE_POLICIES)
    if table.event_time is None:
        faults.add(where, f"{name} judges late rows and has no event_time", "name its event_time")
    if not isinstance(table.source, get_args(Stream)):
        faults.add(where, f"{name} judges late rows and is not fed by a stream", "leave late out")


def _check_span(where: Where, subject: str, value: Any, faults: Faults) -> None:
    if faults.expect(where, subject, value, timedelta, "a timedelta") and value < timedelta(0):
        faults.add(where, f"{subject} is {value}", "give 0 or more")
