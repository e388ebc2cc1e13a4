import itertools
import random
from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayplat.cost.meter import HOUR_US, IDLE, Entry, NodeSpan, UseSpan, meter
from rayplat.cost.prices import PriceBook, PriceStep, UnknownPriceError
from tests.cost.oracle import exact, whole

END = 6 * HOUR_US
_PRICE = st.integers(0, 40_000_000_000)
_MOMENT = st.integers(0, END)


@st.composite
def _books(draw: st.DrawFn) -> PriceBook:
    steps = {}
    for group in ("a", "b"):
        for market in ("on-demand", "spot"):
            later = draw(st.lists(st.tuples(_MOMENT, _PRICE), max_size=2, unique_by=lambda s: s[0]))
            found = {0: draw(_PRICE), **dict(later)}
            steps[group, market] = tuple(PriceStep(*step) for step in sorted(found.items()))
    return PriceBook(steps)


@st.composite
def _worlds(draw: st.DrawFn) -> tuple[list[NodeSpan], list[UseSpan], PriceBook]:
    nodes, uses = [], []
    for number in range(draw(st.integers(1, 3))):
        begin, end = sorted((draw(_MOMENT), draw(_MOMENT)))
        group, market = draw(st.sampled_from("ab")), draw(st.sampled_from(("on-demand", "spot")))
        nodes.append(NodeSpan(f"n{number}", group, market, begin, end, {"CPU": 4.0, "GPU": 1.0}))
        for _ in range(draw(st.integers(0, 4))):
            begin, end = sorted((draw(_MOMENT), draw(_MOMENT)))
            resources = {
                "CPU": draw(st.sampled_from((0.0, 0.5, 1.0, 4.0))),
                "GPU": draw(st.sampled_from((0.0, 0.25, 1.0))),
            }
            owner = draw(st.sampled_from(("x", "y", "z")))
            kind = draw(st.sampled_from(("job", "endpoint")))
            uses.append(UseSpan(f"n{number}", kind, owner, "", begin, end, resources))
    return nodes, uses, draw(_books())


def _owners(entries: list[Entry]) -> dict[tuple[str, str, str, str], int]:
    found: dict[tuple[str, str, str, str], int] = defaultdict(int)
    for e in entries:
        found[e.node, e.kind, e.owner, e.job] += e.nano
    return found


@settings(max_examples=150, deadline=None)
@given(_worlds(), _MOMENT, _MOMENT)
def test_the_meter_is_the_exact_sum_and_each_part_is_less_than_a_unit_away(
    world: tuple[list[NodeSpan], list[UseSpan], PriceBook], one: int, other: int
) -> None:
    nodes, uses, prices = world
    begin, end = sorted((one, other))
    entries = meter(nodes, uses, prices, begin, end)
    assert sum(e.nano for e in entries) == whole(nodes, prices, begin, end)
    assert all(e.nano > 0 for e in entries)
    wanted, got = exact(nodes, uses, prices, begin, end), _owners(entries)
    # Shares are whole billionths, and a node's window is a difference of two floors: at most one more each.
    for key in wanted.keys() | got.keys():
        assert abs(got.get(key, 0) - wanted.get(key, 0)) <= 2 + float(wanted.get(key, 0)) / 10**8


@settings(max_examples=80, deadline=None)
@given(_worlds(), st.lists(_MOMENT, max_size=5), st.randoms(use_true_random=False))
def test_windows_add_up_and_order_and_cuts_of_facts_do_not_matter(
    world: tuple[list[NodeSpan], list[UseSpan], PriceBook], cuts: list[int], chance: random.Random
) -> None:
    nodes, uses, prices = world
    entries = meter(nodes, uses, prices, 0, END)
    edges = sorted({0, END, *cuts})
    parts = [meter(nodes, uses, prices, a, b) for a, b in itertools.pairwise(edges)]
    assert sum(e.nano for part in parts for e in part) == sum(e.nano for e in entries)

    def cut(spans: list) -> list:  # type: ignore[type-arg]
        made = []
        for span in spans:
            at = chance.randint(span.begin, span.end)
            made += [replace(span, end=at), replace(span, begin=at)]
        chance.shuffle(made)
        return made

    assert meter(cut(nodes), cut(uses), prices, 0, END) == entries


@settings(max_examples=80, deadline=None)
@given(_worlds(), _MOMENT, _MOMENT)
def test_cost_never_falls_as_time_goes_on(
    world: tuple[list[NodeSpan], list[UseSpan], PriceBook], one: int, other: int
) -> None:
    nodes, uses, prices = world
    sooner, later = (
        sum(e.nano for e in meter(nodes, uses, prices, 0, until)) for until in sorted((one, other))
    )
    assert sooner <= later


def test_a_node_is_split_by_the_dominant_share_and_the_rest_is_idle() -> None:
    node = NodeSpan("n", "a", "on-demand", 0, HOUR_US, {"CPU": 8.0, "GPU": 2.0, "memory": 100.0})
    uses = [
        UseSpan("n", "run", "big", "j1", 0, HOUR_US, {"CPU": 1.0, "GPU": 1.0}),
        UseSpan("n", "endpoint", "small", "", 0, HOUR_US // 2, {"CPU": 2.0, "memory": 10.0}),
    ]
    prices = PriceBook({("a", "on-demand"): (PriceStep(0, 8_000),)})
    got = {(e.kind, e.owner): e.nano for e in meter([node], uses, prices, 0, HOUR_US)}
    assert got == {("run", "big"): 4000, ("endpoint", "small"): 1000, (IDLE, ""): 3000}


def test_owners_who_hold_more_than_a_node_pay_in_proportion_and_nothing_is_idle() -> None:
    node = NodeSpan("n", "a", "on-demand", 0, HOUR_US, {"CPU": 4.0, "GPU": 1.0})
    uses = [
        UseSpan("n", "job", "cpus", "", 0, HOUR_US, {"CPU": 4.0}),
        UseSpan("n", "job", "gpu", "", 0, HOUR_US, {"GPU": 0.5}),
    ]
    prices = PriceBook({("a", "on-demand"): (PriceStep(0, 10),)})
    got = {(e.kind, e.owner): e.nano for e in meter([node], uses, prices, 0, HOUR_US)}
    assert got == {("job", "cpus"): 7, ("job", "gpu"): 3}


def test_a_price_that_changes_counts_from_its_moment() -> None:
    node = NodeSpan("n", "a", "spot", 0, 2 * HOUR_US, {"CPU": 1.0})
    prices = PriceBook({("a", "spot"): (PriceStep(0, 100), PriceStep(HOUR_US // 2, 300))})
    assert [e.nano for e in meter([node], [], prices, 0, 2 * HOUR_US)] == [50 + 450]
    assert [e.nano for e in meter([node], [], prices, HOUR_US // 4, HOUR_US)] == [25 + 150]


def test_a_group_without_a_price_is_an_error_and_never_free() -> None:
    node = NodeSpan("n", "odd", "spot", 0, HOUR_US, {"CPU": 1.0})
    with pytest.raises(UnknownPriceError, match="group 'odd' has no spot price"):
        meter([node], [], PriceBook({}), 0, HOUR_US)
