"""Readers: one long-lived worker a partition, that reads a span when it is asked to.

Knows where readers run (Ray actors, or this process) and that one may die; it does not know what is to be
read next, nor what becomes of a batch.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from rayplat.core.errors import BugError, RayplatError, UnavailableError
from rayplat.data.streaming.batch import PartitionBatch, Span, Work, read_batch
from rayplat.data.streaming.sources.source import PartitionId, Source

# Reading is half waiting for the broker; and an actor that asks for a whole CPU would never start on a
# laptop whose CPUs are promised to replicas and trainers.
_READER_CPUS = 0.25


@dataclass(frozen=True, slots=True)
class Finished:
    """A span was read, or not.

    Attributes:
        batch: None where nothing could be read now, and where there is an error.
        error: what the reader raised; an UnavailableError where it died.
    """

    span: Span
    batch: PartitionBatch | None = None
    error: Exception | None = None


class Readers(Protocol):
    """Reads spans, at most one of a partition at a time."""

    def start(self, span: Span) -> None:
        """Begin to read one batch of a span."""
        ...

    def finished(self, timeout_s: float) -> list[Finished]:
        """The reads that have ended; waits for the first one, at most so long."""
        ...

    def close(self) -> None:
        """End all readers; what they were reading is thrown away."""
        ...


class Reader:
    """Reads batches of one partition, and keeps the source open in between.

    Args:
        open_source: opens the source.
        work: what is done with its records.
    """

    def __init__(self, open_source: Callable[[], Source], work: Work) -> None:
        self._open = open_source
        self._work = work
        self._source: Source | None = None

    def read(self, span: Span) -> PartitionBatch | None:
        """Read one batch and write its files; None where nothing can be read now."""
        if self._source is None:
            self._source = self._open()
        return read_batch(self._source, self._work, span)

    def pid(self) -> int:
        """The process that this reader runs in."""
        return os.getpid()

    def close(self) -> None:
        """Close the source; the next read opens it again."""
        if self._source is not None:
            self._source.close()
            self._source = None


class InlineReaders:
    """Reads in this process, when the result is asked for."""

    def __init__(self, open_source: Callable[[], Source], work: Work) -> None:
        self._open = open_source
        self._work = work
        self._readers: dict[PartitionId, Reader] = {}
        self._asked: list[Span] = []

    def start(self, span: Span) -> None:
        """Begin to read one batch of a span."""
        self._asked.append(span)

    def finished(self, timeout_s: float) -> list[Finished]:
        """Read what was asked for, now."""
        asked, self._asked = self._asked, []
        return [self._read(span) for span in asked]

    def _read(self, span: Span) -> Finished:
        reader = self._readers.setdefault(span.partition, Reader(self._open, self._work))
        try:
            return Finished(span, reader.read(span))
        except RayplatError as error:
            reader.close()
            return Finished(span, error=error)

    def close(self) -> None:
        """Close all sources."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()


class RayReaders:
    """Reads in Ray actors, one a partition; one that dies is replaced at its partition's next span.

    Args:
        open_source: opens the source; must pickle.
        work: what is done with its records.
    """

    def __init__(self, open_source: Callable[[], Source], work: Work) -> None:
        import ray

        remote: Any = ray.remote
        self._actor = remote(num_cpus=_READER_CPUS, max_restarts=0)(Reader)
        # Stored once: every reader of the table gets the same.
        self._arguments = (open_source, ray.put(work))
        self._readers: dict[PartitionId, Any] = {}
        self._asked: dict[Any, Span] = {}

    def start(self, span: Span) -> None:
        """Begin to read one batch of a span."""
        if span.partition not in self._readers:
            self._readers[span.partition] = self._actor.remote(*self._arguments)
        self._asked[self._readers[span.partition].read.remote(span)] = span

    def finished(self, timeout_s: float) -> list[Finished]:
        """The reads that have ended; waits for the first one, at most so long."""
        import ray

        if not self._asked:
            return []
        asked = list(self._asked)
        ready: Iterable[Any] = ray.wait(asked, num_returns=1, timeout=timeout_s)[0]
        if ready:
            ready = ray.wait(asked, num_returns=len(asked), timeout=0)[0]
        return [self._take(reference) for reference in ready]

    def _take(self, reference: Any) -> Finished:
        import ray

        span = self._asked.pop(reference)
        try:
            return Finished(span, ray.get(reference))
        except ray.exceptions.RayError as error:
            if isinstance(error, ray.exceptions.RayTaskError):
                return Finished(span, error=_raised(error))
            self._drop(span.partition)
            died = UnavailableError(
                f"the worker that read partition {span.partition} ended: {error}",
                "it is started again from what was committed; if it ends again, see Ray's logs",
            )
            return Finished(span, error=died)

    def pids(self) -> dict[PartitionId, int]:
        """The processes of the readers, by partition."""
        import ray

        return {partition: ray.get(reader.pid.remote()) for partition, reader in self._readers.items()}

    def _drop(self, partition: PartitionId) -> None:
        import ray

        reader = self._readers.pop(partition, None)
        if reader is not None:
            ray.kill(reader)

    def close(self) -> None:
        """End all readers."""
        for partition in list(self._readers):
            self._drop(partition)
        self._asked.clear()


def _raised(error: Exception) -> Exception:
    """What a reader has raised: an error of ours as it was, and whatever was not foreseen as a bug."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, RayplatError) else BugError(f"a reader failed: {error}")
