"""`rayplat cost` over ten days of a cluster that its history knows."""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from rayplat.cluster.facts import Market
from rayplat.cluster.history import ClusterHistory
from rayplat.cluster.jobs.history import JobHistory
from rayplat.cluster.jobs.record import JobRecord
from rayplat.cluster.observe import Look, SeenNode, SeenUse
from rayplat.cluster.owners import Owner
from rayplat.core.settings import Settings
from rayplat.governance.audit_log import AuditLog
from tests.cli.conftest import Ran

Cli = Callable[..., Ran]
_FILE = """
groups:
  head: {kind: head, cpus: 4}
  gpu: {kind: gpu, cpus: 4, gpus: 1, accelerator: L4, max: 4, spot: {share: 0.5}}
prices:
  own: {head: {on_demand: 0.5}, gpu: {on_demand: 3.0, spot: 1.0}}
teams: {vision: {}, text: {}}
budgets:
  - {scope: team, name: vision, limit_usd: 100000, per: total}
  - {scope: team, name: text, limit_usd: 1, per: total}
"""
_NOW = datetime.now(UTC)
_BEGIN = (_NOW - timedelta(days=10)).replace(minute=0, second=0, microsecond=0)


def _node(name: str, group: str, market: Market, started: datetime, **resources: float) -> SeenNode:
    return SeenNode(name, group, market, group, group == "head", started, None, resources, resources, 0.0)


@pytest.fixture
def world(tmp_path: Path) -> Settings:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "platform.yaml").write_text(_FILE)
    settings = Settings(home=tmp_path / ".rayplat")
    head = _node("head", "head", "on-demand", _BEGIN, CPU=4.0)
    history, jobs = ClusterHistory(settings), JobHistory(settings)
    for day in range(10):
        at = _BEGIN + timedelta(days=day, hours=8)
        team = "vision" if day < 7 else "text"
        name = f"job{day}"
        jobs.add(JobRecord(submission_id=name, team=team, project="flights", submitted_at=at))
        node = _node(f"g{day}", "gpu", "spot" if day % 2 else "on-demand", at, CPU=4.0, GPU=1.0)
        use = SeenUse(node.node_id, Owner("job", name, ""), {"GPU": 0.5}, at)
        for moment in (at, at + timedelta(hours=4)):
            history.record("here", Look(moment, "session", (head, node), (use,), (), {}))
    history.end("here", _BEGIN + timedelta(days=10))
    history.close()
    jobs.close()
    return settings


def test_a_report_adds_up_by_any_dimension_and_tells_idleness_apart(rayplat: Cli, world: Settings) -> None:
    by_team = rayplat("cost", "report", "--by", "team", "--output", "json").data
    total = Decimal(by_team["total_usd"])
    # Ten days of a head, and what the gpu nodes cost until somebody saw the next.
    assert total > Decimal(240) / 2
    teams = {line["team"]: Decimal(line["usd"]) for line in by_team["lines"]}
    assert set(teams) == {"vision", "text", "(idle)"}
    assert sum(teams.values()) == total
    for by in ("project", "job", "group", "market", "node", "kind", "run", "endpoint"):
        found = rayplat("cost", "report", "--by", by, "--every", "day", "--output", "json").data
        assert sum(Decimal(line["usd"]) for line in found["lines"]) == total
    shown = rayplat("cost", "report", "--by", "team")
    assert "(idle)" in shown.out
    assert "prices: own prices" in shown.err


def test_pages_hold_their_plots_and_need_no_network(rayplat: Cli, world: Settings, tmp_path: Path) -> None:
    for verb, word in (("report", "By team"), ("forecast", "by trend"), ("savings", "scale to zero")):
        page = tmp_path / f"{verb}.html"
        done = rayplat("cost", verb, "--plot", str(page))
        assert done.code == 0, done.err
        text = page.read_text()
        assert "<svg" in text
        assert word in text
        assert "https://" not in text.replace("https://matplotlib.org", "")


def test_a_forecast_an_explanation_and_savings_agree_with_the_report(rayplat: Cli, world: Settings) -> None:
    found = rayplat("cost", "forecast", "--output", "json").data
    assert Decimal(found["by_running_usd"]) == Decimal(found["spent_usd"])  # nothing runs any more
    assert found["days"] >= 9
    words = rayplat("cost", "explain", "--days", "5").out
    assert "The last 5 days cost" in words
    assert "By group:" in words
    saved = rayplat("cost", "savings", "--output", "json").data
    parts = ("paid", "spot", "scale_to_zero", "elasticity")
    assert sum(Decimal(saved[f"{part}_usd"]) for part in parts) == Decimal(saved["fixed_usd"])
    assert Decimal(saved["spot_usd"]) > 0


def test_budgets_are_shown_as_they_stand(rayplat: Cli, world: Settings) -> None:
    found = rayplat("cost", "budgets", "--output", "json").data["budgets"]
    assert {b["name"]: b["level"] for b in found} == {"vision": "within", "text": "stop"}


def test_the_steward_books_tells_the_audit_log_each_step_once_and_ends_when_asked(
    world: Settings, tmp_path: Path
) -> None:
    command = ["cost", "watch", "--home", str(world.home), "--set", "cost.interval_s=0.1"]
    child = subprocess.Popen([sys.executable, "-m", "rayplat.cli", *command], cwd=tmp_path)
    try:
        with closing(AuditLog(world)) as audit:
            deadline = time.monotonic() + 30
            while len(found := _steps(audit)) < 3 and time.monotonic() < deadline:
                time.sleep(0.1)
            time.sleep(0.5)
            found = _steps(audit)
        child.terminate()
        assert child.wait(10) == 0
    finally:
        child.kill()
        child.wait()
    assert found == [(f"budget.{step}", "team/text") for step in ("warned", "refused", "stopped")]
    with closing(JobHistory(world)) as jobs:
        assert jobs.get("job0").cost == Decimal("1.5") * 4  # half of a node at 3.0 an hour, for 4 hours


def _steps(audit: AuditLog) -> list[tuple[str, str]]:
    return [(e.action, e.subject) for e in audit.entries() if e.action.startswith("budget.")]


def test_a_platform_that_never_had_a_node_cost_nothing(rayplat: Cli) -> None:
    assert rayplat("cost", "report", "--output", "json").data["total_usd"] == "0"
    assert rayplat("cost", "explain").code == 0
    assert rayplat("cost", "savings", "--output", "json").data["fixed_usd"] == "0"
    assert rayplat("cost", "forecast", "--output", "json").data["by_trend_usd"] is None


def test_a_group_that_has_no_price_is_told_with_the_mend(
    rayplat: Cli, world: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "cluster" / "platform.yaml"
    file.write_text("groups: {head: {kind: head}}")
    done = rayplat("cost", "report", "--output", "json")
    assert done.code == 2
    assert done.error["what"].startswith("group 'gpu' has no")
    assert "prices: {own: {gpu:" in done.error["mend"]


def test_a_dimension_that_is_not_there_is_told(rayplat: Cli) -> None:
    assert "team" in rayplat("cost", "report", "--by", "colour", "--output", "json").error["mend"]


def test_a_run_is_foreseen_from_its_rows_the_pace_and_the_price_of_its_group(
    rayplat: Cli, world: Settings
) -> None:
    flights = str(Path(__file__).parents[2] / "examples" / "flights")
    asked = ("cost", "estimate", flights, "late_arrival", "--nodes", "2", "--output", "json")
    found = rayplat(*asked, "--rows", "360000", "--rows-per-second", "100").data
    assert (found["group"], found["seconds"], found["likely_usd"]) == ("gpu", 3600.0, "6")
    spot = rayplat(*asked, "--rows", "360000", "--rows-per-second", "100", "--market", "spot").data
    assert (spot["likely_usd"], spot["spot_price_known"]) == ("2", True)
    assert "no run of this model has ended well" in rayplat(*asked, "--rows", "10").error["what"]
    assert "has no training set yet" in rayplat(*asked).error["what"]


def test_an_estimate_says_where_nobody_has_named_a_spot_price(
    rayplat: Cli, world: Settings, tmp_path: Path
) -> None:
    flights = str(Path(__file__).parents[2] / "examples" / "flights")
    asked = ("cost", "estimate", flights, "late_arrival", "--rows", "360000", "--rows-per-second", "100")
    file = tmp_path / "cluster" / "platform.yaml"
    file.write_text(_FILE.replace("on_demand: 3.0, spot: 1.0", "on_demand: 3.0"))
    found = rayplat(*asked, "--market", "spot", "--output", "json").data
    assert (found["likely_usd"], found["spot_price_known"]) == ("3", False)
    assert "no spot price is named" in rayplat(*asked, "--market", "spot").out
    unknown = rayplat(*asked, "--group", "colour", "--output", "json")
    assert (unknown.code, unknown.error["mend"]) == (3, "there is: head, gpu")
    assert "on-demand or spot" in rayplat(*asked, "--market", "moon", "--output", "json").error["mend"]
