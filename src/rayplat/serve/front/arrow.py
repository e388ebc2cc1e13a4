"""Predictions asked for and answered as Arrow IPC streams: many rows at little cost.

Knows the columns of both streams; it does not know where an answer comes from. A column of the stream is one
of the asking table, of its type, or of one that casts to it without loss; the answer has the columns
`prediction_id`, `probability` and `positive`, a row each in the same order, with endpoint, model and version
in the metadata of its schema. The time that the features shall be of is `at` in the metadata of the asking
schema.

A stream that could become larger than it is (compressed buffers, dictionaries) is refused, and everything is
validated before a value is looked at.
"""

from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rayplat.core.project.column_types import vector_length
from rayplat.core.project.table import Column
from rayplat.serve.front.compression import is_compressed
from rayplat.serve.front.head import ARROW
from rayplat.serve.front.reply import Reply
from rayplat.serve.predictor import POSITIVE_FROM, Answer
from rayplat.serve.request import MAX_INSTANCES, Question, RequestError, RequestForm, time_of
from rayplat.serve.served import Served

_TYPES = {
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float64(),  # as JSON's numbers are read
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "binary": pa.binary(),
}
_ANSWER = pa.schema(
    [
        pa.field("prediction_id", pa.string(), nullable=False),
        pa.field("probability", pa.float64(), nullable=False),
        pa.field("positive", pa.bool_(), nullable=False),
    ]
)


class ArrowExchange:
    """See `plain.Exchange`; without state."""

    name = b"arrow"
    kind = ARROW

    def __init__(self, served: Served) -> None:
        predictor = served.predictor
        self._form = served.form
        self._schema = _ANSWER.with_metadata(
            {"endpoint": predictor.endpoint, "model": predictor.model, "version": str(predictor.version)}
        )

    def parse(self, body: bytes, now: datetime) -> Question:
        """See `RequestForm.parse`."""
        form = self._form
        table = _read(body, form)
        faults: list[str] = [
            f"{name}: missing ({form.columns[name].type})"
            for name in form.needed
            if name not in table.column_names and name != form.time
        ]
        columns = {
            name: _column(table.column(name), form.columns[name], name, faults) for name in table.column_names
        }
        at = _time_asked(table.schema, now, faults)
        if faults:
            raise RequestError(422, tuple(faults))
        if form.time is not None and form.time not in columns:
            columns[form.time] = [at] * table.num_rows
        rows = zip(*columns.values(), strict=True)
        return Question(at, [dict(zip(columns, row, strict=True)) for row in rows])

    def reply(self, answer: Answer) -> Reply:
        """See `plain.Exchange`."""
        told = answer.predictions()
        probabilities = [one["probability"] for one in told]
        # Of several versions the one tells its name that has answered.
        version = str(answer.version).encode()
        schema = self._schema.with_metadata({**self._schema.metadata, b"version": version})
        batch = pa.record_batch(
            [
                pa.array([one["id"] for one in told], pa.string()),
                pa.array(probabilities, pa.float64()),
                pa.array([p >= POSITIVE_FROM for p in probabilities], pa.bool_()),
            ],
            schema=schema,
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as stream:
            stream.write_batch(batch)
        return Reply(sink.getvalue().to_pybytes(), kind=ARROW)


def _read(body: bytes, form: RequestForm) -> pa.Table:
    try:
        if is_compressed(body):
            raise RequestError(422, ("the stream is compressed: send it without compression",))
        with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
            faults = _faults(stream.schema, form)
            if faults:
                raise RequestError(422, tuple(faults[:100]))
            table = stream.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RequestError(400, (f"the body is no Arrow IPC stream: {str(error)[:200]}",)) from None
    if not 0 < table.num_rows <= MAX_INSTANCES:
        raise RequestError(422, (f"the stream has {table.num_rows} rows; send 1 to {MAX_INSTANCES}",))
    return table


def _faults(schema: pa.Schema, form: RequestForm) -> list[str]:
    found = []
    names = schema.names
    for field in schema:
        if field.name not in form.columns:
            found.append(f"{field.name[:80]!r}: {form.table} has no such column")
        elif names.count(field.name) > 1:
            found.append(f"{field.name}: named twice")
        elif not _plain(field.type, form.columns[field.name]):
            found.append(f"{field.name}: {str(field.type)[:80]}, not {form.columns[field.name].type}")
    return found


def _plain(kind: pa.DataType, column: Column) -> bool:
    """Whether values of a type may be cast to a column's: checked for what is no plain value at all."""
    length = vector_length(column.type)
    if length is not None:
        listed = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
        return bool(listed and pa.types.is_floating(kind.value_type))
    wanted = _TYPES[column.type]
    kinds = pa.types
    if kinds.is_string(wanted) or kinds.is_binary(wanted):
        return bool(kind == wanted or kind in (pa.large_string(), pa.large_binary()))
    if kinds.is_floating(wanted):
        return bool(kinds.is_floating(kind) or kinds.is_integer(kind))
    if kinds.is_integer(wanted):
        return bool(kinds.is_integer(kind))
    return bool(kind == wanted or (kinds.is_timestamp(wanted) and kinds.is_timestamp(kind)))


def _column(values: pa.ChunkedArray, column: Column, name: str, faults: list[str]) -> list[Any]:
    if values.null_count and not column.nullable:
        faults.append(f"{name}: null, but a {column.type} must be given")
    length = vector_length(column.type)
    try:
        if length is not None:
            values = values.cast(pa.list_(pa.float32(), length))
        elif pa.types.is_timestamp(values.type) and values.type.tz is None:
            values = values.cast(pa.timestamp("us")).cast(_TYPES["timestamp"])
        else:
            values = values.cast(_TYPES[column.type])
        found = values.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError) as error:
        faults.append(f"{name}: {str(error)[:200]}")
        return []
    flat = values.combine_chunks().flatten() if length is not None else values
    if pa.types.is_floating(flat.type):
        if length is not None and flat.null_count:
            faults.append(f"{name}: a vector has no nulls")
        if not pc.all(pc.is_finite(flat), min_count=0).as_py():
            faults.append(f"{name}: NaN or infinite; send null where a value is missing")
    return list(found)


def _time_asked(schema: pa.Schema, now: datetime, faults: list[str]) -> datetime:
    told = (schema.metadata or {}).get(b"at")
    if told is None:
        return now
    try:
        return time_of(told.decode())
    except ValueError as error:
        faults.append(f"at: {error}")
        return now
