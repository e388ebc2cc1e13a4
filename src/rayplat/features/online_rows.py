"""Which source rows the online store keeps, and how they become bytes and rows again.

Knows merging, pruning and the encoding; it does not know where the bytes are stored.

The store answers any time from an entity's newest known time minus `SLACK` on, exactly: a replay, or a
request that was on its way while new rows came, gets what was known at its own time. Let h be that
horizon. Kept of an entity are
- for windows: rows with event time > h - (the longest window);
- for row transforms: rows visible only after h, and the row that answers at h.
What is kept depends on which rows were ever written, not on their order nor on how often they came: rows
are known by partition and offset, `newest` only grows, and a row that was dropped at an earlier horizon
cannot answer at a later one. So writes are idempotent, and an older row never replaces a newer one.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import numpy as np
import orjson
import polars as pl
import pyarrow as pa

from rayplat.core.errors import IntegrityError
from rayplat.core.project.table import Table
from rayplat.core.project.view import FeatureView
from rayplat.features.definition import OFFSET, PARTITION, digest_of, micros
from rayplat.features.instants import BEGINNING, Int64s
from rayplat.features.latest import choose
from rayplat.features.online import Entry
from rayplat.features.plan import Plan
from rayplat.features.questions import number_entities
from rayplat.features.timeline import Timeline, timeline

SLACK = timedelta(days=1)
"""How far behind an entity's newest known time a question may lie and still be answered exactly."""

_SLACK_US = micros(SLACK)
_ENCODING = 1


def store_key(prepared: Plan) -> str:
    """The name of a view in the online store: another definition, slack or encoding is another view."""
    return f"{prepared.view.name}@{digest_of([prepared.digest, _SLACK_US, _ENCODING])[:16]}"


def entity_keys(frame: pl.DataFrame, entity: Sequence[str]) -> list[str | None]:
    """The name of each row's entity in the online store; None where a key is null."""
    columns = [
        (series.to_physical() if series.dtype.is_temporal() else series).to_list()
        for series in (frame.get_column(c) for c in entity)
    ]
    return [
        None if any(value is None for value in values) else orjson.dumps(values).decode()
        for values in zip(*columns, strict=True)
    ]


def encode_schema(frame: pl.DataFrame) -> bytes:
    """The Arrow schema of a frame's rows as they are stored."""
    return bytes(_arrow(frame.clear()).schema.serialize())


def decode(schema: bytes, entries: Sequence[Entry]) -> tuple[pl.DataFrame, Int64s]:
    """The rows of entries, and for each row the position of its entry.

    Raises:
        IntegrityError: the stored bytes are no rows of that schema.
    """
    try:
        arrow = pa.ipc.read_schema(pa.py_buffer(schema))
        batches = [pa.ipc.read_record_batch(pa.py_buffer(entry.rows), arrow) for entry in entries]
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(
            f"rows in the online store cannot be read: {error}",
            "remove the online store and materialize again",
        ) from error
    code = np.repeat(np.arange(len(batches)), [batch.num_rows for batch in batches])
    return pl.DataFrame(pa.Table.from_batches(batches, schema=arrow)), code


def merge(
    prepared: Plan, new: pl.DataFrame, keys: Sequence[str], existing: Mapping[str, Entry], schema: bytes
) -> dict[str, Entry]:
    """The entries of all entities in `new`, with the rows that they have already.

    Args:
        prepared: the plan of the view.
        new: source rows, with the columns that `point_in_time.needed` takes.
        keys: the names of the distinct entities of `new`, in order of their first row.
        existing: the entries of these entities, as stored.
        schema: the stored schema, as `encode_schema` gives it.
    """
    view = prepared.view
    if not isinstance(view, FeatureView) or not keys:
        return {}
    new_code = number_entities(new, view.entity)
    held = [i for i, key in enumerate(keys) if key in existing]
    old, old_position = decode(schema, [existing[keys[i]] for i in held])
    code = np.concatenate([np.asarray(held, dtype=np.int64)[old_position], new_code])
    line = timeline(*_once(pl.concat([old, new], how="vertical"), code, view))
    newest = _newest(line, keys, existing)
    kept = _keep(prepared, line, newest)
    batch = _arrow(line.frame.select(pl.all().gather(kept)))
    bounds = np.searchsorted(line.code[kept], np.arange(len(keys) + 1))
    return {
        key: Entry(int(newest[i]), bytes(batch.slice(bounds[i], bounds[i + 1] - bounds[i]).serialize()))
        for i, key in enumerate(keys)
        if newest[i] > BEGINNING or bounds[i + 1] > bounds[i]
    }


def _once(rows: pl.DataFrame, code: Int64s, view: FeatureView) -> tuple[pl.DataFrame, Table, Int64s]:
    """Each row once: rows with one partition and offset are the same row."""
    if OFFSET not in rows.columns:
        return rows, view.source, code
    coded = rows.with_columns(pl.Series("\0code", code)).unique(
        ["\0code", PARTITION, OFFSET], keep="first", maintain_order=True
    )
    return coded.drop("\0code"), view.source, coded.get_column("\0code").to_numpy()


def _newest(line: Timeline, keys: Sequence[str], existing: Mapping[str, Entry]) -> Int64s:
    newest = np.array([existing[k].newest if k in existing else BEGINNING for k in keys], dtype=np.int64)
    np.maximum.at(newest, line.code, line.known)
    return newest


def _keep(prepared: Plan, line: Timeline, newest: Int64s) -> Int64s:
    """The positions of the rows to keep, rising."""
    horizon = np.where(newest == BEGINNING, BEGINNING, newest - _SLACK_US)
    if prepared.windows:
        return np.flatnonzero(line.event > horizon[line.code] - prepared.longest_us)
    answers = choose(line, np.arange(len(newest)), horizon, None)
    keep = np.maximum(line.event, line.known) > horizon[line.code]
    keep[answers[answers >= 0]] = True
    return np.flatnonzero(keep)


def earliest(entry: Entry) -> int:
    """The earliest time, in microseconds, at which a question about the entity is answered exactly."""
    return BEGINNING if entry.newest == BEGINNING else entry.newest - _SLACK_US


def _arrow(frame: pl.DataFrame) -> pa.RecordBatch:
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
    batches = table.to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
