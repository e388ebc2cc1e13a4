"""A session with Ray: up, connect, status, down. The only caller of `ray.init`.

Knows which Ray belongs to a platform; it does not know what runs on it.
"""

import contextlib
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayplat.cluster.head import Head, forget_head, read_head, start_head
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


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """What a platform has running. Resources are logical: CPUs, GPUs, bytes of memory."""

    address: str | None
    dashboard: str | None
    processes: tuple[tuple[int, str], ...]
    resources: dict[str, float]
    available: dict[str, float]


def up(settings: Settings) -> ClusterInfo:
    """Start this platform's Ray, or find it running. Safe to call from several processes at once.

    Raises:
        UnavailableError: Ray does not start.
        UserError: the token file can be read by others.
    """
    if settings.ray.address:
        return ClusterInfo(settings.ray.address, "", started=False)
    with exclusive(settings):
        ensure_token(settings)
        head = read_head(settings)
        if head is not None:
            return ClusterInfo(head.address, head.dashboard, started=False)
        # What an earlier head left behind (after a crash) holds ports and shared memory.
        kept = {record.pid for record in records(settings) if record.alive()}
        end([p for p in ours(settings) if p.pid not in kept])
        forget_head(settings)
        head = start_head(settings, load_spec(Path(settings.ray.spec)).local)
        return ClusterInfo(head.address, head.dashboard, started=True)


def connect(settings: Settings) -> None:
    """Connect this process to the platform's Ray; does nothing when it is connected already.

    Raises:
        UnavailableError: no Ray of this platform runs, or it does not let us in.
        ConflictError: this process is connected to the Ray of another platform.
    """
    address = settings.ray.address or _running(settings).address
    joined = _joined()
    if joined and (settings.ray.address or joined == address):
        return
    if joined:
        raise ConflictError(
            f"this process is connected to the Ray at {joined}, and {settings.home} has its own at {address}",
            "call disconnect() first, or use another process",
        )
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


def status(settings: Settings) -> ClusterStatus:
    """What runs now, without starting anything."""
    head = None if settings.ray.address else read_head(settings)
    resources: dict[str, float] = {}
    available: dict[str, float] = {}
    if head is not None or settings.ray.address:
        connect(settings)
        import ray

        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        available = ray.available_resources()  # type: ignore[no-untyped-call]
    return ClusterStatus(
        address=head.address if head else settings.ray.address or None,
        dashboard=head.dashboard if head else None,
        processes=tuple((p.pid, _title(p)) for p in ours(settings)),
        resources=resources,
        available=available,
    )


def down(settings: Settings) -> list[int]:
    """Stop everything that this platform runs on this machine; state on disk is kept.

    Returns:
        The ids of the processes that were ended.
    """
    with exclusive(settings):
        ended = end(ours(settings))
        # A worker that was being started while its parent ended is found the second time.
        ended += end(ours(settings))
        forget_head(settings)
        for record in records(settings):
            (settings.run_dir / f"{record.name}.pid.json").unlink(missing_ok=True)
        (settings.run_dir / "kafka.json").unlink(missing_ok=True)
        return sorted(ended)


def _joined() -> str:
    """The address of the Ray that this process is connected to; empty if it is to none."""
    if "ray" not in sys.modules:
        return ""
    import ray

    return str(ray.get_runtime_context().gcs_address) if ray.is_initialized() else ""


def _running(settings: Settings) -> Head:
    head = read_head(settings)
    if head is None:
        raise UnavailableError(f"no Ray runs for the platform in {settings.home}", "run `rayplat up`")
    return head


def _title(process: Any) -> str:
    import psutil

    with contextlib.suppress(psutil.Error):
        line = process.cmdline()
        return " ".join(line).strip()[:120] if line else str(process.name())
    return "(gone)"
