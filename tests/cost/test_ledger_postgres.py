"""The same books on Postgres: numbers of 64 bits, its own locks, and sums that are decimals there."""

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from rayplat.cluster.stop_requests import StopRequests
from rayplat.core.settings import Settings
from rayplat.cost.budget import Level
from rayplat.cost.ledger import Ledger, total
from rayplat.cost.levels import Levels
from rayplat.cost.usage import micros, spans
from tests.cost.fakes import HOUR, T0, FakeFacts, FakeJobs, book, node, use
from tests.cost.oracle import whole
from tests.servers import fresh_database, postgres_url  # noqa: F401

LATE = T0 + 6 * HOUR


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    return fresh_database(request.getfixturevalue("postgres_url"))


def test_the_ledger_adds_up_is_idempotent_and_corrects(tmp_path: Path, database: str) -> None:
    facts = FakeFacts([node("n", 0.2, 4.4), node("m", 1.1, 3.9)], [use("n", "j", 0.5, 3.3)])
    prices = book(cpu=33 * 10**9 + 7)
    settings = Settings.model_validate({"home": tmp_path, "database": database})
    with closing(Ledger(settings, facts, FakeJobs())) as ledger:
        assert ledger.prices(prices, T0).steps == prices.steps
        assert ledger.settle(prices, LATE).closed == 5
        assert ledger.settle(prices, LATE).corrections == 0
        facts.nodes[1] = node("m", 1.1, 2.5)
        assert ledger.settle(prices, LATE, recheck=timedelta(hours=6)).corrections > 0
        charges = ledger.charges(T0, LATE, prices)
        nodes, _ = spans(facts.between(T0, LATE))
        assert total(charges) == whole(nodes, prices, micros(T0), micros(LATE))
        assert sum(ledger.sums(T0, LATE, prices).values()) == total(charges)


def test_levels_and_requests_are_kept(tmp_path: Path, database: str) -> None:
    settings = Settings.model_validate({"home": tmp_path, "database": database})
    with closing(Levels(settings)) as levels, closing(StopRequests(settings)) as requests:
        assert levels.set("b", Level.WARN, T0) is Level.WITHIN
        assert levels.set("b", Level.STOP, T0) is Level.WARN
        assert levels.set("b", Level.STOP, T0) is Level.STOP
        assert requests.ask("job", "j", "spent", T0)
        assert requests.asked("job", "j") is not None
        requests.honour("job", "j")
        assert requests.open() == []
