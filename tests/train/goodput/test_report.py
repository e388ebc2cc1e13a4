"""The report is kept and found again, and says what the largest loss is."""

import pytest

from rayplat.train.goodput.bookkeeper import Bookkeeper
from rayplat.train.goodput.curves import Curves
from rayplat.train.goodput.report import GoodputReport, keep_report, kept_report
from rayplat.train.goodput.spending import NS, Spending, Spent
from rayplat.train.goodput.words import explain

SPENDING = Spending({Spent.PRODUCTIVE: 50 * NS, Spent.INPUT: 41 * NS, Spent.RESTART: 9 * NS})


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def test_the_largest_loss_is_told_in_words_and_money():
    told = explain(SPENDING, usd=200.0)
    assert told.startswith("input-bound: 41% waiting for rows (82.00 USD); raise cpus")
    assert "no loss is over 1%" in explain(Spending({Spent.PRODUCTIVE: 995, Spent.IDLE: 5}))


@pytest.mark.parametrize("spent", [s for s in Spent if s is not Spent.PRODUCTIVE])
def test_every_loss_has_its_words(spent):
    told = explain(Spending({Spent.PRODUCTIVE: 1, spent: 3}))
    assert "75%" in told
    assert ";" in told


def test_money_is_shared_out_by_time_and_adds_up():
    report = GoodputReport("r", SPENDING).priced(lambda run: 200.0 if run == "r" else None)
    assert report.shown()["usd"] == 200.0
    assert sum(row["usd"] for row in report.shown()["by"]) == pytest.approx(200.0)
    assert GoodputReport("other", SPENDING).priced(lambda run: None).shown()["by"][0]["usd"] is None


def test_the_newest_report_is_found_again_and_older_ones_go(tmp_path):
    uri = f"file://{tmp_path}/run"
    assert kept_report(uri) is None
    report = GoodputReport("run", SPENDING, 7, 1, (1, 2), None, {"system/cpu": [(0, 1.5), (5, 2.5)]})
    keep_report(uri, 1, GoodputReport("run", Spending()))
    keep_report(uri, 2, report)
    assert kept_report(uri) == (2, report)
    assert len(list((tmp_path / "run/goodput").iterdir())) == 1


def test_a_bookkeeper_goes_on_where_an_earlier_call_was_killed(tmp_path):
    clock = Clock()
    uri = f"file://{tmp_path}/run"
    first = Bookkeeper(uri, clock)
    first.began("a")
    first.formed(1)
    clock.now = 6 * NS
    first.heard("a", {"say": "step", "step": 40, "spent": {"restart": 2 * NS, "productive": 4 * NS}})
    first.look()
    clock.now = 8 * NS  # the driver is killed here: what came after the last look is not known
    second = Bookkeeper(uri, clock)
    assert second.furthest == 40
    second.began("b")
    second.formed(2)
    clock.now = 11 * NS
    second.heard("b", {"say": "training", "step": 30, "spent": {"restart": 3 * NS}})
    clock.now = 12 * NS
    second.lost("b")
    second.close()
    report = second.report()
    assert report.worlds == (1, 2)
    assert (report.losses, report.furthest) == (1, 40)
    expected = {Spent.RESTART: 5 * NS, Spent.PRODUCTIVE: 4 * NS, Spent.RECOMPUTE: NS}
    assert report.spending.ns == expected
    assert kept_report(uri) == (2, report)


def test_curves_are_means_over_workers_and_stay_short():
    curves = Curves()
    curves.add(1.0, {"cpu": 10.0})
    curves.add(2.0, {"cpu": 30.0})
    curves.add(7.0, {"cpu": 50.0})
    assert curves.points() == {"cpu": [(0, 20.0), (5, 50.0)]}
    later = Curves(curves.points())
    later.add(0.0, {"cpu": 1.0})
    assert later.points()["cpu"][-1] == (10, 1.0)
    for at in range(100_000):
        curves.add(float(at), {"cpu": 50.0})
    assert len(curves.points()["cpu"]) <= 720
    assert curves.points()["cpu"][-1][1] == 50.0
