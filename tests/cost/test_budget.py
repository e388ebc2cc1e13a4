from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from rayplat.cluster.spec.money import BudgetSpec
from rayplat.cost.budget import (
    Continue,
    Level,
    RefuseNew,
    Spent,
    StopWork,
    Warn,
    Work,
    decide,
    standings,
    worst,
)

NOW = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)
MARCH = datetime(2026, 3, 1, tzinfo=UTC)
TRAIN = Work("run", "r1", "vision", "flights")
JOB = Work("job", "j1", "vision", "flights")
SERVE = Work("endpoint", "late", "vision", "flights")
OTHER = Work("job", "j9", "text", "letters")


def _budget(**more: object) -> BudgetSpec:
    return BudgetSpec.model_validate({"scope": "team", "name": "vision", "limit_usd": 100, **more})


def _spent(usd: float, at: datetime = MARCH, team: str = "vision") -> Spent:
    return Spent(at, "job", "j1", team, "flights", round(usd * 10**9))


def _decision(usd: float, **more: object) -> object:
    (standing,) = standings([_budget(**more)], [_spent(usd)], [], NOW)
    return decide(standing, [TRAIN, JOB, SERVE, OTHER])


def test_the_steps_come_in_their_order_at_their_parts_of_the_limit() -> None:
    assert isinstance(_decision(79.99), Continue)
    assert isinstance(_decision(80), Warn)
    assert isinstance(_decision(94.99), Warn)
    assert isinstance(_decision(95), RefuseNew)
    assert isinstance(_decision(99.99), RefuseNew)
    assert isinstance(_decision(100), StopWork)


def test_an_endpoint_is_stopped_only_where_the_budget_says_so_and_others_never() -> None:
    assert _decision(120).targets == (JOB, TRAIN)  # type: ignore[attr-defined]
    assert _decision(120, may_stop_endpoints=True).targets == (SERVE, JOB, TRAIN)  # type: ignore[attr-defined]


@given(st.floats(0, 300), st.booleans())
def test_what_is_stopped_is_never_another_teams(usd: float, endpoints: bool) -> None:
    decision = _decision(usd, may_stop_endpoints=endpoints)
    if isinstance(decision, StopWork):
        assert OTHER not in decision.targets
        assert endpoints or SERVE not in decision.targets
        assert decision.standing.spent >= decision.standing.limit


@given(st.lists(st.floats(0, 300), min_size=2, max_size=2))
def test_a_level_never_falls_when_more_is_spent(amounts: list[float]) -> None:
    low, high = (standings([_budget()], [_spent(usd)], [], NOW)[0].level for usd in sorted(amounts))
    assert low <= high


def test_a_budget_counts_its_own_time_and_begins_anew() -> None:
    february = datetime(2026, 2, 27, tzinfo=UTC)
    today = datetime(2026, 3, 18, tzinfo=UTC)
    spent = [_spent(90, february), _spent(30, MARCH), _spent(5, today)]
    found = {
        per: standings([_budget(per=per)], spent, [], NOW)[0].spent // 10**9
        for per in ("day", "month", "total")
    }
    assert found == {"day": 5, "month": 35, "total": 125}


def test_a_star_stands_for_each_and_the_stricter_of_two_counts() -> None:
    budgets = [_budget(name="*", limit_usd=1000), _budget(limit_usd=50)]
    found = standings(budgets, [_spent(60), _spent(10, team="text")], [], NOW)
    assert {s.name: (s.limit // 10**9, s.level) for s in found} == {
        "vision": (50, Level.STOP),
        "text": (1000, Level.WITHIN),
    }


def test_a_run_budget_is_for_each_run_and_job_alone() -> None:
    spent = [Spent(MARCH, "run", f"r{n}", "", "", n * 10**9) for n in (1, 5)]
    found = standings([_budget(scope="run", name="*", per="run", limit_usd=5)], spent, [TRAIN], NOW)
    assert {s.name: s.level for s in found} == {"r1": Level.WITHIN, "r5": Level.STOP}
    assert worst(found, Work("run", "r5")) is not None
    assert worst(found, TRAIN) is None


def test_who_asks_is_told_of_the_budget_that_is_spent_the_furthest() -> None:
    budgets = [_budget(), _budget(scope="project", name="flights", limit_usd=40)]
    found = worst(standings(budgets, [_spent(85)], [], NOW), JOB)
    assert found is not None
    assert (found.scope, found.level) == ("project", Level.STOP)
    assert str(found) == "project flights has spent $85.00 (212 %) of $40.00 a month"
