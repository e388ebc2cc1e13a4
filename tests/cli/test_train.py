"""`rayplat train`: its verbs, and what a run's time was spent on."""

import pytest

from rayplat.train.goodput.report import GoodputReport, keep_report
from rayplat.train.goodput.spending import NS, Spending, Spent

SPENDING = Spending({Spent.PRODUCTIVE: 59 * NS, Spent.INPUT: 41 * NS})


@pytest.fixture
def living(rayplat, tmp_path):
    """A platform with one run that trains now."""
    home = tmp_path / "home"
    report = GoodputReport("abc123", SPENDING, furthest=40, worlds=(1, 2))
    keep_report(f"file://{home}/warehouse/runs/click/abc123", 3, report)
    return lambda *args: rayplat("--home", str(home), *args)


def test_a_project_without_a_verb_is_trained(rayplat):
    assert rayplat("train", "nothing").code == 2
    assert (
        "there is no project at 'nothing'"
        in rayplat("train", "nothing", "-o", "json").error["faults"][0]["what"]
    )
    assert rayplat("train", "run", "nothing").code == 2
    assert "reproduce" in rayplat("train", "--help").out


def test_the_time_of_what_trains_now_is_shown_with_its_largest_loss(living):
    (shown,) = living("train", "report", "-o", "json").data
    assert shown["run"] == "abc123"
    assert shown["goodput"] == pytest.approx(0.59)
    assert sum(row["seconds"] for row in shown["by"]) == shown["worker_seconds"] == 100.0
    assert shown["largest_loss"].startswith("input-bound: 41% waiting for rows; raise")
    assert shown["usd"] is None  # nothing is known of what it has cost
    assert "input-bound" in living("train", "report", "abc123").out


def test_a_run_that_is_not_known_is_told(living):
    assert living("train", "report", "0" * 32).code == 3
    assert living("train", "report", "click@champion").code == 3
