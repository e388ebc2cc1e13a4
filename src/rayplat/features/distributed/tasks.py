"""Where work runs: at once in this process, or as Ray tasks whose results stay in the object store.

Knows how a function is called and where its results are; it does not know what the functions do.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rayplat.features.distributed.memory import give_back


def connected() -> bool:
    """Whether this process is connected to a cluster; loads nothing."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


class Tasks(Protocol):
    """Calls functions. What `call` returns may be given to other calls, also within a list."""

    def call(self, function: Callable[..., Any], *args: Any, returns: int) -> list[Any]:
        """Call a function that gives a sequence of `returns` results; a reference to each of them."""

    def get(self, references: Sequence[Any]) -> list[Any]:
        """The results themselves."""

    def put(self, value: Any) -> Any:
        """A reference to a value that many calls are given: it is handed over once."""

    def first(self, references: Sequence[Any]) -> tuple[Any, list[Any]]:
        """Wait for any of the results: its reference, and the others."""

    def width(self) -> int:
        """How many calls run at the same time."""

    def drain(self, references: Sequence[Any]) -> None:
        """Wait until all these are there."""


class Here:
    """Runs everything at once; references are the results.

    Args:
        width: into how many calls work is cut that is cut by their number.
    """

    def __init__(self, width: int = 1) -> None:
        self._width = width

    def call(self, function: Callable[..., Any], *args: Any, returns: int) -> list[Any]:
        """See `Tasks`."""
        made = list(function(*args))
        assert len(made) == returns  # what the caller says of its own function
        return made

    def get(self, references: Sequence[Any]) -> list[Any]:
        """See `Tasks`."""
        return list(references)

    def put(self, value: Any) -> Any:
        """See `Tasks`."""
        return value

    def first(self, references: Sequence[Any]) -> tuple[Any, list[Any]]:
        """See `Tasks`."""
        return references[0], list(references[1:])

    def width(self) -> int:
        """See `Tasks`."""
        return self._width

    def drain(self, references: Sequence[Any]) -> None:
        """See `Tasks`."""


class OnRay:
    """Runs Ray tasks; needs a connection to a cluster.

    Lists of references are handed over as they are and fetched by the task, so that results of other nodes
    travel only there. A task is repeated where its process dies.
    """

    def call(self, function: Callable[..., Any], *args: Any, returns: int) -> list[Any]:
        """See `Tasks`."""
        import ray

        remote = ray.remote(_fetching).options(num_returns=returns, name=function.__name__)
        made = remote.remote(function, returns, *args)
        return [made] if returns == 1 else list(made)

    def get(self, references: Sequence[Any]) -> list[Any]:
        """See `Tasks`."""
        import ray

        return list(ray.get(list(references)))

    def put(self, value: Any) -> Any:
        """See `Tasks`."""
        import ray

        return ray.put(value)

    def first(self, references: Sequence[Any]) -> tuple[Any, list[Any]]:
        """See `Tasks`."""
        import ray

        done, rest = ray.wait(list(references), num_returns=1)
        return done[0], rest

    def width(self) -> int:
        """See `Tasks`: the processors of the cluster."""
        import ray

        there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return max(int(there.get("CPU", 1)), 1)

    def drain(self, references: Sequence[Any]) -> None:
        """See `Tasks`."""
        import ray

        ray.wait(list(references), num_returns=len(references), fetch_local=False)


def _fetching(function: Callable[..., Any], returns: int, *args: Any) -> Any:
    import ray

    give_back()
    got = [ray.get(arg) if _references(arg) else arg for arg in args]
    made = list(function(*got))
    return made[0] if returns == 1 else made


def _references(arg: Any) -> bool:
    import ray

    return isinstance(arg, list) and bool(arg) and all(isinstance(item, ray.ObjectRef) for item in arg)
