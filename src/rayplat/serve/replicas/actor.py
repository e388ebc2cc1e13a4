"""The keeper on a cluster: one detached actor for the machine that holds the front's port.

Knows Ray's names for it; it does not know what a keeper does. Ray starts it again where it dies: the replicas
sit down anew, and what it must know is in its files.
"""

from typing import Any

from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.settings import Settings
from rayplat.core.telemetry import configure_logging
from rayplat.features.server.process import Where
from rayplat.serve.front.neighbours import front_folder
from rayplat.serve.replicas.keeper import Keeper

_NAMESPACE = "rayplat-replicas"
_ANSWERS_WITHIN_S = 60.0


class KeeperActor:
    """See the module; its methods are those of `Keeper`."""

    def __init__(self, settings: Settings) -> None:
        configure_logging(settings.log)
        serve = settings.serve
        where = Where(serve.host, serve.front_port)
        import ray

        session = ray.get_runtime_context().get_session_name()
        self._keeper = Keeper(front_folder(settings), where, serve.standbys, session)
        self._keeper.start()

    def told(self) -> dict[str, dict[str, Any]]:
        """See `Keeper.told`."""
        return self._keeper.told()

    def forget(self, endpoint: str) -> None:
        """See `Keeper.forget`."""
        self._keeper.forget(endpoint)

    def close(self) -> None:
        """See `Keeper.close`."""
        self._keeper.close()


def ensure_keeper(settings: Settings) -> None:
    """Start the keeper of the front's port, or find it. Ray must be connected.

    Raises:
        UserError: the port is taken by something else.
        UnavailableError: it does not start.
    """
    import ray
    from ray.exceptions import RayActorError, RayError

    declared: Any = ray.remote(KeeperActor)
    try:
        actor = declared.options(
            name=_name(settings),
            namespace=_NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            max_concurrency=4,
            # The controller of Serve reads what the keeper wants, on the head's disk.
            scheduling_strategy=_on(_head()),
        ).remote(settings)
        ray.get(actor.told.remote(), timeout=_ANSWERS_WITHIN_S)
    except RayActorError as error:
        if "cannot be listened on" in str(error):
            raise UserError(
                f"the port {settings.serve.front_port} of the front is taken",
                "free it, or set serve.front_port to another one",
            ) from error
        raise UnavailableError(f"the keeper does not start: {error}", "look at the actor's log") from error
    except RayError as error:
        raise UnavailableError(f"the keeper does not answer: {error}", "look at the actor's log") from error


def keeper_tells(settings: Settings) -> dict[str, dict[str, Any]]:
    """What the keeper sees of each endpoint; empty where there is none."""
    import ray

    actor = _found(settings)
    return {} if actor is None else dict(ray.get(actor.told.remote(), timeout=_ANSWERS_WITHIN_S))


def forget(settings: Settings, endpoint: str) -> None:
    """Let the keeper expect an endpoint no more."""
    import ray

    actor = _found(settings)
    if actor is not None:
        ray.get(actor.forget.remote(endpoint), timeout=_ANSWERS_WITHIN_S)


def end_keeper(settings: Settings) -> None:
    """End the keeper and its standbys."""
    import ray

    actor = _found(settings)
    if actor is not None:
        ray.get(actor.close.remote(), timeout=_ANSWERS_WITHIN_S)
        ray.kill(actor)


def _found(settings: Settings) -> Any | None:
    import ray

    try:
        return ray.get_actor(_name(settings), namespace=_NAMESPACE)
    except ValueError:
        return None


def _name(settings: Settings) -> str:
    return f"keeper-{settings.serve.front_port}"


def _head() -> str:
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    heads = [node["NodeID"] for node in nodes if "node:__internal_head__" in node["Resources"]]
    return str(heads[0]) if heads else str(ray.get_runtime_context().get_node_id())


def _on(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)
