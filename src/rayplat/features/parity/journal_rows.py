"""The records of a journal as rows of `serving.feature_vectors`.

Knows how stored keys and values become the JSON that the log has; it does not know how a journal is written.
"""

import base64
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
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
    parts = [_rows(shared[number], mine, stem) for number, mine in by_shared.items()]
    return pa.concat_tables(parts) if parts else SCHEMA.empty_table()


def _rows(about: About, answers: Sequence[tuple[int, Answer]], stem: str) -> pa.Table:
    arrow = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(about.schema)))
    schema = pl.DataFrame(arrow.empty_table()).schema
    values = [row or None for _, answer in answers for row in answer.values]
    frame = Layout(schema).frame(values).rename(dict(zip(schema, about.features, strict=True)))
    standing = {"digest": about.digest, "snapshot_id": about.snapshot_id, "offsets": about.offsets}
    views = orjson.dumps({about.view: standing}, option=orjson.OPT_SORT_KEYS).decode()
    ids = [f"{stem}-{place + i:06d}" for place, answer in answers for i in range(len(answer.names))]
    counts = [len(answer.names) for _, answer in answers]
    at = pa.array(np.repeat(np.array([answer.at_us for _, answer in answers], np.int64), counts))
    columns = {
        "vector_id": pa.array(ids, pa.string()),
        "at": at,
        "logged_at": at,
        "caller": pa.repeat(pa.scalar(CALLER), len(ids)),
        "views": pa.repeat(pa.scalar(views), len(ids)),
        "request": pa.array(_requests(about.asks, [name for _, answer in answers for name in answer.names])),
        "features": encode_rows(frame).to_arrow(compat_level=pl.CompatLevel.oldest()),
    }
    return pa.table({field.name: columns[field.name] for field in SCHEMA}).cast(SCHEMA)


def _requests(asks: Sequence[str], keys: Sequence[bytes]) -> list[str]:
    """Keys as JSON objects by the columns that name the entity."""
    if len(asks) == 1:
        # A key is a JSON array of one value, which stands in the object as it stands there.
        head = b"{" + orjson.dumps(asks[0]) + b":"
        return [(head + key[1:-1] + b"}").decode() for key in keys]
    return [orjson.dumps(dict(zip(asks, orjson.loads(key), strict=True))).decode() for key in keys]


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
