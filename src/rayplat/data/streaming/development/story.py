"""A story: the recorded events of one table in the order in which the world would have told them.

Knows which event is at which offset of which partition, always the same; it does not know a broker.
"""

import zlib
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import polars as pl
import pyarrow as pa

from rayplat.core.errors import UserError
from rayplat.core.project.source import Kafka
from rayplat.core.project.table import Table
from rayplat.data.streaming.reference import to_declared

_KEY = "__key"
_TOLD = "__told"


class Story:
    """The events of one table, by partition.

    An event's partition is the CRC-32 of its key; within a partition events are sorted by the time
    they become known, then by key, then by their place in the recording. So the n-th event of a
    partition is always at offset n. Events that never become known (null) are never told.

    Args:
        table: a table fed by Kafka, with a `replay`.

    Raises:
        UserError: the table has no replay, or the replay gives other columns than declared.
    """

    def __init__(self, table: Table) -> None:
        if not isinstance(table.source, Kafka) or table.source.replay is None:
            raise UserError(
                f"table {table.name} has no recording", "declare source=rp.Kafka(topic, replay=function)"
            )
        self.topic = table.source.topic
        self.partitions = table.source.partitions
        frame = pl.DataFrame(pl.from_arrow(to_declared(table.source.replay(), table)))
        self._parts = _parts(frame, table, self.partitions)
        self._times = [part[_TOLD].to_numpy() for part in self._parts]
        self._formats = _time_formats(frame)

    def total(self, partition: int) -> int:
        """How many events the partition has in all."""
        return self._parts[partition].height

    def known_before(self, partition: int, until: datetime) -> int:
        """How many events of the partition are known before `until`: the offset to tell up to."""
        microseconds = int(until.timestamp() * 1_000_000)
        return int(np.searchsorted(self._times[partition], microseconds, side="left"))

    def messages(self, partition: int, begin: int, end: int) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """The keys and the JSON values of the events at the offsets [begin, end)."""
        part = self._parts[partition].slice(begin, end - begin)
        if part.is_empty():
            return [], []
        texts = part.drop(_KEY, _TOLD).with_columns(
            pl.col(name).dt.strftime(form) for name, form in self._formats.items()
        )
        lines = texts.write_ndjson().encode().rstrip(b"\n").split(b"\n")
        return [key.encode() for key in part[_KEY]], lines

    def stored_bytes(self, partition: int, begin: int, end: int) -> int:
        """About how many bytes a broker keeps for these events: as one compressed batch."""
        _, lines = self.messages(partition, begin, end)
        return len(pa.compress(b"\n".join(lines), codec="zstd", asbytes=True)) if lines else 0


def _parts(frame: pl.DataFrame, table: Table, partitions: int) -> list[pl.DataFrame]:
    told = pl.col(table.told_by).to_physical() if table.told_by else pl.lit(0, dtype=pl.Int64)
    # The unit separator keeps the keys ("ab", "c") and ("a", "bc") apart.
    key = pl.concat_str([_key_text(frame, name) for name in table.key], separator="\x1f")
    ordered = (
        frame.with_columns(told.alias(_TOLD), key.alias(_KEY))
        .filter(pl.col(_TOLD).is_not_null() & pl.col(_KEY).is_not_null())
        .sort(_TOLD, *table.key, maintain_order=True)
    )
    hashes = np.fromiter(
        (zlib.crc32(k.encode()) for k in ordered[_KEY]), dtype=np.uint32, count=ordered.height
    )
    of = hashes % partitions
    return [ordered.filter(of == partition) for partition in range(partitions)]


def _key_text(frame: pl.DataFrame, name: str) -> pl.Expr:
    # Times as microseconds: their text would depend on how Polars prints them.
    value = pl.col(name).to_physical() if isinstance(frame.schema[name], pl.Datetime) else pl.col(name)
    return value.cast(pl.String)


def _time_formats(frame: pl.DataFrame) -> dict[str, str]:
    """How each time column is written; whole seconds, where all are, make shorter records."""
    formats = {}
    for name, dtype in frame.schema.items():
        if isinstance(dtype, pl.Datetime):
            whole = not (frame[name].dt.microsecond() != 0).any()
            formats[name] = "%Y-%m-%dT%H:%M:%SZ" if whole else "%Y-%m-%dT%H:%M:%S%.6fZ"
    return formats
