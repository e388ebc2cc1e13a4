"""What is seen of a running platform: its node, who holds it, what waits and why, its logs; and `exec`."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from rayplat.cluster.execute import execute_here, execute_on
from rayplat.cluster.head import RECORDER
from rayplat.cluster.history import ClusterHistory
from rayplat.cluster.jobs.line import in_line
from rayplat.cluster.jobs.quota import decide, teams_of
from rayplat.cluster.jobs.record import Needs
from rayplat.cluster.jobs.request import Admitted, JobRequest
from rayplat.cluster.logs import chosen, log_files, tail
from rayplat.cluster.observe import Observer
from rayplat.cluster.owners import declared
from rayplat.cluster.processes import running
from rayplat.cluster.session import gcs_address
from rayplat.cluster.status import ClusterStatus, status
from rayplat.core.errors import NotFoundError, UserError
from rayplat.core.settings import Settings

pytestmark = pytest.mark.ray


def wait_for(settings: Settings, holds: Callable[[ClusterStatus], bool]) -> ClusterStatus:
    deadline = time.monotonic() + 30
    while not holds(found := status(settings)):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


@ray.remote(num_cpus=1)
class Holder:
    def ready(self) -> bool:
        return True


def test_a_group_with_its_use_and_who_holds_it(ray_session: Settings) -> None:
    with declared("run", "run_42"):
        holder = Holder.remote()
        assert ray.get(holder.ready.remote())
        found = wait_for(ray_session, lambda s: ("run", "run_42") in [h[1:3] for h in s.held])
        ray.kill(holder)
    (group,) = found.groups
    (node,) = found.nodes
    assert (group.group, group.nodes, group.most) == ("head", 1, None)
    assert group.used["CPU"] >= 0.25
    assert node.resources["CPU"] == found.resources["CPU"] == 4
    assert dict(found.held[[h[2] for h in found.held].index("run_42")][3]) == {"CPU": 1.0}


def test_a_task_is_seen_with_its_job(ray_session: Settings) -> None:
    @ray.remote(num_cpus=1)
    def work() -> None:
        time.sleep(2)

    task = work.remote()
    found = wait_for(ray_session, lambda s: any(h[1] == "job" for h in s.held))
    assert any(name.startswith("driver-") for _, kind, name, _ in found.held if kind == "job")
    ray.get(task)


def test_a_demand_that_nothing_can_meet_says_why(ray_session: Settings) -> None:
    @ray.remote(resources={"moonstone": 1})
    def never() -> None:
        raise AssertionError

    task = never.remote()
    found = wait_for(ray_session, lambda s: any("moonstone" in d.resources for d in s.waiting))
    (demand,) = [d for d in found.waiting if "moonstone" in d.resources]
    assert demand.why == "no group has the resource moonstone"
    assert demand.count == 1
    ray.cancel(task)


def test_a_job_that_waits_since_its_team_is_over_its_quota_says_so(
    ray_session: Settings, tmp_path: Path
) -> None:
    (tmp_path / "platform.yaml").write_text(
        "groups: {head: {kind: head}}\nteams: {risk: {members: [ada], quota: {CPU: 4}}}\n"
    )
    ray_settings = ray_session.ray.model_copy(update={"spec": str(tmp_path / "platform.yaml")})
    settings = ray_session.model_copy(update={"ray": ray_settings})
    request = JobRequest(command=("a",), folder=tmp_path, user="ada", team="risk", needs=Needs(cpus=2))
    held = [Needs(cpus=3)]
    seen: list[ClusterStatus] = []

    def look(_: float) -> None:
        seen.append(status(settings))
        held[0] = Needs(cpus=2)

    decision = in_line(settings, request, lambda r: decide(r, teams_of(settings), held[0]), str, look)
    assert decision == Admitted()
    (demand,) = [d for d in seen[0].waiting if d.why.startswith("over a quota")]
    assert (dict(demand.resources), demand.count) == ({"CPU": 2}, 1)
    assert "team risk may hold 4 CPU at a time: its open jobs declare 3" in demand.why
    assert [d for d in status(settings).waiting if "quota" in d.why] == []


def test_a_look_is_cheap(ray_session: Settings) -> None:
    observer = Observer(gcs_address(ray_session))
    observer.look()
    begin = time.process_time()
    for _ in range(20):
        observer.look()
    observer.close()
    assert (time.process_time() - begin) / 20 < 0.02  # every 5 s: under 0.4 % of a core


def test_the_recorder_writes_the_node_down_and_comes_back_when_it_is_killed(ray_session: Settings) -> None:
    history = ClusterHistory(ray_session)
    (before,) = [n for n in history.nodes() if n.ended is None]
    recorder = running(ray_session, RECORDER)
    assert recorder is not None
    os.kill(recorder.pid, signal.SIGKILL)
    deadline = time.monotonic() + 40
    while True:
        (after,) = [n for n in history.nodes() if n.ended is None]
        if after.last_seen > before.last_seen and running(ray_session, RECORDER) not in (None, recorder):
            break
        assert time.monotonic() < deadline
        time.sleep(0.2)
    history.close()
    assert (after.node_id, after.started, after.group) == (before.node_id, before.started, "head")


def test_logs_by_component_and_what_there_is_not(ray_session: Settings) -> None:
    files = log_files(ray_session)
    assert {"gcs", "dashboard", "supervisor"} <= set(files)
    assert any("watching gcs_server" in line for line in tail(chosen(files, "supervisor"), 50))
    with pytest.raises(NotFoundError, match="nothing is named 'moon'"):
        chosen(files, "moon")


def test_a_command_runs_in_the_platforms_environment(ray_session: Settings) -> None:
    told: list[str] = []
    code = "import os; print(os.environ['RAYPLAT_PLATFORM']); raise SystemExit(7)"
    assert execute_on(ray_session, "", ["python", "-c", code], told.append) == 7
    assert len("".join(told).strip()) == 12
    assert execute_on(ray_session, "", ["/nowhere/program"], told.append) == 127
    code = "import os; raise SystemExit(0 if os.environ['RAY_ADDRESS'].startswith('127') else 1)"
    assert execute_here(ray_session, ["python", "-c", code]) == 0
    # Serve's own commands and Ray's jobs look for the dashboard there.
    code = "import os; raise SystemExit(not os.environ['RAY_DASHBOARD_ADDRESS'].startswith('http://'))"
    assert execute_here(ray_session, ["python", "-c", code]) == 0
    with pytest.raises(UserError, match="cannot be run"):
        execute_here(ray_session, ["/nowhere/program"])
    with pytest.raises(NotFoundError, match="no node's id begins"):
        execute_on(ray_session, "zzz", ["true"], told.append)
