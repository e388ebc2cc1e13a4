import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from rayplat.cluster.jobs.history import JobHistory
from rayplat.cluster.jobs.record import JobRecord, JobState
from rayplat.cluster.jobs.request import Admitted, JobRequest, Refused, Warned
from rayplat.cluster.stop_requests import StopRequests
from rayplat.core.events import BudgetRefused, BudgetStopped, BudgetWarned, Event, EventBus
from rayplat.core.settings import Settings
from rayplat.cost.budget import Work
from rayplat.cost.door import budget_door
from rayplat.cost.steward import Steward
from rayplat.cost.usage import JobsOf
from tests.cost.fakes import HOUR, T0, FakeFacts, FakeJobs, job, node, sources, use

ROOT = Path(__file__).resolve().parents[2]
BUDGETS = """
budgets:
  - {scope: team, name: vision, limit_usd: 4, warn_at: 0.5, refuse_at: 0.75, stop_at: 1.0}
"""
FREE_ENDPOINT = BUDGETS.replace("stop_at: 1.0", "stop_at: 1.0, may_stop_endpoints: true")


class World:
    """A team whose job and endpoint hold a cpu node whole, at a dollar an hour, and a stopper that notes."""

    def __init__(self, home: Path, budgets: str = BUDGETS, grace_s: float = 600) -> None:
        self.settings = Settings.model_validate({"home": home, "cost": {"grace_s": grace_s}})
        self.facts, self.jobs = (
            FakeFacts(),
            FakeJobs([job("train", "vision", "flights"), job("other", "text")]),
        )
        self.events: list[Event] = []
        self.stopped: list[Work] = []
        self.budgets = budgets
        bus = EventBus()
        bus.subscribe(Event, self.events.append)
        self.steward = Steward(self.settings, bus, self._stop, self.sources)

    def sources(self):  # type: ignore[no-untyped-def]
        return sources(self.facts, self.jobs, self.budgets)

    def _stop(self, work: Work, _job: JobRecord | None) -> None:
        self.stopped.append(work)

    def at(self, hours: float) -> datetime:
        """Time goes on: the node was just seen, and is held by the job, the endpoint and another team."""
        self.facts.nodes = [node("n", 0, None, seen=hours, CPU=4.0)]
        self.facts.uses = [
            use("n", "train", 0, None, CPU=2.0),
            use("n", "late", 0, None, "endpoint", "train", CPU=2.0),
        ]
        return T0 + hours * HOUR

    def ask(self, hours: float, team: str = "vision") -> object:
        request = JobRequest(command=("x",), folder=Path(), user="ada", team=team)
        return budget_door(self.settings, self.sources(), lambda: self.at(hours))(request)


def test_warn_then_refuse_then_ask_to_stop_in_this_order_and_each_is_told_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    seen = []
    with closing(world.steward) as steward:
        for quarter in range(1, 20):
            hours = quarter / 4
            asked = steward.round(world.at(hours)).asked
            answer = world.ask(hours)
            seen.append((type(answer).__name__, [w.owner for w in asked]))
    kinds = [name for name, _ in seen]
    assert kinds == ["Admitted"] * 7 + ["Warned"] * 4 + ["Refused"] * 8
    asked = [owners for _, owners in seen]
    assert asked == [[]] * 15 + [["train"]] + [[]] * 3
    assert [type(e) for e in world.events] == [BudgetWarned, BudgetRefused, BudgetStopped]
    assert world.events[2].stopped == ("job train",)  # type: ignore[attr-defined]
    assert {w.kind for w in world.stopped} == {"job"}, "the endpoint goes on"
    assert isinstance(world.ask(5, team="text"), Admitted)


def test_money_that_is_gone_at_once_still_takes_every_step_in_order(tmp_path: Path) -> None:
    world = World(tmp_path)
    with closing(world.steward) as steward:
        done = steward.round(world.at(40))
    assert [type(e) for e in world.events] == [BudgetWarned, BudgetRefused, BudgetStopped]
    assert [w.owner for w in done.asked] == ["train"]
    assert done.forced == ()


def test_an_endpoint_is_stopped_where_the_budget_says_so(tmp_path: Path) -> None:
    world = World(tmp_path, FREE_ENDPOINT)
    with closing(world.steward) as steward:
        steward.round(world.at(5))
        steward.round(world.at(5.5))
    assert {w.kind for w in world.stopped} == {"job", "endpoint"}


def test_force_comes_only_after_the_grace_period_and_ends_when_the_work_is_gone(tmp_path: Path) -> None:
    world = World(tmp_path)
    with closing(world.steward) as steward, closing(StopRequests(world.settings)) as requests:
        steward.round(world.at(5))
        assert steward.round(world.at(5) + timedelta(seconds=599)).forced == ()
        assert [w.owner for w in steward.round(world.at(5) + timedelta(seconds=600)).forced] == ["train"]
        world.jobs.records[0] = replace(world.jobs.records[0], status=JobState.STOPPED)
        now = world.at(5.3)
        world.facts.uses = []
        assert steward.round(now).forced == ()
        (request,) = requests.all()
        assert request.honoured_at == now
        assert request.forced_at == world.at(5) + timedelta(seconds=600)


def test_a_refusal_names_what_was_spent_and_the_mend(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert isinstance(world.ask(1), Admitted)
    warned = world.ask(2)
    assert isinstance(warned, Warned)
    assert warned.why == "team vision has spent $2.00 (50 %) of $4.00 a month"
    refused = world.ask(3)
    assert isinstance(refused, Refused)
    assert refused.why == "the budget is spent: team vision has spent $3.00 (75 %) of $4.00 a month"
    assert refused.mend.startswith("wait for the next month, or have limit_usd of team vision")


def test_jobs_are_told_what_they_have_cost_their_endpoints_included(tmp_path: Path) -> None:
    world = World(tmp_path, "")
    with closing(world.steward) as steward:
        steward.round(world.at(3.5))
    assert [(j.submission_id, j.cost) for j in world.jobs.records] == [
        ("train", Decimal("3.5")),
        ("other", None),
    ]


def test_the_history_of_jobs_keeps_a_cost_to_the_last_digit(tmp_path: Path) -> None:
    jobs = JobsOf(Settings(home=tmp_path))
    with closing(JobHistory(Settings(home=tmp_path))) as history:
        history.add(job("j"))
    jobs.set_cost("j", Decimal("0.123456789"))
    jobs.set_cost("gone", Decimal(1))
    assert [j.cost for j in jobs.jobs()] == [Decimal("0.123456789")]


_WORK = """
import sys, time
from pathlib import Path
from rayplat.cluster.stop_requests import StopRequests
from rayplat.core.settings import Settings
home, polite, out = Path(sys.argv[1]), sys.argv[2] == "polite", Path(sys.argv[3])
requests = StopRequests(Settings(home=home))
step = 0
print("begun", flush=True)
while True:
    step += 1
    time.sleep(0.02)
    if polite and requests.asked("job", "train"):
        out.write_text(str(step))
        requests.honour("job", "train")
        sys.exit(0)
"""


@pytest.mark.parametrize("manner", ["polite", "deaf"])
def test_a_real_process_writes_its_checkpoint_and_ends_or_is_ended_after_the_grace_period(
    tmp_path: Path, manner: str
) -> None:
    # A polite one may take its time on a busy machine: it must not be killed while it writes.
    world = World(tmp_path, grace_s=15.0 if manner == "polite" else 1.0)
    checkpoint = tmp_path / "checkpoint"
    child = subprocess.Popen(
        [sys.executable, "-c", _WORK, str(tmp_path), manner, str(checkpoint)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    killed: list[float] = []

    def stop(_work: Work, _job: JobRecord | None) -> None:
        killed.append(time.monotonic())
        child.kill()

    steward = Steward(world.settings, EventBus(), stop, world.sources)
    try:
        assert child.stdout.readline() == "begun\n"
        now, begin = world.at(5), time.monotonic()
        with closing(steward):
            while child.poll() is None and time.monotonic() - begin < 20:
                steward.round(now + timedelta(seconds=time.monotonic() - begin))
                time.sleep(0.05)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    if manner == "polite":
        assert child.returncode == 0
        assert int(checkpoint.read_text()) > 0
        assert killed == []
    else:
        assert child.returncode == -9
        assert killed[0] - begin >= 1.0
