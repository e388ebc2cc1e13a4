"""Pieces: rows cut by the hash of their entity, as buffers that travel between tasks.

Knows which partition a row belongs to, and how rows become bytes; it does not know what is asked of them.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa

_SEED = 20_130_301
"""Any number: what counts is that questions and events are cut alike."""


def cut(rows: pl.DataFrame, keys: pl.DataFrame, partitions: int) -> list[pa.Buffer]:
    """Rows by partition; within one they keep their order.

    Args:
        rows: what travels.
        keys: the entity of each row, in the types of the source, so that equal entities hash alike.
        partitions: how many there are.
    """
    if partitions == 1:
        return [pack(rows)]
    place = (keys.hash_rows(_SEED).to_numpy() % partitions).astype(np.uint16)
    order = np.argsort(place, kind="stable")
    ends = np.bincount(place, minlength=partitions).cumsum()
    sorted_rows = rows.select(pl.all().gather(order))
    begins = [0, *ends[:-1]]
    return [pack(sorted_rows.slice(b, e - b)) for b, e in zip(begins, ends, strict=True)]


def pack(rows: pl.DataFrame) -> pa.Buffer:
    """Rows as an Arrow IPC stream: of a slice only the slice."""
    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def unpack(pieces: Sequence[pa.Buffer]) -> pl.DataFrame:
    """The rows of at least one piece, in order; not copied where there is one."""
    return pl.concat([pl.DataFrame(pa.ipc.open_stream(piece).read_all()) for piece in pieces])
