"""Looks become intervals: written twice, after a kill, over a restart; on SQLite and on Postgres."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rayplat.cluster.history import ClusterHistory
from rayplat.cluster.observe import Look, SeenDemand, SeenNode, SeenUse
from rayplat.cluster.owners import Owner
from rayplat.core.settings import Settings
from tests.servers import fresh_database, postgres_url

__all__ = ["postgres_url"]

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLACE = "/home/platform"
RUN, JOB = Owner("run", "run_1", "01"), Owner("job", "job_1", "02")


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def node(name: str, started: float, ended: float | None = None, **changes: Any) -> SeenNode:
    known: dict[str, Any] = {
        "node_id": name,
        "group": "gpu",
        "market": "spot",
        "node_type": "gpu-spot",
        "head": False,
        "started": at(started),
        "ended": None if ended is None else at(ended),
        "resources": {"CPU": 4.0, "GPU": 1.0, "node:127.0.0.1": 1.0},
        "available": {"CPU": 4.0, "GPU": 1.0},
        "idle_s": 0.0,
    }
    return SeenNode(**{**known, **changes})


def use(name: str, owner: Owner, cpus: float, since: float | None = None) -> SeenUse:
    return SeenUse(name, owner, {"CPU": cpus}, None if since is None else at(since))


def look(seconds: float, nodes: list[SeenNode], uses: Any = (), demands: Any = ()) -> Look:
    return Look(at(seconds), "session_1", tuple(nodes), tuple(uses), tuple(demands), {})


@pytest.fixture(params=["sqlite", "postgres"])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ClusterHistory]:
    settings = Settings(home=tmp_path)
    if request.param == "postgres":
        database = fresh_database(request.getfixturevalue("postgres_url"))
        settings = settings.model_copy(update={"database": database})
    history = ClusterHistory(settings)
    yield history
    history.close()


def spans(history: ClusterHistory) -> list[tuple[str, float, float | None]]:
    def seconds(moment: datetime | None) -> float | None:
        return None if moment is None else (moment - START).total_seconds()

    return [(u.owner, seconds(u.since), seconds(u.until)) for u in history.uses()]  # type: ignore[misc]


def test_a_node_and_its_uses_from_begin_to_end(history: ClusterHistory) -> None:
    history.record(PLACE, look(10, [node("a", 2.000001)], [use("a", RUN, 2, since=5)]))
    history.record(PLACE, look(15, [node("a", 2.000001)], [use("a", RUN, 2, since=5)]))
    history.record(PLACE, look(20, [node("a", 2.000001)], [use("a", RUN, 1, since=5), use("a", JOB, 1)]))
    history.record(PLACE, look(25, [node("a", 2.000001, ended=23)]))
    (known,) = history.nodes()
    assert (known.started, known.ended, known.last_seen) == (at(2.000001), at(23), at(23))
    assert (known.group, known.market, known.resources) == ("gpu", "spot", {"CPU": 4.0, "GPU": 1.0})
    assert spans(history) == [("run_1", 5, 20), ("job_1", 20, 23), ("run_1", 20, 23)]
    assert history.first_start() == at(2.000001)


def test_the_same_look_twice_changes_nothing(history: ClusterHistory) -> None:
    seen = look(10, [node("a", 2)], [use("a", RUN, 2)], [SeenDemand({"GPU": 8.0}, 1)])
    history.record(PLACE, seen, {0: "too large"})
    before = (history.nodes(), history.uses(), history.demands(PLACE))
    history.record(PLACE, seen, {0: "too large"})
    assert (history.nodes(), history.uses(), history.demands(PLACE)) == before


def test_what_ended_while_nobody_looked_ends_when_it_was_last_seen(history: ClusterHistory) -> None:
    history.record(PLACE, look(10, [node("a", 2)], [use("a", RUN, 2)]))
    again = ClusterHistory(history.settings)  # as after a kill
    again.record(PLACE, look(500, [node("b", 400)], [use("b", JOB, 1, since=450)]))
    again.close()
    assert [(n.node_id, n.ended) for n in history.nodes()] == [("a", at(10)), ("b", None)]
    assert spans(history) == [("run_1", 10, 10), ("job_1", 450, None)]


def test_a_node_that_came_and_went_between_two_looks(history: ClusterHistory) -> None:
    short = node("short", 11, ended=14)
    history.record(PLACE, look(10, [node("a", 2)]))
    history.record(PLACE, look(15, [node("a", 2), short]))
    history.record(PLACE, look(20, [node("a", 2), short]))
    assert [(n.node_id, n.started, n.ended) for n in history.nodes()] == [
        ("a", at(2), None),
        ("short", at(11), at(14)),
    ]


def test_another_place_in_the_same_database_is_left_alone(history: ClusterHistory) -> None:
    history.record("/elsewhere", look(10, [node("x", 2)]))
    history.record(PLACE, look(10, [node("a", 2)]))
    history.end(PLACE, at(30))
    assert [(n.node_id, n.ended) for n in history.nodes()] == [("a", at(30)), ("x", None)]


def test_intervals_of_one_owner_do_not_overlap(history: ClusterHistory) -> None:
    """The owner was seen to end at 15; what it holds next began, by Ray's clock, a little before."""
    history.record(PLACE, look(10, [node("a", 2)], [use("a", RUN, 2, since=3)]))
    history.record(PLACE, look(15, [node("a", 2)]))
    history.record(PLACE, look(20, [node("a", 2)], [use("a", RUN, 2, since=14.6)]))
    assert spans(history) == [("run_1", 3, 15), ("run_1", 15, None)]


def test_a_demand_keeps_its_beginning_and_gets_the_newest_reason(history: ClusterHistory) -> None:
    asked = [SeenDemand({"GPU": 1.0}, 3)]
    history.record(PLACE, look(10, [], demands=asked), {0: "launching 1 of gpu"})
    history.record(PLACE, look(15, [], demands=[SeenDemand({"GPU": 1.0}, 2)]), {0: "at max"})
    (waits,) = history.demands(PLACE)
    assert (waits.since, waits.count, waits.why) == (at(10), 2, "at max")
    history.record(PLACE, look(20, []))
    assert history.demands(PLACE) == []


def test_a_window_has_what_overlaps_it(history: ClusterHistory) -> None:
    history.record(PLACE, look(10, [node("a", 2)], [use("a", RUN, 2, since=3)]))
    history.record(PLACE, look(20, [node("a", 2, ended=18), node("b", 19)], [use("b", JOB, 1, since=19)]))
    assert [n.node_id for n in history.nodes(at(0), at(10))] == ["a"]
    assert [n.node_id for n in history.nodes(at(18.5), at(100))] == ["b"]
    assert [u.owner for u in history.uses(at(18.5), at(19.5))] == ["job_1"]
