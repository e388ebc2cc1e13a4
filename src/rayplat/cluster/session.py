"""A session with Ray: up, connect, status, down. The only caller of `ray.init`.

Knows which Ray belongs to a platform; it does not know what runs on it.
"""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from rayplat.cluster.head import RECORDER, SUPERVISOR, Head, forget_head, read_head
from rayplat.cluster.jobs.admission import ask_for_this_job
from rayplat.cluster.jobs.settling import last_look
from rayplat.cluster.local.launch import launch
from rayplat.cluster.local.supervisor import ensure_supervisor
from rayplat.cluster.processes import end, exclusive, ours, records
from rayplat.cluster.spec import load_spec
from rayplat.cluster.token import ensure_token, use_token
from rayplat.core.errors import ConflictError, UnavailableError
from rayplat.core.settings import Settings

NAMESPACE = "rayplat"


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """A running cluster. `started` tells whether this call started it."""

    address: str
    dashboard: str
    started: bool


def up(settings: Settings) -> ClusterInfo:
    """Start this platform's Ray, or find it running. Safe to call from several processes at once.

    Raises:
        UnavailableError: Ray does not start.
        UserError: the token file can be read by others, or the cluster file is at fault.
    """
    if settings.ray.address:
        return ClusterInfo(settings.ray.address, "", started=False)
    with exclusive(settings):
        ensure_token(settings)
        head = read_head(settings)
        if head is not None:
            ensure_supervisor(settings)
            return ClusterInfo(head.address, head.dashboard, started=False)
        spec = load_spec(Path(settings.ray.spec))
        # What an earlier head left behind (after a crash) holds ports and shared memory.
        watching = (SUPERVISOR, RECORDER)
        kept = {r.pid for r in records(settings) if r.alive() and r.name not in watching}
        end([p for p in ours(settings) if p.pid not in kept])
        last_look(settings)
        forget_head(settings)
        head = launch(settings, spec)
        return ClusterInfo(head.address, head.dashboard, started=True)


def connect(settings: Settings) -> None:
    """Connect this process to the platform's Ray; does nothing when it is connected already.

    The driver of a job that did not come by `rayplat submit` asks the budgets first.

    Raises:
        RefusedError: a budget of this job's team or project is spent.
        UnavailableError: no Ray of this platform runs, or it does not let us in.
        ConflictError: this process is connected to the Ray of another platform.
    """
    address = settings.ray.address or running_head(settings).address
    joined = _joined()
    if joined and (settings.ray.address or joined == address):
        return
    if joined:
        raise ConflictError(
            f"this process is connected to the Ray at {joined}, and {settings.home} has its own at {address}",
            "call disconnect() first, or use another process",
        )
    ask_for_this_job(settings)
    if not settings.ray.address:
        use_token(settings)
    import ray

    try:
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    except (ConnectionError, RuntimeError) as error:
        raise UnavailableError(
            f"Ray at {address} does not answer: {error}", "run `rayplat status`, then `rayplat up`"
        ) from error


def disconnect() -> None:
    """Leave the cluster; it runs on."""
    import ray

    ray.shutdown()


def down(settings: Settings) -> list[int]:
    """Stop everything that this platform runs on this machine; state on disk is kept.

    Returns:
        The ids of the processes that were ended.
    """
    with exclusive(settings):
        last_look(settings)
        ended = end(ours(settings))
        # A worker that was being started while its parent ended is found the second time.
        ended += end(ours(settings))
        _close_history(settings)
        forget_head(settings)
        for record in records(settings):
            (settings.run_dir / f"{record.name}.pid.json").unlink(missing_ok=True)
        (settings.run_dir / "kafka.json").unlink(missing_ok=True)
        return sorted(ended)


def running_head(settings: Settings) -> Head:
    """The platform's own head.

    Raises:
        UnavailableError: none runs.
    """
    head = read_head(settings)
    if head is None:
        raise UnavailableError(f"no Ray runs for the platform in {settings.home}", "run `rayplat up`")
    return head


def gcs_address(settings: Settings) -> str:
    """Where the control store answers; for a cluster that is joined, this process is connected to it.

    Raises:
        UnavailableError: no Ray of this platform runs.
    """
    if not settings.ray.address:
        use_token(settings)
        return running_head(settings).address
    connect(settings)
    return _joined()


def _close_history(settings: Settings) -> None:
    """The nodes of a platform that has ended are not there any more: end their intervals now."""
    if not (settings.run_dir / "ray.json").exists():
        return
    from datetime import UTC, datetime

    from rayplat.cluster.history import ClusterHistory
    from rayplat.cluster.recorder import place_of

    history = ClusterHistory(settings)
    try:
        history.end(place_of(settings), datetime.now(UTC))
    except UnavailableError as error:
        logging.getLogger("rayplat.cluster").warning("the history of nodes was not closed: %s", error.what)
    finally:
        history.close()


def _joined() -> str:
    """The address of the Ray that this process is connected to; empty if it is to none."""
    if "ray" not in sys.modules:
        return ""
    import ray

    return str(ray.get_runtime_context().gcs_address) if ray.is_initialized() else ""
