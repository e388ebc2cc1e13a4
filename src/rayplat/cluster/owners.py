"""Whose a piece of the cluster is: a job's, a training run's, an endpoint's, an ingest's or the platform's.

Knows the names that Ray and rayplat give their actors, and how a driver says what it does; it does not
know what is held where. `owner_of` is pure.
"""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rayplat.cluster.facts import OwnerKind

_NAMESPACE = b"rayplat_owners"
_REPLICA = "ServeReplica:"
_PLATFORM = (
    "ServeController",
    "ServeProxy",
    "ProxyActor",
    "JobSupervisor",
    "StatsActor",
    "AutoscalingCoordinator",
)
_PLATFORM_PREFIXES = ("_StatsActor", "_AutoscalingCoordinator", "TrainStateActor", "HAProxy")
_READERS = ("Reader", "read_partition")
_TRAIN = ("TrainController", "RayTrainWorker")


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds something; `job_id` is Ray's."""

    kind: OwnerKind
    name: str
    job_id: str


@dataclass(frozen=True, slots=True)
class Driver:
    """What is known of a driver: its submission, empty if it was not submitted, and what it says it does."""

    job_id: str
    submission_id: str = ""
    declared: str = ""


def owner_of(what: str, job_id: str, drivers: Mapping[str, Driver]) -> Owner:
    """The owner of an actor, a task or a placement group.

    Args:
        what: the class of the actor, the name of the task's function, or the class of the actor that
            made the placement group; empty where a driver did.
        job_id: Ray's id of the job that it belongs to.
        drivers: by Ray's id of their job.
    """
    if what.startswith(_REPLICA):
        return Owner("endpoint", what.removeprefix(_REPLICA).partition(":")[0], job_id)
    if what in _PLATFORM or what.startswith(_PLATFORM_PREFIXES):
        return Owner("platform", what, job_id)
    driver = drivers.get(job_id, Driver(job_id))
    kind, colon, name = driver.declared.partition(":")
    if colon and kind in ("job", "run", "endpoint", "ingest"):
        return Owner(kind, name, job_id)  # type: ignore[arg-type]  # just compared with every kind
    own = driver.submission_id or f"driver-{job_id}"
    last = what.rpartition(".")[2]
    if what.startswith(_TRAIN):
        return Owner("run", own, job_id)
    return Owner("ingest" if last in _READERS else "job", own, job_id)


@contextlib.contextmanager
def declared(kind: OwnerKind, name: str) -> Iterator[None]:
    """Say what this driver does, for the time of the block; the innermost of several is heard.

    Does nothing where this process is not connected to Ray.

    Args:
        kind: what it is.
        name: its own name, such as the run's id or the table.
    """
    # Who never asked for Ray must not load it for this.
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        yield
        return
    from ray.experimental import internal_kv

    key = str(ray.get_runtime_context().get_job_id()).encode()
    before = internal_kv._internal_kv_get(key, namespace=_NAMESPACE)
    internal_kv._internal_kv_put(key, f"{kind}:{name}".encode(), overwrite=True, namespace=_NAMESPACE)
    try:
        yield
    finally:
        if before:
            internal_kv._internal_kv_put(key, before, overwrite=True, namespace=_NAMESPACE)
        else:
            internal_kv._internal_kv_del(key, namespace=_NAMESPACE)
