"""The pump: brings one table up with its source, and keeps it there until it is told to stop.

Knows when a span is read and when a round is committed; it does not know where readers run, how a round is
committed, or what happens after an error (see `service`).

The next batches are read while the last are committed: each partition is read ahead by at most two batches
that are not committed. A batch waits for others until `trigger_rows` records are there, or its turn in time
has come, or nothing else is on its way.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from rayplat.data.streaming.batch import PartitionBatch, Span, following
from rayplat.data.streaming.feed import Feed
from rayplat.data.streaming.measures import count_round, set_lag
from rayplat.data.streaming.readers import Finished, Readers
from rayplat.data.streaming.sources.source import (
    PartitionId,
    Source,
    Watermarks,
    check_offsets,
    readable,
)

_AHEAD = 2


@dataclass(slots=True)
class _Lane:
    """Where one partition stands.

    Attributes:
        span: what is to be read next; its start is behind all batches that were read.
        busy: whether a read is on its way; `waiting`: batches that are not committed.
        stuck: nothing could be read (an open transaction): wait for the next look at the source.
    """

    span: Span
    busy: bool = False
    stuck: bool = False
    waiting: deque[PartitionBatch] = field(default_factory=deque)


class Pump:
    """Feeds one table.

    Args:
        feed: the table and its source.
        source: the source, opened for looking at its watermarks.
        readers: read the partitions.
        trigger_s: the source is looked at so often, and a batch waits no longer for others, s.
        trigger_rows: so many records are committed without waiting for more.
        clock: monotonic time, s; a seam for tests.
    """

    def __init__(
        self,
        feed: Feed,
        source: Source,
        readers: Readers,
        *,
        trigger_s: float,
        trigger_rows: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._feed = feed
        self._source = source
        self._readers = readers
        self._trigger_s = trigger_s
        self._trigger_rows = trigger_rows
        self._clock = clock
        self._lanes: dict[PartitionId, _Lane] = {}
        self._looked = self._committed = -trigger_s
        self.rounds = 0

    def run(self, stopped: Callable[[], bool]) -> None:
        """Pump until `stopped`; then what was read is committed, and nothing more is read.

        Raises:
            ConflictError: another ingest of this table is running.
            IntegrityError: records were removed before they were read, or offsets went back.
            UnavailableError: the source, a reader or the catalog does not answer.
        """
        while not stopped():
            self.step()
        while self._busy():
            self._take(self._trigger_s)
        while any(lane.waiting for lane in self._lanes.values()):
            self._commit()

    def step(self) -> None:
        """Look at the source if it is time, start reads, take what was read, commit what is due."""
        now = self._clock()
        if now - self._looked >= self._trigger_s:
            self._look()
            self._looked = now
        self._start()
        if self._busy():
            # With a full round waiting, only what is there already is taken: the commit comes first.
            self._take(0.0 if self._due() else self._left())
            self._start()
        elif not self._due():
            time.sleep(max(0.0, min(self._left(), self._trigger_s)))
        if self._due():
            self._commit()

    def _left(self) -> float:
        """How long until the next look or commit, s."""
        return max(0.001, self._trigger_s - (self._clock() - self._looked))

    def _busy(self) -> bool:
        return any(lane.busy for lane in self._lanes.values())

    def _look(self) -> None:
        marks = self._source.watermarks()
        offsets = self._feed.ledger.offsets
        check_offsets(self._feed.name, offsets, marks)
        for partition in readable(marks, offsets):
            mark = marks[partition]
            lane = self._lanes.get(partition)
            if lane is None:
                self._feed.starts.setdefault(str(partition), offsets.get(str(partition), mark.low))
                lane = self._lanes[partition] = _Lane(self._feed.span(partition, mark))
            lane.stuck = False
            lane.span = replace(lane.span, until=mark.high, before=mark.as_of)
        self._tell_lag(marks, offsets)

    def _tell_lag(self, marks: Mapping[PartitionId, Watermarks], offsets: Mapping[str, int]) -> None:
        lags = {str(p): mark.lag(offsets.get(str(p), mark.low)) for p, mark in marks.items()}
        set_lag(self._feed.table.name, {p: lag for p, lag in lags.items() if lag is not None})

    def _start(self) -> None:
        for lane in self._lanes.values():
            room = not lane.busy and not lane.stuck and len(lane.waiting) < _AHEAD
            if room and lane.span.start < lane.span.until:
                lane.busy = True
                self._readers.start(lane.span)

    def _take(self, timeout_s: float) -> None:
        for finished in self._readers.finished(timeout_s):
            self._took(finished)

    def _took(self, finished: Finished) -> None:
        lane = self._lanes[finished.span.partition]
        lane.busy = False
        if finished.error is not None:
            raise finished.error
        if finished.batch is None:
            lane.stuck = True
            return
        # The source may have been looked at since the read began.
        left = following(self._feed.work, finished.span, finished.batch)
        lane.span = replace(left, until=lane.span.until, before=lane.span.before)
        lane.waiting.append(finished.batch)

    def _due(self) -> bool:
        heads = [lane.waiting[0] for lane in self._lanes.values() if lane.waiting]
        if not heads:
            return False
        if sum(batch.received for batch in heads) >= self._trigger_rows or not self._busy():
            return True
        full = any(len(lane.waiting) >= _AHEAD for lane in self._lanes.values())
        return full or self._clock() - self._committed >= self._trigger_s

    def _commit(self) -> None:
        batches = [lane.waiting.popleft() for lane in self._lanes.values() if lane.waiting]
        begin = self._clock()
        properties = self._feed.commit(batches)
        self._committed = self._clock()
        self.rounds += 1
        count_round(
            self._feed.table.name,
            properties,
            self._feed.ledger.watermark,
            datetime.now(UTC),
            self._committed - begin,
        )
