import random
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rayplat.core.settings import Settings
from rayplat.cost.ledger import GRACE, Ledger, total
from rayplat.cost.prices import PriceBook, PriceStep, UnknownPriceError
from rayplat.cost.usage import micros, spans
from tests.cost.fakes import HOUR, T0, FakeFacts, FakeJobs, book, job, node, use
from tests.cost.oracle import whole

LATE = T0 + 10 * HOUR + GRACE
BOOK = book(cpu=1_000_000_007, gpu=3_141_592_653)


def _ledger(home: Path, facts: FakeFacts, jobs: FakeJobs | None = None) -> Ledger:
    return Ledger(Settings(home=home), facts, jobs or FakeJobs())


def _facts() -> FakeFacts:
    return FakeFacts(
        [node("n1", 0.1, 3.7), node("n2", 1.3, None, group="gpu", seen=2.9, CPU=4.0, GPU=1.0)],
        [
            use("n1", "j1", 0.5, 2.2),
            use("n1", "j2", 0.7, 3.0, CPU=2.0),
            use("n2", "r", 1.5, None, "run", "07", GPU=1.0),
        ],
    )


def test_the_ledger_adds_up_to_the_independent_sum_and_a_second_settlement_writes_nothing(
    tmp_path: Path,
) -> None:
    facts = _facts()
    jobs = FakeJobs([job("j1", "vision", "flights"), replace(job("j9", "text"), ray_job_id="07")])
    with closing(_ledger(tmp_path, facts, jobs)) as ledger:
        first = ledger.settle(BOOK, LATE)
        assert first.closed == 10
        assert first.booked > 0
        again = ledger.settle(BOOK, LATE, recheck=timedelta(hours=20))
        assert (again.closed, again.booked, again.corrections) == (0, 0, 0)
        charges = ledger.charges(T0, LATE, BOOK)
    nodes, _ = spans(facts.between(T0, LATE))
    assert total(charges) == whole(nodes, BOOK, micros(T0), micros(LATE))
    whose = {(c.kind, c.owner): (c.team, c.project) for c in charges}
    assert whose["job", "j1"] == ("vision", "flights")
    assert whose["run", "r"] == ("text", "")
    assert whose["job", "j2"] == ("", "")


def test_a_node_whose_end_was_not_seen_is_charged_until_it_was_last_seen(tmp_path: Path) -> None:
    facts = FakeFacts([node("n", 0, None, seen=1.5)])
    with closing(_ledger(tmp_path, facts)) as ledger:
        ledger.settle(book(cpu=2 * 10**9), LATE)
        assert total(ledger.charges(T0, LATE, book(cpu=2 * 10**9))) == 3 * 10**9


def test_facts_that_come_late_are_corrected_by_entries_and_the_booking_stays(tmp_path: Path) -> None:
    facts = FakeFacts([node("n", 0, None, seen=8.5)])
    with closing(_ledger(tmp_path, facts)) as ledger:
        ledger.settle(BOOK, T0 + 8 * HOUR + GRACE)
        booked = ledger.charges(T0, T0 + 8 * HOUR, BOOK)
        facts.nodes[0] = node("n", 0, 6.5)  # it had left, and nobody saw it
        facts.uses.append(use("n", "late", 5.0, 6.0))
        done = ledger.settle(BOOK, T0 + 8 * HOUR + GRACE)
        assert done.corrections > 0
        after = ledger.charges(T0, LATE, BOOK)
        assert after[: len(booked)] == booked
        nodes, _ = spans(facts.between(T0, LATE))
        assert total(after) == whole(nodes, BOOK, micros(T0), micros(LATE))
        assert ledger.settle(BOOK, T0 + 8 * HOUR + GRACE).corrections == 0


def test_an_hour_that_is_not_over_is_metered_and_not_booked(tmp_path: Path) -> None:
    facts = FakeFacts([node("n", 0, None, seen=1.5)])
    now = T0 + 1.5 * HOUR
    with closing(_ledger(tmp_path, facts)) as ledger:
        assert ledger.settle(BOOK, now).closed == 1
        assert ledger.settle(BOOK, T0 + 2 * HOUR).closed == 0  # the hour may still be told of
        assert total(ledger.charges(T0, now, BOOK)) == 1_500_000_010
        assert sum(ledger.sums(T0, now, BOOK).values()) == 1_500_000_010


def test_a_price_that_is_edited_does_not_change_the_past(tmp_path: Path) -> None:
    facts = FakeFacts([node("n", 0, 4)])
    with closing(_ledger(tmp_path, facts)) as ledger:
        first = ledger.prices(book(cpu=10**9), T0)
        ledger.settle(first, T0 + 2.1 * HOUR)
        second = ledger.prices(book(cpu=5 * 10**9), T0 + 3 * HOUR)
        assert second.of("cpu", "spot") == (PriceStep(0, 10**9), PriceStep(micros(T0 + 3 * HOUR), 5 * 10**9))
        assert ledger.prices(book(cpu=5 * 10**9), T0 + 4 * HOUR).steps == second.steps
        ledger.settle(second, LATE)
        assert total(ledger.charges(T0, LATE, second)) == (3 + 5) * 10**9


def test_a_group_without_price_stops_the_settlement_and_books_nothing(tmp_path: Path) -> None:
    with closing(_ledger(tmp_path, FakeFacts([node("n", 0, 2, group="odd")]))) as ledger:
        with pytest.raises(UnknownPriceError):
            ledger.settle(BOOK, LATE)
        assert ledger.settle(book(odd=1), LATE).closed == 10


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), turns=st.lists(st.floats(0, 12), min_size=1, max_size=4))
def test_settling_in_any_turns_gives_what_settling_once_gives(
    tmp_path_factory: pytest.TempPathFactory, seed: int, turns: list[float]
) -> None:
    chance = random.Random(seed)
    facts = FakeFacts()
    for number in range(3):
        begin, end = sorted(chance.uniform(0, 9) for _ in range(2))
        facts.nodes.append(node(f"n{number}", begin, end))
        facts.uses.append(
            use(f"n{number}", f"j{number % 2}", *sorted(chance.uniform(0, 9) for _ in range(2)))
        )
    found = []
    for moments in (sorted(turns), []):
        with closing(_ledger(tmp_path_factory.mktemp("ledger"), facts)) as ledger:
            for hours in moments:
                ledger.settle(BOOK, T0 + hours * HOUR)
            ledger.settle(BOOK, LATE)
            found.append(sorted((c.begin, c.owner, c.nano) for c in ledger.charges(T0, LATE, BOOK)))
    assert found[0] == found[1]


def test_a_book_of_nothing_knows_no_price() -> None:
    with pytest.raises(UnknownPriceError, match="has no spot price"):
        PriceBook({}).at("cpu", "spot", 0)
