import pytest

from rayplat.core.events import AliasMoved, Event, EventBus, RunFinished


def test_listeners_hear_their_kind_and_its_children_in_order() -> None:
    bus, heard = EventBus(), []
    bus.subscribe(RunFinished, lambda e: heard.append(("run", e.run_id)))
    bus.subscribe(Event, lambda e: heard.append(("any", type(e).__name__)))
    bus.emit(RunFinished(model="m", run_id="r", metrics={}))
    bus.emit(AliasMoved(model="m", alias="champion", version=2, previous=None, actor="a", reason="b"))
    assert heard == [("run", "r"), ("any", "RunFinished"), ("any", "AliasMoved")]


def test_a_listener_that_fails_is_not_silent() -> None:
    bus = EventBus()
    bus.subscribe(Event, lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bus.emit(RunFinished(model="m", run_id="r", metrics={}))


def test_times_are_utc() -> None:
    offset = RunFinished(model="m", run_id="r", metrics={}).at.utcoffset()
    assert offset is not None
    assert offset.total_seconds() == 0
