"""When simulated spot nodes are told and taken: a seed decides the trace, and notice comes first."""

import random
import statistics
from pathlib import Path

import pytest

from rayplat.cluster.local.node_records import SimulatedNode, read_nodes, write_node
from rayplat.cluster.local.spot_market import SpotMarket
from rayplat.cluster.local.spot_trace import LEAST_SHARE, Take, Tell, due, next_look_s, stay_s
from rayplat.cluster.spec import SpotTrace, parse_spec
from rayplat.core.errors import UserError

TRACE = SpotTrace(seed=7, stay_s=60, notice_s=5)


def test_a_seed_decides_every_stay_and_the_mean_is_the_traces() -> None:
    stays = [stay_s(TRACE, nth) for nth in range(4000)]
    assert stays == [stay_s(TRACE, nth) for nth in range(4000)]
    assert stays[:20] != [stay_s(SpotTrace(seed=8, stay_s=60), nth) for nth in range(20)]
    assert min(stays) >= LEAST_SHARE * 60
    # The mean of 4000 exponential lengths of 45 s lies within 5 of its standard errors (0.71 s).
    assert abs(statistics.mean(stays) - 60) < 3.6


def test_every_node_is_told_once_and_then_taken_in_the_order_of_their_ends() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    goes_at = {f"n{i}": chance.uniform(0, 100) for i in range(20)}
    told: dict[str, float] = {}
    taken: dict[str, float] = {}
    now = -10.0
    while now < 110:
        there = {n: at for n, at in goes_at.items() if n not in taken}
        for one in due(there, told.keys(), 5.0, now):
            if isinstance(one, Tell):
                assert one.node_id not in told
                told[one.node_id] = now
            else:
                taken[one.node_id] = now
        now += next_look_s([at for n, at in goes_at.items() if n not in taken], 5.0, now, 0.5) + 1e-9
    assert list(taken) == sorted(goes_at, key=lambda n: goes_at[n])
    for node, at in goes_at.items():
        assert told[node] == pytest.approx(max(at - 5, -10), abs=1e-6)  # what the clock's steps add up to
        assert taken[node] == pytest.approx(at, abs=1e-6)


def test_a_node_that_was_found_late_is_taken_without_a_notice() -> None:
    assert due({"a": 10.0}, set(), 5.0, 11.0) == [Take("a")]


def test_the_trace_goes_on_after_the_autoscaler_was_killed(tmp_path: Path) -> None:
    market = SpotMarket(TRACE, tmp_path / "nodes", "127.0.0.1:1")
    first = market.end_of_next()
    again = SpotMarket(TRACE, tmp_path / "nodes", "127.0.0.1:1")
    # Both are now + a stay, and now has moved on by the moment between them.
    assert again.end_of_next() - first == pytest.approx(stay_s(TRACE, 1) - stay_s(TRACE, 0), abs=1.0)
    write_node(tmp_path / "nodes", SimulatedNode("a", {}, (), (), first))
    assert read_nodes(tmp_path / "nodes")["a"].goes_at == first


def test_a_trace_without_a_length_is_refused_with_its_place() -> None:
    with pytest.raises(UserError, match=r"spot_trace\.stay_s") as told:
        parse_spec("groups: {head: {kind: head}}\nlocal: {spot_trace: {seed: 1}}\n")
    assert "stay" in str(told.value)
