"""Where members run: reservations on the cluster, and the actors in them.

Knows Ray's placement groups and actors; it does not know when a member is wanted (`controller`).

Each place for a worker is a reservation of its own: one that cannot be met yet waits, and is a demand that
the autoscaler sees, while the others train. A member that is lost leaves its reservation behind, and the
next one starts in it: nobody else takes the resources meanwhile.
"""

import contextlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from rayplat.train.elastic.door import Door
from rayplat.train.elastic.member import Member, Place
from rayplat.train.worker import WorkerTask

STANDBY_SLOT = -1
"""The slot of a member that waits beside the reservations, ready to take the place of a lost one."""


class Processes(Protocol):
    """Where the members of a group come from, for whoever decides which there are to be."""

    def fill(self) -> list[tuple[str, int]]:
        """Start members where there is room; the id and the slot of each."""

    def promote(self, member: str) -> int | None:
        """Give a standby the slot of a lost member; its slot, or None where all are in use."""

    def ended(self) -> list[str]:
        """Members whose process has ended."""

    def why(self, member: str) -> str:
        """What is known of the end of a member; empty where nothing is."""

    def awaited(self) -> list[str]:
        """Members whose process was asked for, and has neither come to life nor ended."""

    def renew(self, member: str) -> None:
        """The process of a member does not come: it is not asked for any more, and its place is made anew."""

    def leaving(self) -> dict[str, float]:
        """Members whose node is to go, and when, s since the epoch; 0 where nobody knows when."""

    def forget(self, member: str) -> None:
        """A member is gone, or is to be: it is ended where it is not, and its slot is free."""

    def release(self, member: str) -> None:
        """A leaving member has left its generation: it is ended, and its node is not used again."""


@dataclass(frozen=True, slots=True)
class SlotSpec:
    """What each worker needs: a bundle of resources, and how many workers there may be.

    Attributes:
        standbys: how many more processes are kept ready; each costs its memory, and no CPU while it waits.
    """

    bundle: Mapping[str, float]
    most: int
    standbys: int = 0


@dataclass(slots=True)
class _Slot:
    group: Any
    reserved: bool = False
    member: str = ""


@dataclass(slots=True)
class _Process:
    """`came` is done as soon as the actor lives, or never will; None once that was seen."""

    slot: int
    actor: Any
    home: Any
    came: Any = field(repr=False)
    ended: Any = field(repr=False)


class Slots:
    """The reservations of one run and the processes in them.

    Args:
        spec: what is reserved.
        task: what each member is to do.
        door: where members find the controller.
        host: the address that members listen on.
        secret: what lets them in.
        collective_timeout_s: the longest that a collective of theirs may take.
    """

    def __init__(  # noqa: PLR0917  # the parts that a member is made of
        self,
        spec: SlotSpec,
        task: WorkerTask,
        door: Door,
        host: str,
        secret: str,
        collective_timeout_s: float,
    ) -> None:
        import ray
        from ray.util import placement_group

        self._ray = ray
        self._spec = spec
        self._made = (door.address, secret, host, collective_timeout_s)
        self._task_ref = ray.put(task)
        self._slots = [_Slot(placement_group([dict(spec.bundle)])) for _ in range(spec.most)]
        self._processes: dict[str, _Process] = {}
        self._actor_class: Any = ray.remote(MemberActor)

    def fill(self) -> list[tuple[str, int]]:
        """Start a member in every reservation that stands and is empty, and the standbys; who was started."""
        started = []
        for number, slot in enumerate(self._slots):
            if not slot.reserved:
                slot.reserved = bool(slot.group.wait(0))
            if slot.reserved and not slot.member:
                slot.member = self._start(number)
                started.append((slot.member, number))
        waiting = sum(process.slot == STANDBY_SLOT for process in self._processes.values())
        if any(slot.reserved for slot in self._slots):
            missing = range(self._spec.standbys - waiting)
            started += [(self._start(STANDBY_SLOT), STANDBY_SLOT) for _ in missing]
        return started

    def promote(self, member: str) -> int | None:
        """Give a standby the reservation of a lost member. Returns its slot, None where all are in use."""
        process = self._processes.get(member)
        if process is None or process.slot != STANDBY_SLOT:
            return None if process is None else process.slot
        for number, slot in enumerate(self._slots):
            if slot.reserved and not slot.member:
                slot.member, process.slot = member, number
                return number
        return None

    def ended(self) -> list[str]:
        """Members whose process has ended, as Ray knows it: also those that never came to the door."""
        by_ref = {process.ended: member for member, process in self._processes.items()}
        if not by_ref:
            return []
        done, _ = self._ray.wait(list(by_ref), num_returns=len(by_ref), timeout=0)
        return [by_ref[ref] for ref in done]

    def why(self, member: str) -> str:
        """What Ray tells of a member that has ended."""
        process = self._processes.get(member)
        if process is None:
            return ""
        try:
            self._ray.get(process.ended, timeout=0.1)
        except self._ray.exceptions.GetTimeoutError:
            return ""
        # Whatever it is, it is shown to the user and to nobody's `except`.
        except Exception as error:
            return str(error)
        return ""

    def awaited(self) -> list[str]:
        """Members whose actor does not live yet, nor is dead: Ray has not created it."""
        by_ref = {p.came: member for member, p in self._processes.items() if p.came is not None}
        if not by_ref:
            return []
        came, missing = self._ray.wait(list(by_ref), num_returns=len(by_ref), timeout=0)
        for ref in came:
            self._processes[by_ref[ref]].came = None
        return [by_ref[ref] for ref in missing]

    def renew(self, member: str) -> None:
        """The actor of a member was not created: its reservation is made anew, where nobody else is in it."""
        process = self._processes.get(member)
        self.forget(member)
        # A standby lives in the reservation of a place, and would be ended with it.
        if process is None or any(other.home is process.home for other in self._processes.values()):
            return
        self._reserve_anew(process.slot)

    def leaving(self) -> dict[str, float]:
        """Members whose node is to go, and when. A slot there is given back once its member has left it."""
        from ray._private.state import state

        draining: dict[str, int] = state.get_draining_nodes()  # milliseconds since the epoch
        if not draining:
            return {}
        nodes = {member: self._node_of(process.slot) for member, process in self._processes.items()}
        return {member: draining[node] / 1000 for member, node in nodes.items() if node in draining}

    def release(self, member: str) -> None:
        """A member has left: end it, and reserve its place anew, on a node that stays."""
        process = self._processes.get(member)
        self.forget(member)
        if process is not None:
            self._reserve_anew(process.slot)

    def _reserve_anew(self, number: int) -> None:
        from ray.util import placement_group, remove_placement_group

        if number != STANDBY_SLOT:
            remove_placement_group(self._slots[number].group)
            self._slots[number] = _Slot(placement_group([dict(self._spec.bundle)]))

    def _node_of(self, number: int) -> str:
        from ray.util import placement_group_table

        if number == STANDBY_SLOT:
            return ""
        nodes = placement_group_table(self._slots[number].group).get("bundles_to_node_id", {})
        return str(next(iter(nodes.values()), ""))

    def forget(self, member: str) -> None:
        """A member is gone, or is to be: it is ended where it is not, and its reservation is free."""
        process = self._processes.pop(member, None)
        if process is None:
            return
        with contextlib.suppress(Exception):  # it may be gone already, whatever Ray calls that
            self._ray.kill(process.actor)
        if process.slot != STANDBY_SLOT:
            self._slots[process.slot].member = ""

    def close(self) -> None:
        """End every member that is there, and give everything back."""
        from ray.util import remove_placement_group

        for member in list(self._processes):
            self.forget(member)
        for slot in self._slots:
            remove_placement_group(slot.group)

    def _start(self, number: int) -> str:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        door, secret, host, timeout = self._made
        member = f"{number}-{secrets.token_hex(3)}"
        home = self._slots[number].group if number != STANDBY_SLOT else self._first_reserved()
        bundle = self._spec.bundle if number != STANDBY_SLOT else {}
        actor: Any = self._actor_class.options(
            num_cpus=bundle.get("CPU", 0),
            num_gpus=bundle.get("GPU", 0),
            max_restarts=0,
            scheduling_strategy=PlacementGroupSchedulingStrategy(home),
        ).remote()
        place = Place(door, secret, member, host, timeout)
        came = actor.__ray_ready__.remote()  # before what it is to do: it answers one call after the other
        ended = actor.train.remote(self._task_ref, place)
        self._processes[member] = _Process(number, actor, home, came, ended)
        return member

    def _first_reserved(self) -> Any:
        return next(slot.group for slot in self._slots if slot.reserved)


class MemberActor:
    """The process of a member, as Ray carries it."""

    def train(self, task: WorkerTask, place: Place) -> None:
        """Be a member until the run is over."""
        Member(task, place).train()
