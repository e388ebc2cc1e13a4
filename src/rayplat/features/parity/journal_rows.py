"""The records of a journal as rows of `serving.feature_vectors`.

Knows how stored keys and values become the JSON that the log has; it does not know how a journal is written.
"""

import base64
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import polars as pl
import pyarrow as pa

from rayplat.features.online.layout import Layout
from rayplat.features.parity.journal import ANSWER, ANSWERED, FRAME, SHARED, About
from rayplat.features.parity.vectors import SCHEMA, encode_rows

CALLER = "feature-server"


@dataclass(frozen=True, slots=True)
class Answer:
    """A record of kind 2 (see `journal`): `shared` is the number of what it shares."""

    shared: int
    at_us: int
    names: Sequence[bytes]
    values: Sequence[bytes]


def read_journal(data: bytes) -> tuple[list[About], list[Answer]]:
    """What stands in a journal's file; half a record at the end is left out."""
    shared: list[About] = []
    answers: list[Answer] = []
    for kind, record in _records(data):
        if kind == SHARED:
            told = orjson.loads(record[FRAME.size :])
            told |= {name: tuple(told[name]) for name in ("asks", "features")}
            shared.append(About(**told))
        elif kind == ANSWER:
            answers.append(_answer(record))
    return shared, answers


def rows_of(data: bytes, name: str) -> pa.Table:
    """The vectors of a journal's file, as rows of `vectors.SCHEMA`; see `spool.Read`.

    A vector's id is made of the file's name and its place there: whoever reads the file gives it the same.
    """
    shared, answers = read_journal(data)
    stem = name.partition(".")[0]
    by_shared: dict[int, list[tuple[int, Answer]]] = defaultdict(list)
    place = 0
    for answer in answers:
        by_shared[answer.shared].append((place, answer))
        place += len(answer.names)
    columns: dict[str, list[Any]] = {field.name: [] for field in SCHEMA}
    for number, mine in by_shared.items():
        _add(columns, shared[number], mine, stem)
    kinds = {field.name: pa.int64() if pa.types.is_timestamp(field.type) else field.type for field in SCHEMA}
    return pa.table({n: pa.array(columns[n], kind) for n, kind in kinds.items()}).cast(SCHEMA)


def _add(
    columns: Mapping[str, list[Any]], about: About, answers: Sequence[tuple[int, Answer]], stem: str
) -> None:
    arrow = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(about.schema)))
    schema = pl.DataFrame(arrow.empty_table()).schema
    values = [row or None for _, answer in answers for row in answer.values]
    frame = Layout(schema).frame(values).rename(dict(zip(schema, about.features, strict=True)))
    standing = {"digest": about.digest, "snapshot_id": about.snapshot_id, "offsets": about.offsets}
    views = orjson.dumps({about.view: standing}, option=orjson.OPT_SORT_KEYS).decode()
    for place, answer in answers:
        count = len(answer.names)
        columns["vector_id"] += [f"{stem}-{place + i:06d}" for i in range(count)]
        columns["at"] += [answer.at_us] * count
        columns["logged_at"] += [answer.at_us] * count
        columns["caller"] += [CALLER] * count
        columns["views"] += [views] * count
        columns["request"] += [_request(about.asks, key) for key in answer.names]
    columns["features"].extend(encode_rows(frame))


def _request(asks: Sequence[str], key: bytes) -> str:
    return orjson.dumps(dict(zip(asks, orjson.loads(key), strict=True))).decode()


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + FRAME.size <= len(data):
        length, kind = FRAME.unpack_from(data, at)
        end = at + 4 + length
        if length == 0 or end > len(data):
            return
        yield kind, data[at:end]
        at = end


def _answer(record: bytes) -> Answer:
    _, _, shared, at_us, count, keys = ANSWERED.unpack_from(record)
    at = ANSWERED.size
    names = record[at : at + keys].split(b"\n")
    at += keys
    lengths = struct.unpack_from(f"<{count}I", record, at)
    at += 4 * count
    values = []
    for length in lengths:
        values.append(record[at : at + length])
        at += length
    return Answer(shared, at_us, names, values)
