"""Kinesis as a source: shards are partitions, sequence numbers are offsets, parents come before children.

Knows in which order records are read, and what shows that some were trimmed; it does not know what a
record means, nor which offsets are committed.

The next offset of a shard is the sequence number of the last record read, plus one; 0 before the first
(the oldest record still held), and `source.ENDED` once a closed shard was read to its end. The service
tells no highest sequence number, so an open shard's high watermark is `ENDED` too, and a look is bounded
by time: `Watermarks.as_of`. By this machine's clock; where it is slow, records wait for the next look.

What is detected when a read goes on at a committed offset: it begins *at* the last record read, which is
left out again. If that record is there, nothing was lost. If it is gone and younger records are there,
some between may have been trimmed unread, or the shard was idle for longer than the retention; the
service does not tell which, so it is an error unless `kinesis.trimmed` is `accept`. If only older records
are there, or the service says that the number is not of this stream, the stream was made anew. A shard
without any record left cannot be judged: it is read on when records come. A read that falls nearly the
whole retention behind checks again at every step. Records that a producer library has aggregated are
told as bad: the reader does not take them apart.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Self

from rayplat.core.errors import IntegrityError
from rayplat.core.telemetry import get_logger
from rayplat.data.streaming.sources.kinesis_client import InvalidPositionError, KinesisClient, Reply
from rayplat.data.streaming.sources.source import ENDED, Limit, RecordMeta, Records, Watermarks

_MOST_AT_ONCE = 10_000
_MOST_BYTES = 64 * 2**20
_PAUSE_S = 0.2
_AGGREGATED = b"\xf3\x89\x9a\xc2"
_WHY_AGGREGATED = (
    "the record is an aggregate of the Kinesis Producer Library, which is not taken apart here: "
    "switch aggregation off at the producer"
)
# The shortest retention is a day: nobody asks for it before a read is nearly that far behind.
_MAYBE_TRIMMED = timedelta(hours=20)
_NEARLY = 0.9
_EXPIRED = timedelta(milliseconds=1)
_LAST_IS_GONE = (
    "restore the records between, or where the shard was only idle for longer than the stream's retention "
    "(or the loss is accepted) set kinesis.trimmed=accept for one run; a longer retention prevents it"
)
_MADE_ANEW = "restore the stream, or start a new table for the new stream"


@dataclass(slots=True)
class _Cursor:
    """Where a shard is read on: behind `position`; `proven` once the last record was seen again."""

    position: int
    iterator: str
    proven: bool


class KinesisSource:
    """A Kinesis data stream.

    Args:
        stream: the stream's name.
        connect: makes the boto3 client; must pickle for Ray. A seam for tests.
        accept_gaps: go on where the last record read is not in the stream any more.
        timeout_s: the longest wait for records that the service says are there, s.
    """

    wide = True

    def __init__(
        self,
        stream: str,
        connect: Callable[[], Any],
        *,
        accept_gaps: bool = False,
        timeout_s: float = 10.0,
    ) -> None:
        self.stream = stream
        self.accept_gaps = accept_gaps
        self.timeout_s = timeout_s
        self._client = KinesisClient(stream, connect)
        self._cursors: dict[str, _Cursor] = {}
        self._closed: frozenset[str] | None = None

    @property
    def name(self) -> str:
        """`kinesis:` and the stream; not the endpoint, which changes."""
        return f"kinesis:{self.stream}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next use makes another."""
        self._client.close()
        self._cursors, self._closed = {}, None

    def partitions(self) -> list[str]:
        """The shards that the stream still lists, sorted.

        Raises:
            NotFoundError: there is no such stream.
            UnavailableError: the service does not answer.
        """
        return list(self.watermarks())

    def watermarks(self) -> dict[str, Watermarks]:
        """What is known of each shard: whether it is closed, and which shards come before it.

        Raises:
            NotFoundError: there is no such stream.
            UnavailableError: the service does not answer.
        """
        now = datetime.now(UTC)
        shards = self._client.shards()
        self._closed = frozenset(shard.shard_id for shard in shards if shard.closed)
        return {
            shard.shard_id: Watermarks(0, ENDED, shard.closed, shard.parents, dense=False, as_of=now)
            for shard in shards
        }

    def read(self, partition: str, start: int, limit: Limit) -> Records:
        """Read from `start` until the limit, or until there is nothing more at the moment.

        Raises:
            IntegrityError: the last record read is not there any more, or the stream was made anew.
            UnavailableError: the service does not answer, or refuses.
        """
        if start >= min(limit.until, ENDED):
            return Records([], [], start)
        cursor = self._cursors.pop(partition, None)
        if cursor is None or cursor.position != start:
            cursor = self._open(partition, start)
        piece = _Piece(limit)
        heard = time.monotonic()
        while piece.wanted and time.monotonic() - heard < self.timeout_s:
            reply = self._next(partition, cursor, piece.wanted)
            if not piece.take(reply.records):
                return piece.records(start)
            if reply.records:
                cursor.position = _number(reply.records[-1]) + 1
                heard = time.monotonic()
            if reply.following is None:
                return piece.records(start, ENDED)
            if self._nearly_trimmed(reply):
                return piece.records(start)
            if not reply.behind and not self._is_closed(partition):
                break
            if not reply.records:
                time.sleep(_PAUSE_S)
        self._cursors[partition] = cursor
        return piece.records(start)

    def _open(self, partition: str, position: int) -> _Cursor:
        at = position - 1 if position else None
        try:
            return _Cursor(position, self._client.iterator(partition, at), proven=at is None)
        except InvalidPositionError as error:
            raise self._made_anew(partition, position, error.what) from error

    def _next(self, partition: str, cursor: _Cursor, wanted: int) -> Reply:
        """The next new records; without `following` where the shard ends with them."""
        most = min(wanted + (not cursor.proven), _MOST_AT_ONCE)
        reply = self._client.records(cursor.iterator, most)
        if reply is None:
            again = self._open(partition, cursor.position)
            cursor.iterator, cursor.proven = again.iterator, again.proven
            return Reply([], _EXPIRED, cursor.iterator)
        records, following = reply.records, reply.following
        if not records and not reply.behind and self._is_closed(partition):
            following = None
        if not cursor.proven and (records or not reply.behind or following is None):
            records = self._proven(partition, cursor.position, records)
            cursor.proven = True
        cursor.iterator = following or ""
        return Reply(records, reply.behind, following)

    def _proven(self, partition: str, position: int, records: list[Any]) -> list[Any]:
        """The records without the one that was read last, which shows that nothing was lost."""
        last = position - 1
        first = _number(records[0]) if records else self._oldest(partition)
        if first == last:
            return records[1:]
        if first is not None and first < last:
            raise self._made_anew(partition, position, f"the oldest record is at {first}")
        if first is not None and not self.accept_gaps:
            raise IntegrityError(
                f"shard {partition} of {self.name} was read up to record {last}, which is not there any "
                f"more; the oldest record is now at {first}: records between may have been removed before "
                "they were read",
                _LAST_IS_GONE,
            )
        get_logger("data.ingest").warning("the last record read is gone", shard=partition, source=self.name)
        return records

    def _oldest(self, partition: str) -> int | None:
        reply = self._client.records(self._client.iterator(partition, None), 1)
        return _number(reply.records[0]) if reply and reply.records else None

    def _made_anew(self, partition: str, position: int, seen: str) -> IntegrityError:
        return IntegrityError(
            f"shard {partition} of {self.name} was read up to offset {position}, and offsets went back, as "
            f"when a stream is made anew: {seen}",
            _MADE_ANEW,
        )

    def _is_closed(self, partition: str) -> bool:
        if self._closed is None:
            self.watermarks()
        return partition in (self._closed or ())

    def _nearly_trimmed(self, reply: Reply) -> bool:
        return reply.behind > _MAYBE_TRIMMED and reply.behind > self._client.retention() * _NEARLY


class _Piece:
    """What one read has gathered."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._told: list[Any] = []
        self._bytes = 0

    @property
    def wanted(self) -> int:
        """How many records may still come; 0 at the limit of rows or memory."""
        return self._limit.rows - len(self._told) if self._bytes < _MOST_BYTES else 0

    def take(self, records: list[Any]) -> bool:
        """Take records; False where one of them is behind the limit: it and the rest were left."""
        until, before = self._limit.until, self._limit.before
        for told in records:
            if _number(told) >= until or (before and told["ApproximateArrivalTimestamp"] >= before):
                return False
            self._told.append(told)
            self._bytes += len(told["Data"])
        return True

    def records(self, start: int, next_offset: int | None = None) -> Records:
        """All that was taken; the next read starts behind the last record where nothing else is said."""
        offsets = [_number(told) for told in self._told]
        values = [bytes(told["Data"]) for told in self._told]
        if next_offset is None:
            next_offset = offsets[-1] + 1 if offsets else start
        aggregated = {
            offset: _WHY_AGGREGATED
            for offset, value in zip(offsets, values, strict=True)
            if value.startswith(_AGGREGATED)
        }
        return Records(values, offsets, next_offset, bad=aggregated, describe=partial(_meta, self._told))


def _number(told: Any) -> int:
    return int(told["SequenceNumber"])


def _meta(told: list[Any], index: int) -> RecordMeta:
    at = told[index]["ApproximateArrivalTimestamp"].astimezone(UTC)
    return RecordMeta(key=told[index]["PartitionKey"].encode(), at=at)
