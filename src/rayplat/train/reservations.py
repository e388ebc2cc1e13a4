"""What a killed run still holds of the cluster, given back before the same run starts again.

Knows how Ray Train names a reservation; it does not know who runs. Ray's coordinator keeps the
request of a controller that was killed for 180 s, and an elastic group that starts in that time
finds the CPUs taken by a run that does not exist any more.
"""

from rayplat.registry.folder import open_folders

_COORDINATOR = "AutoscalingCoordinator"  # the actor's name, and its namespace's
_NOTE = "started"


def note_reservation(run_uri: str, ray_run_id: str) -> None:
    """Write down that a group of this run is about to reserve resources; durable when this returns."""
    store, path = open_folders(f"{run_uri}/groups")
    store.publish(f"{path}/{ray_run_id}", {_NOTE: b""}, last=_NOTE)


def give_back_reservations(run_uri: str) -> int:
    """Cancel what earlier groups of this run reserved; none of them may be alive.

    Returns:
        How many groups had been started before.
    """
    import ray

    store, path = open_folders(f"{run_uri}/groups")
    earlier = store.folders(path)
    if not earlier:
        return 0
    try:
        coordinator = ray.get_actor(_COORDINATOR, namespace=_COORDINATOR)
    except ValueError:
        coordinator = None  # another cluster: it knows nothing of them
    for ray_run_id in earlier:
        if coordinator is not None:
            ray.get(coordinator.cancel_request.remote(f"train-{ray_run_id}"))
        store.remove(f"{path}/{ray_run_id}")
    return len(earlier)
