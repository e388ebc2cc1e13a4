"""Executors: where the work on partitions runs, in Ray tasks or in the driver.

Knows how to run the plans and collect their batches in rounds; it does not know what a batch holds.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from rayplat.core.errors import RayplatError, UnavailableError
from rayplat.data.streaming.batch import PartitionBatch, PartitionPlan, read_partition

# Reading is half waiting for the broker; and a task that asks for a whole CPU would never start on a
# laptop whose CPUs are promised to replicas and trainers.
_TASK_CPUS = 0.25
_GATHER_S = 0.25
_AHEAD = 2


class Executor(Protocol):
    """Runs plans, one worker a partition."""

    def run(self, plans: Sequence[PartitionPlan]) -> Iterator[list[PartitionBatch]]:
        """Yield rounds of batches until all plans are done.

        A round has one or more batches, at most one a partition; those of one partition come in order.
        """
        ...


class InlineExecutor:
    """Runs in the calling process, one partition after the other in each round."""

    def run(self, plans: Sequence[PartitionPlan]) -> Iterator[list[PartitionBatch]]:
        """Yield rounds; each has the next batch of every partition that is not done."""
        streams = [read_partition(plan) for plan in plans]
        while streams:
            ended: list[Iterator[PartitionBatch]] = []
            batches = []
            for stream in streams:
                batch = next(stream, None)
                if batch is None:
                    ended.append(stream)
                else:
                    batches.append(batch)
            streams = [stream for stream in streams if stream not in ended]
            if batches:
                yield batches


class RayExecutor:
    """Runs one streaming Ray task a partition: it writes the next batches while the last are committed."""

    def run(self, plans: Sequence[PartitionPlan]) -> Iterator[list[PartitionBatch]]:
        """Yield rounds of what is ready.

        Raises:
            RayplatError: what the work raised, as it was raised.
            UnavailableError: a worker died, more than once.
        """
        import ray

        remote: Any = ray.remote  # its signature does not tell of the limit on what is ahead
        task = remote(
            num_cpus=_TASK_CPUS,
            num_returns="streaming",
            max_retries=1,
            _generator_backpressure_num_objects=_AHEAD,
        )(read_partition)
        streams = [task.remote(plan) for plan in plans]
        try:
            while streams:
                batches, streams = _round(streams)
                if batches:
                    yield batches
        finally:
            for stream in streams:
                ray.cancel(stream)


def _round(streams: list[Any]) -> tuple[list[PartitionBatch], list[Any]]:
    """One batch of every stream that is ready, and the streams that go on.

    What is ready is taken even if others are not: a task that is full waits for us, and another may
    need its CPU to start.
    """
    import ray

    ready: list[Any] = ray.wait(streams, num_returns=len(streams), timeout=_GATHER_S)[0]
    if not ready:
        ready = ray.wait(streams, num_returns=1)[0]
    batches: list[PartitionBatch] = []
    ended = []
    for stream in ready:
        try:
            batches.append(ray.get(next(stream)))
        except StopIteration:
            ended.append(stream)
        except ray.exceptions.RayError as error:
            raise _cause(error) from error
    return batches, [stream for stream in streams if stream not in ended]


def _cause(error: Exception) -> Exception:
    cause = getattr(error, "cause", None)
    if isinstance(cause, RayplatError):
        return cause
    return UnavailableError(
        f"a worker that read a partition ended: {error}", "run the ingest again: it continues where it was"
    )
