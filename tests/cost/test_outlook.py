import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayplat.core.errors import UserError
from rayplat.cost.estimate import PastRun, estimate
from rayplat.cost.explain import explain
from rayplat.cost.forecast import forecast, month_end
from rayplat.cost.ledger import Charge, total
from rayplat.cost.meter import HOUR_US, NodeSpan, cost_until
from rayplat.cost.prices import PriceBook, PriceStep
from rayplat.cost.report import DIMENSIONS, by_day, report, stretch
from rayplat.cost.savings import savings
from tests.cost.fakes import T0

USD = 10**9
NOW = datetime(2026, 3, 21, 12, tzinfo=UTC)


def _charge(day: int, usd: float, kind: str = "job", **more: str) -> Charge:
    values = {
        "node": "n",
        "group": "cpu",
        "market": "spot",
        "owner": "j",
        "job": "",
        "team": "",
        "project": "",
    }
    named = {**values, **more}
    return Charge(
        begin=T0 + timedelta(days=day),
        kind=kind,
        nano=round(usd * USD),
        **named,  # type: ignore[arg-type]
    )


def test_days_on_a_line_are_foretold_exactly() -> None:
    days = [10 * USD + n * USD for n in range(20)]  # yesterday 29, today 30
    found = forecast(days, 300 * USD, 2 * USD, NOW)
    assert found.end == datetime(2026, 4, 1, tzinfo=UTC)
    assert found.by_trend == 300 * USD + 15 * USD + sum(range(31, 41)) * USD
    assert found.by_running == 300 * USD + round(2 * USD * 10.5 * 24)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.by_running <= found.high


def test_the_interval_holds_what_comes_about_as_often_as_it_says() -> None:
    chance, inside, rounds = random.Random(7), 0, 400
    for _ in range(rounds):
        days = [round(chance.gauss(20, 4) * USD) for _ in range(28)]
        comes = (
            sum(round(chance.gauss(20, 4) * USD) for _ in range(10)) + round(chance.gauss(20, 4) * USD) // 2
        )
        found = forecast(days, 0, round(20 * USD / 24), NOW)
        inside += found.low <= comes <= found.high  # type: ignore[operator]
    assert 0.72 <= inside / rounds <= 0.92


def test_two_days_are_no_trend() -> None:
    found = forecast([USD, USD], 5 * USD, USD, NOW)
    assert (found.by_trend, found.low, found.high) == (None, None, None)
    assert found.by_running > 5 * USD


def test_months_end_where_the_next_begins() -> None:
    assert month_end(datetime(2026, 12, 31, 23, tzinfo=UTC)) == datetime(2027, 1, 1, tzinfo=UTC)
    assert month_end(datetime(2028, 2, 1, tzinfo=UTC)) == datetime(2028, 3, 1, tzinfo=UTC)


def test_a_difference_is_told_by_group_team_and_idleness_and_adds_up() -> None:
    before = [_charge(0, 100, team="vision"), _charge(0, 50, "idle", owner="")]
    after = [
        _charge(7, 110, team="vision"),
        _charge(7, 200, team="text", group="gpu"),
        _charge(7, 90, "idle", owner="", group="gpu"),
    ]
    found = explain(before, after, ("the week before", "last week"))
    for changes in found.dimensions.values():
        assert sum(c.by for c in changes) == found.after - found.before
    assert found.words == (
        "last week cost $400.00, $250.00 (167 %) more than the week before ($150.00).",
        "By group: gpu +$290.00 (new), cpu -$40.00.",
        "By team: text +$200.00 (new), (idle) +$40.00.",
        "By project: (none) +$210.00, (idle) +$40.00.",
        "Idle: $90.00, 22 % of all (33 % before).",
    )


def test_nothing_changed_is_said_in_one_sentence() -> None:
    found = explain([_charge(0, 1)], [_charge(7, 1)], ("A", "B"))
    assert found.words == ("B cost $1.00, as A did.",)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40),
            st.integers(0, 500),
            st.sampled_from(("job", "idle", "run")),
            st.sampled_from(("", "a", "b")),
        ),
        max_size=30,
    ),
    st.sampled_from(sorted(DIMENSIONS)),
)
def test_every_report_adds_up(rows: list[tuple[int, int, str, str]], by: str) -> None:
    charges = [_charge(day, usd, kind, team=team, project=team) for day, usd, kind, team in rows]
    for every in ("all", "hour", "day", "week", "month"):
        assert sum(line.nano for line in report(charges, [by, "team"], every)) == total(charges)


def test_a_report_names_idle_and_what_has_no_team() -> None:
    lines = report([_charge(0, 1), _charge(0, 2, "idle"), _charge(0, 3, team="a")], ["team"])
    assert [(line.values, line.nano // USD) for line in lines] == [
        (("a",), 3),
        (("(idle)",), 2),
        (("(none)",), 1),
    ]
    with pytest.raises(UserError, match="there is no dimension 'colour'"):
        report([], ["colour"])
    with pytest.raises(UserError, match="there is no stretch 'year'"):
        report([], ["team"], "year")


def test_days_without_cost_are_there_with_nothing() -> None:
    found = by_day([_charge(1, 5)], T0, T0 + timedelta(days=3))
    assert [amount // USD for _, amount in found] == [0, 5, 0]
    assert stretch(T0 + timedelta(days=3), "week") == T0.replace(hour=0)


_GROUP = st.tuples(
    st.sampled_from("ab"), st.sampled_from(("spot", "on-demand")), st.integers(0, 20), st.integers(0, 20)
)


@given(st.lists(_GROUP, max_size=12))
def test_savings_add_up_and_what_was_paid_is_what_the_meter_says(
    rows: list[tuple[str, str, int, int]],
) -> None:
    prices = PriceBook(
        {
            ("a", "on-demand"): (PriceStep(0, 7_000_003), PriceStep(8 * HOUR_US, 9_000_001)),
            ("a", "spot"): (PriceStep(0, 2_000_003),),
            ("b", "on-demand"): (PriceStep(0, 11),),
            ("b", "spot"): (PriceStep(0, 11),),
        }
    )
    nodes = [
        NodeSpan(f"n{at}", group, market, min(x, y) * HOUR_US // 2, max(x, y) * HOUR_US // 2, {"CPU": 1.0})
        for at, (group, market, x, y) in enumerate(rows)
    ]
    found = savings(nodes, prices, 0, 10 * HOUR_US)
    assert found.fixed == found.paid + found.spot + found.scale_to_zero + found.elasticity
    assert found.paid == sum(cost_until([n], prices, 10 * HOUR_US) for n in nodes)
    assert min(found.spot, found.scale_to_zero, found.elasticity + len(nodes)) >= 0


def test_savings_are_told_apart() -> None:
    prices = PriceBook({("a", "on-demand"): (PriceStep(0, 100),), ("a", "spot"): (PriceStep(0, 40),)})
    nodes = [
        NodeSpan("n1", "a", "on-demand", 0, 4 * HOUR_US, {}),
        NodeSpan("n2", "a", "spot", HOUR_US, 2 * HOUR_US, {}),
    ]
    found = savings(nodes, prices, 0, 10 * HOUR_US)
    assert (found.fixed, found.paid) == (2 * 10 * 100, 440)
    assert (found.scale_to_zero, found.elasticity, found.spot) == (2 * 6 * 100, 3 * 100, 60)


def test_a_run_is_foreseen_from_those_before() -> None:
    past = [PastRun("a", 1000, 100, 3 * USD), PastRun("b", 1000, 200, 4 * USD), PastRun("c", 1000, 125, 0)]
    found = estimate(past, 72_000, 2, 5 * USD)
    assert found.rows_per_s == 8
    assert found.seconds == 9000
    assert (found.low, found.likely, found.high) == (20 * USD, 25 * USD, 40 * USD)
    assert (found.past_low, found.past_high) == (216 * USD, 288 * USD)
    assert estimate([], 3600, 1, USD, pace=1.0).likely == USD
    with pytest.raises(UserError, match="no run of this model has ended well"):
        estimate([], 10, 1, USD)
