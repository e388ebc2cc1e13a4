"""One look at a cluster: its nodes, who holds what on them, and what waits.

Knows how Ray's control store is asked; it does not keep anything (`history`), and reads no table of
tasks unless something is held that no actor or placement group explains. A look costs milliseconds.
"""

import importlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rayplat.cluster.facts import Market
from rayplat.cluster.owners import Driver, Owner, owner_of
from rayplat.core.errors import UnavailableError

_TIMEOUT_S = 5.0
_MOST_TASKS = 1000
_OWN_LABELS = ("rayplat.group", "ray.io/market-type")
_TINY = 1e-6
_OWNERS = b"rayplat_owners"
_STATIC = ("node:", "object_store_memory")
_PREEMPTED = 3
"""Ray's `NodeDeathInfo.Reason`: the node was told to go, and went at its deadline."""


@dataclass(frozen=True, slots=True)
class SeenNode:
    """A node as it is now, or was when it ended.

    `leaves`: when it goes, where that was told; `taken`: it went because its cloud took it away.
    """

    node_id: str
    group: str
    market: Market
    node_type: str
    head: bool
    started: datetime
    ended: datetime | None
    resources: Mapping[str, float]
    available: Mapping[str, float]
    idle_s: float
    leaves: datetime | None = None
    taken: bool = False

    @property
    def used(self) -> dict[str, float]:
        """What is held of it, by resource."""
        return {k: v - self.available.get(k, 0.0) for k, v in self.resources.items() if v}


@dataclass(frozen=True, slots=True)
class SeenUse:
    """What an owner holds of a node; `since` is when the eldest part of it began, where that is known."""

    node_id: str
    owner: Owner
    resources: Mapping[str, float]
    since: datetime | None


@dataclass(frozen=True, slots=True)
class SeenDemand:
    """Requests of one shape that no node can take now."""

    resources: Mapping[str, float]
    count: int


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one moment. `starting`: nodes on their way, by node type."""

    at: datetime
    session: str
    nodes: tuple[SeenNode, ...]
    uses: tuple[SeenUse, ...]
    demands: tuple[SeenDemand, ...]
    starting: Mapping[str, int]

    @property
    def alive(self) -> tuple[SeenNode, ...]:
        """The nodes that are there."""
        return tuple(node for node in self.nodes if node.ended is None)


class Observer:
    """Looks at one cluster.

    Args:
        address: of its control store, host:port. The process must have been let in (`token.use_token`).
    """

    def __init__(self, address: str) -> None:
        from ray._private.grpc_utils import init_grpc_channel

        services, states = _generated("gcs_service_pb2_grpc"), _generated("autoscaler_pb2_grpc")
        self.address = address
        self._channel = init_grpc_channel(address)
        self._nodes = services.NodeInfoGcsServiceStub(self._channel)
        self._actors = services.ActorInfoGcsServiceStub(self._channel)
        self._groups = services.PlacementGroupInfoGcsServiceStub(self._channel)
        self._jobs = services.JobInfoGcsServiceStub(self._channel)
        self._tasks = services.TaskInfoGcsServiceStub(self._channel)
        self._resources = services.NodeResourceInfoGcsServiceStub(self._channel)
        self._kept = services.InternalKVGcsServiceStub(self._channel)
        self._state = states.AutoscalerStateServiceStub(self._channel)

    def look(self, now: datetime | None = None) -> Look:
        """Look now.

        Raises:
            UnavailableError: the control store does not answer.
        """
        autoscaler_pb2, gcs_service_pb2 = _generated("autoscaler_pb2"), _generated("gcs_service_pb2")

        with _answered(self.address):
            status = self._state.GetClusterStatus(
                autoscaler_pb2.GetClusterStatusRequest(), timeout=_TIMEOUT_S
            )
            infos = self._nodes.GetAllNodeInfo(gcs_service_pb2.GetAllNodeInfoRequest(), timeout=_TIMEOUT_S)
            states = {one.node_id.hex(): one for one in status.cluster_resource_state.node_states}
            leaving = self._leaving(states.values())
            nodes = tuple(
                _node(info, states.get(info.node_id.hex()), leaving) for info in infos.node_info_list
            )
            return Look(
                at=now or datetime.now(UTC),
                session=status.cluster_resource_state.cluster_session_name,
                nodes=nodes,
                uses=self._uses(nodes),
                demands=_demands(status.cluster_resource_state),
                starting=_starting(status.autoscaling_state),
            )

    def _leaving(self, states: Iterable[Any]) -> dict[str, datetime]:
        """When each node goes that was told to. Asked only where there is one."""
        autoscaler_pb2, gcs_service_pb2 = _generated("autoscaler_pb2"), _generated("gcs_service_pb2")
        if not any(one.status == autoscaler_pb2.NodeStatus.Value("DRAINING") for one in states):
            return {}
        request = gcs_service_pb2.GetDrainingNodesRequest()
        draining = self._resources.GetDrainingNodes(request, timeout=_TIMEOUT_S).draining_nodes
        moments = {one.node_id.hex(): _time(one.draining_deadline_timestamp_ms) for one in draining}
        return {node_id: at for node_id, at in moments.items() if at is not None}

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _uses(self, nodes: Iterable[SeenNode]) -> tuple[SeenUse, ...]:
        used = {node.node_id: node.used for node in nodes if node.ended is None}
        if not any(amount > _TINY for one in used.values() for k, amount in one.items() if _moves(k)):
            return ()
        drivers = self._drivers()
        held = _Held()
        classes = self._add_actors(held, drivers)
        self._add_groups(held, drivers, classes)
        if held.leaves_unexplained(used):
            self._add_tasks(held, drivers)
        return held.uses()

    def _drivers(self) -> dict[str, Driver]:
        gcs_service_pb2 = _generated("gcs_service_pb2")

        request = gcs_service_pb2.GetAllJobInfoRequest(
            skip_submission_job_info_field=True, skip_is_running_tasks_field=True
        )
        jobs = self._jobs.GetAllJobInfo(request, timeout=_TIMEOUT_S).job_info_list
        found = {}
        for job in jobs:
            if job.is_dead:
                continue
            job_id = job.job_id.hex()
            request = gcs_service_pb2.InternalKVGetRequest(key=job_id.encode(), namespace=_OWNERS)
            declared = self._kept.InternalKVGet(request, timeout=_TIMEOUT_S).value.decode()
            submission = dict(job.config.metadata).get("job_submission_id", "")
            found[job_id] = Driver(job_id, submission, declared)
        return found

    def _add_actors(self, held: "_Held", drivers: Mapping[str, Driver]) -> dict[str, str]:
        """Add what actors hold outside of placement groups; the class of every actor by its id."""
        gcs_service_pb2 = _generated("gcs_service_pb2")

        filters = gcs_service_pb2.GetAllActorInfoRequest.Filters(state="ALIVE")
        request = gcs_service_pb2.GetAllActorInfoRequest(filters=filters)
        actors = self._actors.GetAllActorInfo(request, timeout=_TIMEOUT_S).actor_table_data
        for actor in actors:
            if actor.placement_group_id:  # its group holds the resources for it
                continue
            owner = owner_of(_class(actor), actor.job_id.hex(), drivers)
            held.add(actor.node_id.hex(), owner, dict(actor.required_resources), actor.start_time)
        return {actor.actor_id.hex(): _class(actor) for actor in actors}

    def _add_groups(self, held: "_Held", drivers: Mapping[str, Driver], classes: Mapping[str, str]) -> None:
        gcs_pb2, gcs_service_pb2 = _generated("gcs_pb2"), _generated("gcs_service_pb2")

        request = gcs_service_pb2.GetAllPlacementGroupRequest()
        groups = self._groups.GetAllPlacementGroup(request, timeout=_TIMEOUT_S)
        for group in groups.placement_group_table_data:
            if group.state not in (
                gcs_pb2.PlacementGroupTableData.CREATED,
                gcs_pb2.PlacementGroupTableData.RESCHEDULING,
            ):
                continue
            maker = classes.get(group.creator_actor_id.hex(), "")
            owner = owner_of(maker, group.creator_job_id.hex(), drivers)
            for bundle in group.bundles:
                if bundle.node_id:
                    since = group.placement_group_final_bundle_placement_timestamp_ms
                    held.add(bundle.node_id.hex(), owner, dict(bundle.unit_resources), since)

    def _add_tasks(self, held: "_Held", drivers: Mapping[str, Driver]) -> None:
        common_pb2, gcs_service_pb2 = _generated("common_pb2"), _generated("gcs_service_pb2")

        filters = gcs_service_pb2.GetTaskEventsRequest.Filters(exclude_driver=True)
        wanted = filters.state_filters.add()
        wanted.state = "RUNNING"
        wanted.predicate = gcs_service_pb2.FilterPredicate.EQUAL
        request = gcs_service_pb2.GetTaskEventsRequest(limit=_MOST_TASKS, filters=filters)
        for event in self._tasks.GetTaskEvents(request, timeout=_TIMEOUT_S).events_by_task:
            task = event.task_info
            if task.type != common_pb2.NORMAL_TASK or task.placement_group_id:
                continue
            owner = owner_of(task.func_or_class_name, event.job_id.hex(), drivers)
            began = event.state_updates.state_ts_ns.get(common_pb2.RUNNING, 0) // 1_000_000
            held.add(event.state_updates.node_id.hex(), owner, dict(task.required_resources), began)


class _Held:
    """Sums of what is held, by node and owner."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, Owner], dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._since: dict[tuple[str, Owner], int] = {}

    def add(self, node_id: str, owner: Owner, resources: Mapping[str, float], since_ms: int) -> None:
        sums = self._sums[node_id, owner]
        for name, amount in resources.items():
            if _moves(name) and amount > _TINY:
                sums[name] += amount
        if since_ms:
            self._since[node_id, owner] = min(since_ms, self._since.get((node_id, owner), since_ms))

    def leaves_unexplained(self, used: Mapping[str, Mapping[str, float]]) -> bool:
        explained: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for (node_id, _), sums in self._sums.items():
            for name, amount in sums.items():
                explained[node_id][name] += amount
        return any(
            _moves(name) and amount > explained[node_id][name] + _TINY
            for node_id, one in used.items()
            for name, amount in one.items()
        )

    def uses(self) -> tuple[SeenUse, ...]:
        return tuple(
            SeenUse(node_id, owner, dict(sums), _time(self._since.get((node_id, owner), 0)))
            for (node_id, owner), sums in sorted(self._sums.items(), key=lambda item: str(item[0]))
            if sums and node_id
        )


def _generated(name: str) -> Any:
    """A module of Ray's messages or services; they are made of protobuf files and have no types."""
    return importlib.import_module(f"ray.core.generated.{name}")


@contextmanager
def _answered(address: str) -> Iterator[None]:
    grpc: Any = importlib.import_module("grpc")  # it has no types
    try:
        yield
    except grpc.RpcError as error:
        told = error.details() if isinstance(error, grpc.Call) else str(error)
        raise UnavailableError(
            f"the control store at {address} does not answer: {told}", "run `rayplat up`"
        ) from error


def _moves(resource: str) -> bool:
    """Whether a resource can be held: Ray shows some that only mark a node."""
    return not resource.startswith(_STATIC)


def _class(actor: Any) -> str:
    return str(actor.class_name) or str(actor.name)


def _node(info: Any, state: Any | None, leaving: Mapping[str, datetime]) -> SeenNode:
    gcs_pb2 = _generated("gcs_pb2")

    group_label, market_label = _OWN_LABELS
    labels = dict(info.labels)
    alive = info.state == gcs_pb2.GcsNodeInfo.ALIVE
    ended = None if alive else _time(info.end_time_ms) or datetime.now(UTC)
    own_type = str(info.node_type_name)
    return SeenNode(
        node_id=info.node_id.hex(),
        group=labels.get(group_label) or ("head" if info.is_head_node else own_type or "unknown"),
        market="spot" if labels.get(market_label) == "spot" else "on-demand",
        node_type=own_type or "head",
        head=bool(info.is_head_node),
        started=_time(info.start_time_ms) or datetime.now(UTC),
        ended=ended,
        resources=dict(info.resources_total),
        available=dict(state.available_resources if state is not None else info.resources_total),
        idle_s=state.idle_duration_ms / 1000 if state is not None else 0.0,
        leaves=leaving.get(info.node_id.hex()) if alive else None,
        taken=not alive and info.death_info.reason == _PREEMPTED,
    )


def _time(milliseconds: int) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None


def _demands(state: Any) -> tuple[SeenDemand, ...]:
    counts: dict[tuple[tuple[str, float], ...], int] = defaultdict(int)
    for one in state.pending_resource_requests:
        counts[_shape(one.request)] += one.count
    for gang in state.pending_gang_resource_requests:
        first = [one for selector in gang.bundle_selectors[:1] for one in selector.resource_requests]
        for request in gang.requests or first:
            counts[_shape(request)] += 1
    return tuple(SeenDemand(dict(shape), count) for shape, count in sorted(counts.items()) if shape)


def _shape(request: Any) -> tuple[tuple[str, float], ...]:
    return tuple(sorted((k, v) for k, v in dict(request.resources_bundle).items() if v > _TINY))


def _starting(state: Any) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for one in state.pending_instance_requests:
        counts[one.ray_node_type_name] += one.count
    for one in state.pending_instances:
        counts[one.ray_node_type_name] += 1
    return dict(counts)
