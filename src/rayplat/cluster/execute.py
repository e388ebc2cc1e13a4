"""Running a command where the platform runs, in its environment.

Knows how a command is run beside the head, or on a node by a Ray task; it does not know the command.
"""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rayplat.cluster.head import ray_environment
from rayplat.cluster.observe import Observer
from rayplat.cluster.session import connect, gcs_address, running_head
from rayplat.core.errors import NotFoundError, UnavailableError, UserError
from rayplat.core.settings import Settings

_NOT_FOUND = 127


def execute_here(settings: Settings, argv: Sequence[str]) -> int:
    """Run a command on this machine's head, with this terminal's input and output; its exit code.

    `ray`, `serve`, `python` and plain `ray.init()` in it find the platform's cluster.

    Raises:
        UnavailableError: no head runs.
        UserError: there is no such program.
    """
    head = running_head(settings)
    found = {"RAY_ADDRESS": head.address, "RAY_DASHBOARD_ADDRESS": head.dashboard}
    environment = ray_environment(settings, found)
    try:
        return subprocess.run(list(argv), env=environment, check=False).returncode
    except OSError as error:
        raise UserError(f"{argv[0]} cannot be run: {error.strerror}", "name a program in PATH") from error


def execute_on(settings: Settings, node: str, argv: Sequence[str], write: Callable[[str], None]) -> int:
    """Run a command on a node by a Ray task that needs no CPU; its exit code.

    Args:
        node: the node's id, or its beginning; empty: the head.
        write: takes the output as it comes, both streams together.

    Raises:
        NotFoundError: no node's id begins so, or several do.
        UnavailableError: the node was lost.
    """
    node_id = _node_id(settings, node)
    connect(settings)
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote: Any = ray.remote
    task = remote(num_cpus=0, max_retries=0, num_returns="streaming")(_run)
    pinned = task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False))
    try:
        for reference in pinned.remote(list(argv)):
            piece: str | int = ray.get(reference)
            if isinstance(piece, int):
                return piece
            write(piece)
    except ray.exceptions.RayError as error:
        raise UnavailableError(
            f"node {node_id} was lost while the command ran: {error}", "run `rayplat status`"
        ) from error
    return _NOT_FOUND


def _node_id(settings: Settings, node: str) -> str:
    observer = Observer(gcs_address(settings))
    try:
        nodes = observer.look().alive
    finally:
        observer.close()
    found = [n.node_id for n in nodes if (n.node_id.startswith(node) if node else n.head)]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} nodes' ids begin" if found else "no node's id begins"
    raise NotFoundError(f"{what} with {node!r}", "`rayplat status` shows the nodes")


def _run(argv: list[str]) -> Iterator[str | int]:
    try:
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        yield f"{argv[0]} cannot be run: {error.strerror}\n"
        yield _NOT_FOUND
        return
    if child.stdout is not None:
        for line in child.stdout:  # noqa: UP028  # Ray sends into the generator, and a file cannot take that
            yield line
    yield child.wait()
