"""The records of a journal as rows of `serving.feature_vectors`.

Knows how stored keys and values become the JSON that the log has; it does not know how a journal is written.
"""

import base64
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl
import pyarrow as pa

from rayplat.features.online.layout import Layout
from rayplat.features.parity.journal import (
    ANSWER,
    ANSWERED,
    FRAME,
    SHARED,
    VALUED,
    VALUES,
    WHOLE,
    WHOLLY,
    About,
)
from rayplat.features.parity.vectors import SCHEMA, encode_rows

CALLER = "feature-server"
PART_ROWS = 50_000
"""So many vectors of a file are made into rows at a time: each has all of its values again then."""


Places = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Values:
    """A record of kind 3, or of kind 2 (see `journal`): `shared` is the number of what they share."""

    shared: int
    names: Sequence[bytes]
    rows: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """A record of kind 4 or 2: `places` tells the values of each entity."""

    shared: int
    at_us: int
    places: Places


@dataclass(frozen=True, slots=True)
class Read:
    """What stands in a journal's file, in its order."""

    shared: list[About]
    values: list[Values]
    answers: list[Answer]


def read_journal(data: bytes) -> Read:
    """What stands in a journal's file; half a record at the end is left out."""
    read = Read([], [], [])
    told_values = 0
    for kind, record in _records(data):
        if kind == SHARED:
            told = orjson.loads(record[FRAME.size :])
            told |= {name: tuple(told[name]) for name in ("asks", "features")}
            read.shared.append(About(**told))
        elif kind == VALUES:
            _, _, shared, count, keys = VALUED.unpack_from(record)
            read.values.append(_values(record, VALUED.size, shared, count, keys))
            told_values += count
        elif kind == WHOLE:
            _, _, shared, at_us, count, keys = WHOLLY.unpack_from(record)
            read.values.append(_values(record, WHOLLY.size, shared, count, keys))
            places = np.arange(told_values, told_values + count, dtype=np.uint32)
            read.answers.append(Answer(shared, at_us, places))
            told_values += count
        elif kind == ANSWER:
            _, _, shared, at_us = ANSWERED.unpack_from(record)
            read.answers.append(Answer(shared, at_us, np.frombuffer(record, np.uint32, -1, ANSWERED.size)))
    return read


def tables_of(data: bytes, name: str, part_rows: int = PART_ROWS) -> Iterator[pa.Table]:
    """The vectors of a journal's file, as rows of `vectors.SCHEMA` in parts; see `spool.Read`.

    A vector's id is made of the file's name and its place there: whoever reads the file gives it the same. In
    a part, vectors with the same values stand together: they are written as fast as they are few, and small.
    """
    read = read_journal(data)
    if not read.answers:
        return
    requests, features = _told(read)
    standings = pa.array([_standing(about) for about in read.shared])
    counts = np.array([len(answer.places) for answer in read.answers])
    places = np.concatenate([answer.places for answer in read.answers])
    of = np.repeat(np.array([answer.shared for answer in read.answers], np.int32), counts)
    asked = np.repeat(np.array([answer.at_us for answer in read.answers], np.int64), counts)
    stem = name.partition(".")[0]
    for start in range(0, len(places), part_rows):
        rows = start + np.argsort(places[start : start + part_rows], kind="stable")
        at, here = pa.array(asked[rows]), pa.array(places[rows])
        columns = {
            "vector_id": pa.array([f"{stem}-{row:06d}" for row in rows.tolist()], pa.string()),
            "at": at,
            "logged_at": at,
            "caller": pa.repeat(pa.scalar(CALLER), len(at)),
            "views": standings.take(pa.array(of[rows])),
            "request": requests.take(here),
            "features": features.take(here),
        }
        yield pa.table({field.name: columns[field.name] for field in SCHEMA}).cast(SCHEMA)


def _standing(about: About) -> str:
    told = {"digest": about.digest, "snapshot_id": about.snapshot_id, "offsets": about.offsets}
    return orjson.dumps({about.view: told}, option=orjson.OPT_SORT_KEYS).decode()


def _told(read: Read) -> tuple[pa.Array, pa.Array]:
    """Keys and values as the log has them, by their places."""
    by_shared: dict[int, list[tuple[int, Values]]] = defaultdict(list)
    first = 0
    for values in read.values:
        by_shared[values.shared].append((first, values))
        first += len(values.names)
    requests, features, places = [], [], []
    for number, mine in by_shared.items():
        about = read.shared[number]
        names = [name for _, values in mine for name in values.names]
        rows = [row or None for _, values in mine for row in values.rows]
        requests.append(pa.array(_requests(about.asks, names), pa.large_string()))
        features.append(_features(about, rows))
        places += [np.arange(start, start + len(values.names)) for start, values in mine]
    if len(by_shared) == 1:
        return requests[0], features[0]
    # What stands together by what it shares is put into the order of the file.
    order = pa.array(np.argsort(np.concatenate(places)))
    return pa.concat_arrays(requests).take(order), pa.concat_arrays(features).take(order)


def _features(about: About, rows: Sequence[bytes | None]) -> pa.Array:
    arrow = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(about.schema)))
    schema = pl.DataFrame(arrow.empty_table()).schema
    frame = Layout(schema).frame(rows).rename(dict(zip(schema, about.features, strict=True)))
    return encode_rows(frame).to_arrow(compat_level=pl.CompatLevel.oldest())


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


def _values(record: bytes, at: int, shared: int, count: int, keys: int) -> Values:
    """What stands at a place of a record: keys, lengths and values."""
    names = record[at : at + keys].split(b"\n")
    at += keys
    lengths = struct.unpack_from(f"<{count}I", record, at)
    at += 4 * count
    rows = []
    for length in lengths:
        rows.append(record[at : at + length])
        at += length
    return Values(shared, names, rows)
