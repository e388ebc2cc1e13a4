"""Tasks: bins rewritten on the nodes of a Ray cluster, where one is joined and it is worth it.

Knows Ray's tasks; it does not know what a bin is made of. Few are under way at a time: each holds a bin's
rows in memory twice.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from rayplat.data.lakehouse.maintenance.compact import Runner, inline
from rayplat.data.lakehouse.maintenance.plan import Bin
from rayplat.data.lakehouse.maintenance.rewrite import Rewritten

WORTHWHILE_BYTES = 2**30
"""Below this, starting tasks and shipping the code takes longer than the work."""


def runner(worthwhile_bytes: int = WORTHWHILE_BYTES) -> Runner:
    """Rewrites in Ray tasks if this process is connected and there is much to do; else in this process."""

    def run(work: Callable[[Bin], Rewritten], bins: Sequence[Bin]) -> Iterable[Rewritten]:
        import ray

        large = sum(one.size for one in bins) >= worthwhile_bytes
        return in_tasks(work, bins) if large and ray.is_initialized() else inline(work, bins)

    return run


def in_tasks(work: Callable[[Bin], Rewritten], bins: Sequence[Bin]) -> Iterator[Rewritten]:
    """Rewrite bins in Ray tasks, as many at a time as there are CPUs; the results as they come.

    Raises:
        Exception: what a bin's rewriting raises, as it was raised there.
    """
    import ray
    from ray.exceptions import RayTaskError

    task = ray.remote(num_cpus=1, max_retries=3)(_rewritten)
    shared = ray.put(work)
    waiting = list(bins)
    running: list[ray.ObjectRef[Rewritten]] = []
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    most = max(1, int(resources.get("CPU", 1)))
    try:
        while waiting or running:
            while waiting and len(running) < most:
                running.append(task.remote(shared, waiting.pop(0)))
            ready, running = ray.wait(running, num_returns=1)
            yield ray.get(ready[0])
    except RayTaskError as error:
        raise error.cause from error  # the caller tells a conflict from damage by the error's class
    finally:
        for reference in running:
            ray.cancel(reference)


def _rewritten(work: Callable[[Bin], Rewritten], one: Bin) -> Rewritten:
    return work(one)
