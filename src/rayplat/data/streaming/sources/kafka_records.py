"""What one read of Kafka has taken: batches of messages, put together as records.

Knows how messages become `Records`; it does not know brokers, errors or when a read ends.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np

from rayplat.data.streaming.payloads import Payloads, concatenated
from rayplat.data.streaming.sources.client import ClientMessages
from rayplat.data.streaming.sources.librdkafka import Messages
from rayplat.data.streaming.sources.source import Limit, RecordMeta, Records

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Taken:
    """What one read has taken so far.

    Attributes:
        count: how many records; `next`: the offset behind the last one.
    """

    def __init__(self, start: int) -> None:
        self.count = 0
        self.next = start
        self._values: list[Payloads] = []
        self._offsets: list[Any] = []
        self._from: list[tuple[Messages | ClientMessages, Any]] = []

    def add(self, messages: Messages | ClientMessages, chosen: Any) -> None:
        """Add the chosen messages, or all."""
        offsets = messages.offsets if chosen is None else messages.offsets[chosen]
        if not len(offsets):
            return
        self._values.append(messages.payloads(chosen))
        self._offsets.append(offsets)
        self._from.append((messages, None if chosen is None else np.flatnonzero(chosen)))
        self.count += len(offsets)
        self.next = int(offsets[-1]) + 1

    def records(self, position: int, limit: Limit) -> Records:
        """The records before `limit.until`; behind a gap, a read may have gone past it."""
        values = concatenated(self._values) if self._values else concatenated([])
        offsets = np.concatenate(self._offsets) if self._offsets else np.empty(0, np.int64)
        count = int(np.searchsorted(offsets, limit.until))
        cut = count < len(offsets)
        told = _runs(offsets[:count])
        describe = partial(_described, self._from)
        return Records(values[:count], told, limit.until if cut else position, describe=describe)


def _runs(offsets: Any) -> Sequence[int]:
    """Offsets as a range where none is missing: most of the time, and a thousandth of the memory."""
    if not len(offsets):
        return []
    first, last = int(offsets[0]), int(offsets[-1])
    return range(first, last + 1) if last - first + 1 == len(offsets) else offsets.tolist()


def _described(parts: Sequence[tuple[Messages | ClientMessages, Any]], index: int) -> RecordMeta:
    """Key, headers and time of record `index` of a read."""
    for messages, chosen in parts:
        count = len(messages) if chosen is None else len(chosen)
        if index < count:
            at = index if chosen is None else int(chosen[index])
            stamp = messages.timestamp_ms(at)
            return RecordMeta(
                key=messages.key(at),
                headers=tuple(messages.headers(at)),
                at=None if stamp is None else _EPOCH + timedelta(milliseconds=stamp),
            )
        index -= count
    raise IndexError(index)
