"""Reservations on a real Ray: one in which no process can start is given up for a new one."""

import time
from collections.abc import Iterator

import pytest
import ray
from ray.util.placement_group import PlacementGroup, placement_group_table
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from rayplat.train.elastic.door import Door
from rayplat.train.elastic.slots import Slots, SlotSpec

from .processes import HOST

pytestmark = pytest.mark.ray
WITHIN_S = 60.0


class Holder:
    """Has what is reserved, as a process that was started for a control store that died."""

    def here(self) -> bool:
        return True


def groups() -> set[str]:
    """The reservations that stand or are to."""
    return {group for group, told in placement_group_table().items() if told["state"] != "REMOVED"}


class Held:
    """Slots with one place, whose reservation somebody else has."""

    def __init__(self, door: Door, standbys: int) -> None:
        self._others = groups()
        spec = SlotSpec({"CPU": 1.0}, 1, standbys)
        self.slots = Slots(spec, None, door, HOST, "secret", 10.0)  # type: ignore[arg-type]
        self.reservation = self.now()
        group = PlacementGroup(ray.PlacementGroupID.from_hex(self.reservation))
        place = PlacementGroupSchedulingStrategy(group)
        self.holder = ray.remote(Holder).options(num_cpus=1, scheduling_strategy=place).remote()
        assert ray.get(self.holder.here.remote(), timeout=WITHIN_S)

    def now(self) -> str:
        (group,) = groups() - self._others
        return group


@pytest.fixture
def held(ray_session, request) -> Iterator[Held]:
    door = Door(HOST, "secret")
    made = Held(door, request.param)
    try:
        yield made
    finally:
        made.slots.close()
        door.close()


def wait_until(what, *args):
    deadline = time.monotonic() + WITHIN_S
    while not (found := what(*args)):
        assert time.monotonic() < deadline, f"{what} is not"
        time.sleep(0.1)
    return found


@pytest.mark.parametrize("held", [0], indirect=True)
def test_a_reservation_that_somebody_else_holds_is_made_anew(held: Held) -> None:
    slots = held.slots
    ((stuck, _),) = wait_until(slots.fill)
    time.sleep(1.0)
    assert slots.awaited() == [stuck]
    slots.renew(stuck)
    assert slots.awaited() == []
    assert held.now() != held.reservation
    ((member, slot),) = wait_until(slots.fill)
    wait_until(lambda: not slots.awaited())
    assert (slot, member != stuck) == (0, True)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(held.holder.here.remote(), timeout=WITHIN_S)


@pytest.mark.parametrize("held", [1], indirect=True)
def test_a_reservation_in_which_a_standby_lives_is_kept(held: Held) -> None:
    slots = held.slots
    (stuck, _), (standby, _) = wait_until(slots.fill)
    wait_until(lambda: slots.awaited() == [stuck])
    slots.renew(stuck)
    assert held.now() == held.reservation
    assert slots.promote(standby) == 0
    assert ray.get(held.holder.here.remote(), timeout=WITHIN_S)
